"""What Postgres receives: one round trip per write through, per commit of a flush, and per first read."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from homes import at, make_checkpoint
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint

from langgraph_tiered_checkpoint import Promotion, TieredSaver


def latest_format(values: dict[str, Any], version: int) -> Checkpoint:
    """As LangGraph makes them. Those before v4 have sends at their parent, which cost a statement."""
    return {**make_checkpoint(values, version), "v": 4}


def put(saver: TieredSaver, config: RunnableConfig, values: dict[str, Any], version: int = 1) -> RunnableConfig:
    made = latest_format(values, version)
    return saver.put(config, made, {"step": version}, made["channel_versions"])


@contextmanager
def expect(idle: list[Any], *, round_trips: int, statements: int) -> Iterator[None]:
    """Exactly so many, on the one connection that there is. Counted by libpq, from the messages themselves."""
    [connection] = idle
    with tempfile.TemporaryFile("w+") as trace:
        connection.pgconn.trace(trace.fileno())
        yield
        connection.pgconn.untrace()
        assert idle == [connection]
        trace.seek(0)
        messages = trace.read().split("\n")
    assert sum("ReadyForQuery" in message for message in messages) == round_trips
    assert sum("Execute" in message for message in messages) == statements


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", cold_writes="through", promotion=Promotion.never()
    ) as made:
        put(made, at("warm"), {"a": 1})
        made.promote("warm")
        yield made


@pytest.fixture
def idle(saver: TieredSaver) -> list[Any]:
    """The connections to Postgres that are not in use, which are all."""
    ports = saver._sync._connections.sync_ports().cold
    assert ports is not None
    pool: Any = ports._pool
    idle: list[Any] = pool.idle
    return idle


@pytest.fixture
def prepared(saver: TieredSaver, idle: list[Any]) -> None:
    """Everything that the tests do has been done before: preparing a statement is a round trip of its own."""
    for _ in range(3):
        config = put(saver, at("p"), {"a": [1]})
        saver.promote("p")
        saver.put_writes(put(saver, config, {"a": [2]}, 2), [("a", 1)], "task")
        saver.evict("p")
        saver.get_tuple(at("p"))
        saver.evict("p")
        list(saver.list(at("p", ""), limit=10))
        list(saver.list(config))
        saver.get_tuple(config)
        saver.delete_thread("p")
    assert len(idle) == 1


@pytest.mark.usefixtures("prepared")
def test_a_write_through_to_a_clean_thread_is_one_round_trip(saver: TieredSaver, idle: list[Any]) -> None:
    config = put(saver, at("t"), {"a": [1]})
    saver.promote("t")
    with expect(idle, round_trips=1, statements=1):
        config = put(saver, config, {"a": [2], "b": ["more"]}, 2)
    with expect(idle, round_trips=1, statements=1):
        saver.put_writes(config, [("a", n) for n in range(20)], "task")
    assert saver.explain("t").state == "clean"
    saver.evict("t")
    found = saver.get_tuple(at("t"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": [2], "b": ["more"]}
    assert found.pending_writes == [("task", "a", n) for n in range(20)]


@pytest.mark.usefixtures("prepared")
def test_a_first_copy_is_a_claim_and_a_commit(saver: TieredSaver, idle: list[Any]) -> None:
    config: Any = at("t")
    for n in range(1, 40):
        config = put(saver, config, {"a": [n]}, n)
    with expect(idle, round_trips=2, statements=2):
        saver.promote("t")


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("length", [1, 150])
def test_a_first_read_after_eviction_is_one_round_trip_however_long_the_thread(
    saver: TieredSaver, idle: list[Any], length: int
) -> None:
    config: Any = at("t")
    for n in range(1, length + 1):
        config = put(saver, config, {"a": [n], "b": [n]}, n)
    saver.put_writes(config, [("a", 1)], "task")
    saver.promote("t")
    saver.evict("t")
    with expect(idle, round_trips=1, statements=1):
        assert saver.get_tuple(at("t")) is not None
    with expect(idle, round_trips=0, statements=0):
        assert saver.get_tuple(at("t")) is not None
    saver.evict("t")
    with expect(idle, round_trips=3, statements=3):
        assert len(list(saver.list(at("t", ""), limit=10))) == min(10, length)
    with expect(idle, round_trips=3, statements=3):
        assert [t.config for t in saver.list(config)] == [config]


@pytest.mark.usefixtures("prepared")
def test_to_evict_a_clean_thread_costs_one_round_trip(saver: TieredSaver, idle: list[Any]) -> None:
    put(saver, at("t"), {"a": [1]})
    saver.promote("t")
    with expect(idle, round_trips=1, statements=1):
        saver.evict("t")


@pytest.mark.usefixtures("prepared")
def test_a_new_thread_costs_one_round_trip(saver: TieredSaver, idle: list[Any]) -> None:
    with expect(idle, round_trips=1, statements=1):
        put(saver, at("new"), {"a": [1]})


@pytest.fixture
async def asaver(saver: TieredSaver) -> AsyncIterator[TieredSaver]:
    yield saver
    await saver.aclose()


async def test_async_writes_and_reads_are_one_round_trip_too(asaver: TieredSaver) -> None:
    saver = asaver
    made = latest_format({"a": [0]}, 0)
    config = await saver.aput(at("t"), made, {"step": 0}, made["channel_versions"])
    await saver.apromote("t")
    ports = (await saver._async._connections.async_ports()).cold
    assert ports is not None
    pool: Any = ports._pool
    for n in range(1, 6):
        made = latest_format({"a": [n]}, n)
        counted = nullcontext() if n < 4 else expect(pool.idle, round_trips=1, statements=1)  # they are prepared then
        with counted:
            config = await saver.aput(config, made, {"step": n}, made["channel_versions"])
        await saver.aevict("t")
        counted = nullcontext() if n < 4 else expect(pool.idle, round_trips=1, statements=1)
        with counted:
            assert await saver.aget_tuple(at("t")) is not None
