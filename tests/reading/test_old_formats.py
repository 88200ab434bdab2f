"""Checkpoints of formats before v4 have their pending sends at their parent, wherever the thread is and was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from homes import HOMES, settle
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.types import TASKS
from scenarios.graphs import Saver
from scenarios.threads import THREAD, assert_same_thread, checkpoint_id, config, everything, put

from langgraph_tiered_checkpoint import Promotion, TieredSaver

pytestmark = pytest.mark.bare

OLD = [1, 3]


@pytest.fixture
def official(postgres_url: str) -> Iterator[PostgresSaver]:
    """The yardstick, with tables of its own: `InMemorySaver` does not know of sends at a parent."""
    with PostgresSaver.from_conn_string(postgres_url) as saver:
        saver.setup()
        yield saver


def tiered(redis_url: str, postgres_url: str, hot_checkpoints: int | None = None) -> TieredSaver:
    return TieredSaver.from_urls(
        redis_url,
        postgres_url,
        schema="tiered",
        promoter="external",
        promotion=Promotion.never(),
        hot_checkpoints=hot_checkpoints,
    )


def write_chain(saver: Saver, version: int, last: int = 4) -> str:
    """A chain, all but the first with two sends of one task and two of another. Returns the id of the latest."""
    parent = ""
    for number in range(1, last + 1):
        parent = put(saver, number, parent, version)
        write_sends(saver, parent, number)
    return parent


def write_sends(saver: Saver, parent: str, number: int) -> None:
    at = config(ns="", checkpoint_id=parent)
    saver.put_writes(at, [(TASKS, {"send": number}), ("items", [9]), (TASKS, number)], f"task {number}", "~b")
    saver.put_writes(at, [(TASKS, ("second", number))], f"another {number}", "~a")


@pytest.mark.parametrize("hot_checkpoints", [1, 2, None])
@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("version", OLD)
def test_old_format_has_its_sends_in_either_tier(
    redis_url: str, postgres_url: str, official: PostgresSaver, version: int, home: str, hot_checkpoints: int | None
) -> None:
    write_chain(official, version)
    with tiered(redis_url, postgres_url, hot_checkpoints) as saver:
        latest = write_chain(saver, version)
        settle(saver, THREAD, home)
        theirs = everything(official)
        assert any(t and TASKS in t.checkpoint["channel_values"] for t in theirs.values())
        for _ in range(3):
            assert_same_thread(everything(saver), theirs)
        for each in (saver, official):
            write_sends(each, put(each, 5, latest, version), 5)
        assert_same_thread(everything(saver), everything(official))


@pytest.mark.parametrize("sends", [False, True])
@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("version", [*OLD, 4])
def test_prune_keeps_the_parent_that_has_the_sends_of_an_old_format(
    redis_url: str, postgres_url: str, official: PostgresSaver, version: int, home: str, *, sends: bool
) -> None:
    with tiered(redis_url, postgres_url) as saver:
        for each in (saver, official):
            latest = write_chain(each, version, 3)
            if not sends:
                latest = put(each, 4, latest, version)
            put(each, 5, latest, version)
        settle(saver, THREAD, home)
        saver.prune([THREAD])
        kept = [item.metadata["step"] for item in saver.list(config())]
        assert kept == ([5, 3] if sends and version != 4 else [5])
        before = official.get_tuple(config())
        for _ in range(2):
            found = saver.get_tuple(config())
            assert found is not None
            assert before is not None
            assert found.checkpoint == before.checkpoint
            assert (TASKS in found.checkpoint["channel_values"]) == (sends and version != 4)


def test_many_sends_at_once_are_those_of_the_child(redis_url: str, postgres_url: str, official: PostgresSaver) -> None:
    with tiered(redis_url, postgres_url) as saver:
        for each in (saver, official):
            parent = put(each, 1, "", 3)
            each.put_writes(
                config(ns="", checkpoint_id=parent), [(TASKS, n) for n in range(1_200)] + [("x", 1)], "task"
            )
            put(each, 2, parent, 3)
        assert_same_thread(everything(saver), everything(official))


@pytest.mark.parametrize("version", OLD)
def test_sends_that_come_to_the_parent_of_what_was_filled_in_are_its_sends(
    redis_url: str, postgres_url: str, official: PostgresSaver, version: int
) -> None:
    with tiered(redis_url, postgres_url) as saver:
        for each in (saver, official):
            put(each, 2, put(each, 1, "", version), version)
        settle(saver, THREAD, "evicted")
        assert_same_thread(everything(saver), everything(official))
        for each in (saver, official):
            write_sends(each, checkpoint_id(1), 1)
        theirs = official.get_tuple(config(ns=""))
        assert theirs is not None
        assert TASKS in theirs.checkpoint["channel_values"]
        for move in (None, saver.flush, saver.evict):
            if move is not None:
                move(THREAD)
            for _ in range(2):
                found = saver.get_tuple(config(ns=""))
                assert found is not None
                assert found.checkpoint == theirs.checkpoint
            assert_same_thread(everything(saver), everything(official))
