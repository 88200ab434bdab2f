"""Going back in a conversation, when half of its history has left Redis.

    python examples/time_travel.py

`hot_checkpoints=4` keeps the last four checkpoints of a promoted thread in Redis; older ones are in Postgres only.
History, replay and fork do not know the difference.

The model is a scripted one, see model.py. The script exits non-zero if anything is not as it says.
"""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import StateSnapshot
from model import chat_model
from story import act, check, end, own_servers, tell

from langgraph_tiered_checkpoint import TieredSaver

THREAD: RunnableConfig = {"configurable": {"thread_id": "a-talk"}}


def said(state: dict[str, Any]) -> list[str]:
    return [str(message.text) for message in state["messages"]]


def show(history: list[StateSnapshot]) -> None:
    for snapshot in reversed(history):
        step = (snapshot.metadata or {}).get("step")
        latest = (said(snapshot.values) or ["(nothing yet)"])[-1]
        tell(f"step {step:>2}  next {'/'.join(snapshot.next) or '-':<10} {latest}")


def main() -> None:
    model = chat_model([])

    def assistant(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node(assistant).add_edge(START, "assistant")

    with (
        own_servers() as servers,
        TieredSaver.from_urls(servers.redis_url, servers.postgres_url, hot_checkpoints=4) as saver,
    ):
        agent = graph.compile(checkpointer=saver)
        act("1. A conversation, promoted:")
        for text in ("My name is Alice.", "What is my name?", "My name is Bob.", "What is my name?"):
            agent.invoke({"messages": [HumanMessage(text)]}, THREAD)
        saver.promote("a-talk")
        history = list(agent.get_state_history(THREAD))
        show(history)
        status = saver.explain("a-talk")
        tell(f"{status.hot_checkpoints} checkpoints in Redis, {status.cold_checkpoints} in Postgres")
        check("Redis holds the end of the history, Postgres all of it", status.hot_checkpoints < len(history))
        check("the history is whole, from both tiers", len(history) == status.cold_checkpoints)

        act("2. Replay: run on from a checkpoint of old, without saying anything new")
        before_bob = next(
            snapshot
            for snapshot in reversed(history)
            if snapshot.next == ("assistant",) and said(snapshot.values)[-1] == "What is my name?"
        )
        replayed = agent.invoke(None, before_bob.config)
        check("at that time her name was Alice", "Alice" in said(replayed)[-1])

        act("3. Fork: change what was said then, and run on from there")
        question = before_bob.values["messages"][-1]
        forked = agent.update_state(
            before_bob.config, {"messages": [HumanMessage("My name is Carol.", id=question.id)]}
        )
        check("the other branch knows Carol", "Carol" in said(agent.invoke(None, forked))[-1])

        act("4. Nothing is lost by that:")
        check("the head is now the fork's", "Carol" in said(agent.get_state(THREAD).values)[-1])
        ids = {snapshot.config["configurable"]["checkpoint_id"] for snapshot in agent.get_state_history(THREAD)}
        check("all old checkpoints are there", ids > {one.config["configurable"]["checkpoint_id"] for one in history})
        saver.evict("a-talk")
        check("also when Redis holds none of them", len(list(agent.get_state_history(THREAD))) == len(ids))
        again = agent.get_state(history[0].config)
        check("the old end can still be read, as it was", said(again.values) == said(history[0].values))
    end()


if __name__ == "__main__":
    main()
