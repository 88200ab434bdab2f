"""Real graphs without a model: what is left is LangGraph and its saver."""

from __future__ import annotations

import operator
import random
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import MessagesState, add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send

from benchmarks.payloads import message

Graph = CompiledStateGraph[Any, Any, Any, Any]
Saver = BaseCheckpointSaver[Any]


def chat(saver: Saver | None) -> Graph:
    """A user says something, an assistant answers: three checkpoints a turn."""

    async def assistant(state: MessagesState) -> dict[str, Any]:
        number = len(state["messages"])
        return {"messages": [_said("assistant", number)]}

    graph = StateGraph(MessagesState)
    graph.add_node("assistant", assistant)
    graph.add_edge(START, "assistant")
    return graph.compile(checkpointer=saver)


def turn(number: int) -> dict[str, Any]:
    """What the user says in a turn."""
    return {"messages": [_said("user", number)]}


def _said(who: str, number: int) -> BaseMessage:
    """The same at every run, and different from everything else that is said."""
    return message(random.Random(f"{who} {number}"), 2 * number + (who != "user"))


class Item(TypedDict):
    item: int


class Work(TypedDict):
    items: list[int]
    done: Annotated[list[int], operator.add]


def fan_out(saver: Saver | None) -> Graph:
    """One task for each item, all in one superstep; then one that collects."""

    async def work(state: Item) -> dict[str, Any]:
        return {"done": [state["item"]]}

    async def collect(state: Work) -> dict[str, Any]:
        return {"items": []}

    graph = StateGraph(Work)
    graph.add_node("work", work)
    graph.add_node("collect", collect)
    graph.add_conditional_edges(
        START, lambda state: [Send("work", {"item": item}) for item in state["items"]], ["work"]
    )
    graph.add_edge("work", "collect")
    return graph.compile(checkpointer=saver)


class Agent(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    rounds: int


def tool_loop(saver: Saver | None) -> Graph:
    """An agent, a subgraph of model and tools, that goes round four times; and a second one that reviews."""

    async def model(state: Agent) -> dict[str, Any]:
        number = len(state["messages"])
        return {"messages": [_said("assistant", number)], "rounds": state.get("rounds", 0) + 1}

    async def tools(state: Agent) -> dict[str, Any]:
        number = len(state["messages"])
        return {"messages": [_said("tools", number)]}

    def agent() -> Graph:
        inner = StateGraph(Agent)
        inner.add_node("model", model)
        inner.add_node("tools", tools)
        inner.add_edge(START, "model")
        inner.add_conditional_edges("model", lambda state: "tools" if state["rounds"] % 4 else END, ["tools", END])
        inner.add_edge("tools", "model")
        return inner.compile()

    graph = StateGraph(Agent)
    graph.add_node("agent", agent())
    graph.add_node("reviewer", agent())
    graph.add_edge(START, "agent")
    graph.add_edge("agent", "reviewer")
    return graph.compile(checkpointer=saver)


def thread(thread_id: str) -> RunnableConfig:
    """The config of a run."""
    return {"configurable": {"thread_id": thread_id}}
