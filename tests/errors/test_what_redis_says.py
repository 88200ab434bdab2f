"""What callers hear of a Redis that refuses, and of threads that cannot be read, on each kind of server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgpack
import psycopg
import pytest
import redis
from everything import CALLS, uncovered
from faults.ledger import Caller, Ledger
from homes import at, put
from layout import quick_no_more
from own_redis import OwnRedis, binaries
from waiting import wait_until

from langgraph_tiered_checkpoint import (
    DamagedThreadError,
    FlushError,
    HotFullError,
    HotRefusedError,
    HotTierError,
    Promotion,
    TieredCheckpointError,
    TieredSaver,
    Timeouts,
    UnreadableValueError,
)
from langgraph_tiered_checkpoint.plans.promoting import sweep_in_turn


@pytest.fixture(scope="module", params=binaries())
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    own = OwnRedis(tmp_path_factory.mktemp("redis"), binary=binaries()[request.param])
    own.start()
    yield own
    own.stop()


@pytest.fixture
def client(server: OwnRedis) -> Iterator[redis.Redis]:
    """A client of the server, empty and as it was configured."""
    with redis.Redis(port=server.port) as made:
        made.flushall()
        yield made
        made.replicaof("NO", "ONE")
        for name, value in {
            "maxmemory": 0,
            "maxmemory-policy": "noeviction",
            "min-replicas-to-write": 0,
            "lua-time-limit": 5000,
            "replica-serve-stale-data": "yes",
        }.items():
            made.config_set(name, value)


def saver_on(url: str, postgres_url: str | None = None) -> TieredSaver:
    return TieredSaver.from_urls(
        url,
        postgres_url,
        promoter="external",
        promotion=Promotion.never(),
        timeouts=Timeouts(hot=timedelta(seconds=20)),
    )


@pytest.fixture
def call(server: OwnRedis, client: redis.Redis, loop: asyncio.AbstractEventLoop | None) -> Iterator[Caller]:
    """A saver without a cold tier, that has written a thread."""
    with saver_on(server.url) as saver:
        put(saver, at("t"), {"text": "x" * 500, "short": 1})
        yield Caller(saver, loop)


def key_of(client: redis.Redis, thread_id: str = "t") -> Any:
    return next(key for key in client.scan_iter("*:t:*") if key.endswith(b":t:" + thread_id.encode()))


def hears(call: Caller, kind: type[TieredCheckpointError], says: str) -> None:
    """Reads and writes of the thread raise exactly this, and advise a delete only where it was shown to be damaged."""
    ledger = Ledger(call, "t")
    for use in (lambda: call("get_tuple", at("t")), lambda: ledger.put("refused")):
        with pytest.raises(TieredCheckpointError) as caught:
            use()
        said = str(caught.value)
        assert type(caught.value) is kind, said
        assert re.search(f"'t'.*{says}", said), said
        assert ("delete" in said) == (kind is DamagedThreadError)


def test_a_replica(call: Caller, client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", "1")
    hears(call, HotTierError, "is a replica")


def test_a_replica_without_its_primary(call: Caller, client: redis.Redis) -> None:
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", "1")
    hears(call, HotTierError, "MASTERDOWN")


def test_a_primary_without_its_replicas(call: Caller, client: redis.Redis) -> None:
    client.config_set("min-replicas-to-write", 1)
    hears(call, HotTierError, "NOREPLICAS")


def test_a_server_that_is_full(call: Caller, client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)
    with pytest.raises(HotFullError, match=r"'t'.*out of memory"):
        Ledger(call, "t").put("refused")
    call("delete_thread", "t")


def test_a_server_that_is_busy_with_a_script(call: Caller, server: OwnRedis, client: redis.Redis) -> None:
    client.config_set("lua-time-limit", 1)

    def is_busy() -> bool:
        try:
            client.ping()
        except redis.ResponseError as exc:
            return "BUSY" in str(exc)
        return False

    with redis.Redis(port=server.port) as other, ThreadPoolExecutor(1) as pool:
        forever = pool.submit(other.eval, "while true do end", 0)
        try:
            wait_until(is_busy, "the script to take too long")
            hears(call, HotTierError, "BUSY")
        finally:
            client.script_kill()
        assert forever.exception()


@pytest.mark.parametrize("lacks", ["-hset", "-hmget", "-zadd", "-evalsha"])
def test_a_user_that_may_not(call: Caller, server: OwnRedis, client: redis.Redis, lacks: str) -> None:
    admin: Any = client
    admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", "~*", "+@all", lacks)
    with saver_on(server.url.replace("redis://", "redis://app:pw@")) as saver, pytest.raises(HotTierError) as caught:
        put(saver, at("other"), {"a": 1})
    said = str(caught.value)
    assert type(caught.value) is HotTierError
    assert re.search("'other'.*denied something to this user", said), said
    assert "delete" not in said


PAGES = [Path(__file__).parents[2] / page for page in ("SECURITY.md", "docs/operations.md")]
RULES = {rules for page in PAGES for rules in re.findall(r"(\+@[^`\n]*-@dangerous[^`\n]*)", page.read_text())}


@pytest.mark.parametrize("rules", sorted(RULES))
def test_a_user_with_the_rules_of_the_documentation_can_do_everything(
    server: OwnRedis, client: redis.Redis, postgres_url: str, loop: asyncio.AbstractEventLoop | None, rules: str
) -> None:
    admin: Any = client
    admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", "~lgt:*", *rules.split())
    admin.execute_command("ACL", "LOG", "RESET")
    with saver_on(server.url.replace("redis://", "redis://app:pw@"), postgres_url) as saver:
        call = Caller(saver, loop)
        for name, each in CALLS.items():
            each(call)
            if name == "copy_thread":
                assert call("get_tuple", at("copy")).checkpoint == call("get_tuple", at("t")).checkpoint
        saver._sync.run(sweep_in_turn(saver._store, 1))
    denied = {entry[b"object"].partition(b"|")[0] for entry in admin.execute_command("ACL", "LOG")}
    assert denied <= {b"client", b"config"}  # by which redis-py tells its name and version, if it may


def test_every_public_method_is_called() -> None:
    assert uncovered() == set()


def test_a_node_of_a_cluster_without_slots(server: OwnRedis, tmp_path: Path) -> None:
    node = OwnRedis(tmp_path, "--cluster-enabled", "yes", binary=server.binary)
    node.start()
    try:
        with saver_on(node.url) as saver, pytest.raises(HotTierError, match="CLUSTERDOWN") as caught:
            put(saver, at("t"), {"a": 1})
        assert "delete" not in str(caught.value)
    finally:
        node.stop()


def cut_short(client: redis.Redis, field: bytes, keep: int = 3) -> None:
    """Damage fields of the thread that begin like this."""
    key = key_of(client)
    fields: dict[Any, Any] = client.hgetall(key)
    damaged = {name: value[:keep] for name, value in fields.items() if name.startswith(field)}
    assert damaged
    client.hset(key, mapping=damaged)


@pytest.mark.parametrize("field", ["s", "m", "n", "c", "l"])
def test_a_field_that_is_cut_short(call: Caller, client: redis.Redis, field: str) -> None:
    if field == "l":  # which is there for checkpoints that are not on top of their parents
        put(call.saver, at("t"), {"text": "y" * 500}, 2)
    cut_short(client, field.encode())
    with pytest.raises(DamagedThreadError) as caught:
        list(call("list", at("t")))
    said = str(caught.value)
    assert re.search(f"'t'.*its field \"{field}.*cannot be read.*UNLINK '{key_of(client).decode()}'", said), said
    erased(call, client)


def test_a_checkpoint_that_is_cut_short_behind_its_header(call: Caller, client: redis.Redis) -> None:
    cut_short(client, b"c", keep=-5)
    with pytest.raises(DamagedThreadError, match=r"'t'.*checkpoint '.*' of namespace '' in Redis cannot be read"):
        call("get_tuple", at("t"))
    assert call("explain", "t").state == "ephemeral"


def test_a_value_that_is_damaged(call: Caller, client: redis.Redis) -> None:
    cut_short(client, b"b")
    with pytest.raises(DamagedThreadError, match=r"'t'.*channel 'text'.* in Redis cannot be read"):
        call("get_tuple", at("t"))
    put(call.saver, at("t"), {"text": "z" * 500}, 2)
    cut_short(client, b"b", keep=-5)
    with pytest.raises(UnreadableValueError, match=r"'t'.*the serde cannot read channel 'text' of checkpoint"):
        call("get_tuple", at("t"))


def test_a_meta_of_another_shape(call: Caller, client: redis.Redis) -> None:
    client.hset(key_of(client), "m", msgpack.packb({"i": "i"}, use_bin_type=False))
    hears(call, DamagedThreadError, 'its field "m" cannot be read')
    told = call("explain", "t")
    assert (told.state, told.tier, told.incarnation) == ("damaged", "hot", None)
    assert 'its field "m" cannot be read' in told.why
    erased(call, client)


def test_a_marker_that_is_damaged(call: Caller, client: redis.Redis) -> None:
    key = key_of(client)
    client.delete(key)
    client.hset(key, "x", b"\xc1")
    hears(call, DamagedThreadError, 'its field "x" cannot be read')
    erased(call, client)


def test_a_key_that_is_no_hash(call: Caller, client: redis.Redis) -> None:
    key = key_of(client)
    client.delete(key)
    client.set(key, "somebody else's")
    hears(call, DamagedThreadError, "its key holds no hash")
    assert call("explain", "t").state == "damaged"
    assert call("thread_ids") == ["t"]
    erased(call, client)


def erased(call: Caller, client: redis.Redis) -> None:
    """The thread can be deleted, leaves nothing but tombstones, and can begin anew."""
    call("delete_thread", "t")
    assert not list(client.scan_iter("*:t:*"))
    for kind in ("threads", "due", "parked", "runs"):
        assert not list(client.scan_iter(f"*:{kind}"))
    assert call("get_tuple", at("t")) is None
    put(call.saver, at("t"), {"a": 2})
    assert call("get_tuple", at("t")).checkpoint["channel_values"] == {"a": 2}


def test_a_script_that_fails_says_that_nothing_is_known_to_be_lost(call: Caller, client: redis.Redis) -> None:
    ledger, key = Ledger(call, "t"), key_of(client)
    client.hset(key, "m", msgpack.packb({"flushed": "", "flushed_number": 0, "rebase": 0}, use_bin_type=False))
    client.hset(key, "s", quick_no_more(cast("bytes", client.hget(key, "s"))))
    with pytest.raises(HotRefusedError, match=r"'t'.*bad argument.*report it.*explain\(\)") as caught:
        ledger.put("refused")
    assert "delete" not in str(caught.value)
    erased(call, client)


@pytest.mark.parametrize("kind", ["threads", "due", "parked", "runs"])
def test_a_list_of_another_type_does_not_keep_a_thread_from_being_deleted(
    call: Caller, client: redis.Redis, kind: str
) -> None:
    list_key = key_of(client).rpartition(b":t:")[0] + b":" + kind.encode()
    client.delete(list_key)
    client.set(list_key, "somebody else's")
    call("delete_thread", "t")
    assert not list(client.scan_iter("*:t:*"))
    assert client.get(list_key) == b"somebody else's"


def test_tombstones_of_another_type_are_told_of_before_anything_is_done(call: Caller, client: redis.Redis) -> None:
    gone = key_of(client).rpartition(b":t:")[0] + b":gone"
    client.set(gone, "somebody else's")
    with pytest.raises(HotRefusedError, match=r"'t'.*WRONGTYPE.*TYPE"):
        call("delete_thread", "t")
    client.delete(gone)
    assert call("get_tuple", at("t")).checkpoint["channel_values"]["short"] == 1


def test_a_damaged_thread_is_deleted_from_both_tiers(
    server: OwnRedis, client: redis.Redis, postgres_url: str, loop: asyncio.AbstractEventLoop | None
) -> None:
    with saver_on(server.url, postgres_url) as saver:
        call = Caller(saver, loop)
        for thread_id in ("t", "u"):
            put(saver, at(thread_id), {"text": "x" * 500})
            saver.promote(thread_id)
            put(saver, at(thread_id), {"text": "y" * 500}, 2)
        cut_short(client, b"m")
        told = call("explain", "t")
        assert (told.tier, told.state, told.cold_checkpoints) == ("both", "damaged", 1)
        with pytest.raises(DamagedThreadError, match=r"'t'.*UNLINK"):
            call("get_tuple", at("t"))
        call("delete_thread", "t")
        assert call("get_tuple", at("t")) is None
        assert call("explain", "t").state == "absent"
        client.set(key_of(client, "u"), "somebody else's")
        call("prune", ["u"], strategy="delete")
        assert call("explain", "u").state == "absent"
    with psycopg.connect(postgres_url) as admin:
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads"):
            assert admin.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)


def test_what_postgres_holds_of_a_damaged_thread_is_read_when_the_key_is_gone(
    server: OwnRedis, client: redis.Redis, postgres_url: str
) -> None:
    """As the message says."""
    with saver_on(server.url, postgres_url) as saver:
        put(saver, at("t"), {"text": "x" * 500})
        saver.promote("t")
        before = saver.get_tuple(at("t"))
        cut_short(client, b"m")
        with pytest.raises(DamagedThreadError) as caught:
            saver.get_tuple(at("t"))
        named = re.search("UNLINK '([^']*)'", str(caught.value))
        assert named
        client.unlink(named[1])
        assert saver.get_tuple(at("t")) == before


def test_a_server_that_refuses_parks_no_thread_and_a_damaged_thread_holds_up_no_other(
    server: OwnRedis, client: redis.Redis, postgres_url: str
) -> None:
    with saver_on(server.url, postgres_url) as saver:
        for thread_id in ("t", "u"):
            put(saver, at(thread_id), {"text": "x" * 500})
            saver.promote(thread_id)
            put(saver, at(thread_id), {"text": "y" * 500}, 2)
        client.config_set("min-replicas-to-write", 1)
        with pytest.raises(HotTierError, match="NOREPLICAS"):
            saver.flush()
        client.config_set("min-replicas-to-write", 0)
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(HotTierError, match="replica"):
            saver.flush()
        client.replicaof("NO", "ONE")
        assert saver.stats().parked_threads == ()
        cut_short(client, b"m")
        with pytest.raises(FlushError, match=r"'t'.*DamagedThreadError"):
            saver.flush()
        assert saver.explain("u").state == "clean"
        saver.delete_thread("t")
