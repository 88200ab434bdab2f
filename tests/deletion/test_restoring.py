"""What was deleted is put back by whoever deleted it, or restored from what was read before; late writes are not."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from typing import Any, TypedDict

import pytest
from homes import HOMES, at, make_checkpoint, put, settle, values_of
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from stepping import Stepped

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import ConfigurationError, ThreadBusyError, ThreadDeletedError


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        yield made


class State(TypedDict, total=False):
    asked: str
    answered: str
    count: int


def conversation(saver: TieredSaver) -> Any:
    """A graph whose subgraph asks something, so that there are namespaces, pending writes and short values."""

    def ask(state: State) -> State:
        return {"answered": interrupt(f"{state['asked']}?"), "count": state.get("count", 0) + 1}

    inner = StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile()
    outer = StateGraph(State).add_node("inner", inner).add_edge(START, "inner")
    return outer.compile(checkpointer=saver)


def everything(saver: TieredSaver, thread_id: str) -> list[CheckpointTuple]:
    return list(saver.list({"configurable": {"thread_id": thread_id}}))


def without_thread(found: list[CheckpointTuple]) -> list[Any]:
    """What is the same in every thread; the paths by which pending writes are sorted are not part of a tuple."""
    return [
        (
            t.config["configurable"]["checkpoint_ns"],
            t.checkpoint,
            t.metadata,
            t.parent_config and t.parent_config["configurable"]["checkpoint_id"],
            sorted(map(repr, t.pending_writes or ())),
        )
        for t in found
    ]


@pytest.mark.parametrize("home", HOMES)
def test_who_deletes_a_thread_may_put_back_what_it_has_read(saver: TieredSaver, home: str) -> None:
    graph = StateGraph(MessagesState).add_node("a", lambda _: {"messages": [("ai", "x")]}).add_edge(START, "a")
    compiled = graph.compile(checkpointer=saver)
    compiled.invoke({"messages": [HumanMessage("keep me")]}, at("t"))
    kept = saver.get_tuple(at("t"))
    assert kept is not None
    compiled.invoke({"messages": [HumanMessage("undo me")]}, at("t"))
    settle(saver, "t", home)
    saver.delete_thread("t")
    saver.put(at("t"), kept.checkpoint, kept.metadata, kept.checkpoint["channel_versions"])
    assert [m.content for m in compiled.get_state(at("t")).values["messages"]] == ["keep me", "x"]


def test_late_write_of_somebody_else_s_run_is_refused_all_the_same(saver: TieredSaver) -> None:
    saver.get_tuple(at("t"))
    config = put(saver, at("t"), {"a": 1})
    of_the_run = contextvars.copy_context()
    elsewhere = contextvars.Context()
    saver.delete_thread("t")
    for context in (of_the_run, elsewhere):
        with pytest.raises(ThreadDeletedError):
            context.run(put, saver, config, {"a": 2}, 2)
    put(saver, config, {"a": 3}, 3)
    with pytest.raises(ThreadDeletedError):
        of_the_run.run(put, saver, config, {"a": 2}, 2)
    assert values_of(saver, at("t")) == {"a": 3}


def test_what_somebody_else_deletes_afterwards_is_not_put_back(saver: TieredSaver) -> None:
    config = put(saver, at("t"), {"a": 1})
    saver.delete_thread("t")
    contextvars.Context().run(saver.delete_thread, "t")
    with pytest.raises(ThreadDeletedError):
        put(saver, config, {"a": 2}, 2)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("target", ["t", "another"])
def test_restored_thread_is_as_it_was_read_and_goes_on(saver: TieredSaver, home: str, target: str) -> None:
    graph = conversation(saver)
    graph.invoke({"asked": "name"}, at("t"))
    graph.invoke(Command(resume="Ada"), at("t"))
    graph.invoke({"asked": "age"}, at("t"))
    settle(saver, "t", home)
    found = everything(saver, "t")
    assert {t.config["configurable"]["checkpoint_ns"] for t in found} > {""}
    contextvars.Context().run(saver.delete_thread, "t")
    saver.restore(target, found)
    assert without_thread(everything(saver, target)) == without_thread(found)
    assert graph.get_state(at(target)).interrupts[0].value == "age?"
    assert graph.invoke(Command(resume="36"), at(target)) == {"asked": "age", "answered": "36", "count": 2}
    settle(saver, target, "evicted")
    assert graph.get_state(at(target)).values["answered"] == "36"


async def test_async_restore(saver: TieredSaver) -> None:
    config = put(saver, at("t"), {"a": 1, "b": [1]})
    put(saver, config, {"a": 2, "b": [2]}, 2)
    found = [t async for t in saver.alist(at("t"))]
    await saver.adelete_thread("t")
    await saver.arestore("t", found[::-1])
    assert [t async for t in saver.alist(at("t"))] == found


@pytest.mark.parametrize("home", HOMES)
def test_nothing_is_restored_to_a_thread_that_exists(saver: TieredSaver, home: str) -> None:
    put(saver, at("t"), {"a": 1})
    found = everything(saver, "t")
    put(saver, at("u"), {"a": 2})
    settle(saver, "u", home)
    with pytest.raises(ConfigurationError, match="'u' exists"):
        saver.restore("u", found)
    assert [t.checkpoint["channel_values"] for t in everything(saver, "u")] == [{"a": 2}]


def test_restore_that_somebody_else_is_faster_than_stops(saver: TieredSaver) -> None:
    first = put(saver, at("t"), {"a": 1})
    put(saver, first, {"a": 2}, 2)
    found = everything(saver, "t")
    restoring = Stepped(saver, saver._requests.restore("u", found)).stop_before("put")
    contextvars.Context().run(put, saver, at("u"), {"a": 3}, 3)
    with pytest.raises(ThreadBusyError, match="'u'"):
        restoring.finish()
    assert values_of(saver, at("u")) == {"a": 3}


def test_delete_says_when_it_was(saver: TieredSaver) -> None:
    """Not before the tombstone, however both are rounded."""
    for number in range(200):
        config = put(saver, at(f"t{number}"), {"a": 1})
        saver.delete_thread(f"t{number}")
        saver.put(config, make_checkpoint({"a": 2}), {"source": "loop", "step": 1, "parents": {}}, {})


def test_who_has_deleted_a_thread_begins_it_anew_after_somebody_else_s_delete_too(saver: TieredSaver) -> None:
    put(saver, at("t"), {"a": 1})
    saver.delete_thread("t")
    elsewhere = contextvars.Context()
    elsewhere.run(put, saver, at("t"), {"a": 2})
    elsewhere.run(saver.delete_thread, "t")
    put(saver, at("t"), {"a": 3})
    assert values_of(saver, at("t")) == {"a": 3}
