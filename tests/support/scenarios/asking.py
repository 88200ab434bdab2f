"""Threads that wait for an answer, with subgraphs and pending writes, and what a saver says of them."""

from __future__ import annotations

from typing import Any, TypedDict

from homes import at
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

THREADS = ["t", "user:*,{}", "other"]


class State(TypedDict, total=False):
    asked: str
    answered: str
    count: int


def conversation(saver: BaseCheckpointSaver[str]) -> Any:
    """A graph whose subgraph asks something: namespaces, pending writes with paths, short values."""

    def ask(state: State) -> State:
        return {"answered": interrupt(f"{state['asked']}?"), "count": state.get("count", 0) + 1}

    def beside(state: State) -> None:
        del state

    inner = StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile()
    outer = StateGraph(State).add_node("inner", inner).add_node("beside", beside)
    return outer.add_edge(START, "inner").add_edge(START, "beside").compile(checkpointer=saver)


def converse(source: BaseCheckpointSaver[str]) -> None:
    graph = conversation(source)
    for thread in THREADS:
        graph.invoke({"asked": "name"}, at(thread))
        graph.invoke(Command(resume="Ada"), at(thread))
        graph.invoke({"asked": "age"}, at(thread))


def everything(saver: BaseCheckpointSaver[str], thread_id: str) -> list[Any]:
    found = list(saver.list({"configurable": {"thread_id": thread_id}}))
    told = [
        (
            t.checkpoint["id"],
            t.config["configurable"]["checkpoint_ns"],
            t.checkpoint,
            t.metadata,
            t.parent_config and t.parent_config["configurable"]["checkpoint_id"],
            t.pending_writes,
        )
        for t in found
    ]
    return sorted(told, key=lambda one: one[:2])
