"""What one reply carries: some MB and a record, whatever a page consists of; and only of what is wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from homes import at, make_checkpoint, put
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from stepping import Stepped, reply_to

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.steps import Lua, LuaBatch, Tx

MB = 1_000_000
COUNT = 14
BOUND = 5 * MB + MB // 2
"""4 MB, a record, and what is around it."""


class Replies:
    """How many bytes each reply to a saver has carried, by the name of the step."""

    def __init__(self, saver: TieredSaver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[tuple[str, int]] = []
        perform = saver._sync._perform

        def noted(step: Any) -> Any:
            reply = perform(step)
            if isinstance(step, Lua | Tx) or (isinstance(step, LuaBatch) and step.calls):
                name = (
                    step.calls[0].script
                    if isinstance(step, LuaBatch)
                    else step.script
                    if isinstance(step, Lua)
                    else step.name
                )
                self.sizes.append((name, size_of(reply)))
            return reply

        monkeypatch.setattr(saver._sync, "_perform", noted)

    @property
    def largest(self) -> int:
        return max(size for _, size in self.sizes)

    @property
    def total(self) -> int:
        return sum(size for _, size in self.sizes)


def size_of(reply: Any) -> int:
    """The bytes in it."""
    if isinstance(reply, bytes | str):
        return len(reply)
    if isinstance(reply, dict):
        return size_of(list(reply.items()))
    if isinstance(reply, list | tuple | set | frozenset):
        return sum(map(size_of, reply))
    return 0


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(
        redis_url, postgres_url, promotion=Promotion.never(), promoter="external", remembered_bytes=0
    ) as made:
        yield made


def large(n: int) -> bytes:
    return bytes([n]) * (MB // 2) + os.urandom(MB // 2)


def fill(saver: TieredSaver, *, as_writes: bool = False) -> list[bytes]:
    """A thread of checkpoints of 1 MB each; their values, newest first."""
    values = [large(n) for n in range(COUNT)]
    config: Any = at("t")
    for n, value in enumerate(values):
        config = put(saver, config, {"n": n} if as_writes else {"n": n, "large": value}, n, odd=n % 2)
        if as_writes:
            saver.put_writes(config, [("large", value)], "task")
    return values[::-1]


def value_of(found: CheckpointTuple) -> Any:
    return found.pending_writes[0][2] if found.pending_writes else found.checkpoint["channel_values"]["large"]


@pytest.mark.parametrize("home", ["hot", "cold"])
@pytest.mark.parametrize("as_writes", [False, True], ids=["values", "writes"])
def test_a_page_of_large_records_is_some_mb(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch, home: str, *, as_writes: bool
) -> None:
    values = fill(saver, as_writes=as_writes)
    if home == "cold":
        saver.promote("t")
        saver.evict("t")
    everywhere: RunnableConfig = {"configurable": {"thread_id": "t"}}
    for config in (at("t"), everywhere, None):
        replies = Replies(saver, monkeypatch)
        assert [value_of(found) for found in saver.list(config)] == values
        assert replies.largest < BOUND
        assert replies.total < 1.2 * MB * COUNT


@pytest.mark.parametrize("home", ["hot", "cold"])
def test_a_filter_fetches_values_of_what_it_wants_and_few_others(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    values = fill(saver)
    if home == "cold":
        saver.promote("t")
        saver.evict("t")
    for search, wanted in (
        ({"filter": {"odd": 7}}, []),
        ({"filter": {"step": 3}}, [values[-4]]),
        ({"filter": {"step": 3}, "limit": 1}, [values[-4]]),
        ({"filter": {"odd": 0}}, values[1::2]),
        ({"filter": {"odd": 0}, "limit": 2}, values[1:4:2]),
    ):
        replies = Replies(saver, monkeypatch)
        assert [value_of(found) for found in saver.list(at("t"), **search)] == wanted
        assert replies.largest < BOUND
        assert replies.total < (len(wanted) + 1.2) * MB


def test_a_filter_that_wants_little_lists_the_rest_without_values(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph_tiered_checkpoint.plans.listing.FILTERED_PAGE", 3)
    fill(saver)
    replies = Replies(saver, monkeypatch)
    assert list(saver.list(at("t"), filter={"odd": 7})) == []
    assert replies.total < 1.2 * MB


@pytest.mark.parametrize("then", ["evict", "flush", "delete_thread", "prune"])
def test_what_leaves_the_hot_tier_before_its_values_are_fetched(redis_url: str, postgres_url: str, then: str) -> None:
    settings: dict[str, Any] = {"promoter": "external", "remembered_bytes": 0, "hot_checkpoints": 1}
    with TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion.never(), **settings) as saver:
        values = fill(saver)
        reply_to(saver, saver._store.hot.promote("t", reason="test", op="op"))  # it is trimmed with the first flush
        listed: list[CheckpointTuple] = []
        pages = saver._requests.listing(at("t"), {"odd": 0}, None, None)
        done = False
        while not pages.done:
            plan = Stepped(saver, pages.next_page())
            while not plan.done:
                if not done and plan.next_step == "records":
                    done = True
                    saver.flush("t")
                    if then == "prune":
                        saver.prune(["t"], strategy="keep_latest")
                    elif then != "flush":
                        getattr(saver, then)("t")
                plan.take(1)
            listed += plan.result
        assert done
        assert [value_of(found) for found in listed] == (values[1::2] if then in {"evict", "flush"} else [])


def test_a_first_copy_reads_a_page_of_large_values(saver: TieredSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    values = fill(saver)
    replies = Replies(saver, monkeypatch)
    saver.promote("t")
    assert "scan" in {name for name, _ in replies.sizes}
    assert replies.largest < BOUND + 2 * MB  # HSCAN gives all fields that share a bucket of the hash
    saver.evict("t")
    assert [value_of(found) for found in saver.list(at("t"))] == values


def test_checkpoints_of_one_id_are_listed_in_order_whatever_a_page_holds(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph_tiered_checkpoint.plans.listing.PAGE", 1)
    spaces = ["z", "a", "m", "", "b"]
    made = [make_checkpoint({"n": n}, n) for n in range(4)]
    for n, checkpoint in enumerate(made):
        for ns in spaces if n % 2 else spaces[::-1]:
            saver.put(
                at("t", ns), checkpoint, {"source": "loop", "step": n, "parents": {}}, checkpoint["channel_versions"]
            )
    ids = sorted((checkpoint["id"] for checkpoint in made), reverse=True)
    listed = [t.config["configurable"] for t in saver.list({"configurable": {"thread_id": "t"}})]
    wanted = [(id_, ns) for id_ in ids for ns in sorted(spaces, reverse=True)]
    assert [(one["checkpoint_id"], one["checkpoint_ns"]) for one in listed] == wanted


def test_a_page_that_begins_far_above_what_is_wanted_goes_there_in_steps(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph_tiered_checkpoint.hot.reading.LIST_STEPS", 10)
    config: Any = at("t")
    stored = [config := put(saver, config, {"n": n}, n) for n in range(35)]
    second: str = stored[1]["configurable"]["checkpoint_id"]
    for config in (at("t"), {"configurable": {"thread_id": "t"}}):
        assert [t.metadata["step"] for t in saver.list(config, before=at("t", "", second + "x"))] == [1, 0]


def written(saver: TieredSaver) -> list[Any]:
    """What the ancestors of the latest checkpoint have written to a delta channel."""
    history = saver.get_delta_channel_history(config=at("t"), channels=["large"])
    return [value for _, _, value in history["large"]["writes"]]


def test_a_long_walk_of_a_delta_channel_is_pages_of_some_mb(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = fill(saver, as_writes=True)[::-1]
    replies = Replies(saver, monkeypatch)
    assert written(saver) == values[:-1]
    assert replies.largest < BOUND
    monkeypatch.setattr("langgraph_tiered_checkpoint.hot.reading.LIST_STEPS", 2)
    assert written(saver) == values[:-1]


@pytest.mark.parametrize("then", ["evict", "delete_thread"])
def test_a_walk_whose_rest_leaves_the_hot_tier_goes_on_in_postgres(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    monkeypatch.setattr("langgraph_tiered_checkpoint.hot.reading.LIST_STEPS", 2)
    values = fill(saver, as_writes=True)[::-1]
    saver.promote("t")
    plan = Stepped(saver, saver._requests.get_delta_channel_history(at("t"), ["large"])).stop_before("delta", 3)
    getattr(saver, then)("t")
    found = [value for _, _, value in plan.finish()["large"]["writes"]]
    assert found == (values[:-1] if then == "evict" else values[-5:-1])


@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_a_walk_in_a_circle_ends_however_its_pages_are_cut(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("langgraph_tiered_checkpoint.hot.reading.LIST_STEPS", steps)
    made = [make_checkpoint({"n": n}, n) for n in range(5)]
    for n, checkpoint in enumerate(made):
        config = saver.put(at("t", "", made[n - 1]["id"]), checkpoint, {"step": n}, checkpoint["channel_versions"])
        saver.put_writes(config, [("large", n)], "task")
    assert written(saver) == [0, 1, 2, 3]
