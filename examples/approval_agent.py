"""An agent that asks a human before it spends money, and a human who takes days to answer.

    python examples/approval_agent.py

The run stops at `interrupt()` and its process exits. A thread that waits for a human must not expire, so the saver
promotes it (`Promotion(on_interrupt=True)`, the default). Later, with the TTL passed and Redis wiped, other processes
approve some refunds and reject another.

No checkpointer can promise that a tool runs once: two approvals sent at the same time both resume the run, and a
process that is killed after it has paid, and before that is stored, leaves a run that pays again. So the payment goes
by an idempotency key, and a second payment under the same key is none: the money moves once.

The model is a scripted one, see model.py. The script exits non-zero if anything is not as it says.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
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
from story import act, another_process, check, end, expect_warnings, own_servers, tell

from langgraph_tiered_checkpoint import TieredSaver

TTL = timedelta(seconds=1)  # a day, in a real service

APPROVED, REJECTED, HURRIED, CUT_OFF = CASES = "case-17", "case-18", "case-19", "case-20"
POWER_CUT = "power-cut"


def pay(order: int, key: str) -> None:
    """Pay, unless that has been done under this key: in real life a unique row, or what your bank calls idempotency."""
    time.sleep(0.3)  # as banks do
    with contextlib.suppress(FileExistsError), Path(os.environ["BANK"], key).open("x") as payment:
        payment.write(f"order {order}\n")


@tool
def refund(order: int, config: RunnableConfig) -> str:
    """Pay the price of an order back to the customer."""
    # The node starts over when the run is resumed, so whatever must happen once comes after the interrupt. It can still
    # be reached twice, so it also has a key: the same for every attempt, and another for every payment that is meant.
    if interrupt(f"Refund order {order}?") != "approve":
        return f"The refund of order {order} was rejected."
    pay(order, key=f"{config['configurable']['thread_id']}-{order}")
    if POWER_CUT in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
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
    tell(f"{thread_id}: the agent waits for an answer to {state['__interrupt__'][0].value!r}")


def decide(saver: TieredSaver, thread_id: str, decision: str) -> None:
    """What the clerk's page does: look up what waits, and answer it."""
    agent = build_agent(saver)
    if not agent.get_state(case(thread_id)).interrupts:
        tell(f"{thread_id}: nothing waits for {decision!r}")
        return
    state = agent.invoke(Command(resume=decision), case(thread_id))
    tell(f"{thread_id}: {decision}. {state['messages'][-1].text}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bank-") as bank, own_servers() as servers:
        os.environ["BANK"] = bank
        urls = servers.redis_url, servers.postgres_url

        def paid() -> list[str]:
            return [path.read_text().strip() for path in sorted(Path(bank).iterdir())]

        act("1. Customers ask for a refund, served by a process that exits when the agent waits:")
        check("all of them were taken up", another_process(__file__, *urls, "ask", *CASES) == 0)

        act("2. Nobody answers for longer than an unpromoted thread lives, and Redis is wiped:")
        time.sleep(2 * TTL.total_seconds())
        with redis.Redis.from_url(servers.redis_url) as client:
            client.flushall()
        with TieredSaver.from_urls(*urls, ttl=TTL) as saver:
            for thread_id in CASES:
                check(f"{thread_id} waits in Postgres", saver.explain(thread_id).state == "cold")
        check("nothing was paid", not paid())

        act("3. Days later, a clerk decides. A nervous one, who sends everything twice:")
        for thread_id, decision in ((APPROVED, "approve"), (REJECTED, "reject")) * 2:
            check(f"the {decision} was handled", another_process(__file__, *urls, decision, thread_id) == 0)
        check("one refund was paid, once", paid() == ["order 17"])

        act("4. Three clerks approve one refund at the same time:")
        check("the approvals were handled", another_process(__file__, *urls, "approve", *[HURRIED] * 3) == 0)
        check("it was paid once", paid() == ["order 17", "order 19"])

        act("5. A clerk's process is killed when the money has gone, and nothing of that is stored:")
        killed = another_process(__file__, *urls, "approve", CUT_OFF, POWER_CUT)
        check("the process was killed", killed == -signal.SIGKILL)
        check("the refund was paid", paid() == ["order 17", "order 19", "order 20"])
        check("the next approval ends the run", another_process(__file__, *urls, "approve", CUT_OFF) == 0)
        check("it was still paid once", paid() == ["order 17", "order 19", "order 20"])
    end()


if __name__ == "__main__":
    expect_warnings("ttl=", "held nothing of the store")  # days are played in seconds, and Redis is wiped
    if len(sys.argv) == 1:
        main()
    else:
        redis_url, postgres_url, part, *cases = (word for word in sys.argv[1:] if word != POWER_CUT)
        with TieredSaver.from_urls(redis_url, postgres_url, ttl=TTL) as saver, ThreadPoolExecutor() as pool:
            # All at once; `list` raises what one of them has raised.
            list(pool.map(lambda one: ask(saver, one) if part == "ask" else decide(saver, one, part), cases))
