"""Pending writes and interrupts: ways in which published savers lost, confused or hoarded them."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from homes import HOMES, at, make_checkpoint, put, settle, values_of
from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from langgraph_tiered_checkpoint import TieredSaver


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
        yield made


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Total(TypedDict):
    done: Annotated[list[str], operator.add]


ran: list[str] = []


def sibling(state: Total) -> Total:
    ran.append("sibling")
    return {"done": ["sibling"]}


def asker(state: Total) -> Total:
    answer = interrupt("delete the production database?")
    return {"done": [f"asker:{answer}"]}


def parallel(saver: TieredSaver) -> Any:
    builder = StateGraph(Total)
    builder.add_node("sibling", sibling)
    builder.add_node("asker", asker)
    builder.add_edge(START, "sibling")
    builder.add_edge(START, "asker")
    return builder.compile(checkpointer=saver)


def test_interrupt_is_seen_and_finished_siblings_run_once(saver: TieredSaver, home: str) -> None:
    """Failure 1: writes that came before their checkpoint were flagged away."""
    if home == "ephemeral":
        pytest.skip("an interrupted thread is promoted")
    ran.clear()
    graph = parallel(saver)
    graph.invoke({"done": []}, at("t"))
    settle(saver, "t", home)
    state = graph.get_state(at("t"))
    assert [i.value for task in state.tasks for i in task.interrupts] == ["delete the production database?"]
    assert sorted(graph.invoke(Command(resume="NO"), at("t"))["done"]) == ["asker:NO", "sibling"]
    assert ran == ["sibling"]


def test_writes_that_arrive_before_their_checkpoint_are_its_pending_writes(saver: TieredSaver, home: str) -> None:
    """Failure 1, by hand."""
    first = put(saver, at("t"), {"a": 1})
    later = make_checkpoint({"a": 2}, 2)
    saver.put_writes(at("t", "", later["id"]), [("a", "early")], "task")
    saver.put(first, later, {"step": 2}, later["channel_versions"])
    settle(saver, "t", home)
    found = saver.get_tuple(at("t"))
    assert found is not None
    assert found.pending_writes == [("task", "a", "early")]


def two_questions(saver: TieredSaver) -> Any:
    def first(state: Total) -> Total:
        return {"done": [f"first:{interrupt('first?')}"]}

    def second(state: Total) -> Total:
        return {"done": [f"second:{interrupt('second?')}"]}

    builder = StateGraph(Total)
    builder.add_node("first", first)
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("where", ["promoted", "evicted"])
def test_answer_to_one_interrupt_does_not_answer_the_next(saver: TieredSaver, where: str) -> None:
    """Failure 2: a stale resume value said YES to another question."""
    graph = two_questions(saver)
    graph.invoke({"done": []}, at("t"))
    settle(saver, "t", where)
    graph.invoke(Command(resume="YES"), at("t"))
    settle(saver, "t", where)
    state = graph.get_state(at("t"))
    assert [i.value for task in state.tasks for i in task.interrupts] == ["second?"]
    assert graph.invoke(Command(resume="NO"), at("t"))["done"] == ["first:YES", "second:NO"]


def test_pending_writes_read_do_not_grow_with_the_turns(saver: TieredSaver, home: str) -> None:
    """Failure 3: after 100 turns every get read 700 old writes."""
    builder = StateGraph(Total)
    builder.add_node("step", lambda _: {"done": ["x"]})
    builder.add_edge(START, "step")
    graph = builder.compile(checkpointer=saver)
    for _ in range(20):
        graph.invoke({"done": ["in"]}, at("t"))
    settle(saver, "t", home)
    found = saver.get_tuple(at("t"))
    assert found is not None
    assert not found.pending_writes


def test_first_write_wins_for_ordinary_and_last_for_special_channels(saver: TieredSaver, home: str) -> None:
    """Deliberately broken savers overwrote where the first write should win; each write decides for itself."""
    config = put(saver, at("t"), {"a": 1})
    saver.put_writes(config, [("a", "first"), ("__resume__", ["one"])], "task")
    settle(saver, "t", home)
    saver.put_writes(config, [("a", "second"), ("__resume__", ["one", "two"])], "task")
    found = saver.get_tuple(at("t"))
    assert found is not None
    assert set(map(repr, found.pending_writes or ())) == {
        repr(("task", "a", "first")),
        repr(("task", "__resume__", ["one", "two"])),
    }
    assert WRITES_IDX_MAP["__resume__"] < 0


def test_pending_writes_come_in_the_order_of_task_paths(saver: TieredSaver, home: str) -> None:
    """A saver that hides `task_path` permutes parallel writes."""
    config = put(saver, at("t"), {"a": 1})
    for path, task in (("~3", "a"), ("~1", "c"), ("~2", "b")):
        saver.put_writes(config, [("a", path), ("a", path + "+")], task, path)
    settle(saver, "t", home)
    found = saver.get_tuple(at("t"))
    assert found is not None
    assert [value for _, _, value in found.pending_writes or ()] == ["~1", "~1+", "~2", "~2+", "~3", "~3+"]


def test_hundred_and_fifty_parallel_tasks_all_land(saver: TieredSaver) -> None:
    """Failure 10: read-modify-write of one value lost some of them."""

    def fan(state: Total) -> list[Send]:
        return [Send("leaf", {"n": n}) for n in range(150)]

    builder = StateGraph(Total)
    builder.add_node("leaf", lambda state: {"done": [str(state["n"])]})
    builder.add_conditional_edges(START, fan, ["leaf"])
    graph = builder.compile(checkpointer=saver)
    assert sorted(map(int, graph.invoke({"done": []}, at("t"))["done"])) == list(range(150))
    assert len(graph.get_state(at("t")).values["done"]) == 150


def test_fork_does_not_overwrite_its_siblings_values(saver: TieredSaver, home: str) -> None:
    """Failure 12: integer versions made both branches write the same blob."""
    root = put(saver, at("t"), {"a": ["root"]})
    branches = {}
    for name in ("left", "right"):
        made = make_checkpoint({"a": [name]}, 2)
        version = saver.get_next_version(f"{1:032}.0001")
        made["channel_versions"] = {"a": version}
        branches[name] = saver.put(root, made, {"step": 2}, {"a": version})
    settle(saver, "t", home)
    for name, config in branches.items():
        assert values_of(saver, config) == {"a": [name]}


def test_head_that_comes_back_from_postgres_is_not_its_own_parent(saver: TieredSaver) -> None:
    """Failure 24: rehydration lost writes, parents, and what lay behind the cached part of the history."""
    first = put(saver, at("t"), {"a": 1})
    second = put(saver, first, {"a": 2}, 2)
    saver.put_writes(second, [("a", "pending")], "task")
    settle(saver, "t", "evicted")
    for _ in range(2):
        found = saver.get_tuple(at("t"))
        assert found is not None
        assert found.parent_config == first
        assert found.pending_writes == [("task", "a", "pending")]
    assert [t.config for t in saver.list(at("t"))] == [second, first]


def test_checkpoint_of_a_subgraph_is_not_served_as_the_roots(saver: TieredSaver, home: str) -> None:
    """Failure 25: a cache key without its namespace."""
    root = put(saver, at("t"), {"a": "root"})
    sub = put(saver, at("t", "node:1"), {"a": "sub"}, 2)
    settle(saver, "t", home)
    assert values_of(saver, at("t")) == {"a": "root"}
    assert values_of(saver, at("t", "node:1")) == {"a": "sub"}
    assert saver.get_tuple(at("t", "", sub["configurable"]["checkpoint_id"])) is None
    assert [t.config for t in saver.list(at("t", ""))] == [root]


def test_highest_id_is_the_latest_whatever_was_put_last(saver: TieredSaver, home: str) -> None:
    """A deliberately broken saver takes the last put for the latest."""
    made = [make_checkpoint({"a": n}, n) for n in (1, 2, 3)]
    for checkpoint in (made[2], made[0], made[1]):
        saver.put(at("t"), checkpoint, {"step": 0}, checkpoint["channel_versions"])
    settle(saver, "t", home)
    assert values_of(saver, at("t")) == {"a": 3}
    assert [t.checkpoint["channel_values"]["a"] for t in saver.list(at("t"))] == [3, 2, 1]


def test_what_is_handed_out_can_be_changed_freely(saver: TieredSaver, home: str) -> None:
    """A deliberately broken saver hands out live objects."""
    given = {"a": [1], "b": {"k": [2]}}
    config = put(saver, at("t"), given)
    given["a"].append("changed later")  # type: ignore[attr-defined]
    settle(saver, "t", home)
    found = saver.get_tuple(at("t"))
    assert found is not None
    found.checkpoint["channel_values"]["b"]["k"].append("changed by the reader")
    assert values_of(saver, config) == {"a": [1], "b": {"k": [2]}}
