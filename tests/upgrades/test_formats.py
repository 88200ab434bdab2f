"""What any library so far has written is read and gone on with; what a newer one has written is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
import pytest
import redis
from formats import FOLDER, load, load_keys
from homes import at, put, settle, values_of
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.types import Command
from scenarios.asking import conversation

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import ConfigurationError, SchemaError
from langgraph_tiered_checkpoint.plans.binding import LAYOUT

pytestmark = pytest.mark.bare

FORMATS = sorted(path.stem.removeprefix("tables-") for path in FOLDER.glob("tables-*.json"))
LAYOUTS = sorted(path.stem.removeprefix("keys-") for path in FOLDER.glob("keys-*.json"))


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        yield made


@pytest.mark.parametrize("name", FORMATS)
def test_tables_of_each_format_are_read_and_gone_on_with(saver: TieredSaver, postgres_url: str, name: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        expected = load(conn, name)
    threads = ["odd", "t"]
    assert checkpoints(line for thread in threads for line in saver.export(thread)) == checkpoints(expected)
    assert saver.explain("odd").pinned
    saver.setup()
    assert conversation(saver).invoke(Command(resume="36"), at("t"))["answered"] == "36"
    settle(saver, "t", "evicted")
    saver.prune(["t"])
    saver.copy_thread("t", "copy")
    with PostgresSaver.from_conn_string(postgres_url) as official:
        assert conversation(official).get_state(at("copy")).values["answered"] == "36"
    saver.delete_thread("odd")
    assert list(saver.thread_ids()) == ["copy", "t"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keys_of_this_layout_are_read_and_those_of_an_older_one_refused(
    redis_url: str, redis_client: redis.Redis, layout: str
) -> None:
    expected = load_keys(redis_client, layout)
    with TieredSaver.from_urls(redis_url, ttl=None) as saver:
        if layout != LAYOUT.partition(":")[0]:
            with pytest.raises(ConfigurationError, match="the version that wrote it"):
                saver.get_tuple(at("t"))
        else:
            found = [line for thread in ("odd", "t") for line in saver.export(thread)]
            assert checkpoints(found) == checkpoints(expected)
            assert conversation(saver).invoke(Command(resume="36"), at("t"))["answered"] == "36"
            saver.prune(["t"])
            for thread in list(saver.thread_ids()):
                saver.delete_thread(thread)
    redis_client.flushdb()


def test_this_layout_is_kept() -> None:
    """So that the one after it is held against it."""
    assert LAYOUT.partition(":")[0] in LAYOUTS


def test_threads_are_shared_with_a_library_that_has_added_to_the_tables(saver: TieredSaver, postgres_url: str) -> None:
    """As in a rolling upgrade: what an older library must not touch has a higher number, all else is an addition."""
    saver.setup()
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads", "tiered_migrations"):
            conn.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT, ADD COLUMN later_yet BYTEA".encode())
        conn.execute("CREATE TABLE tiered_later (thread_id TEXT PRIMARY KEY)")
    for number in (1, 2):
        found = saver.get_tuple(at("t"))
        put(saver, found.config if found else at("t"), {"a": [number]}, number)
        settle(saver, "t", "evicted")
    assert values_of(saver, at("t")) == {"a": [2]}
    saver.setup()
    saver.prune(["t"])
    saver.copy_thread("t", "u")
    saver.delete_thread("t")
    assert list(saver.thread_ids()) == ["u"]


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_what_a_newer_library_has_written_is_refused(
    saver: TieredSaver, redis_url: str, postgres_url: str, redis_client: redis.Redis, tier: str
) -> None:
    put(saver, at("t"), {"a": [1]})
    saver.promote("t")
    number, _, buckets = LAYOUT.partition(":")
    layout = redis_client.get("lgt:layout")
    if tier == "hot":
        redis_client.set("lgt:layout", f"{int(number) + 1}:{buckets} whatever it says")
    else:
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute("INSERT INTO tiered_migrations (v) VALUES (99)")
    before = threads_in(redis_client)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as older:
        for call in (lambda: older.get_tuple(at("u")), lambda: put(older, at("u"), {"a": 1}), older.setup):
            with pytest.raises(SchemaError, match=r"(?i)upgrade"):
                call()
    assert threads_in(redis_client) == before
    redis_client.set("lgt:layout", layout or "")


def test_layout_of_an_older_library_is_told_with_a_way_out(redis_url: str, redis_client: redis.Redis) -> None:
    redis_client.set("lgt:layout", "1:16")
    with (
        TieredSaver.from_urls(redis_url) as saver,
        pytest.raises(ConfigurationError, match="the version that wrote it"),
    ):
        saver.get_tuple(at("t"))
    redis_client.delete("lgt:layout")


def checkpoints(lines: Iterable[str]) -> list[Any]:
    """The checkpoints of an export, with their JSON as what it means: its text is that of the tier it came from."""
    found = [line for line in map(json.loads, lines) if "checkpoint" in line]
    return [{**line, "body": json.loads(line["body"]), "metadata": json.loads(line["metadata"])} for line in found]


def threads_in(client: redis.Redis) -> list[bytes]:
    """The threads; what has one field is the marker of a reader."""
    return sorted(key for key in client.scan_iter() if b":t:" in key and client.hlen(key) > 1)
