"""Two users, two sessions, a crash: what stays, what goes, and which tier holds it.

    python examples/quickstart.py

Starts a Redis and a Postgres of its own (the extra `[embedded]`) and needs nothing else. The agent's model is a
scripted one, see model.py; the agent, its tool and its memory are plain LangGraph.

The web server of this story is a process that dies halfway, so the script starts itself twice more: as the server
that crashes ("before") and as the one that takes over ("after"). It exits non-zero if anything is not as it says.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import redis
from arithmetic import calculator
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from model import chat_model
from story import act, another_process, check, end, eventually, expect_warnings, own_servers, painted, tell

from langgraph_tiered_checkpoint import Promotion, ThreadStatus, TieredSaver

EPHEMERAL_TTL = timedelta(seconds=float(os.environ.get("QUICKSTART_TTL_S", "3")))

Agent = CompiledStateGraph[Any, Any, Any, Any]


# The agent: a model, a tool, and a checkpointer as its memory. Nothing in it knows about tiers.


@tool("calculator")
def power_cut(expression: str) -> str:
    """The calculator on the day of the power cut: the process dies in the middle of the tool call."""
    os.kill(os.getpid(), signal.SIGKILL)
    return expression


def build_agent(saver: TieredSaver, tools: Sequence[BaseTool]) -> Agent:
    model = chat_model(tools)

    def assistant(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("assistant", assistant)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "assistant")
    graph.add_conditional_edges("assistant", tools_condition)
    graph.add_edge("tools", "assistant")
    return graph.compile(checkpointer=saver)


class Session(NamedTuple):
    """A user's visit. The cookie that the browser sends with each request is the thread id."""

    user: str
    cookie: str

    @property
    def config(self) -> RunnableConfig:
        """What LangGraph is called with."""
        return {"configurable": {"thread_id": self.cookie}}


def chat(agent: Agent, session: Session, text: str) -> str:
    tell(f"{session.user:<5} > {text}")
    # durability="sync": every step is stored before the next one begins.
    state = agent.invoke({"messages": [HumanMessage(text)]}, session.config, durability="sync")
    return reply(session, state)


def reply(session: Session, state: dict[str, Any]) -> str:
    answer = str(state["messages"][-1].text)
    tell(f"agent > {answer}   (to {session.user})")
    return answer


# The checkpointer. Thresholds are short, so that a visit of seconds can play one of days.


def open_saver(redis_url: str, postgres_url: str) -> TieredSaver:
    return TieredSaver.from_urls(
        redis_url,
        postgres_url,
        ttl=EPHEMERAL_TTL,  # a session that nobody comes back to is gone after this
        promotion=Promotion(checkpoints=6),  # one that gets this long is there to stay
        flush_interval=timedelta(seconds=0.5),  # how far Postgres may lag behind Redis
    )


def place(status: ThreadStatus) -> str:
    """Where a session is, in a colour."""
    match status.tier, status.state:
        case "hot", "ephemeral":
            where, colour = "Redis, until it expires", "yellow"
        case "hot", _:
            where, colour = "Redis, being copied", "yellow"
        case "both", _:
            where, colour = "Redis and Postgres", "green"
        case "cold", _:
            where, colour = "Postgres only", "blue"
        case _:
            where, colour = "gone", "dim"
    return painted(f"{where:<25}", colour)


def show(saver: TieredSaver, *sessions: Session) -> None:
    """Where each session is, and why."""
    for session in sessions:
        status = saver.explain(session.cookie)
        tell(f"{session.user:<5} : {place(status)}{painted(status.why, 'dim')}")


def wait_for_state(saver: TieredSaver, session: Session, state: str) -> bool:
    """Whether the session gets there by itself. `explain` only looks: it does not prolong a session's life."""
    return eventually(lambda: saver.explain(session.cookie).state == state)


# The story.


