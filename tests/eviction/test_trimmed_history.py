"""A promoted thread keeps its newest checkpoints hot, and all of them readable, listable and forkable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from sameness import difference
from scenarios.graphs import Saver
from scenarios.threads import (
    THREAD,
    assert_same_thread,
    checkpoint_id,
    config,
    everything,
    put,
    put_chain,
    steps,
)

from langgraph_tiered_checkpoint import Promotion, TieredSaver

KEPT = 3
LAST = 8


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """Promotes at once, keeps three checkpoints hot, flushes when told to."""
    with TieredSaver.from_urls(
        redis_url, postgres_url, promotion=Promotion(checkpoints=1), hot_checkpoints=KEPT, promoter="external"
    ) as opened:
        yield opened


@pytest.fixture
def official(postgres_url: str) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(postgres_url) as opened:
        yield opened


@pytest.fixture
def trimmed(saver: TieredSaver) -> TieredSaver:
    put_chain(saver, LAST)
    assert saver.explain(THREAD).hot_checkpoints == LAST  # never before Postgres has them
    saver.flush()
    status = saver.explain(THREAD)
    assert (status.hot_checkpoints, status.cold_checkpoints) == (KEPT, LAST)
    return saver


def items(saver: Saver, number: int) -> object:
    found = saver.get_tuple(config(ns="", checkpoint_id=checkpoint_id(number)))
    assert found is not None
    return found.checkpoint["channel_values"]


def test_trimmed_history_is_listed_and_read_whole(trimmed: TieredSaver, official: PostgresSaver) -> None:
    assert steps(trimmed) == list(range(LAST, 0, -1))
    assert_same_thread(everything(trimmed), everything(official))
    assert trimmed.explain(THREAD).hot_checkpoints == KEPT  # reading history changes nothing


def test_changes_after_the_last_flush_are_listed_with_what_only_postgres_has(trimmed: TieredSaver) -> None:
    put_chain(trimmed, LAST + 3, first=LAST + 1)
    assert trimmed.explain(THREAD).state == "dirty"
    memory = InMemorySaver()
    put_chain(memory, LAST + 3)
    everyone = list(range(LAST + 3, 0, -1))
    assert steps(trimmed) == steps(memory) == everyone
    for limit in (1, KEPT, KEPT + 3, KEPT + 4, LAST):
        assert steps(trimmed, limit=limit) == everyone[:limit]
        for before in (2, LAST - KEPT, LAST, LAST + 2):
            bound = config(ns="", checkpoint_id=checkpoint_id(before))
            assert steps(trimmed, before=bound, limit=limit) == steps(memory, before=bound, limit=limit)
    assert steps(trimmed, filter={"step": 2}) == [2]
    assert steps(trimmed, filter={"source": "loop"}, limit=LAST) == everyone[:LAST]


def test_next_turn_after_trimming_still_has_channels_that_changed_long_ago(trimmed: TieredSaver) -> None:
    put(trimmed, LAST + 1, checkpoint_id(LAST))
    assert items(trimmed, LAST + 1) == {"items": [LAST + 1], "count": LAST + 1, "base": ["from the first"]}
    assert items(trimmed, 1) == {"items": [1], "count": 1, "base": ["from the first"]}


@pytest.mark.parametrize("evicted", [False, True], ids=["trimmed", "evicted"])
def test_fork_of_trimmed_history_takes_values_along_that_redis_no_longer_has(
    trimmed: TieredSaver, official: PostgresSaver, *, evicted: bool
) -> None:
    if evicted:
        trimmed.evict(THREAD)
    old = trimmed.get_tuple(config(ns="", checkpoint_id=checkpoint_id(2)))
    assert old is not None
    fork: Checkpoint = {**old.checkpoint, "id": checkpoint_id(LAST + 1)}
    trimmed.put(old.config, fork, {"source": "fork", "step": 3}, {})  # the values are those of checkpoint 2
    assert items(trimmed, LAST + 1) == items(trimmed, 2) == {"items": [2], "count": 2, "base": ["from the first"]}
    latest = trimmed.get_tuple(config())
    assert latest is not None
    assert latest.config == config(ns="", checkpoint_id=checkpoint_id(LAST + 1))
    assert latest.parent_config == config(ns="", checkpoint_id=checkpoint_id(2))
    trimmed.flush()
    assert_same_thread(everything(trimmed), everything(official))
    trimmed.evict(THREAD)
    assert_same_thread(everything(trimmed), everything(official))


@pytest.mark.parametrize("flushed", [False, True], ids=["waiting", "flushed"])
def test_writes_to_a_trimmed_checkpoint_are_merged_with_those_in_postgres(
    saver: TieredSaver, official: PostgresSaver, *, flushed: bool
) -> None:
    at = config(ns="", checkpoint_id=checkpoint_id(1))
    memory = InMemorySaver()
    writers: list[Saver] = [saver, memory]
    for either in writers:
        put_chain(either, 1)
        either.put_writes(at, [("items", "first"), ("__error__", "old"), ("items", "third")], "task")
        put_chain(either, LAST, first=2)
        if either is saver:
            saver.flush()
            assert saver.explain(THREAD).hot_checkpoints == KEPT
        either.put_writes(at, [("items", "ignored"), ("__error__", "new")], "task")
        either.put_writes(at, [("items", "another's")], "later task", "~path")
    if flushed:
        saver.flush()
    expected = memory.get_tuple(at)
    found = saver.get_tuple(at)
    assert expected is not None
    assert found is not None
    assert not difference(found.pending_writes, expected.pending_writes)
    listed = [t for t in saver.list(config()) if t.config == at]
    assert [t.pending_writes for t in listed] == [expected.pending_writes]
    assert steps(saver)[0] == LAST  # the head has not moved
    saver.evict(THREAD)
    readers: list[Saver] = [saver, official]
    for reader in readers:
        stored = reader.get_tuple(at)
        assert stored is not None
        assert not difference(stored.pending_writes, expected.pending_writes)


def test_rehydration_brings_back_the_head_and_reading_history_does_not_move_it(trimmed: TieredSaver) -> None:
    trimmed.evict(THREAD)
    assert items(trimmed, 2) == {"items": [2], "count": 2, "base": ["from the first"]}
    assert steps(trimmed) == list(range(LAST, 0, -1))
    assert trimmed.explain(THREAD).hot_checkpoints == 0
    latest = trimmed.get_tuple(config())
    assert latest is not None
    assert latest.metadata["step"] == LAST
    assert latest.parent_config == config(ns="", checkpoint_id=checkpoint_id(LAST - 1))
    assert trimmed.explain(THREAD).hot_checkpoints == 1
    assert items(trimmed, 2) == {"items": [2], "count": 2, "base": ["from the first"]}
    assert steps(trimmed) == list(range(LAST, 0, -1))
    put(trimmed, LAST + 1, checkpoint_id(LAST))
    assert items(trimmed, LAST + 1) == {"items": [LAST + 1], "count": LAST + 1, "base": ["from the first"]}
    assert steps(trimmed) == list(range(LAST + 1, 0, -1))


def test_write_to_an_evicted_thread_joins_it_without_a_read(trimmed: TieredSaver, official: PostgresSaver) -> None:
    trimmed.evict(THREAD)
    put(trimmed, LAST + 1, checkpoint_id(LAST))
    assert trimmed.explain(THREAD).state == "dirty"
    assert steps(trimmed) == list(range(LAST + 1, 0, -1))
    trimmed.flush()
    assert_same_thread(everything(trimmed), everything(official))


def test_late_put_of_an_older_checkpoint_does_not_become_the_head(trimmed: TieredSaver) -> None:
    trimmed.evict(THREAD)
    put_chain(trimmed, 1, first=1)
    latest = trimmed.get_tuple(config())
    assert latest is not None
    assert latest.metadata["step"] == LAST
    assert steps(trimmed) == list(range(LAST, 0, -1))
