"""Two API servers, one conversation: handed back and forth, also in the middle of a run.

    python examples/two_servers.py

A load balancer may send each request of a session to another server. The servers share nothing but the two tiers, so
either can go on where the other stopped, also where it was killed.

The model is a scripted one, see model.py. The script exits non-zero if anything is not as it says.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from model import chat_model
from story import act, check, end, own_servers, tell
from typing_extensions import Self

from langgraph_tiered_checkpoint import EmbeddedServers, TieredSaver

THREAD: RunnableConfig = {"configurable": {"thread_id": "session-of-alice"}}
GO_ON = "(go on)"
AT_WORK = "(at work)"


# The server: one process, one saver, one line per request and per answer.


@tool
def calculator(expression: str) -> str:
    """Multiply two numbers. Slow ones take a minute."""
    left, _, right = expression.partition("*")
    if "--slow" in sys.argv:
        print(AT_WORK)
        time.sleep(60)
    return str(int(left) * int(right))


def build_agent(saver: TieredSaver) -> CompiledStateGraph[Any, Any, Any, Any]:
    model = chat_model([calculator])

    def assistant(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("assistant", assistant)
    graph.add_node("tools", ToolNode([calculator]))
    graph.add_edge(START, "assistant")
    graph.add_conditional_edges("assistant", tools_condition)
    graph.add_edge("tools", "assistant")
    return graph.compile(checkpointer=saver)


def serve(redis_url: str, postgres_url: str) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url) as saver:
        agent = build_agent(saver)
        for line in sys.stdin:
            text = line.strip()
            # None as input goes on with a run that did not end. durability="sync" stores each step before the next.
            message = None if text == GO_ON else {"messages": [("user", text)]}
            state = agent.invoke(message, THREAD, durability="sync")
            print(" ".join(state["messages"][-1].text.split()))


# The story.


class Server:
    """A server in a process of its own."""

    def __init__(self, name: str, servers: EmbeddedServers, *flags: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-u", __file__, servers.redis_url, servers.postgres_url, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def ask(self, text: str) -> str:
        """Send a request; what the server says first."""
        print(text, file=self.process.stdin)
        answer = next(iter(self.process.stdout or ())).strip()
        tell(f"{self.name}: {text:<20} -> {answer}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End its input, so that it flushes and exits."""
        self.process.communicate()


def main() -> None:
    with own_servers() as servers, Server("A", servers) as a, Server("B", servers, "--slow") as b:
        act("1. Each request goes to the other server:")
        a.ask("My name is Alice.")
        check("B knows what A was told", "Alice" in b.ask("What is my name?"))
        b.ask("My name is Carol.")
        check("A knows what B was told", "Carol" in a.ask("What is my name?"))

        act("2. B is killed in the middle of a tool call, and A goes on with B's run:")
        check("B is at work", b.ask("What is 12*7?") == AT_WORK)
        b.process.kill()
        check("A ends what B began", "84" in a.ask(GO_ON))
        check("nothing is lost", "Carol" in a.ask("What is my name?"))
    end()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        serve(*sys.argv[1:3])
