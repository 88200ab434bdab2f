"""A trim takes nothing that a write needs which comes between its outline and its drop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from homes import at, make_checkpoint, values_of
from langchain_core.runnables import RunnableConfig
from stepping import Stepped

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.plans import flushing

NOTES = ["kept " * 20]


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """Keeps one checkpoint hot; flushes when told to."""
    with TieredSaver.from_urls(
        redis_url, postgres_url, promotion=Promotion.never(), hot_checkpoints=1, promoter="external"
    ) as opened:
        yield opened


def put(saver: TieredSaver, parent: RunnableConfig, step: int, notes: str) -> RunnableConfig:
    """A checkpoint with a list of its own, and notes that are of an older version."""
    made = make_checkpoint({"own": [step]}, step)
    made["channel_values"]["notes"] = NOTES
    made["channel_versions"]["notes"] = notes
    new = {"own": made["channel_versions"]["own"]} | ({"notes": notes} if notes == f"{step}" else {})
    return saver.put(parent, made, {"source": "loop", "step": step, "parents": {}}, new)


def flush_until_drop(saver: TieredSaver) -> Stepped:
    return Stepped(saver, flushing.flush(saver._store, "t")).stop_before("drop")


@pytest.fixture
def chain(saver: TieredSaver) -> list[RunnableConfig]:
    """Three checkpoints, of which the last has notes of its own; and the first in Postgres already."""
    first = put(saver, at("t"), 1, "1")
    saver.promote("t")
    second = put(saver, first, 2, "1")
    return [first, second, put(saver, second, 3, "3")]


def fork(saver: TieredSaver, of: RunnableConfig) -> RunnableConfig:
    return put(saver, of, 4, "1")


def test_fork_that_takes_values_over_from_what_is_trimmed_has_them(
    saver: TieredSaver, chain: list[RunnableConfig]
) -> None:
    trim = flush_until_drop(saver)
    forked = fork(saver, chain[0])
    trim.finish()
    assert values_of(saver, forked) == {"own": [4], "notes": NOTES}
    saver.flush("t")
    saver.evict("t")
    assert values_of(saver, forked) == {"own": [4], "notes": NOTES}
    assert [values_of(saver, config)["own"] for config in chain] == [[1], [2], [3]]


def test_fork_that_sends_again_what_is_dropped_has_it(redis_url: str) -> None:
    """Of an ephemeral thread, which has no other copy."""
    with TieredSaver.from_urls(redis_url) as saver:
        first = put(saver, at("t"), 1, "1")
        put(saver, first, 2, "2")
        prune = Stepped(saver, saver._requests.prune(["t"], "keep_latest")).stop_before("drop")
        made = make_checkpoint({"own": [3], "notes": NOTES}, 3)
        made["channel_versions"]["notes"] = "1"
        step: Any = {"source": "loop", "step": 3, "parents": {}}
        forked = saver.put(first, made, step, made["channel_versions"])
        prune.finish()
        assert values_of(saver, forked) == {"own": [3], "notes": NOTES}


def test_pending_write_to_what_is_trimmed_is_flushed(saver: TieredSaver, chain: list[RunnableConfig]) -> None:
    trim = flush_until_drop(saver)
    saver.put_writes(chain[0], [("own", 7)], "task")
    trim.finish()
    saver.flush("t")
    saver.evict("t")
    found = saver.get_tuple(chain[0])
    assert found is not None
    assert found.pending_writes == [("task", "own", 7)]


def test_checkpoint_on_top_of_the_head_keeps_no_trim_from_its_work(
    saver: TieredSaver, chain: list[RunnableConfig]
) -> None:
    trim = flush_until_drop(saver)
    latest = put(saver, chain[-1], 4, "3")
    trim.finish()
    assert saver.explain("t").hot_checkpoints == 2
    assert values_of(saver, latest) == {"own": [4], "notes": NOTES}


@pytest.fixture
def savers(redis_url: str) -> Iterator[Callable[[], TieredSaver]]:
    made: list[TieredSaver] = []

    def make() -> TieredSaver:
        made.append(TieredSaver.from_urls(redis_url, promotion=Promotion.never()))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_processes_that_add_to_the_same_value_at_once_both_keep_theirs(savers: Callable[[], TieredSaver]) -> None:
    """Both know what the value is made of, and only one of them can add to that."""
    lines = [f"{n} {'x' * 60}" for n in range(100)]
    one, other = savers(), savers()

    def grow(saver: TieredSaver, parent: Any, step: int, more: str) -> RunnableConfig:
        made = make_checkpoint({"lines": [*lines, *([more] if more else [])]}, step)
        return saver.put(parent, made, {"source": "loop", "step": step, "parents": {}}, made["channel_versions"])

    parent = grow(one, grow(one, at("t"), 1, ""), 2, "second " * 20)
    assert values_of(other, parent)["lines"][:-1] == lines
    forks = [grow(saver, parent, 3 + n, f"{n} " * 50) for n, saver in enumerate((one, other))]
    for reader in (one, other, savers()):
        assert [values_of(reader, fork)["lines"][-1] for fork in forks] == ["0 " * 50, "1 " * 50]


def test_values_of_a_parent_that_another_process_has_put_again_are_sent_again(
    savers: Callable[[], TieredSaver],
) -> None:
    """The one that goes on remembers them as stored."""
    one, other = savers(), savers()
    first = put(one, at("t"), 1, "1")
    second = put(one, first, 2, "1")
    for step, config in ((2, second), (1, first)):
        again = make_checkpoint({"own": [step]}, 9)
        again["id"] = config["configurable"]["checkpoint_id"]
        parent = first if step == 2 else at("t")
        other.put(parent, again, {"source": "loop", "step": step, "parents": {}}, again["channel_versions"])
    assert values_of(one, put(one, second, 3, "1")) == {"own": [3], "notes": NOTES}


def test_repeated_call_erases_what_the_first_one_had_to(
    savers: Callable[[], TieredSaver], redis_client: redis.Redis
) -> None:
    """Its reply was lost."""
    saver = savers()
    secret = "forget me " * 30
    made = make_checkpoint({"own": [1], "secret": [secret]}, 1)
    step: Any = {"source": "loop", "step": 1, "parents": {}}
    saver.put(at("t"), made, step, made["channel_versions"])
    again = make_checkpoint({"own": [2]}, 2)
    again["id"] = made["id"]
    call = Stepped(saver, saver._requests.put(at("t"), again, step, again["channel_versions"]))
    call.repeat()
    call.finish()
    [key] = redis_client.scan_iter("*:t:t")
    held: Any = redis_client.hgetall(key)
    assert not [field for field, value in held.items() if b"forget me" in value]
