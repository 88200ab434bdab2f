"""A chat service: who is speaking comes from a signed cookie or a JWT, and decides which conversations there are.

What makes the sessions safe from each other, and the service from its clients:

- The subject (who speaks) is taken from what the server itself has signed or keeps, never from a parameter: who.py.
- Every request works on `saver.scoped(subject)`. A conversation id from the client is looked up inside that scope, so
  somebody else's id names nothing: it cannot be told apart from one that never existed, or has expired.
- From the client's request nothing but the text of a message reaches LangGraph's config. A `checkpoint_id`, a
  `checkpoint_ns` or a `thread_id` that it sends along is not looked at.
- A conversation is answered by one run at a time, in whatever worker: shared.py.
- Nobody sends more than a message at once, too many in a minute, or begins too many conversations: guard.py, shared.py.

Start it with servers of its own, and two workers:

    python examples/chat_server/serve.py
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import re
import secrets
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import shared
import who
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from guard import Guard
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from model import chat_model  # the line to replace: any chat model of LangChain's will do
from pydantic import BaseModel, Field
from redis.asyncio.lock import Lock
from redis.exceptions import RedisError
from who import Subject

from langgraph_tiered_checkpoint import (
    ColdTierError,
    HotTierError,
    Promotion,
    ThreadDeletedError,
    ThreadStatus,
    TieredCheckpointError,
    TieredSaver,
)

log = logging.getLogger("chat")

saver = TieredSaver.from_urls(
    os.environ["REDIS_URL"],
    os.environ["POSTGRES_URL"],
    ttl=timedelta(seconds=float(os.environ.get("CHAT_TTL_S", "86400"))),
    hot_ttl=timedelta(seconds=float(os.environ.get("CHAT_HOT_TTL_S", "86400"))),
    refresh_on_read=False,  # looking at a conversation does not keep it alive; talking does
    promotion=Promotion(checkpoints=int(os.environ.get("CHAT_PROMOTE_AT", "12"))),
)


# What one client may do in a minute, in all workers together, and how much it may keep.
REQUESTS = int(os.environ.get("CHAT_REQUESTS_A_MINUTE", "1200"))  # from one address: the page asks every two seconds
MESSAGES = int(os.environ.get("CHAT_MESSAGES_A_MINUTE", "20"))  # of one subject, and ten times that from one address
CONVERSATIONS = int(os.environ.get("CHAT_CONVERSATIONS", "100"))  # of one subject

running: set[asyncio.Task[None]] = set()


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Write the answers to their ends, and flush what is dirty, before the server exits."""
    async with saver:
        yield
        if running:
            await asyncio.wait(running)
    await shared.redis.aclose()


async def paced(request: Request) -> None:
    """Count a request."""
    await shared.count("requests", shared.address(request), REQUESTS)


async def talking(request: Request, subject: Subject) -> None:
    """Count a message: of its subject, and where it comes from, since anybody may be somebody else each time."""
    await shared.count("messages", subject, MESSAGES)
    await shared.count("messages", shared.address(request), 10 * MESSAGES)


service = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
service.include_router(who.router, dependencies=[Depends(paced)])
chat = APIRouter(prefix="/conversations", dependencies=[Depends(paced)])
app = Guard(service, https=who.HTTPS)


# Whose conversations.


def tenant(subject: str) -> TieredSaver:
    """The saver as this subject sees it. Hashed, so that no key and no row has anybody's name in it."""
    return saver.scoped(hashlib.sha256(subject.encode()).hexdigest()[:32])


async def known(mine: TieredSaver, conversation: str) -> ThreadStatus:
    """A conversation of this subject, or the one answer to everything else."""
    with contextlib.suppress(ValueError):  # an id that no thread can have
        status = await mine.aexplain(conversation)
        if status.tier is not None:
            return status
    raise HTTPException(404, "no such conversation")


# The agent.


model = chat_model([])


