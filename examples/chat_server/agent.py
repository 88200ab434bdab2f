"""The agent of the chat service: a model with a calculator, and a tool for which somebody has to give leave.

LangGraph's `interrupt` in async code needs Python 3.11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arithmetic import calculator
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Interrupt, StateSnapshot, interrupt
from model import chat_model  # the line to replace: any chat model of LangChain's will do

from langgraph_tiered_checkpoint import TieredSaver

Agent = CompiledStateGraph[Any, Any, Any, Any]


@tool
def refund(order: str) -> str:
    """Pay the price of an order back to the customer."""
    # What must happen once comes after the interrupt, and has an idempotency key: see approval_agent.py.
    if interrupt(f"Refund order {order}?") != APPROVED:
        return f"The refund of order {order} was rejected."
    return f"Order {order} is refunded."


APPROVED, REJECTED = "approve", "reject"
TOOLS = [calculator, refund]
model = chat_model(TOOLS)


async def assistant(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"], config)]}


graph = StateGraph(MessagesState)
graph.add_node("assistant", assistant)
graph.add_node("tools", ToolNode(TOOLS))
graph.add_edge(START, "assistant")
graph.add_conditional_edges("assistant", tools_condition)
graph.add_edge("tools", "assistant")


def agent_of(saver: TieredSaver) -> Agent:
    """The agent with this memory. Cheap: a service makes one for each request, with the saver of whoever asks."""
    return graph.compile(checkpointer=saver)


def at(conversation: str) -> RunnableConfig:
    return {"configurable": {"thread_id": conversation}}


async def keep_what_was_said(agent: Agent, conversation: str, said: str) -> None:
    """After a stop: end the turn with what the user has seen of it, so that the conversation can go on."""
    state = await agent.aget_state(at(conversation))
    if not state.next or state.interrupts or not (messages := state.values.get("messages")):
        return
    calls = messages[-1].tool_calls if isinstance(messages[-1], AIMessage) else []  # providers want each answered
    unanswered = [ToolMessage("stopped", name=call["name"], tool_call_id=call["id"]) for call in calls]
    ending = AIMessage(f"{said} …".lstrip(), additional_kwargs={"stopped": True})
    await agent.aupdate_state(at(conversation), {"messages": [*unanswered, ending]}, as_node="assistant")


# What people see of it.


def version(state: StateSnapshot) -> str:
    """Differs where more can be seen than before."""
    return f'"{state.config["configurable"].get("checkpoint_id", "")}.{len(state.interrupts)}"'


def told(messages: Sequence[AnyMessage], waiting: Sequence[Interrupt]) -> list[dict[str, Any]]:
    """What was said, what tools have answered, and what waits for leave. A message without words says nothing."""
    asked = {
        call["id"]: ", ".join(map(str, call["args"].values()))
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    seen: list[dict[str, Any]] = []
    for message in messages:
        line = {"by": message.type, "text": message.text}
        if isinstance(message, ToolMessage):
            line |= {"tool": message.name, "asked": asked.get(message.tool_call_id, "")}
        elif message.additional_kwargs.get("stopped"):
            line["stopped"] = True
        if message.text:
            seen.append(line)
    return seen + [{"by": "approval", "text": str(one.value), "id": one.id} for one in waiting]
