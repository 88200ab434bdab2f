"""An agent that asks a human before it spends money, and a human who takes days to answer.

    python examples/approval_agent.py

The run stops at `interrupt()` and its process exits. A thread that waits for a human must not expire, so the saver
promotes it (`Promotion(on_interrupt=True)`, the default). Later, with the TTL passed and Redis wiped, other processes
approve one refund and reject another. Each is paid out once at most, however often its approval is sent.

The model is a scripted one, see model.py. The script exits non-zero if anything is not as it says.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt
from model import chat_model
from story import another_process, check, own_servers

from langgraph_tiered_checkpoint import TieredSaver

TTL = timedelta(seconds=1)  # a day, in a real service

APPROVED, REJECTED = "case-17", "case-18"


@tool
def refund(order: str) -> str:
    """Pay the price of an order back to the customer."""
    # The node starts over when the run is resumed, so whatever must happen once comes after the interrupt.
    if interrupt(f"Refund order {order}?") != "approve":
        return f"The refund of order {order} was rejected."
    with Path(os.environ["BANK"]).open("a") as bank:
        bank.write(f"order {order}\n")
    return f"Order {order} is refunded."


def build_agent(saver: TieredSaver) -> CompiledStateGraph[Any, Any, Any, Any]:
    model = chat_model([refund])

    def assistant(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("assistant", assistant)
    graph.add_node("tools", ToolNode([refund]))
    graph.add_edge(START, "assistant")
    graph.add_conditional_edges("assistant", tools_condition)
    graph.add_edge("tools", "assistant")
    return graph.compile(checkpointer=saver)


def case(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


def ask(saver: TieredSaver, thread_id: str) -> None:
    """The customer's request. Returns as soon as the run waits for a human."""
    order = thread_id.removeprefix("case-")
    state = build_agent(saver).invoke({"messages": [("user", f"Refund order {order}, please.")]}, case(thread_id))
    print(f"  {thread_id}: the agent waits for an answer to {state['__interrupt__'][0].value!r}")


def decide(saver: TieredSaver, thread_id: str, decision: str) -> None:
    """What the clerk's page does: look up what waits, and answer it."""
    agent = build_agent(saver)
    if not agent.get_state(case(thread_id)).interrupts:
        print(f"  {thread_id}: nothing waits for {decision!r}")
        return
    state = agent.invoke(Command(resume=decision), case(thread_id))
    print(f"  {thread_id}: {decision}. {state['messages'][-1].text}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bank-") as vault, own_servers() as servers:
        bank = Path(vault) / "payments"
        bank.touch()
        os.environ["BANK"] = str(bank)
        urls = servers.redis_url, servers.postgres_url

        print("1. Two customers ask for a refund, each served by a process that exits when the agent waits:")
        for thread_id in (APPROVED, REJECTED):
            check(f"{thread_id} was taken up", another_process(__file__, "ask", thread_id, *urls) == 0)

        print("\n2. Nobody answers for longer than an unpromoted thread lives, and Redis is wiped:")
        time.sleep(2 * TTL.total_seconds())
        with redis.Redis.from_url(servers.redis_url) as client:
            client.flushall()
        with TieredSaver.from_urls(*urls, ttl=TTL) as saver:
            for thread_id in (APPROVED, REJECTED):
                check(f"{thread_id} waits in Postgres", saver.explain(thread_id).state == "cold")
        check("nothing was paid", not bank.read_text())

        print("\n3. Days later, a clerk decides. A nervous one, who sends everything twice:")
        for thread_id, decision in ((APPROVED, "approve"), (REJECTED, "reject")) * 2:
            check(f"the {decision} was handled", another_process(__file__, decision, thread_id, *urls) == 0)
        check("one refund was paid, once", bank.read_text() == "order 17\n")
    print("Everything was as it said.")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # acts print into one pipe, in order
    if len(sys.argv) == 1:
        main()
    else:
        act, thread_id, redis_url, postgres_url = sys.argv[1:]
        with TieredSaver.from_urls(redis_url, postgres_url, ttl=TTL) as saver:
            if act == "ask":
                ask(saver, thread_id)
            else:
                decide(saver, thread_id, act)
