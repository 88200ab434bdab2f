"""Ids, listing and values: ways in which published savers mixed up threads, or changed what they were given."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from homes import HOMES, at, make_checkpoint, put, settle, values_of
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_tiered_checkpoint import ConfigurationError, TieredSaver

HOSTILE = [
    "alice",
    "Alice",
    "al*",
    "user:42",
    "user:42:x",
    "user:*,{}",
    "a,b",
    "tab\there",
    "{al}",
    "é",
    "e\u0301",
    "?",
]
TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads")


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
        yield made


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Mood(str, Enum):
    GOOD = "good"


AWKWARD: dict[str, Any] = {
    "decimal": Decimal("1.10"),
    "timedelta": timedelta(days=1, microseconds=3),
    "deque": deque([1, 2]),
    "path": Path("/a/b"),
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
    "uuid": UUID(int=7),
    "int keys": {1: "one"},
    "nul": "a\0b",
    "zero": -0.0,
    "large": 1e22,
    "beyond": 2**70,
    "nested": {"deep": [Decimal(3), float("inf")]},
}


def test_values_keep_their_types_turn_after_turn(saver: TieredSaver, home: str) -> None:
    """Failures 4 and 14: Decimal became str, -0.0 became 0, a NUL broke the checkpoint for ever."""
    config = put(saver, at("t"), AWKWARD)
    for version in (2, 3):
        settle(saver, "t", home)
        values = values_of(saver, at("t"))
        assert {name: repr(value) for name, value in values.items()} == {n: repr(v) for n, v in AWKWARD.items()}
        config = put(saver, config, values, version)


@pytest.mark.filterwarnings("ignore:.*unregistered type.*")
def test_enum_nan_and_metadata_come_back_as_they_were(saver: TieredSaver, home: str) -> None:
    """Failure 14: str-Enums as str, NaN refused, metadata without its NULs and datetimes."""
    when = datetime(2026, 1, 2, tzinfo=timezone.utc)
    put(saver, at("t"), {"mood": Mood.GOOD, "nan": float("nan")}, note={"when": when, "text": "a\0b"}, big=1e22)
    settle(saver, "t", home)
    found = saver.get_tuple(at("t"))
    assert found is not None
    metadata: Any = found.metadata
    assert isinstance(found.checkpoint["channel_values"]["mood"], Mood)
    assert repr(found.checkpoint["channel_values"]["nan"]) == "nan"
    assert metadata["note"] == {"when": when, "text": "a\0b"}
    assert repr(metadata["big"]) == "1e+22"


def test_metadata_keeps_the_keys_of_the_config(saver: TieredSaver, home: str) -> None:
    """A deliberately broken saver drops them."""
    config = at("t")
    config["metadata"] = {"assistant": "a1", "__private": "no"}
    config["configurable"]["user"] = "u1"
    put(saver, config, {"a": 1})
    settle(saver, "t", home)
    found = saver.get_tuple(at("t"))
    assert found is not None
    metadata: Any = found.metadata
    assert (metadata["assistant"], metadata["user"]) == ("a1", "u1")
    assert "__private" not in metadata


def test_ids_are_opaque_to_every_operation(saver: TieredSaver, home: str) -> None:
    """Failure 5: "alice" listed "Alice", `user:42` deleted nothing, `al*` deleted somebody else's data."""
    for n, name in enumerate(HOSTILE):
        put(saver, at(name), {"mine": [name]}, n + 1)
        settle(saver, name, home)
    assert sorted(saver.thread_ids()) == sorted(HOSTILE)
    assert sorted(saver.thread_ids("user:")) == ["user:*,{}", "user:42", "user:42:x"]
    for name in HOSTILE:
        assert [t.checkpoint["channel_values"] for t in saver.list(at(name))] == [{"mine": [name]}]
    saver.prune(["alice"])
    left = list(HOSTILE)
    for name in ("al*", "user:42", "user:*,{}", "a,b", "?"):
        saver.delete_thread(name)
        left.remove(name)
        assert sorted(saver.thread_ids()) == sorted(left)
    for name in left:
        assert values_of(saver, at(name)) == {"mine": [name]}


def test_ids_within_a_thread_are_opaque(saver: TieredSaver, home: str) -> None:
    """Checkpoint ids are UUIDs by custom only; a colon or a high code point in one must not make two meet."""
    stored: list[RunnableConfig] = []
    for n, id_ in enumerate(("x", "x:1", "é1", "~2"), 1):
        made = make_checkpoint({"a": [n]}, n)
        made["id"] = id_
        metadata: Any = {"source": "loop", "step": n, "parents": {}}
        stored.append(saver.put(stored[-1] if stored else at("t"), made, metadata, made["channel_versions"]))
    saver.put_writes(stored[0], [("a", 0), ("a", 1)], "2:t")
    saver.put_writes(stored[1], [("a", 2), ("a", 3), ("a", 4)], "t")
    settle(saver, "t", home)
    saver.put_writes(stored[3], [("a", 5)], "t")
    found = {t.checkpoint["id"]: t for t in saver.list(at("t"))}
    assert list(found) == ["é1", "~2", "x:1", "x"]
    assert [[w[2] for w in found[id_].pending_writes or ()] for id_ in found] == [[], [5], [2, 3, 4], [0, 1]]
    for config in stored:
        alone = saver.get_tuple(config)
        assert alone is not None
        assert alone.pending_writes == found[alone.checkpoint["id"]].pending_writes


