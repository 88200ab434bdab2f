"""What goes in comes out: the same types and values, bit for bit, from either tier. InMemorySaver is the yardstick."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis
from homes import HOMES, settle
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from sameness import difference, same
from scenarios.values import UNSERIALIZABLE, Text, names, scalars, text, values
from typing_extensions import TypedDict

from langgraph_tiered_checkpoint import Promotion, TieredSaver, UnserializableError

MISSING = object()


class Write(NamedTuple):
    task_id: str
    channels: list[tuple[str, Any]]
    early: bool


class Step(NamedTuple):
    """One checkpoint: the channels that change with it (`MISSING`: they lose their value), its metadata and writes."""

    changes: dict[str, Any]
    metadata: dict[str, Any]
    writes: list[Write]


_METADATA_NAMES = text.filter(lambda name: name not in {"parents", "run_id", "writes", "counters_since_delta_snapshot"})


@st.composite
def layouts(draw: st.DrawFn) -> list[Step]:
    channels = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    writes = st.builds(
        Write,
        st.sampled_from(["task a", "task b"]),
        st.lists(st.tuples(st.sampled_from([*channels, ERROR, INTERRUPT, RESUME]), values), max_size=3),
        st.booleans(),
    )
    step = st.builds(
        Step,
        st.dictionaries(st.sampled_from(channels), st.just(MISSING) | values, max_size=4),
        st.dictionaries(_METADATA_NAMES, scalars | values, max_size=3),
        st.lists(writes, max_size=3),
    )
    return draw(st.lists(step, min_size=1, max_size=4))


def at(thread_id: str, checkpoint_id: str = "") -> RunnableConfig:
    configurable = {"thread_id": thread_id, "checkpoint_ns": ""}
    return {"configurable": {**configurable, "checkpoint_id": checkpoint_id} if checkpoint_id else configurable}


def checkpoint_ids(steps: list[Step]) -> list[str]:
    return [f"1f000000-0000-6000-8000-{number:012}" for number in range(1, len(steps) + 1)]


def replay(saver: BaseCheckpointSaver[str], thread_id: str, steps: list[Step]) -> None:
    """Put a layout: values that did not change are in `channel_values`, but not in `new_versions`."""
    current: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    config = at(thread_id)
    for number, (checkpoint_id, step) in enumerate(zip(checkpoint_ids(steps), steps, strict=True), 1):
        new = dict.fromkeys(step.changes, f"{number:032}.5")
        versions |= new
        current |= step.changes
        checkpoint: Checkpoint = {
            **empty_checkpoint(),
            "ts": "2026-01-01T00:00:00+00:00",
            "id": checkpoint_id,
            "channel_values": {name: value for name, value in current.items() if value is not MISSING},
            "channel_versions": dict(versions),
            "versions_seen": {"node": dict(versions)},
            "updated_channels": sorted(new),
        }
        for write in step.writes:
            if write.early:
                saver.put_writes(at(thread_id, checkpoint_id), write.channels, write.task_id)
        config = saver.put(config, checkpoint, {"step": number, **step.metadata}, {**new})  # type: ignore[typeddict-item]
        for write in step.writes:
            if not write.early:
                saver.put_writes(at(thread_id, checkpoint_id), write.channels, write.task_id)


def read(saver: BaseCheckpointSaver[str], thread_id: str, steps: list[Step]) -> list[CheckpointTuple | None]:
    """The latest, each by id, and the list."""
    by_id = [saver.get_tuple(at(thread_id, checkpoint_id)) for checkpoint_id in checkpoint_ids(steps)]
    return [saver.get_tuple(at(thread_id)), *by_id, *saver.list(at(thread_id))]


def assert_same(found: list[CheckpointTuple | None], expected: list[CheckpointTuple | None], where: str) -> None:
    assert len(found) == len(expected), where
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None, where
        assert theirs is not None, where
        assert not difference(ours._asdict(), theirs._asdict(), where)


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion.never(), promoter="external") as opened:
        yield opened


@given(steps=layouts())
def test_every_tier_gives_back_what_the_in_memory_saver_gives_back(saver: TieredSaver, steps: list[Step]) -> None:
    thread_id = str(uuid.uuid4())
    yardstick = InMemorySaver()
    replay(yardstick, thread_id, steps)
    expected = read(yardstick, thread_id, steps)
    replay(saver, thread_id, steps)
    assert_same(read(saver, thread_id, steps), expected, "hot")
    saver.promote(thread_id)
    assert_same(read(saver, thread_id, steps), expected, "promoted")
    saver.evict(thread_id)
    by_id = [saver.get_tuple(at(thread_id, checkpoint_id)) for checkpoint_id in checkpoint_ids(steps)]
    assert saver.explain(thread_id).tier == "cold"
    assert_same(by_id, expected[1 : len(by_id) + 1], "cold")
    assert_same(read(saver, thread_id, steps), expected, "rehydrated")
    assert saver.explain(thread_id).tier == "both"
    assert_same(read(saver, thread_id, steps), expected, "rehydrated, again")
    saver.delete_thread(thread_id)


@given(number=st.integers(), text_enum=st.sampled_from(Text), power=st.integers(64, 900))
def test_top_level_values_that_plain_json_would_change_survive_eviction(
    saver: TieredSaver, number: int, text_enum: Text, power: int
) -> None:
    """Beyond 64 bits the serializer gives up, and so does InMemorySaver: the value is its own yardstick."""
    thread_id = str(uuid.uuid4())
    given_values = {"number": number, "huge": 2**power, "negative": -(2**power) - 1, "enum": text_enum}
    replay(saver, thread_id, [Step(given_values, {}, [])])
    for _ in range(2):
        found = saver.get_tuple(at(thread_id))
        assert found is not None
        assert not difference(found.checkpoint["channel_values"], given_values)
        saver.promote(thread_id)
        saver.evict(thread_id)
    saver.delete_thread(thread_id)


class State(TypedDict):
    first: Any
    second: Any


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**70), {"x": [2**70, 1.5, "a", None, True]}, [{"lc": 2**64}]],
    ids=["int", "negative", "nested", "lc"],
)
@pytest.mark.parametrize("home", HOMES)
def test_integers_beyond_64_bits_that_a_node_returns_are_stored_with_the_run(
    value: Any, home: str, saver: TieredSaver, postgres_url: str
) -> None:
    """As its pending write and as the state, for the official saver, too. The serializer alone gives up."""
    config = at("t")
    graph = (
        StateGraph(State)
        .add_node("n", lambda _: {"first": value})
        .add_node("asks", lambda _: {"second": interrupt("?")})
        .add_edge(START, "n")
        .add_edge(START, "asks")
        .compile(checkpointer=saver)
    )
    graph.invoke({"first": "in", "second": None}, config)
    settle(saver, "t", home)
    found = saver.get_tuple(config)
    assert found is not None
    assert not difference([w for _, channel, w in found.pending_writes or () if channel == "first"], [value])
    if home != "ephemeral":
        with PostgresSaver.from_conn_string(postgres_url) as official:
            theirs = official.get_tuple(config)
            assert theirs is not None
            assert not difference(theirs.pending_writes, found.pending_writes)
    assert not difference(graph.invoke(Command(resume=1), config), {"first": value, "second": 1})
    assert not difference(graph.get_state(config).values, {"first": value, "second": 1})


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """Everything that Redis holds, but for the bytes that say when."""
    found: dict[bytes, Any] = {}
    for key in client.scan_iter():
        found[key] = client.dump(key)
    return found


unserializable = pytest.mark.parametrize("make", UNSERIALIZABLE.values(), ids=list(UNSERIALIZABLE))


@unserializable
@pytest.mark.parametrize("existing", [True, False], ids=["existing thread", "new thread"])
@pytest.mark.parametrize("where", ["channel", "metadata", "write", "special write"])
def test_value_that_cannot_be_carried_is_refused_with_nothing_half_written(
    make: Any, where: str, *, existing: bool, saver: TieredSaver, redis_client: redis.Redis
) -> None:
    if existing:
        replay(saver, "thread", [Step({"a": [1]}, {}, [])])
    before = dump(redis_client)
    bad = make()
    step = {
        "channel": Step({"fine": [1], "bad": bad}, {}, []),
        "metadata": Step({"fine": [1]}, {"bad": bad}, []),
        "write": Step({}, {}, [Write("task", [("fine", 1), ("bad", bad)], early=True)]),
        "special write": Step({}, {}, [Write("task", [(RESUME, bad)], early=True)]),
    }[where]
    with pytest.raises(UnserializableError, match=r"'thread'.*Nothing of this call was stored"):
        replay(saver, "thread", [step])
    assert dump(redis_client) == before
    with pytest.raises(Exception, match=r".+"):  # so does the yardstick, if in its own words
        replay(InMemorySaver(), "thread", [step])


def test_sameness_tells_apart_what_equality_does_not() -> None:
    for one, other in [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ("a", Text.A),
        ([1], (1,)),
        ({1}, {True}),
        ({1: 2}, {True: 2}),
    ]:
        assert one == other or type(one) is not type(other)
        assert not same(one, other)
        assert not same({"k": [one]}, {"k": [other]})
    assert same({"k": [float("nan"), {1, "a"}, Text.A]}, {"k": [float("nan"), {"a", 1}, Text.A]})
