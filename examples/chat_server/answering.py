"""How an answer comes about: one run at a time in a conversation, written to its end or to where its user stops it.

Whoever asked gets it piece by piece. Who is gone meanwhile finds it when they are back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import shared
from agent import APPROVED, REJECTED, Agent, agent_of, at, keep_what_was_said
from fastapi import HTTPException, Response
from fastapi.responses import StreamingResponse
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Command
from pydantic import BaseModel, Field
from redis.asyncio.lock import Lock

from langgraph_tiered_checkpoint import TieredSaver

running: set[asyncio.Task[None]] = set()


class Said(BaseModel):
    """What a user says. Anything else in the body is ignored; none of it reaches the graph."""

    text: str = Field(min_length=1, max_length=4_000)


class Decision(BaseModel):
    """What a user answers when the agent asks for leave."""

    id: str = Field(max_length=100)
    approve: bool


Pieces = asyncio.Queue[str | Exception | None]
"""Of an answer; None at its end."""


async def turn_of(agent: Agent, conversation: str, said: Said | Decision) -> dict[str, Any] | Command[Any]:
    """What the agent is called with. Asked by whoever holds the claim, so that nothing is decided twice."""
    waiting = [one.id for one in (await agent.aget_state(at(conversation))).interrupts]
    match said:
        case Said(text=text) if not waiting:
            return {"messages": [HumanMessage(text)]}
        case Said():
            raise HTTPException(409, "Something waits for your decision in this conversation")
        case Decision(id=id_, approve=approve) if id_ in waiting:
            return Command(resume={id_: APPROVED if approve else REJECTED})
        case Decision():
            raise HTTPException(409, "This has been decided")


async def write(agent: Agent, conversation: str, said: Said | Decision, pieces: Pieces, seen: list[str]) -> None:
    """Run the agent. `seen` is what it has written of its latest message."""
    turn = await turn_of(agent, conversation, said)
    latest = ""
    async for mode, news in agent.astream(turn, at(conversation), stream_mode=["messages", "updates"]):
        match mode, news:
            case "messages", (AIMessage(id=id_) as piece, _):  # a chunk of one, or all of it, if it is not streamed
                if id_ != latest and seen:
                    pieces.put_nowait("\n\n")
                    seen.clear()
                latest = id_ or ""
                seen += [piece.text] * bool(piece.text)
                pieces.put_nowait(piece.text)
            case "updates", {"__interrupt__": waiting}:
                pieces.put_nowait(f"\n\n{waiting[0].value}" if seen else str(waiting[0].value))


async def run(mine: TieredSaver, conversation: str, said: Said | Decision, claim: Lock, pieces: Pieces) -> None:
    """Answer, to the end or until it is stopped: a client that is gone finds the answer when it is back."""
    end: Exception | None = None
    agent, seen = agent_of(mine), list[str]()
    writing = asyncio.create_task(write(agent, conversation, said, pieces, seen))
    try:
        async with shared.held(claim, writing.cancel):
            try:
                await writing
            except asyncio.CancelledError:
                await keep_what_was_said(agent, conversation, "".join(seen))
    except Exception as exc:  # noqa: BLE001 - whoever listens raises it
        end = exc
    pieces.put_nowait(end)  # after the claim is given back: the next message may come at once


async def answer(mine: TieredSaver, conversation: str, said: Said | Decision, response: Response) -> StreamingResponse:
    pieces: Pieces = asyncio.Queue()
    task = asyncio.create_task(run(mine, conversation, said, await shared.claim(conversation), pieces))
    running.add(task)
    task.add_done_callback(running.discard)
    first = await pieces.get()
    if isinstance(first, Exception):  # what fails up to here is answered with a status, not with a broken stream
        raise first

    async def body() -> AsyncIterator[str]:
        piece: str | Exception | None = first
        while isinstance(piece, str):
            yield piece
            piece = await pieces.get()
        if piece:
            raise piece

    headers = {**response.headers, "x-conversation": conversation}
    return StreamingResponse(body(), media_type="text/plain", headers=headers)
