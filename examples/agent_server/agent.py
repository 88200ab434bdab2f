"""What the server serves: an agent that asks a human before it pays money back.

The graph is compiled without a checkpointer: the server gives it the one that langgraph.json names.
"""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from model import chat_model
from typing_extensions import TypedDict


class Pace(TypedDict, total=False):
    """What a client may pass as `context`."""

    think_s: float
    """How long the model takes, for whoever wants to interrupt it."""


@tool
def refund(order: str) -> str:
    """Pay the price of an order back to the customer."""
    if interrupt(f"Refund order {order}?") != "approve":
        return f"The refund of order {order} was rejected."
    return f"Order {order} is refunded."


model = chat_model([refund])


async def assistant(state: MessagesState, runtime: Runtime[Pace]) -> dict[str, Any]:
    await asyncio.sleep((runtime.context or {}).get("think_s", 0))
    return {"messages": [await model.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState, context_schema=Pace)
builder.add_node("assistant", assistant)
builder.add_node("tools", ToolNode([refund]))
builder.add_edge(START, "assistant")
builder.add_conditional_edges("assistant", tools_condition)
builder.add_edge("tools", "assistant")
graph = builder.compile()
