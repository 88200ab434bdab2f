"""What a prune keeps, decided on outlines alone."""

from __future__ import annotations

from langgraph_tiered_checkpoint.plans.pruning import all_but_latest, of_runs, orphaned
from langgraph_tiered_checkpoint.records import Outline


def outline(ns: str, id_: str, parent: str = "", root: str = "", depth: int = 0, run: str = "") -> Outline:
    return Outline(ns, id_, parent, root or (id_ if ns == "" else ""), depth, run)


def test_latest_of_each_namespace_stays() -> None:
    outlines = [outline("", "1"), outline("", "2", "1"), outline("sub", "1"), outline("sub", "3", "1")]
    assert all_but_latest(outlines) == {("", "1"), ("sub", "1")}


def test_subgraph_call_goes_with_the_root_checkpoint_that_started_it() -> None:
    outlines = [
        outline("", "1"),
        outline("", "4", "1"),
        outline("node:a", "2", root="1"),
        outline("node:b", "5", root="4"),
    ]
    assert all_but_latest(outlines) == {("", "1"), ("node:a", "2")}


def test_call_whose_root_is_not_saved_yet_stays() -> None:
    assert all_but_latest([outline("", "1"), outline("node:a", "3", root="2")]) == set()


def test_ancestors_that_a_delta_channel_needs_stay() -> None:
    chain = [outline("", str(i), str(i - 1) if i > 1 else "", depth=i % 3) for i in range(1, 6)]
    assert all_but_latest(chain) == {("", "1"), ("", "2")}


def test_ancestors_follow_the_parents_and_not_the_ids() -> None:
    fork = [outline("", "1"), outline("", "2", "1"), outline("", "3", "1", depth=1)]
    assert all_but_latest(fork) == {("", "2")}


def test_runs_are_dropped_by_their_id() -> None:
    outlines = [outline("", "1", run="a"), outline("", "2", "1", run="b"), outline("s:x", "2", run="a")]
    dropped = of_runs({"a"}, outlines)
    assert dropped == {("", "1"), ("s:x", "2")}
    assert orphaned(outlines, dropped) == [("", "2")]
