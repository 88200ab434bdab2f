"""What the servers receive: one command per operation on a resident thread, whatever it carries."""

from __future__ import annotations

import asyncio.selector_events
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from homes import at, make_checkpoint, put

from langgraph_tiered_checkpoint import TieredSaver


class Counter:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    @contextmanager
    def expect(self, scripts: int) -> Iterator[None]:
        """Exactly so many scripts, and no command outside of a script."""
        self.client.config_resetstat()
        yield
        stats: Any = self.client.info("commandstats")
        assert stats["cmdstat_evalsha"]["calls"] == scripts
        assert not {"cmdstat_eval", "cmdstat_script|load", "cmdstat_multi", "cmdstat_keys"} & set(stats)


@pytest.fixture
def counter(redis_client: redis.Redis) -> Counter:
    return Counter(redis_client)


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
        config = put(made, at("warm"), {"a": 1})
        made.put_writes(config, [("a", 1)], "task")
        made.get_tuple(config)
        made.get_tuple(at("nobody"))
        list(made.list(config))
        made.delete_thread("warm")
        yield made


@pytest.fixture
def no_postgres(saver: TieredSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any use of Postgres fails the test."""

    def refuse(*_: object) -> None:
        raise AssertionError("Postgres was used")

    ports = saver._sync._connections.sync_ports().cold
    assert ports is not None
    monkeypatch.setattr(ports, "transact", refuse)


def test_operations_on_a_resident_thread_are_one_round_trip(
    saver: TieredSaver, counter: Counter, request: pytest.FixtureRequest
) -> None:
    config = put(saver, at("t"), {"a": [1], "b": "text"})
    saver.put_writes(config, [("a", n) for n in range(20)], "task")
    request.getfixturevalue("no_postgres")
    operations: list[Callable[[], object]] = [
        lambda: saver.get_tuple(at("t")),
        lambda: saver.get_tuple(config),
        lambda: put(saver, config, {"a": [2], "b": "text"}, 2),
        lambda: saver.put_writes(config, [("a", 1)], "one"),
        lambda: saver.put_writes(config, [("a", n) for n in range(1_000)], "thousand"),
        lambda: saver.put_writes(config, [("a", n) for n in range(20_000)], "twenty thousand"),
        lambda: list(saver.list(at("t"), limit=10)),
        lambda: list(saver.list(at("t"), limit=1)),
        lambda: saver.delete_thread("t"),
    ]
    for operation in operations:
        with counter.expect(1):
            operation()


async def test_async_operations_are_one_round_trip_too(saver: TieredSaver, counter: Counter) -> None:
    made = make_checkpoint({"a": [1], "b": "text"})
    config = await saver.aput(at("t"), made, {"step": 1}, made["channel_versions"])
    with counter.expect(1):
        await saver.aget_tuple(at("t"))
    with counter.expect(1):
        await saver.aput_writes(config, [("a", n) for n in range(1_000)], "thousand")
    following = make_checkpoint({"a": [2], "b": "text"}, 2)
    with counter.expect(1):
        await saver.aput(config, following, {"step": 2}, following["channel_versions"])
    with counter.expect(1):
        assert len([t async for t in saver.alist(at("t"), limit=10)]) == 2
    with counter.expect(1):
        await saver.adelete_thread("t")
    await saver.aclose()


def test_page_of_a_listing_is_one_round_trip(saver: TieredSaver, counter: Counter) -> None:
    config: Any = at("t")
    for n in range(1, 121):
        config = put(saver, config, {"a": n}, n)
    with counter.expect(3):
        assert len(list(saver.list(at("t")))) == 120


def test_resident_promoted_thread_costs_no_more(
    saver: TieredSaver, counter: Counter, request: pytest.FixtureRequest
) -> None:
    config = put(saver, at("t"), {"a": [1]})
    saver.promote("t")
    request.getfixturevalue("no_postgres")
    for operation in (
        lambda: saver.get_tuple(at("t")),
        lambda: put(saver, config, {"a": [2]}, 2),
        lambda: saver.put_writes(config, [("a", 1)], "task"),
        lambda: list(saver.list(at("t"))),
    ):
        with counter.expect(1):
            operation()


def test_new_thread_costs_one_lookup_in_postgres(saver: TieredSaver, counter: Counter) -> None:
    with counter.expect(2):
        assert saver.get_tuple(at("new")) is None
    with counter.expect(1):
        put(saver, at("new"), {"a": 1})
    with counter.expect(2):
        put(saver, at("newer"), {"a": 1})


def test_fork_from_resident_history_sends_no_value_again(saver: TieredSaver, counter: Counter) -> None:
    config = put(saver, at("t"), {"a": ["big" * 100]})
    fork = make_checkpoint({"a": ["big" * 100]}, 1)
    with counter.expect(1):
        saver.put(config, fork, {"step": 2, "source": "fork"}, {})
    found = saver.get_tuple(at("t"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": ["big" * 100]}


LISTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "page": ({"checkpoint_ns": ""}, {"limit": 10}),
    "page of all namespaces": ({}, {"limit": 10}),
    "before": ({"checkpoint_ns": ""}, {"limit": 10, "before": at("t", "", "middle")}),
    "before in all namespaces": ({}, {"limit": 10, "before": at("t", "", "middle")}),
    "one checkpoint": ({"checkpoint_ns": "", "checkpoint_id": "middle"}, {}),
    "one checkpoint in all namespaces": ({"checkpoint_id": "middle"}, {}),
    "filter": ({"checkpoint_ns": ""}, {"limit": 3, "filter": {"source": "loop"}}),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_does_not_cost_more_the_longer_the_thread(saver: TieredSaver, counter: Counter, name: str) -> None:
    where, search = LISTS[name]
    costs = []
    for length in (40, 400):
        thread = f"of {length}"
        stored: list[Any] = [at(thread)]
        for n in range(1, length + 1):
            stored.append(put(saver, stored[-1], {"a": n, "b": ["long"]}, n))
        middle = stored[length // 2]["configurable"]["checkpoint_id"]
        given = {key: middle if value == "middle" else value for key, value in where.items()}
        asked = {**search, "before": at(thread, "", middle)} if "before" in search else search
        counter.client.config_resetstat()
        listed = list(saver.list({"configurable": {"thread_id": thread, **given}}, **asked))
        stats: Any = counter.client.info("commandstats")
        costs.append({command: stat["calls"] for command, stat in stats.items() if "config" not in command})
        assert len(listed) == search.get("limit", 1)
    assert costs[0]["cmdstat_evalsha"] == 1
    assert costs[0] == costs[1]


async def test_operations_that_tasks_ask_for_at_once_travel_together(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_checkpoint({"a": [1]})
    config = await saver.aput(at("t"), made, {"step": 1}, made["channel_versions"])
    selector_events: Any = asyncio.selector_events
    transports = selector_events._SelectorSocketTransport
    sent: list[int] = []
    write = transports.write

    def count(transport: object, data: bytes) -> None:
        sent.append(len(data))
        write(transport, data)

    monkeypatch.setattr(transports, "write", count)
    await asyncio.gather(*(saver.aput_writes(config, [("a", n)], f"task-{n}") for n in range(64)))
    assert len(sent) == 1
    found = await asyncio.gather(*(saver.aget_tuple(config) for _ in range(64)))
    assert len(sent) == 2
    assert [len(one.pending_writes or ()) for one in found if one is not None] == [64] * 64
    await saver.aclose()


def test_read_and_page_cost_the_same_however_long_the_thread(saver: TieredSaver, redis_client: redis.Redis) -> None:
    def cost(operation: Callable[[], object]) -> tuple[int, int]:
        """Commands, in scripts too, and bytes of replies."""
        redis_client.config_resetstat()
        operation()
        stats: Any = redis_client.info("stats")
        commands: Any = redis_client.info("commandstats")
        assert not {f"cmdstat_{name}" for name in ("hgetall", "hkeys", "hvals", "hscan", "keys", "scan")} & set(
            commands
        )
        ours = sum(
            of["calls"] for name, of in commands.items() if name not in {"cmdstat_info", "cmdstat_config|resetstat"}
        )
        return ours, stats["total_net_output_bytes"]

    costs = []
    config: Any = at("t")
    for n in range(1, 601):
        config = put(saver, config, {"a": [f"{n:06}"]}, n)
        if n in {60, 600}:
            reads: list[Callable[[], object]] = [
                lambda: saver.get_tuple(at("t")),
                lambda: list(saver.list(at("t"), limit=10)),
                lambda: list(saver.list(at("t"), limit=10, before=config)),  # noqa: B023 - called in this round
            ]
            costs.append([cost(read) for read in reads])
    short, long = costs
    for (few, few_bytes), (many, many_bytes) in zip(short, long, strict=True):
        assert many <= few + 1  # a read renews the TTL now and then
        assert many_bytes <= few_bytes * 1.1
