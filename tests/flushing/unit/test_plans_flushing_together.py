"""Threads that are flushed together: what they share, and which of them go on alone."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import pytest
from replies import ROW, changes, lease
from scripted import play

from langgraph_tiered_checkpoint.cold.writes import ColdStatus
from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.errors import ColdRefusedError, HotTierError
from langgraph_tiered_checkpoint.hot.keys import PAGE_BYTES
from langgraph_tiered_checkpoint.plans import flushing, promoting
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import Origin
from langgraph_tiered_checkpoint.steps import Lanes, Lua, LuaBatch, Step, Tx

STORE = Store.of(Settings())


def test_threads_are_committed_together() -> None:
    played = play(
        promoting.flush_due(STORE, ["a", "b"]),
        [
            ("lease*2", [lease(b"1.op", 1), lease(b"1.op", 1)]),
            ("changes*2", [changes(), changes()]),
            ("commit", frozenset({"a", "b"})),
            ("ack*2", [[b"clean", b"0"], [b"clean", b"0"]]),
        ],
    )
    assert played.result == {}


def test_batch_that_postgres_refuses_is_flushed_thread_by_thread() -> None:
    played = play(
        promoting.flush_due(STORE, ["a", "b"]),
        [
            ("lease*2", [lease(b"1.op", 1), lease(b"1.op", 1)]),
            ("changes*2", [changes(), changes()]),
            ("commit", ColdRefusedError("no")),
            ("lease", lease(b"1.op", 1)),
            ("changes", changes()),
            ("commit", ColdRefusedError("thread 'a': bad value")),
            ("park", [b"parked", 1000]),
            ("lease", lease(b"1.op", 1)),
            ("changes", changes()),
            ("commit", frozenset({"b"})),
            ("ack", [b"clean", b"0"]),
        ],
    )
    assert played.result == {"a": "ColdRefusedError: thread 'a': bad value"}


LOOKED = ("lease", [b"absent", b"run"])
"""Whether it is there after all."""


def claimed(*names: str) -> dict[str, Origin]:
    return {name: Origin("life", "", pinned=False, claim="claim") for name in names}


def scripts_of(step: Step) -> Sequence[Lua[Any]]:
    return step.calls if isinstance(step, LuaBatch) else [step] if isinstance(step, Lua) else ()


VALUE = b"W0123456789abcdefbytes\x00"
"""What goes before the bytes of a value in the hot tier."""


def first(name: bytes) -> list[Any]:
    """A page of a first copy, the last, with one value."""
    return [b"scan", b"0", [[b"b", b"b\0%b\x001" % name, VALUE + name]], 2, b"d", b"run"]


def test_first_copies_of_several_threads_are_claimed_read_and_committed_together() -> None:
    played = play(
        promoting.flush_due(STORE, ["a", "b", "c"]),
        [
            ("lease*3", [lease(), lease(), lease(b"1.op", 1)]),
            ("claim", claimed("a", "b")),
            ("scan*2", [[b"scan", b"7", [], 2, b"d", b"run"], first(b"of b")]),
            ("scan", first(b"of a")),
            ("changes*3", [changes(), changes(), changes()]),
            ("commit", frozenset({"a", "b", "c"})),
            ("ack*3", [[b"clean", b"0"]] * 3),
        ],
    )
    assert played.result == {}


def test_first_copy_that_another_worker_has_begun_is_committed_behind_its_claim() -> None:
    played = play(
        promoting.flush_due(STORE, ["a", "b"]),
        [
            ("lease*2", [lease(), lease()]),
            ("claim", claimed("a") | {"b": Origin("life", "", pinned=False, claim="theirs")}),
            ("scan*2", [first(b"of a"), first(b"of b")]),
            ("changes*2", [changes(), changes()]),
            ("commit", frozenset({"a", "b"})),
            ("ack*2", [[b"clean", b"0"]] * 2),
        ],
    )
    [commit] = [next(step.body()).params for step in played.steps if isinstance(step, Tx) and step.name == "commit"]
    assert commit[3] == ["claim", "theirs"]


def test_first_copy_that_another_worker_has_committed_is_reconciled_alone() -> None:
    committed = {"a": Origin("life", "2.op", pinned=False)}
    play(
        promoting.flush_due(STORE, ["a"]),
        [
            ("lease", lease()),
            ("claim", committed),
            ("lease", lease()),
            ("claim", committed),
            ("status", ColdStatus(committed["a"], 1, None, None, "age")),
            ("ack", [b"clean", b"0"]),
            ("lease", lease(b"2.op", 2, state=b"c")),
        ],
    )


def test_first_copies_of_threads_that_were_always_due_need_no_base() -> None:
    play(
        promoting.flush_due(STORE, ["a", "b"]),
        [
            ("lease*2", [lease(number=0), lease()]),
            ("claim", claimed("a", "b")),
            ("scan", first(b"of b")),
            ("changes*2", [changes(), changes()]),
            ("commit", frozenset({"a", "b"})),
            ("ack*2", [[b"clean", b"0"]] * 2),
        ],
    )


def test_first_copy_of_a_thread_that_vanishes_before_its_log_is_read_takes_its_row_along() -> None:
    play(
        promoting.flush_due(STORE, ["a"]),
        [("lease", lease(number=0)), ("claim", claimed("a")), ("changes", [b"gone"]), ("unclaim", True), LOOKED],
    )


def test_long_logs_are_flushed_together_a_page_of_each_at_a_time() -> None:
    played = play(
        promoting.flush_due(STORE, ["a", "b"]),
        [
            ("lease*2", [lease(b"1.op", 1, 4), lease(b"1.op", 1, 9)]),
            ("changes*2", [changes(b"4.op", 4, b"0"), changes(b"6.op", 6, b"1")]),
            ("commit", frozenset({"a", "b"})),
            ("ack*2", [[b"clean", b"0"], [b"dirty", b"0"]]),
            ("changes", changes(b"9.op", 9, b"1")),
            ("commit", frozenset({"b"})),
            ("ack", [b"dirty", b"0"]),
        ],
    )
    pages = [calls for step in played.steps if (calls := scripts_of(step)) and calls[0].script == "changes"]
    assert [[(call.thread, *call.args[1:4]) for call in page] for page in pages] == [
        [("a", "1.op", "1", str(PAGE_BYTES // 2)), ("b", "1.op", "1", str(PAGE_BYTES // 2))],
        [("b", "6.op", "6", str(PAGE_BYTES))],
    ]
    both, rest = [next(step.body()).params for step in played.steps if isinstance(step, Tx)]
    assert list(both[3:5]) == [["1.op", "1.op"], ["4.op", "6.op"]]  # after the names for the lock
    assert list(rest[2:4]) == [["6.op"], ["9.op"]]


def test_first_copy_from_a_long_log_goes_on_as_a_flush_of_what_is_in_postgres_by_then() -> None:
    script = [
        ("changes", changes(b"6.op", 6, b"1")),
        ("commit", frozenset({"t"})),
        ("ack", [b"dirty", b"0"]),
        ("changes", changes(b"9.op", 9)),
        ("commit", frozenset({"t"})),
        ("ack", [b"clean", b"0"]),
    ]
    long = lease(number=0, last=9)
    alone = [("lease", long), ("claim", claimed("t")), *script]
    together = [
        ("lease", long),
        ("claim", claimed("t")),
        *script,
    ]
    for plan, steps in ((flushing.flush(STORE, "t"), alone), (promoting.flush_due(STORE, ["t"]), together)):
        scripts = [call for step in play(plan, steps).steps for call in scripts_of(step)]
        calls = [call for call in scripts if call.script == "changes"]
        assert [call.args[1:3] for call in calls] == [("", "0"), ("6.op", "6")]


@pytest.mark.parametrize("verdict", [b"diverged", b"stale", b"gone"])
def test_thread_whose_page_could_not_be_acknowledged_goes_on_alone(verdict: bytes) -> None:
    looked = [("lease", [b"absent", b"run"])] * (verdict == b"diverged")
    play(
        promoting.flush_due(STORE, ["a"]),
        [
            ("lease", lease(b"1.op", 1, 9)),
            ("changes", changes(b"6.op", 6, b"1")),
            ("commit", frozenset({"a"})),
            ("ack", [verdict, b"0"]),
            *looked,
            ("lease", [b"absent", b"run"]),
        ],
    )


def test_base_whose_log_has_more_than_a_page_is_mended_before_the_fence_moves() -> None:
    """Also if all that was there when the flush began has been read by then."""
    played = play(
        promoting.flush_due(STORE, ["a"]),
        [
            ("lease", lease(last=2)),
            ("claim", claimed("a")),
            ("scan", [b"scan", b"0", ROW, 8, b"d", b"run"]),
            ("changes", changes(b"5.op", 5, b"1")),
            ("commit", frozenset({"a"})),
            ("changes", changes(b"8.op", 8)),
            ("commit", frozenset({"a"})),
            ("ack", [b"clean", b"0"]),
        ],
    )
    sent = [next(step.body()).params for step in played.steps if isinstance(step, Tx) and step.name == "commit"]
    assert [params[3] for params in sent] == [[""], ["8.op"]]
    assert sent[0][2] == sent[1][2]


def test_threads_that_vanish_in_their_first_copy_take_their_rows_along() -> None:
    play(
        promoting.flush_due(STORE, ["a", "b"]),
        [
            ("lease*2", [lease(), lease()]),
            ("claim", claimed("a", "b")),
            ("scan*2", [[b"gone"], first(b"of b")]),
            ("unclaim", True),
            ("changes", [b"gone"]),
            ("unclaim", True),
            LOOKED,
            LOOKED,
        ],
    )


def test_first_copy_of_a_large_thread_is_committed_in_pages_that_do_not_move_the_fence() -> None:
    large = [[b"b", b"b\0channel\0%d" % n, VALUE + b"x" * 1_000_000] for n in range(4)]
    script = [
        ("scan", [b"scan", b"7", large[:3], 2, b"d", b"run"]),
        ("scan", [b"scan", b"8", large[3:], 2, b"d", b"run"]),
        ("commit", frozenset({"t"})),
        ("scan", first(b"rest")),
        ("changes", changes()),
        ("commit", frozenset({"t"})),
        ("ack", [b"clean", b"0"]),
    ]
    alone = [("lease", lease()), ("claim", claimed("t")), *script]
    together = [
        ("lease", lease()),
        ("claim", claimed("t")),
        *script,
    ]
    for plan, steps in ((flushing.flush(STORE, "t"), alone), (promoting.flush_due(STORE, ["t"]), together)):
        commits = [step.body() for step in play(plan, steps).steps if isinstance(step, Tx) and step.name == "commit"]
        sent = [next(body).params for body in commits]
        assert [params[3] for params in sent] == [[""], ["2.op"]]
        assert [len(params[-2]) for params in sent] == [4, 1]


def test_first_copy_whose_page_is_refused_does_not_hold_up_the_others() -> None:
    large = [[b"b", b"b\0channel\x001", VALUE + b"x" * 4_000_000]]
    played = play(
        promoting.flush_due(STORE, ["a", "b"]),
        [
            ("lease*2", [lease(), lease(b"1.op", 1)]),
            ("claim", claimed("a")),
            ("scan", [b"scan", b"7", large, 2, b"d", b"run"]),
            ("commit", ColdRefusedError("too big")),
            ("changes", changes()),
            ("commit", frozenset({"b"})),
            ("ack", [b"clean", b"0"]),
            ("lease", lease()),
            ("claim", claimed("a")),
            ("scan", [b"scan", b"7", large, 2, b"d", b"run"]),
            ("commit", ColdRefusedError("too big")),
            ("park", [b"parked", 1000]),
        ],
    )
    assert played.result == {"a": "ColdRefusedError: too big"}


def test_many_threads_are_flushed_in_two_lanes() -> None:
    names = [str(n) for n in range(80)]
    plan = promoting.flush_many(STORE, names)
    step = next(plan)
    assert isinstance(step, Lanes)
    one, two = step.plans
    taken = [first_step.calls for lane in (one, two, two, one) if isinstance(first_step := next_batch(lane), LuaBatch)]
    assert [call.thread for calls in taken for call in calls] == names
    assert [len(calls) for calls in taken] == [20, 20, 20, 20]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (32, [32]), (33, [17, 16]), (100, [25] * 4)])
def test_threads_are_shared_out_evenly(count: int, sizes: list[int]) -> None:
    names = [str(n) for n in range(count)]
    shares = promoting._batches(names)
    assert [len(share) for share in shares] == sizes
    assert [name for share in shares for name in share] == names


ABSENT = [b"absent", b"run"]


def next_batch(lane: Any) -> Any:
    """The first step of the next batch; whatever the lane had in hand turns out to be absent."""
    return (
        next(lane) if inspect.getgeneratorstate(lane) == inspect.GEN_CREATED else lane.send([[b"absent", b"run"]] * 20)
    )


def test_outage_in_one_lane_leaves_nothing_for_the_other() -> None:
    plan = promoting.flush_many(STORE, [str(n) for n in range(200)])
    step = next(plan)
    assert isinstance(step, Lanes)
    one, two = step.plans
    next(one)
    next(two)
    with pytest.raises(HotTierError, match="down"):
        one.throw(HotTierError("down"))
    with pytest.raises(StopIteration):
        two.send([ABSENT] * 25)
