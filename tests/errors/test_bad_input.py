"""Bad input and broken servers get an error that names the culprit and the remedy, and leave nothing behind."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from faults.proxy import Fault, Proxy
from homes import put
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from psycopg_pool import ConnectionPool

from langgraph_tiered_checkpoint import (
    ColdTierError,
    ConfigurationError,
    HotTierError,
    InvalidThreadError,
    NotPromotableError,
    SchemaError,
    TieredSaver,
    Timeouts,
    UnserializableError,
)

QUICK = Timeouts(hot=timedelta(seconds=1), cold=timedelta(seconds=2))


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
        made.setup()
        yield made


def config(thread_id: Any, ns: str = "") -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}


def checkpoint(**values: Any) -> Checkpoint:
    made = empty_checkpoint()
    made["channel_values"] = values
    made["channel_versions"] = dict.fromkeys(values, f"{1:032}.0001")
    return made


def threads_in_redis(client: redis.Redis) -> list[bytes]:
    return [key for key in client.scan_iter("*:t:*") if client.hexists(key, "m")]


@pytest.mark.parametrize("missing", [{}, {"configurable": {}}, {"configurable": {"thread_id": None}}, config("")])
def test_missing_thread_id_says_how_to_pass_one(saver: TieredSaver, missing: Any) -> None:
    with pytest.raises(InvalidThreadError, match="thread_id"):
        saver.get_tuple(missing)
    with pytest.raises(InvalidThreadError, match="thread_id"):
        saver.put(missing, checkpoint(), {}, {})


@pytest.mark.parametrize("thread_id", ["nul\0inside", "lone \ud800 surrogate", "x" * 1001, "lgt-tenant:1:a:t"])
def test_thread_id_that_postgres_cannot_key_is_refused_at_first_use(
    saver: TieredSaver, redis_client: redis.Redis, thread_id: str
) -> None:
    for use in (
        lambda: saver.get_tuple(config(thread_id)),
        lambda: saver.put(config(thread_id), checkpoint(a=1), {}, {}),
        lambda: saver.delete_thread(thread_id),
        lambda: saver.promote(thread_id),
        lambda: list(saver.list(config(thread_id))),
    ):
        with pytest.raises(InvalidThreadError):
            use()
    assert redis_client.keys("*:t:*") == []


@pytest.mark.parametrize(
    "mistaken", [["a"], ("a",), {"a"}, {"a": 1}, b"a", bytearray(b"a"), True, 1.5, object(), uuid.uuid4]
)
def test_thread_id_of_another_type_is_refused(saver: TieredSaver, redis_client: redis.Redis, mistaken: Any) -> None:
    calls: list[Callable[[Any], object]] = [
        lambda given: saver.get_tuple(config(given)),
        lambda given: list(saver.list(config(given))),
        lambda given: saver.put(config(given), checkpoint(a=1), {}, {}),
        lambda given: saver.put_writes(config(given) | {"checkpoint_id": "x"}, [("a", 1)], "task"),
        lambda given: saver.prune([given]),
        lambda given: saver.delete_for_runs([given]),
        lambda given: saver.copy_thread(given, "b"),
        lambda given: saver.copy_thread("b", given),
        saver.delete_thread,
        saver.promote,
        saver.pin,
        saver.unpin,
        saver.flush,
        saver.evict,
        saver.explain,
    ]
    for call in calls:
        with pytest.raises(InvalidThreadError, match=rf"must be .* not {type(mistaken).__name__}"):
            call(mistaken)
    assert redis_client.keys("*:t:*") == []


def test_listing_of_what_makes_no_sense_is_refused(saver: TieredSaver) -> None:
    for prefix in (None, 5, b"a"):
        with pytest.raises(ConfigurationError, match=r"^prefix="):
            list(saver.thread_ids(prefix))  # type: ignore[arg-type]  # on purpose
    for limit in ("5", 1.5, True, -1):
        with pytest.raises(ConfigurationError, match=r"^limit="):
            list(saver.list(config("t"), limit=limit))  # type: ignore[arg-type]  # on purpose


def test_key_columns_that_are_too_long_together_are_refused(saver: TieredSaver, redis_client: redis.Redis) -> None:
    made = checkpoint(**{"c" * 900: ["value"]})
    with pytest.raises(InvalidThreadError, match="2600"):
        saver.put(config("t" * 900, "n" * 900), made, {}, made["channel_versions"])
    assert threads_in_redis(redis_client) == []


@pytest.mark.parametrize("thread_id", [7, uuid.uuid4()], ids=["int", "UUID"])
def test_thread_id_that_is_no_string_is_the_same_as_its_text(saver: TieredSaver, thread_id: Any) -> None:
    made = checkpoint(a=1)
    saver.put(config(thread_id), made, {"step": 1}, made["channel_versions"])
    found = saver.get_tuple(config(str(thread_id)))
    assert found is not None
    assert found.checkpoint["id"] == made["id"]


def test_unserialisable_value_is_refused_and_the_thread_is_as_before(
    saver: TieredSaver, redis_client: redis.Redis
) -> None:
    first = checkpoint(a=[1])
    stored = saver.put(config("t"), first, {"step": 1}, first["channel_versions"])
    key = next(iter(redis_client.scan_iter("*:t:t")))
    before = redis_client.hgetall(key)
    bad = checkpoint(fine=[1], bad=[object()])
    with pytest.raises(UnserializableError, match=r"'t'.*'bad'"):
        saver.put(stored, bad, {"step": 2}, bad["channel_versions"])
    with pytest.raises(UnserializableError, match="'t'"):
        saver.put_writes(stored, [("fine", 1), ("bad", object())], "task")
    assert redis_client.hgetall(key) == before


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port"])
def test_wrong_redis_url_is_refused_where_the_saver_is_made(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis"):
        TieredSaver.from_urls(url)


def test_wrong_postgres_url_is_refused_where_the_saver_is_made(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match="postgres"):
        TieredSaver.from_urls(redis_url, "postgres//nonsense?!")


def test_redis_that_is_not_there_is_named_without_its_password() -> None:
    saver = TieredSaver.from_urls("redis://:s3cret@127.0.0.1:1/0", timeouts=QUICK)
    with pytest.raises(HotTierError, match=r"127\.0\.0\.1:1") as caught:
        saver.get_tuple(config("t"))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_postgres_url_of_something_that_is_no_postgres_is_told_so(redis_url: str, *, asynchronous: bool) -> None:
    """Something that waits for more, as many servers do on what libpq says first."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://user:s3cret@127.0.0.1:{silent.getsockname()[1]}/app"
        saver = TieredSaver.from_urls(redis_url, url, timeouts=QUICK, promoter="external")

        async def main() -> None:
            async with saver:
                await saver.aget_tuple(config("t"))

        with pytest.raises(ColdTierError, match=r"If it is a Postgres that listens there") as caught:
            asyncio.run(main()) if asynchronous else saver.get_tuple(config("t"))
        assert "s3cret" not in str(caught.value)
        saver.close()