def test_number_as_thread_id_is_read_as_it_was_written(saver: TieredSaver, home: str) -> None:
    """Failure 15."""
    put(saver, {"configurable": {"thread_id": 7, "checkpoint_ns": ""}}, {"a": 1})
    settle(saver, "7", home)
    assert values_of(saver, {"configurable": {"thread_id": 7}}) == {"a": 1}


def test_list_honours_each_of_its_arguments(saver: TieredSaver, home: str) -> None:
    """Failure 11: before ignored, "" meaning any namespace, unknown keys raising, limit before filter."""
    config = at("t")
    stored = []
    for n in range(1, 7):
        config = put(saver, config, {"a": n}, n, even=n % 2 == 0)
        stored.append(config)
    put(saver, at("t", "sub"), {"a": "sub"}, 7, even=True)
    put(saver, at("other"), {"a": 0}, 8, even=False)
    settle(saver, "t", home)

    def steps(config: Any, **wanted: Any) -> list[Any]:
        return [t.checkpoint["channel_values"]["a"] for t in saver.list(config, **wanted)]

    assert steps(at("t")) == [6, 5, 4, 3, 2, 1]
    assert steps({"configurable": {"thread_id": "t"}}) == ["sub", 6, 5, 4, 3, 2, 1]
    assert steps(at("t"), before=stored[3]) == [3, 2, 1]
    assert steps(at("t"), before=stored[3]["configurable"]) == [3, 2, 1]  # as the Agent Server asks
    assert steps(at("t"), filter={"even": False}, limit=2) == [5, 3]
    assert steps(at("t"), filter={"unknown": 1}) == []
    assert steps(at("t"), limit=0) == []
    assert steps(stored[2]) == [3]
    assert sorted(map(str, steps(None))) == ["0", "1", "2", "3", "4", "5", "6", "sub"]
    assert steps(None, filter={"even": True}, limit=2) == ["sub", 6]


ENCRYPTED = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")


class Rotating(SerializerProtocol):
    """What one writes to change keys: the new one first, the old ones to read with."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return ENCRYPTED.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return ENCRYPTED.loads_typed(data)


class Masking(JsonPlusSerializer):
    """Of LangGraph's own kind, and yet not to be passed by."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return ENCRYPTED.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return ENCRYPTED.loads_typed(data)


class Untyped:
    """Of the older protocol, which LangGraph wraps."""

    def dumps(self, obj: Any) -> bytes:
        return pickle.dumps(ENCRYPTED.dumps_typed(obj))

    def loads(self, data: bytes) -> Any:
        return ENCRYPTED.loads_typed(pickle.loads(data))


def everything_stored(redis_client: redis.Redis, postgres_url: str) -> bytes:
    seen = b""
    for key in redis_client.scan_iter("*"):
        if redis_client.type(key) == b"hash":
            seen += b"".join(value for value in redis_client.hgetall(key).values() if isinstance(value, bytes))
    with psycopg.connect(postgres_url) as conn:
        for table in TABLES:
            for (row,) in conn.execute(f"SELECT to_jsonb(t)::text FROM {table} t").fetchall():
                seen += row.encode()
        for table in ("checkpoint_blobs", "checkpoint_writes"):
            seen += b"".join(bytes(blob) for (blob,) in conn.execute(f"SELECT blob FROM {table}").fetchall())
    return seen


VALUES = {"text": "s3cret-words", "number": 8675309, "list": ["s3cret-words"]}


@pytest.mark.parametrize(
    "serde", [ENCRYPTED, Rotating(), Masking(), Untyped()], ids=["LangGraph's", "wrapper", "subclass", "untyped"]
)
def test_encrypting_serializer_leaves_nothing_in_clear(
    redis_url: str, postgres_url: str, redis_client: redis.Redis, serde: Any
) -> None:
    """Failure 22: plain strings and numbers were stored inline, beside the encrypted rest."""
    with TieredSaver.from_urls(redis_url, postgres_url, serde=serde, promoter="external") as saver:
        config = put(saver, at("t"), VALUES)
        saver.put_writes(config, [("text", "s3cret-words")], "task")
        seen = everything_stored(redis_client, postgres_url)
        saver.promote("t")
        seen += everything_stored(redis_client, postgres_url)
        assert b"s3cret-words" not in seen
        assert b"8675309" not in seen
        saver.evict("t")
        assert values_of(saver, at("t")) == VALUES


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, True), ({"inline": False}, False), ({"inline": True, "serde": Masking()}, True)],
    ids=["plain", "not asked for", "asked for"],
)
def test_short_values_are_inline_with_the_plain_serde_or_where_it_is_asked_for(
    redis_url: str, postgres_url: str, settings: dict[str, Any], *, expected: bool
) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", **settings) as saver:
        clones: list[Any] = [saver, saver.scoped("tenant"), saver.with_allowlist([("a", "B")])]
        for clone in clones:
            put(clone, at("t"), VALUES)
            clone.promote("t")
            with psycopg.connect(postgres_url) as conn:
                bodies = conn.execute("SELECT checkpoint -> 'channel_values' FROM checkpoints").fetchall()
            assert all(("text" in body, "number" in body) == (expected, expected) for (body,) in bodies)
            clone.evict("t")
            assert values_of(clone, at("t")) == VALUES
            clone.delete_thread("t")


def test_encryption_is_not_passed_by_on_request(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match="inline=True"):
        TieredSaver.from_urls(redis_url, serde=ENCRYPTED, inline=True)
