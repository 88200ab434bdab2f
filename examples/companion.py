"""A companion bot whose memory lasts for years, in a Redis that forgets it whenever it is not needed.

    python examples/companion.py

One conversation goes on for two years, with a long silence in each month. In a silence the hot copy lapses, and the
thread costs Redis nothing. The first message after it finds the thread in Postgres and makes its end resident again:
that costs a query and a write to Redis, however long the conversation is.

What the model is shown is bounded, too: the graph keeps the last few messages, and moves what is worth remembering
for good into a list of its own. The checkpointer keeps both; it does not shorten anybody's memory.

Months are seconds here. The model is a scripted one, see model.py. The script exits non-zero if anything is not as it
says. The times it prints depend on the machine; all that is claimed of them is that a first reply takes less than a
second more than the others.
"""

from __future__ import annotations

import operator
import statistics
import time
from datetime import timedelta
from typing import Annotated, Any

import redis
from langchain_core.messages import HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from model import chat_model
from story import check, end, eventually, own_servers

from langgraph_tiered_checkpoint import Promotion, TieredSaver

MONTHS = 24
REMEMBERED = 8
"""Messages that the model sees in full."""

THREAD: RunnableConfig = {"configurable": {"thread_id": "companion-of-alice"}}
THREAD_ID: str = THREAD["configurable"]["thread_id"]


class Memory(MessagesState):
    """What the companion knows."""

    facts: Annotated[list[str], operator.add]
    """What its user has said of themselves, for good."""


def build_graph() -> StateGraph[Memory]:
    model = chat_model([])

    def assistant(state: Memory) -> dict[str, Any]:
        known = [HumanMessage(fact) for fact in state["facts"]]
        return {"messages": [model.invoke([*known, *state["messages"]])]}

    def remember(state: Memory) -> dict[str, Any]:
        old = state["messages"][:-REMEMBERED]
        facts = [str(message.text) for message in old if isinstance(message, HumanMessage) and "My " in message.text]
        return {"facts": facts, "messages": [RemoveMessage(str(message.id)) for message in old]}

    graph = StateGraph(Memory)
    graph.add_node("assistant", assistant)
    graph.add_node("remember", remember)
    graph.add_edge(START, "assistant")
    graph.add_edge("assistant", "remember")
    return graph


def main() -> None:
    with (
        own_servers() as servers,
        TieredSaver.from_urls(
            servers.redis_url,
            servers.postgres_url,
            hot_ttl=timedelta(seconds=0.25),  # a day or two, in a real service
            hot_checkpoints=10,
            promotion=Promotion(checkpoints=5),
            flush_interval=timedelta(seconds=0.1),
        ) as saver,
        redis.Redis.from_url(servers.redis_url) as client,
    ):
        companion = build_graph().compile(checkpointer=saver)

        def bytes_in_redis() -> int:
            return sum(int(client.memory_usage(key, samples=0) or 0) for key in client.scan_iter())

        def say(text: str) -> tuple[str, float]:
            """The answer, and the milliseconds that it took."""
            started = time.perf_counter()
            state = companion.invoke({"messages": [HumanMessage(text)]}, THREAD)
            return str(state["messages"][-1].text), (time.perf_counter() - started) * 1000

        say("My name is Alice.")
        print("\n  When a month's talk ends: all checkpoints, those in Redis, and the bytes of all keys there.")
        print("  After the silence: the bytes of all keys in Redis, and the first reply's time beside the others'.\n")
        header = f"  {'month':>5}{'checkpoints':>13}{'in Redis':>10}{'bytes':>9}{'silent':>9}"
        print(f"{header}{'first reply':>13}{'others':>10}")
        busy, silent, delays = [], [], []
        for month in range(1, MONTHS + 1):
            others = statistics.median(say(f"It is day {number} of month {month}.")[1] for number in range(4))
            saver.flush()
            status = saver.explain(THREAD_ID)
            busy.append(bytes_in_redis())
            if not eventually(lambda: saver.explain(THREAD_ID).tier == "cold"):
                check("the hot copy lapses in a silence", condition=False)
            silent.append(bytes_in_redis())
            answer, first = say("What is my name?")
            delays.append(first - others)
            print(
                f"  {month:>5}{status.cold_checkpoints:>13}{status.hot_checkpoints:>10}{busy[-1]:>9}"
                f"{silent[-1]:>9}{first:>10.0f} ms{others:>7.0f} ms"
            )
            if "Alice" not in answer:
                check("the companion knows her name", condition=False)
        check("after every silence the companion knew her name", condition=True)
        check("the first answer after a silence takes less than 1 s more (median)", statistics.median(delays) < 1000)
        check(f"in every silence all keys in Redis, the saver's own, took {max(silent)} bytes", max(silent) < 2000)
        check("Redis never held more than in the first months", max(busy) < 1.2 * max(busy[:4]))
        history = sum(1 for _ in companion.get_state_history(THREAD))
        check(f"all {history} checkpoints of the years are there", history > MONTHS * 4 * 3)
    end()


if __name__ == "__main__":
    main()