async def assistant(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"], config)]}


graph = StateGraph(MessagesState).add_node(assistant).add_edge(START, "assistant")


def at(conversation: str) -> RunnableConfig:
    return {"configurable": {"thread_id": conversation}}


# The service.


@service.exception_handler(ThreadDeletedError)
async def gone(_: Request, __: Exception) -> JSONResponse:
    """It was deleted, or expired, while it was being answered."""
    return JSONResponse({"detail": "no such conversation"}, 404)


@service.exception_handler(TieredCheckpointError)
@service.exception_handler(RedisError)
async def unavailable(_: Request, exc: Exception) -> JSONResponse:
    """A tier's fault is neither an empty answer nor the client's mistake. The details are for the log."""
    log.warning("%s", exc)
    match exc:
        case HotTierError() | RedisError():
            what = "Redis"
        case ColdTierError():
            what = "Postgres"
        case _:
            what = "The store"
    return JSONResponse({"detail": f"{what} does not answer just now"}, 503, {"retry-after": "2"})


@service.exception_handler(RequestValidationError)
async def malformed(_: Request, __: Exception) -> JSONResponse:
    """Without what was sent, as FastAPI would have it: not all of it can be encoded again."""
    return JSONResponse({"detail": "this is not a message"}, 422)


class Said(BaseModel):
    """What a user says. Anything else in the body is ignored; none of it reaches the graph."""

    text: str = Field(min_length=1, max_length=4_000)


async def words(mine: TieredSaver, conversation: str, text: str) -> AsyncIterator[str]:
    """Run the agent; its answer, piece by piece."""
    agent = graph.compile(checkpointer=mine)
    message = {"messages": [HumanMessage(text)]}
    async for piece, _ in agent.astream(message, at(conversation), stream_mode="messages"):
        if isinstance(piece, AIMessage):  # a chunk of one, or all of it, if the model does not stream
            yield piece.text


Pieces = asyncio.Queue[str | Exception | None]
"""Of an answer; None at its end."""


async def run(mine: TieredSaver, conversation: str, text: str, claim: Lock, pieces: Pieces) -> None:
    """Run the agent to its end: a client that is gone finds the answer when it is back."""
    end: Exception | None = None
    try:
        async with shared.held(claim):
            async for piece in words(mine, conversation, text):
                pieces.put_nowait(piece)
    except Exception as exc:  # noqa: BLE001 - whoever listens raises it
        end = exc
    pieces.put_nowait(end)  # after the claim is given back: the next message may come at once


async def answer(mine: TieredSaver, conversation: str, said: Said, response: Response) -> StreamingResponse:
    pieces: Pieces = asyncio.Queue()
    task = asyncio.create_task(run(mine, conversation, said.text, await shared.claim(conversation), pieces))
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


async def summary(mine: TieredSaver, conversation: str) -> dict[str, Any] | None:
    """One line of the list; None if the conversation has expired meanwhile.

    The head is read as history: that leaves a conversation that only Postgres holds where it is, while `aget_state`
    would bring it back into Redis. A service with long lists keeps the titles in a table of its own.
    """
    status = await mine.aexplain(conversation)
    agent = graph.compile(checkpointer=mine)
    head = [snapshot async for snapshot in agent.aget_state_history(at(conversation), limit=1)]
    if status.tier is None or not head or not (messages := head[0].values.get("messages")):
        return None
    left = status.expires_at - datetime.now(timezone.utc) if status.expires_at else None
    return {
        "id": conversation,
        "title": str(messages[0].text)[:60],
        "messages": len(messages),
        "tier": status.tier,
        "state": status.state,
        "hot_for_s": left.total_seconds() if left else None,
        "last_write_at": status.last_write_at,
    }


@chat.get("")
async def conversations(subject: Subject) -> list[dict[str, Any]]:
    """The subject's conversations, the latest first, with the tier each is in and for how long Redis keeps it."""
    mine = tenant(subject)
    listed = await asyncio.gather(*[summary(mine, one) async for one in mine.athread_ids()])
    return sorted(filter(None, listed), key=lambda one: str(one["last_write_at"]), reverse=True)


@chat.post("", dependencies=[Depends(talking)])
async def begin(subject: Subject, said: Said, response: Response) -> StreamingResponse:
    """Begin a conversation; its id is the server's choice."""
    mine = tenant(subject)
    if len([one async for one in mine.athread_ids()]) >= CONVERSATIONS:
        raise HTTPException(403, f"You have {CONVERSATIONS} conversations: delete one first")
    return await answer(mine, secrets.token_urlsafe(12), said, response)


@chat.post("/{conversation}", dependencies=[Depends(talking)])
async def go_on(subject: Subject, conversation: str, said: Said, response: Response) -> StreamingResponse:
    """Say something in a conversation."""
    mine = tenant(subject)
    await known(mine, conversation)
    return await answer(mine, conversation, said, response)


@chat.get("/{conversation}")
async def read(subject: Subject, conversation: str) -> list[dict[str, str]]:
    """What was said."""
    mine = tenant(subject)
    await known(mine, conversation)
    state = await graph.compile(checkpointer=mine).aget_state(at(conversation))
    return [{"by": message.type, "text": str(message.text)} for message in state.values.get("messages", [])]


@chat.delete("/{conversation}", status_code=204)
async def delete(subject: Subject, conversation: str) -> None:
    """Forget a conversation, in both tiers."""
    mine = tenant(subject)
    await known(mine, conversation)
    await mine.adelete_thread(conversation)


service.include_router(chat)


# The page. It writes what users say as text, never as HTML; that no other script can run is a second line of defence.

PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")


def digest(tag: str) -> str:
    """How a Content-Security-Policy names the page's own script, or style."""
    content = re.findall(f"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


POLICY = "; ".join(
    [
        "default-src 'none'",
        f"script-src {digest('script')}",
        f"style-src {digest('style')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


@service.get("/")
async def page() -> HTMLResponse:
    """The web page."""
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY})