def test_postgres_that_is_not_there_is_named_without_its_password(redis_url: str) -> None:
    url = "postgresql://user:s3cret@127.0.0.1:1/app"
    saver = TieredSaver.from_urls(redis_url, url, timeouts=QUICK, promoter="external")
    with pytest.raises(ColdTierError, match=r"127\.0\.0\.1:1") as caught:
        saver.get_tuple(config("t"))
    assert "s3cret" not in str(caught.value)


def test_schema_of_a_newer_version_is_refused(saver: TieredSaver, redis_url: str, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("INSERT INTO tiered_migrations (v) VALUES (999)")
    for auto_setup in (True, False):
        with (
            TieredSaver.from_urls(redis_url, postgres_url, auto_setup=auto_setup, promoter="external") as newer,
            pytest.raises(SchemaError, match="999"),
        ):
            newer.get_tuple(config("t"))


@pytest.mark.bare
def test_missing_tables_are_named_with_the_remedy(redis_url: str, postgres_url: str) -> None:
    with (
        TieredSaver.from_urls(redis_url, postgres_url, auto_setup=False, promoter="external") as saver,
        pytest.raises(SchemaError, match="setup"),
    ):
        saver.get_tuple(config("t"))


def test_pooler_that_mixes_up_prepared_statements_is_told_from_other_faults(redis_url: str, postgres_url: str) -> None:
    """As one does that hands out a connection on which somebody else has prepared statements of those names."""

    def occupy(connection: psycopg.Connection[Any]) -> None:
        for number in range(100):
            connection.execute(f"PREPARE _pg3_{number} AS SELECT 1", prepare=False)

    given = {"autocommit": True, "prepare_threshold": 0}
    remedy = r"prepare_statements=False.*prepare_threshold=None"
    with (
        ConnectionPool(postgres_url, kwargs=given, configure=occupy, min_size=1, max_size=1, open=True) as pool,
        TieredSaver(redis=redis_url, postgres=pool, promoter="external") as saver,
    ):
        with pytest.raises(ColdTierError, match=rf"^setup: .*{remedy}"):  # which is what comes before any thread
            saver.get_tuple(config("t"))
        assert re.search(remedy, saver.stats().cold_error or ""), "stats answers nevertheless"


def test_promoting_without_a_cold_tier_says_so(redis_url: str) -> None:
    with TieredSaver.from_urls(redis_url) as saver:
        made = checkpoint(a=1)
        saver.put(config("t"), made, {}, made["channel_versions"])
        for operation in (saver.promote, saver.pin, saver.evict):
            with pytest.raises(NotPromotableError, match="postgres_url"):
                operation("t")


def test_promoting_a_thread_that_does_not_exist_says_so(saver: TieredSaver) -> None:
    with pytest.raises(NotPromotableError, match="'nobody'"):
        saver.promote("nobody")


def test_prune_of_one_string_or_an_unknown_strategy_is_refused(saver: TieredSaver) -> None:
    with pytest.raises(ConfigurationError, match="sequence"):
        saver.prune("thread")
    with pytest.raises(ConfigurationError, match="strategy"):
        saver.prune(["thread"], strategy="keep_some")


def test_copy_onto_an_existing_thread_is_refused(saver: TieredSaver) -> None:
    for name in ("a", "b"):
        made = checkpoint(a=name)
        saver.put(config(name), made, {}, made["channel_versions"])
    with pytest.raises(ConfigurationError, match="'b'"):
        saver.copy_thread("a", "b")
    found = saver.get_tuple(config("b"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": "b"}


def test_what_the_error_asks_for_is_all_that_a_redis_user_needs(
    redis_url: str, redis_client: redis.Redis, postgres_url: str
) -> None:
    def allow(*rules: str) -> None:
        assert administrator.execute_command("ACL", "SETUSER", "app", *rules)

    administrator: Any = redis_client
    allow("reset", "on", ">secret", "~lgt:*", "+@all", "-@scripting")
    own_url = re.sub("//.*@", "//app:secret@", redis_url)
    with TieredSaver.from_urls(own_url, postgres_url, promoter="external") as saver:
        with pytest.raises(HotTierError, match=r"thread 't'.*\+@all -@dangerous \+info is") as caught:
            put(saver, config("t"), {"a": "b"})
        assert "secret" not in str(caught.value)
        allow("+@all", "-@dangerous", "+info")
        for name in ("t", "other"):
            first = put(saver, config(name), {"a": ["b"]}, run_id="run")
            saver.put_writes(first, [("a", "c")], "task")
            put(saver, first, {"a": ["b", "c"]}, 2, run_id="another run")
            saver.promote(name)
        saver.evict("t")
        saver.copy_thread("t", "copy")
        put(saver, config("hot"), {"a": "b"})
        saver.copy_thread("hot", "copy of hot")
        saver.delete_thread("hot")
        saver.delete_thread("copy of hot")
        saver.delete_for_runs(["run"])
        saver.prune(["other"])
        saver.flush()
        assert {name: len(list(saver.list(config(name)))) for name in saver.thread_ids()} == {
            "copy": 2,
            "other": 1,
            "t": 1,
        }
        saver.delete_thread("t")
        assert saver.get_tuple(config("t")) is None
        assert saver.stats().cold_threads == 2
    administrator.execute_command("ACL", "DELUSER", "app")


def test_redis_that_is_too_old_is_refused(redis_url: str, redis_client: redis.Redis) -> None:
    version = redis_client.info("server")["redis_version"]
    if not version.startswith("6."):
        pytest.skip(f"the Redis under test is {version}, which the proxy does not make old")
    port = urlsplit(redis_url).port
    assert port is not None
    with Proxy(port) as proxy:
        proxy.set(Fault(rewrite=(b"redis_version:6.", b"redis_version:5.")))
        saver = TieredSaver.from_urls(redis_url.replace(f":{port}", f":{proxy.port}"), timeouts=QUICK)
        with pytest.raises(ConfigurationError, match=r"5\..*6\.2"):
            saver.get_tuple(config("t"))
        saver.close()


def test_tls_at_a_port_without_it_is_told_what_to_write(redis_url: str) -> None:
    with TieredSaver.from_urls(redis_url.replace("redis://", "rediss://"), timeouts=QUICK) as saver:
        with pytest.raises(HotTierError, match=r"without TLS: then write redis://"):
            saver.get_tuple(config("t"))
        with pytest.raises(HotTierError, match=r"without TLS: then write redis://"):
            asyncio.run(saver.aget_tuple(config("t")))


@pytest.mark.parametrize("down", ["redis", "postgres"])
@pytest.mark.parametrize("call", [TieredSaver.get_tuple, lambda saver, at: asyncio.run(saver.aget_tuple(at))])
def test_outage_is_one_error_of_ours_and_one_of_the_driver(
    redis_url: str, down: str, call: Callable[[TieredSaver, Any], object]
) -> None:
    nowhere = "redis://127.0.0.1:1/0" if down == "redis" else redis_url
    saver = TieredSaver.from_urls(nowhere, "postgresql://127.0.0.1:2/app", timeouts=QUICK, promoter="external")
    with saver, pytest.raises((HotTierError, ColdTierError)) as caught:
        call(saver, config("t"))
    told = "".join(traceback.format_exception(caught.value))
    assert told.count("Traceback (most recent call last)") == 2
    assert re.search(r"127\.0\.0\.1:[12]", str(caught.value))


def test_missing_libpq_is_told_with_the_extra_that_brings_it() -> None:
    without = """
        import ctypes.util, sys
        ctypes.util.find_library = lambda name: None
        sys.modules |= {"psycopg_c": None, "psycopg_binary": None}
        import langgraph_tiered_checkpoint
    """
    script = "\n".join(line.strip() for line in without.splitlines())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.count("Traceback (most recent call last)") == 1, done.stderr
    assert "pip install 'langgraph-tiered-checkpoint[binary]'" in done.stderr