def before_the_crash(saver: TieredSaver, alice: Session, bob: Session) -> None:
    agent = build_agent(saver, [calculator])
    chat(agent, alice, "My name is Alice.")
    check("the answer to a sum comes from the tool", "42" in chat(agent, alice, "What is 6*7?"))
    chat(agent, bob, "My name is Bob.")

    said = {s.user: str(agent.get_state(s.config).values["messages"]) for s in (alice, bob)}
    check("neither session holds a message of the other", "Bob" not in said["Alice"] and "Alice" not in said["Bob"])
    check("Bob's session is ephemeral, in Redis only", saver.explain(bob.cookie).state == "ephemeral")
    check("Alice's session grew long, and Postgres holds it now", wait_for_state(saver, alice, "clean"))
    show(saver, alice, bob)

    tell("The server dies in the middle of Alice's next question:")
    chat(build_agent(saver, [power_cut]), alice, "What is 12*7?")
    sys.exit("the process should not have lived to say this")


def after_the_crash(saver: TieredSaver, alice: Session, bob: Session) -> None:
    agent = build_agent(saver, [calculator])
    check("Alice's session is read from Postgres", saver.explain(alice.cookie).tier == "cold")
    check("her question still waits at the tool", agent.get_state(alice.config).next == ("tools",))
    check("the run is taken up where it stopped", "84" in reply(alice, agent.invoke(None, alice.config)))
    check("her name is remembered", "Alice" in chat(agent, alice, "What is my name?"))
    check("Bob's cookie opens an empty session", not agent.get_state(bob.config).values)
    check("nothing is remembered of him", "Bob" not in chat(agent, bob, "What is my name?"))
    check("Postgres has caught up with Alice's session", wait_for_state(saver, alice, "clean"))
    show(saver, alice, bob)


def main() -> None:
    alice, bob = (Session(user, f"visit-{secrets.token_hex(6)}") for user in ("Alice", "Bob"))
    seen = []

    with own_servers() as servers:
        urls = servers.redis_url, servers.postgres_url

        def run_server(part: str) -> int:
            """A part in a process of its own; the reply is how it ended."""
            return another_process(__file__, part, *urls, alice.cookie, bob.cookie)

        def look(when: str) -> None:
            """Note where both sessions are, for the end."""
            with open_saver(*urls) as saver:
                seen.append(f"{when:<25}" + "".join(place(saver.explain(session.cookie)) for session in (alice, bob)))

        act("1. Two users talk to the agent:")
        ended = run_server("before")
        if ended > 0:
            sys.exit(ended)
        check("the server was killed", ended == -signal.SIGKILL)
        look("the server was killed")

        act("2. Redis is killed too, and comes back with what it had:")
        servers.kill_redis()
        servers.restart_redis()
        with open_saver(*urls) as saver:
            show(saver, alice, bob)
            check("Bob never came back, and his session expired", wait_for_state(saver, bob, "absent"))
            saver.flush()  # what the dead server had not flushed yet, anyone can
            check("Postgres holds all of Alice's session", saver.explain(alice.cookie).state == "clean")
        look(f"{EPHEMERAL_TTL.total_seconds():g} s of silence")

        act("3. All of Redis is wiped, to prove that Postgres alone carries her session:")
        with redis.Redis.from_url(servers.redis_url) as client:
            client.flushall()
            check("Redis is empty", client.dbsize() == 0)
        look("Redis was wiped")

        act("4. A new server takes over:")
        if ended := run_server("after"):
            sys.exit(ended)
        look("a new server answered")

    act("What was seen:")
    print("\n".join(f"  {line}" for line in [f"{'':<25}{'Alice':<25}Bob", *seen]))
    print(
        "\nAlice's session grew long, so Postgres has it: it outlived two crashes and an empty Redis, and the question"
    )
    print("that the crash cut off was answered. Bob's stayed short and expired on time: it was nowhere else, and his")
    print("cookie opened a new one.")
    end()


if __name__ == "__main__":
    expect_warnings("ttl=", "held nothing of the store")  # days are played in seconds, and Redis is wiped
    if len(sys.argv) == 1:
        main()
    else:
        part, redis_url, postgres_url, *cookies = sys.argv[1:]
        sessions = Session("Alice", cookies[0]), Session("Bob", cookies[1])
        with open_saver(redis_url, postgres_url) as saver:
            (before_the_crash if part == "before" else after_the_crash)(saver, *sessions)
