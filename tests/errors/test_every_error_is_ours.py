"""Whatever is wrong, with arguments, servers or what they hold: what comes out is a `TieredCheckpointError`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
import redis
from everything import CALLS
from faults.ledger import Caller
from homes import at, make_checkpoint, put
from own_redis import free_port

from langgraph_tiered_checkpoint import (
    ColdTierError,
    ConfigurationError,
    DamagedThreadError,
    HotTierError,
    Promotion,
    TieredCheckpointError,
    TieredSaver,
    Timeouts,
    UnreadableValueError,
)


@pytest.fixture(autouse=True)
def emptied(redis_client: redis.Redis) -> Iterator[None]:
    """What is damaged keeps no rule for keys."""
    yield
    redis_client.replicaof("NO", "ONE")
    redis_client.flushall()


def saver_on(redis_url: str, postgres_url: str | None) -> TieredSaver:
    return TieredSaver.from_urls(
        redis_url,
        postgres_url,
        promoter="external",
        promotion=Promotion.never(),
        hot_checkpoints=2,
        timeouts=Timeouts(busy=timedelta(seconds=0.1)),
    )


@pytest.fixture
def call(redis_url: str, postgres_url: str, loop: asyncio.AbstractEventLoop | None) -> Iterator[Caller]:
    with saver_on(redis_url, postgres_url) as saver:
        saver.setup()
        yield Caller(saver, loop)


TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads")


class Kept:
    """A thread "t" with some history, values and pending writes, as often as it is wanted."""

    def __init__(self, saver: TieredSaver, client: redis.Redis, postgres_url: str, state: str) -> None:
        self._client: Any = client
        self._admin = psycopg.connect(postgres_url, autocommit=True)
        configs = [put(saver, at("t"), {"text": f"{n}" * 500, "short": n}, n, run_id="run") for n in range(1, 4)]
        saver.put_writes(configs[-1], [("text", "y" * 500)], "task")
        if state != "ephemeral":
            saver.promote("t")
        if state == "dirty":
            put(saver, at("t"), {"text": "4" * 500}, 4)
        if state == "evicted":
            saver.evict("t")
        self._keys = {key: self._client.dump(key) for key in self._client.scan_iter()}
        for table in TABLES:
            self._admin.execute(f"CREATE TEMPORARY TABLE kept_{table} AS TABLE {table}".encode())

    def restore(self, damage: str = "") -> None:
        """Both tiers as they were, but for what a statement damages."""
        pipe = self._client.pipeline()
        pipe.flushdb()
        for key, value in self._keys.items():
            pipe.restore(key, 0, value)
        pipe.execute()
        texts = [f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}" for table in TABLES]
        self._admin.execute("; ".join([*texts, *([damage] if damage else [])]).encode())

    def close(self) -> None:
        self._admin.close()


@pytest.fixture
def keep(call: Caller, redis_client: redis.Redis, postgres_url: str) -> Iterator[Callable[[str], Kept]]:
    made: list[Kept] = []

    def make(state: str) -> Kept:
        made.append(Kept(call.saver, redis_client, postgres_url, state))
        return made[-1]

    yield make
    for each in made:
        each.close()


def outcomes(call: Caller, prepare: Callable[[], object]) -> dict[str, TieredCheckpointError]:
    """What each public method raises, on a thread that is prepared anew each time."""
    raised = {}
    for name, each in CALLS.items():
        prepare()
        try:
            each(call)
        except TieredCheckpointError as exc:
            raised[name] = exc
    return raised


def key_of(client: redis.Redis) -> Any:
    return next(key for key in client.scan_iter("*:t:*") if key.endswith(b":t:t"))


def wrong_type(client: redis.Redis) -> None:
    key = key_of(client)
    client.delete(key)
    client.set(key, "somebody else's")


def cut(field: bytes, keep: int) -> Callable[[redis.Redis], None]:
    def damage(client: redis.Redis) -> None:
        key = key_of(client)
        fields: dict[Any, Any] = client.hgetall(key)
        damaged = {name: value[:keep] for name, value in fields.items() if name.startswith(field)}
        assert damaged
        client.hset(key, mapping=damaged)

    return damage


def other_list(name: bytes) -> Callable[[redis.Redis], None]:
    def damage(client: redis.Redis) -> None:
        bucket = key_of(client).rpartition(b":t:")[0]
        client.delete(bucket + b":" + name)
        client.set(bucket + b":" + name, "somebody else's")

    return damage


def in_threes(names: Iterable[str]) -> list[list[str]]:
    """A test for each would mostly wait for its database."""
    listed = list(names)
    return [listed[at : at + 3] for at in range(0, len(listed), 3)]


FIELDS = (b"s", b"m", b"h", b"n", b"c", b"l", b"b", b"w", b"y")
HOT: dict[str, Callable[[redis.Redis], None]] = {
    "wrong type": wrong_type,
    **{f"{field.decode()} is cut": cut(field, 3 if field in (b"s", b"m", b"n", b"c", b"l") else 1) for field in FIELDS},
    **{f"end of {field.decode()} is cut": cut(field, -3) for field in (b"c", b"b", b"w")},
    **{f"{name} of another type": other_list(name.encode()) for name in ("threads", "due", "runs", "parked", "gone")},
}


@pytest.mark.parametrize(("state", "loop"), [("ephemeral", "async"), ("dirty", "sync")], indirect=["loop"])
@pytest.mark.parametrize("damages", in_threes(HOT), ids=", ".join)
def test_damage_in_redis(
    call: Caller, redis_client: redis.Redis, keep: Callable[[str], Kept], damages: list[str], state: str
) -> None:
    kept = keep(state)

    def prepare(damage: str) -> None:
        kept.restore()
        HOT[damage](redis_client)

    for damage in damages:
        raised = outcomes(call, partial(prepare, damage))
        assert all("'t'" in str(exc) or "bucket" in str(exc) for exc in raised.values()), (damage, raised)
        assert "setup" not in raised
        assert damage == "gone of another type" or "delete_thread" not in raised
        for exc in raised.values():
            assert ("delete_thread()" in str(exc)) <= isinstance(exc, DamagedThreadError)


COLD = {
    "checkpoint of no object": "UPDATE checkpoints SET checkpoint = '5'",
    "checkpoint that is a list": "UPDATE checkpoints SET checkpoint = '[]'",
    "empty checkpoint": "UPDATE checkpoints SET checkpoint = '{}'",
    "checkpoint of other parts": """UPDATE checkpoints SET checkpoint =
        '{"channel_values": 7, "channel_versions": [1]}'""",
    "metadata of no object": "UPDATE checkpoints SET metadata = '7'",
    "metadata of other parts": """UPDATE checkpoints SET metadata =
        '{"parents": 5, "counters_since_delta_snapshot": 3}'""",
    "exact metadata": "UPDATE checkpoints SET tiered_metadata_type = 'msgpack', tiered_metadata = '\\xc1', "
    "tiered_metadata_sha256 = sha256(convert_to(metadata::text, 'UTF8'))",
    "value": "UPDATE checkpoint_blobs SET blob = '\\xc1'",
    "value of no kind": "UPDATE checkpoint_blobs SET type = 'nothing'",
    "absent value": "UPDATE checkpoint_blobs SET blob = NULL",
    "write": "UPDATE checkpoint_writes SET blob = '\\xc1'",
    "write of no kind": "UPDATE checkpoint_writes SET type = NULL",
    "change id": "UPDATE tiered_threads SET flushed = 'x'",
    "another life": "UPDATE tiered_threads SET incarnation = 'x'",
    "cycle": "UPDATE checkpoints SET parent_checkpoint_id = checkpoint_id",
}


@pytest.mark.parametrize(("state", "loop"), [("evicted", "async"), ("dirty", "sync")], indirect=["loop"])
@pytest.mark.parametrize("damages", in_threes(COLD), ids=", ".join)
def test_damage_in_postgres(call: Caller, keep: Callable[[str], Kept], damages: list[str], state: str) -> None:
    kept = keep(state)
    for damage in damages:
        raised = outcomes(call, partial(kept.restore, COLD[damage]))
        raised.pop("restore", None)  # of another thread, from what was read of this one
        assert all("'t'" in str(exc) or "t -> copy" in str(exc) for exc in raised.values()), (damage, raised)
        assert not {"setup", "stats", "thread_ids", "delete_thread"} & raised.keys()


def test_what_cannot_be_read_in_postgres_is_named(call: Caller, keep: Callable[[str], Kept]) -> None:
    kept = keep("evicted")
    for damage, kind, says in (
        ("checkpoint of no object", DamagedThreadError, "checkpoint '.*' of namespace '' in Postgres"),
        ("value", UnreadableValueError, "channel 'text' of checkpoint"),
        ("write", UnreadableValueError, "the pending write to 'text' of checkpoint"),
    ):
        kept.restore(COLD[damage])
        with pytest.raises(kind, match=f"'t'.*{says}"):
            call("get_tuple", at("t"))


def test_redis_is_down(postgres_url: str, loop: asyncio.AbstractEventLoop | None) -> None:
    with saver_on(f"redis://127.0.0.1:{free_port()}/0", postgres_url) as saver:
        raised = outcomes(Caller(saver, loop), lambda: None)
    assert raised.keys() == CALLS.keys() - {"doctor"}  # which says so in its report
    assert {type(exc) for exc in raised.values()} == {HotTierError}


def test_postgres_is_down(call: Caller, redis_url: str, loop: asyncio.AbstractEventLoop | None) -> None:
    with saver_on(redis_url, f"postgresql://127.0.0.1:{free_port()}/app") as saver:
        raised = outcomes(Caller(saver, loop), lambda: None)
    assert {type(exc) for exc in raised.values()} == {ColdTierError}
    assert raised.keys() >= {"setup", "put", "get_tuple", "promote", "delete_thread"}


def test_redis_is_a_replica(call: Caller, redis_client: redis.Redis, keep: Callable[[str], Kept]) -> None:
    kept = keep("dirty")

    def prepare() -> None:
        redis_client.replicaof("NO", "ONE")
        kept.restore()
        redis_client.replicaof("127.0.0.1", "1")

    raised = outcomes(call, prepare)
    assert {type(exc) for exc in raised.values()} == {HotTierError}
    assert raised.keys() >= {"put", "put_writes", "flush", "evict", "delete_thread"}


@pytest.mark.parametrize("denied", ["-@all", "+@all -evalsha", "+@all -hmget -hget", "+@all -zadd -zrem"])
def test_the_user_may_not(
    call: Caller,
    redis_url: str,
    redis_client: redis.Redis,
    postgres_url: str,
    keep: Callable[[str], Kept],
    loop: asyncio.AbstractEventLoop | None,
    denied: str,
) -> None:
    kept = keep("dirty")
    admin: Any = redis_client
    admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", "~*", *denied.split())
    with saver_on(f"redis://app:pw@{redis_url.partition('@')[2]}", postgres_url) as saver:
        raised = outcomes(Caller(saver, loop), kept.restore)
    assert {type(exc) for exc in raised.values()} == {HotTierError}
    assert raised.keys() >= {"put", "put_writes", "flush", "evict"}


BAD: list[Any] = [None, 5, "x", [], {}, {"configurable": None}, {"configurable": 5}, {"configurable": {}}, object()]
THREAD_IDS: list[Any] = [None, "", [], "\0", b"t"]
BAD += [{"configurable": {"thread_id": thread_id}} for thread_id in THREAD_IDS]
BAD += [
    {"configurable": {"thread_id": "t", name: value}}
    for name in ("checkpoint_ns", "checkpoint_id", "checkpoint_map", "thread_ttl")
    for value in ("x", 5, [], [1], {"": 5}, {"": []}, object())
]


def called(name: str, call: Caller, bad: Any) -> Any:
    return call(name, bad)


def bad_calls() -> dict[str, Callable[[Caller, Any], Any]]:
    good = make_checkpoint({"text": "x"}, 9)
    versions = good["channel_versions"]
    return {
        "get_tuple": lambda call, bad: call("get_tuple", bad),
        "list": lambda call, bad: call("list", bad),
        "list before": lambda call, bad: call("list", at("t"), before=bad),
        "list filter": lambda call, bad: call("list", at("t"), filter=bad),
        "list limit": lambda call, bad: call("list", at("t"), limit=bad),
        "put": lambda call, bad: call("put", bad, good, {}, versions),
        "put checkpoint": lambda call, bad: call("put", at("t"), bad, {}, versions),
        "put metadata": lambda call, bad: call("put", at("t"), good, bad, versions),
        "put versions": lambda call, bad: call("put", at("t"), good, {}, bad),
        "put_writes": lambda call, bad: call("put_writes", bad, [("text", 1)], "task"),
        "put_writes writes": lambda call, bad: call("put_writes", at("t", checkpoint_id=good["id"]), bad, "task"),
        "put_writes task": lambda call, bad: call("put_writes", at("t", checkpoint_id=good["id"]), [("text", 1)], bad),
        "put_writes path": lambda call, bad: call(
            "put_writes", at("t", checkpoint_id=good["id"]), [("text", 1)], "task", bad
        ),
        "delta": lambda call, bad: call("get_delta_channel_history", config=bad, channels=["text"]),
        "delta channels": lambda call, bad: call("get_delta_channel_history", config=at("t"), channels=bad),
        "delete_for_runs": lambda call, bad: call("delete_for_runs", bad),
        "prune": lambda call, bad: call("prune", bad),
        "prune strategy": lambda call, bad: call("prune", ["t"], strategy=bad),
        "thread_ids": lambda call, bad: call("thread_ids", bad),
        "copy_thread": lambda call, bad: call("copy_thread", bad, bad),
        "restore": lambda call, bad: call("restore", "again", bad),
        **{
            name: partial(called, name)
            for name in ("delete_thread", "promote", "pin", "unpin", "flush", "evict", "explain")
        },
    }


def class_of(use: Callable[[], object]) -> type[Exception] | None:
    try:
        use()
    except TieredCheckpointError as exc:
        return type(exc)
    return None


def test_bad_arguments_are_the_caller_s_mistake(call: Caller) -> None:
    put(call.saver, at("t"), {"text": "x" * 500})
    told = {(name, repr(bad)): class_of(partial(use, call, bad)) for name, use in bad_calls().items() for bad in BAD}
    assert {bad: kind for bad, kind in told.items() if kind and not issubclass(kind, ConfigurationError)} == {}


def test_bad_arguments_of_what_asks_no_server(call: Caller) -> None:
    for bad in BAD:
        for use in (call.saver.scoped, call.saver.thread_ids, lambda v: call.saver.get_next_version(v, None)):
            kind = class_of(partial(use, bad))
            assert kind is None or issubclass(kind, ConfigurationError)


def test_a_rule_for_promotion_that_fails_is_the_caller_s_mistake(
    redis_url: str, postgres_url: str, loop: asyncio.AbstractEventLoop | None
) -> None:
    def when(_: object) -> bool:
        raise RuntimeError("mine")

    with (
        TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion(when=when)) as saver,
        pytest.raises(ConfigurationError, match=r"'t'.*promotion\.when.*RuntimeError: mine"),
    ):
        CALLS["put"](Caller(saver, loop))
