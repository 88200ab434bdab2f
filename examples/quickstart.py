"""Two users, two sessions, a crash: what stays, what goes, and which tier holds it.

    python examples/quickstart.py

Starts a Redis and a Postgres of its own (the extra `[embedded]`) and needs nothing else. The agent's model is a
scripted one, see model.py; the agent, its tool and its memory are plain LangGraph.

The web server of this story is a process that dies halfway, so the script starts itself twice more: as the server
that crashes ("before") and as the one that takes over ("after"). It exits non-zero if anything is not as it says.
"""

from __future__ import annotations

import ast
import operator
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import redis
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from model import chat_model
from story import another_process, check, eventually, expect_warnings, own_servers

from langgraph_tiered_checkpoint import Promotion, TieredSaver

EPHEMERAL_TTL = timedelta(seconds=float(os.environ.get("QUICKSTART_TTL_S", "3")))

Agent = CompiledStateGraph[Any, Any, Any, Any]


# The agent: a model, a tool, and a checkpointer as its memory. Nothing in it knows about tiers.


@tool
def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression."""
    operators = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

    def value(node: ast.expr) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.BinOp(left=left, op=op, right=right) if type(op) in operators:
                return float(operators[type(op)](value(left), value(right)))
            case _:
                raise ValueError(f"not arithmetic: {expression}")

    return f"{value(ast.parse(expression, mode='eval').body):g}"


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
    print(f"  {session.user:<6}> {text}")
    # durability="sync": every step is stored before the next one begins.
    state = agent.invoke({"messages": [HumanMessage(text)]}, session.config, durability="sync")
    return reply(session, state)


def reply(session: Session, state: dict[str, Any]) -> str:
    answer = str(state["messages"][-1].text)
    print(f"  {'agent':<6}> {answer}   (to {session.user})")
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


def show(saver: TieredSaver, *sessions: Session) -> None:
    """Where each session is, and why."""
    print(f"\n  {'session':<8}{'tier':<7}{'state':<11}{'hot':>5}{'cold':>6}  why (hot, cold: checkpoints in each tier)")
    for session in sessions:
        status = saver.explain(session.cookie)
        counts = f"{status.hot_checkpoints:>5}{status.cold_checkpoints:>6}"
        print(f"  {session.user:<8}{status.tier or '-':<7}{status.state:<11}{counts}  {status.why}")
    print()


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

    print("The server dies in the middle of Alice's next question:")
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


def run_server(act: str, redis_url: str, postgres_url: str, alice: Session, bob: Session) -> int:
    """One act in a process of its own; the reply is how it ended."""
    return another_process(__file__, act, redis_url, postgres_url, alice.cookie, bob.cookie)


def main() -> None:
    alice, bob = (Session(user, f"visit-{secrets.token_hex(6)}") for user in ("Alice", "Bob"))
    with own_servers() as servers:
        urls = servers.redis_url, servers.postgres_url

        print("1. Two users talk to the agent:")
        ended = run_server("before", *urls, alice, bob)
        if ended > 0:
            sys.exit(ended)
        check("the server was killed", ended == -signal.SIGKILL)

        print("\n2. Redis is killed too, and comes back with what it had:")
        servers.kill_redis()
        servers.restart_redis()
        with open_saver(*urls) as saver:
            show(saver, alice, bob)
            check("Bob never came back, and his session expired", wait_for_state(saver, bob, "absent"))
            saver.flush()  # what the dead server had not flushed yet, anyone can
            check("Postgres holds all of Alice's session", saver.explain(alice.cookie).state == "clean")

        print("\n3. All of Redis is wiped, to prove that Postgres alone carries her session:")
        with redis.Redis.from_url(servers.redis_url) as client:
            client.flushall()
            check("Redis is empty", client.dbsize() == 0)

        print("\n4. A new server takes over:")
        if ended := run_server("after", *urls, alice, bob):
            sys.exit(ended)
    print("Everything was as it said.")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # acts print into one pipe, in order
    expect_warnings("ttl=", "held nothing of the store")  # days are played in seconds, and Redis is wiped
    if len(sys.argv) == 1:
        main()
    else:
        act, redis_url, postgres_url, *cookies = sys.argv[1:]
        sessions = Session("Alice", cookies[0]), Session("Bob", cookies[1])
        with open_saver(redis_url, postgres_url) as saver:
            (before_the_crash if act == "before" else after_the_crash)(saver, *sessions)
