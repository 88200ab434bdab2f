"""A program that uses the package, as its type checker sees it: `make wheel-test` checks it against the wheel.

Not run. Each `type: ignore` is a mistake that has to be noticed: one that is not needed is an error too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from langchain_core.messages import AIMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_tiered_checkpoint import (
    HotTierError,
    Promotion,
    ThreadStatus,
    TieredChatMessageHistory,
    TieredSaver,
    Timeouts,
)

saver = TieredSaver.from_urls(
    "redis://localhost:6379/0",
    "postgresql://localhost/app",
    ttl=timedelta(hours=8),
    promotion=Promotion(after=None, checkpoints=50, when=lambda candidate: candidate.thread_id.startswith("vip-")),
    cold_writes="through",
    timeouts=Timeouts(hot=timedelta(seconds=1)),
)
checkpointer: BaseCheckpointSaver[str] = saver
tenant: TieredSaver = saver.scoped("tenant-a")

TieredSaver.from_urls("redis://localhost", ttl=3600)  # type: ignore[arg-type]
TieredSaver.from_urls("redis://localhost", cold_writes="sideways")  # type: ignore[arg-type]
TieredSaver.from_env(time_to_live=timedelta(hours=1))  # type: ignore[call-arg]
Promotion(checkpoints="50")  # type: ignore[arg-type]


def answer(state: MessagesState) -> dict[str, list[AIMessage]]:
    return {"messages": [AIMessage(f"That was message {len(state['messages'])}.")]}


graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile(checkpointer=tenant)


def where(thread_id: str) -> str:
    try:
        status: ThreadStatus = saver.explain(thread_id)
    except HotTierError as exc:
        return str(exc)
    tier: str = status.tier  # type: ignore[assignment]
    return f"{tier} {status.expires_at}"


@asynccontextmanager
async def lifespan() -> AsyncIterator[list[str]]:
    async with saver:
        yield [thread_id async for thread_id in saver.athread_ids("visit-")]


def said(session_id: str) -> list[str]:
    return [message.text for message in TieredChatMessageHistory(session_id, saver).messages]
