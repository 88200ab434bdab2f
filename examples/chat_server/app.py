"""A chat service: who is speaking comes from a signed cookie or a JWT, and decides which conversations there are.

What makes the sessions safe from each other:

- The subject (who speaks) is taken from what the server itself has signed, never from a parameter.
- Every request works on `saver.scoped(subject)`. A conversation id from the client is looked up inside that scope, so
  somebody else's id names nothing: it cannot be told apart from one that never existed, or has expired.
- From the client's request nothing but the text of a message reaches LangGraph's config. A `checkpoint_id`, a
  `checkpoint_ns` or a `thread_id` that it sends along is not looked at.
- Signing in or out carries nothing over: whoever knew, or planted, the visitor's cookie of before knows nothing after.

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
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from itsdangerous import BadSignature, URLSafeSerializer
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from model import chat_model  # the line to replace: any chat model of LangChain's will do
from pydantic import BaseModel, Field

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


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Flush what is dirty before the server exits."""
    async with saver:
        yield


app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)


@app.middleware("http")
async def no_store(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Keep every answer, a refusal too, out of caches: what it says depends on who asks."""
    response = await call_next(request)
    response.headers["cache-control"] = "no-store"
    return response


# Who speaks.

HTTPS = os.environ.get("CHAT_HTTPS") == "1"  # set it in production
# Browsers take a cookie with this prefix from nobody but this host, over TLS: no sibling domain can plant one.
VISITOR, SESSION = ("__Host-visitor", "__Host-session") if HTTPS else ("visitor", "session")
YEAR = timedelta(days=365)

SECRET = os.environ["CHAT_SECRET"]
if len(SECRET.encode()) < 32:
    raise SystemExit("CHAT_SECRET is shorter than 32 bytes, and can be guessed: make one with `openssl rand -hex 32`")
SIGNER = URLSafeSerializer(SECRET, salt="visitor")


def set_cookie(response: Response, name: str, value: str, lifetime: timedelta) -> None:
    seconds = int(lifetime.total_seconds())
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="lax", secure=HTTPS)


def verified(token: str) -> dict[str, Any]:
    """The claims of a JWT. With an identity provider, its public key and `algorithms=["RS256"]` belong here."""
    try:
        # The algorithm is ours to say, not the token's: "none" or another one is refused.
        return jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["sub", "exp"]})
    except jwt.InvalidTokenError:
        raise HTTPException(401, "sign in again") from None


def bearer(request: Request) -> str | None:
    """The token in the header `Authorization`. Other kinds of credentials make an invalid token."""
    header = request.headers.get("authorization")
    return None if header is None else header.removeprefix("Bearer ")


def subject(request: Request, response: Response) -> str:
    """Who sent the request: a user with a JWT, or an anonymous visitor with a cookie, who gets one if need be."""
    token = request.cookies.get(SESSION) if (sent := bearer(request)) is None else sent
    if token is not None:
        return f"user:{verified(token)['sub']}"
    try:
        visitor = str(SIGNER.loads(request.cookies.get(VISITOR, "")))
    except BadSignature:  # none, forged, or signed with an older secret: a stranger
        visitor = secrets.token_urlsafe(16)
        set_cookie(response, VISITOR, str(SIGNER.dumps(visitor)), YEAR)
    return f"visitor:{visitor}"


Subject = Annotated[str, Depends(subject)]


@app.get("/session")
async def who_am_i(who: Subject, response: Response) -> dict[str, str | None]:
    """The user's name, or null for an anonymous visitor, whose cookie lasts for a year after the latest visit."""
    kind, _, name = who.partition(":")
    if kind == "visitor" and "set-cookie" not in response.headers:
        set_cookie(response, VISITOR, str(SIGNER.dumps(name)), YEAR)
    return {"user": name if kind == "user" else None}


@app.post("/session", status_code=204)
async def sign_in(request: Request, response: Response) -> None:
    """Keep the JWT of the `Authorization` header in a cookie, out of reach of scripts."""
    token = bearer(request) or ""
    expires = datetime.fromtimestamp(verified(token)["exp"], timezone.utc)
    set_cookie(response, SESSION, token, expires - datetime.now(timezone.utc))
    response.delete_cookie(VISITOR, httponly=True, samesite="lax", secure=HTTPS)


@app.delete("/session", status_code=204)
async def sign_out(response: Response) -> None:
    """Become an anonymous visitor, and a new one."""
    for cookie in (SESSION, VISITOR):
        response.delete_cookie(cookie, httponly=True, samesite="lax", secure=HTTPS)


# Whose conversations.


def tenant(who: str) -> TieredSaver:
    """The saver as this subject sees it. Hashed, so that no key and no row has anybody's name in it."""
    return saver.scoped(hashlib.sha256(who.encode()).hexdigest()[:32])


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


@app.exception_handler(ThreadDeletedError)
async def gone(_: Request, __: Exception) -> JSONResponse:
    """It was deleted, or expired, while it was being answered."""
    return JSONResponse({"detail": "no such conversation"}, 404)


@app.exception_handler(TieredCheckpointError)
async def unavailable(_: Request, exc: Exception) -> JSONResponse:
    """A tier's fault is neither an empty answer nor the client's mistake. The details are for the log."""
    log.warning("%s", exc)
    match exc:
        case HotTierError():
            what = "Redis"
        case ColdTierError():
            what = "Postgres"
        case _:
            what = "The store"
    return JSONResponse({"detail": f"{what} does not answer just now"}, 503, {"retry-after": "2"})


@app.exception_handler(RequestValidationError)
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


async def answer(mine: TieredSaver, conversation: str, said: Said, response: Response) -> StreamingResponse:
    pieces = words(mine, conversation, said.text)
    first = await anext(pieces, "")  # what fails up to here is answered with a status, not with a broken stream

    async def body() -> AsyncIterator[str]:
        yield first
        async for piece in pieces:
            yield piece

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


@app.get("/conversations")
async def conversations(who: Subject) -> list[dict[str, Any]]:
    """The subject's conversations, the latest first, with the tier each is in and for how long Redis keeps it."""
    mine = tenant(who)
    listed = await asyncio.gather(*[summary(mine, one) async for one in mine.athread_ids()])
    return sorted(filter(None, listed), key=lambda one: str(one["last_write_at"]), reverse=True)


@app.post("/conversations")
async def begin(who: Subject, said: Said, response: Response) -> StreamingResponse:
    """Begin a conversation; its id is the server's choice."""
    return await answer(tenant(who), secrets.token_urlsafe(12), said, response)


@app.post("/conversations/{conversation}")
async def go_on(who: Subject, conversation: str, said: Said, response: Response) -> StreamingResponse:
    """Say something in a conversation."""
    mine = tenant(who)
    await known(mine, conversation)
    return await answer(mine, conversation, said, response)


@app.get("/conversations/{conversation}")
async def read(who: Subject, conversation: str) -> list[dict[str, str]]:
    """What was said."""
    mine = tenant(who)
    await known(mine, conversation)
    state = await graph.compile(checkpointer=mine).aget_state(at(conversation))
    return [{"by": message.type, "text": str(message.text)} for message in state.values.get("messages", [])]


@app.delete("/conversations/{conversation}", status_code=204)
async def delete(who: Subject, conversation: str) -> None:
    """Forget a conversation, in both tiers."""
    mine = tenant(who)
    await known(mine, conversation)
    await mine.adelete_thread(conversation)


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


@app.get("/")
async def page() -> HTMLResponse:
    """The web page."""
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY, "x-content-type-options": "nosniff"})
