"""A chat service: who is speaking comes from a signed cookie or a JWT, and decides which conversations there are.

What makes the sessions safe from each other, and the service from its clients:

- The subject (who speaks) is taken from what the server itself has signed or keeps, never from a parameter: who.py.
- Every request works on `saver.scoped(subject)`. A conversation id from the client is looked up inside that scope, so
  somebody else's id names nothing: it cannot be told apart from one that never existed, or has expired.
- From the client's request nothing but the text of a message reaches LangGraph's config. A `checkpoint_id`, a
  `checkpoint_ns` or a `thread_id` that it sends along is not looked at.
- A conversation is answered by one run at a time, in whatever worker, which its owner may stop: answering.py.
- Nobody sends more than a message at once, too many in a minute, or begins too many conversations: guard.py, shared.py.

Start it with servers of its own, and two workers:

    python examples/chat_server/serve.py
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import answering
import shared
import who
from agent import agent_of, at, told, version
from answering import Decision, Said, answer
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from guard import Guard
from page import POLICY, page
from redis.exceptions import RedisError
from who import Subject

from langgraph_tiered_checkpoint import (
    ColdTierError,
    HotTierError,
    NotPromotableError,
    Promotion,
    ThreadDeletedError,
    ThreadStatus,
    TieredCheckpointError,
    TieredSaver,
)

log = logging.getLogger("chat")

TTL_S = float(os.environ.get("CHAT_TTL_S", "86400"))
HOT_TTL_S = float(os.environ.get("CHAT_HOT_TTL_S", "86400"))
PROMOTE_AT = int(os.environ.get("CHAT_PROMOTE_AT", "12"))

saver = TieredSaver.from_urls(
    os.environ["REDIS_URL"],
    os.environ["POSTGRES_URL"],
    ttl=timedelta(seconds=TTL_S),
    hot_ttl=timedelta(seconds=HOT_TTL_S),
    refresh_on_read=False,  # looking at a conversation does not keep it alive; talking does
    promotion=Promotion(checkpoints=PROMOTE_AT),
)

# What one client may do in a minute, in all workers together, and how much it may keep.
REQUESTS = int(os.environ.get("CHAT_REQUESTS_A_MINUTE", "1200"))  # from one address: the page asks every two seconds
MESSAGES = int(os.environ.get("CHAT_MESSAGES_A_MINUTE", "20"))  # of one subject, and ten times that from one address
CONVERSATIONS = int(os.environ.get("CHAT_CONVERSATIONS", "100"))  # of one subject


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Write the answers to their ends, and flush what is dirty, before the server exits."""
    async with saver:
        yield
        if answering.running:
            await asyncio.wait(answering.running)
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


# The service.


@service.exception_handler(ThreadDeletedError)
async def gone(_: Request, __: Exception) -> JSONResponse:
    """It was deleted, or expired, while it was being answered."""
    return JSONResponse({"detail": "no such conversation"}, 404)


@service.exception_handler(NotPromotableError)
async def stays(_: Request, __: Exception) -> JSONResponse:
    """It is nowhere else, so Redis cannot let go of it."""
    return JSONResponse({"detail": "Only Redis has this conversation: pin it first"}, 409)


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


# The conversations.


def title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59].rstrip()}…"


async def summary(mine: TieredSaver, conversation: str) -> dict[str, Any] | None:
    """One line of the list; None if the conversation has expired meanwhile.

    The head is read as history: that leaves a conversation that only Postgres holds where it is, while `aget_state`
    would bring it back into Redis. A service with long lists keeps the titles in a table of its own.
    """
    status = await mine.aexplain(conversation)
    head = [state async for state in agent_of(mine).aget_state_history(at(conversation), limit=1)]
    if status.tier is None or not head or not (messages := head[0].values.get("messages")):
        return None
    left = status.expires_at - datetime.now(timezone.utc) if status.expires_at else None
    return {
        "id": conversation,
        "title": title(messages[0].text),
        "version": version(head[0]),
        "waits": bool(head[0].interrupts),
        "tier": status.tier,
        "state": status.state,
        "pinned": status.pinned,
        "hot_checkpoints": status.hot_checkpoints,
        "cold_checkpoints": status.cold_checkpoints,
        "hot_bytes": status.hot_bytes,
        "hot_for_s": left.total_seconds() if left else None,
        "last_write_at": status.last_write_at,
    }


async def listed(mine: TieredSaver) -> list[dict[str, Any]]:
    """All conversations, the latest first. Whatever else lists threads with their labels belongs here."""
    found = await asyncio.gather(*[summary(mine, one) async for one in mine.athread_ids()])
    return sorted(filter(None, found), key=lambda one: str(one["last_write_at"]), reverse=True)


@chat.get("")
async def conversations(subject: Subject) -> list[dict[str, Any]]:
    """The subject's conversations, with the tier each is in and for how long Redis keeps it."""
    return await listed(tenant(subject))


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


@chat.post("/{conversation}/decision", dependencies=[Depends(talking)])
async def decide(subject: Subject, conversation: str, decision: Decision, response: Response) -> StreamingResponse:
    """Give leave for what the agent has asked for, or do not."""
    mine = tenant(subject)
    await known(mine, conversation)
    return await answer(mine, conversation, decision, response)


@chat.delete("/{conversation}/answer", status_code=204)
async def stop(subject: Subject, conversation: str) -> None:
    """Stop the answer that is being written. What was written of it is kept."""
    await known(tenant(subject), conversation)
    await shared.stop(conversation)


@chat.get("/{conversation}")
async def read(subject: Subject, conversation: str, response: Response) -> list[dict[str, Any]]:
    """What was said."""
    mine = tenant(subject)
    await known(mine, conversation)
    state = await agent_of(mine).aget_state(at(conversation))
    response.headers["etag"] = version(state)
    return told(state.values.get("messages", []), state.interrupts)


@chat.delete("/{conversation}", status_code=204)
async def delete(subject: Subject, conversation: str) -> None:
    """Forget a conversation, in both tiers."""
    mine = tenant(subject)
    await known(mine, conversation)
    await mine.adelete_thread(conversation)


# Where a conversation lives. (PUT and DELETE, because no other site can send those.)


@chat.put("/{conversation}/pin", status_code=204)
async def pin(subject: Subject, conversation: str) -> None:
    """Keep a conversation, however short it is: Postgres has it when this is answered."""
    mine = tenant(subject)
    await known(mine, conversation)
    await mine.apin(conversation)


@chat.delete("/{conversation}/pin", status_code=204)
async def unpin(subject: Subject, conversation: str) -> None:
    """Take back the pin. The conversation stays where it is."""
    mine = tenant(subject)
    await known(mine, conversation)
    await mine.aunpin(conversation)


@chat.delete("/{conversation}/hot", status_code=204)
async def evict(subject: Subject, conversation: str) -> None:
    """Make Redis let go of a conversation that Postgres has, as it would by itself when nobody comes back to it."""
    mine = tenant(subject)
    await known(mine, conversation)
    await mine.aevict(conversation)


service.include_router(chat)

DEMO_USERS: list[str] = []
"""Who may sign in without a token: nobody. See demo.py."""


@service.get("/")
async def index() -> HTMLResponse:
    """The web page."""
    settings = {"ttl": f"{TTL_S:g}", "hot": f"{HOT_TTL_S:g}", "promote": str(PROMOTE_AT), "demo": " ".join(DEMO_USERS)}
    return HTMLResponse(page(**settings), headers={"content-security-policy": POLICY})
