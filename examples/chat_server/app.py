"""A chat service: who is speaking comes from a signed cookie or a JWT, and decides which conversations there are.

What makes the sessions safe from each other:

- The subject (who speaks) is taken from what the server itself has signed, never from a parameter.
- Every request works on `saver.scoped(subject)`. A conversation id from the client is looked up inside that scope, so
  somebody else's id names nothing: it cannot be told apart from one that never existed, or has expired.
- From the client's request nothing but the text of a message reaches LangGraph's config. A `checkpoint_id`, a
  `checkpoint_ns` or a `thread_id` that it sends along is not looked at.

    python examples/chat_server/serve.py
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from itsdangerous import BadSignature, URLSafeSerializer
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from model import chat_model
from pydantic import BaseModel, Field

from langgraph_tiered_checkpoint import Promotion, ThreadStatus, TieredSaver

COOKIE = "visitor"
SECRET = os.environ["CHAT_SECRET"]
SIGNER = URLSafeSerializer(SECRET, salt=COOKIE)

saver = TieredSaver.from_urls(
    os.environ["REDIS_URL"],
    os.environ["POSTGRES_URL"],
    ttl=timedelta(seconds=float(os.environ.get("CHAT_TTL_S", "86400"))),
    refresh_on_read=False,  # looking at the list of conversations does not keep them alive; talking does
    promotion=Promotion(checkpoints=int(os.environ.get("CHAT_PROMOTE_AT", "12"))),
)


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Flush what is dirty before the server exits."""
    async with saver:
        yield


app = FastAPI(lifespan=lifespan)


# Who speaks.


def subject(request: Request, response: Response) -> str:
    """Who sent the request: a user with a JWT, or an anonymous visitor with a cookie, who gets one if need be."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind:
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["sub", "exp"]})
        except jwt.InvalidTokenError:
            raise HTTPException(401, "sign in again") from None
        return f"user:{claims['sub']}"
    try:
        visitor = str(SIGNER.loads(request.cookies.get(COOKIE, "")))
    except BadSignature:  # none, forged, or signed with an older secret: a stranger
        visitor = secrets.token_urlsafe(16)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, str(SIGNER.dumps(visitor)), httponly=True, samesite="lax", secure=secure)
    return f"visitor:{visitor}"


Subject = Annotated[str, Depends(subject)]


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


async def assistant(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await chat_model([]).ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node(assistant).add_edge(START, "assistant")


def config(conversation: str) -> RunnableConfig:
    return {"configurable": {"thread_id": conversation}}


# The service.


class Said(BaseModel):
    """What a user says. Anything else in the body is refused or ignored; none of it reaches the graph."""

    text: str = Field(min_length=1, max_length=4_000)


def answer(mine: TieredSaver, conversation: str, said: Said, response: Response) -> StreamingResponse:
    agent = graph.compile(checkpointer=mine)

    async def words() -> AsyncIterator[str]:
        message = {"messages": [HumanMessage(said.text)]}
        async for chunk, _ in agent.astream(message, config(conversation), stream_mode="messages"):
            if isinstance(chunk, AIMessageChunk):
                yield chunk.text

    headers = {"x-conversation": conversation}
    if cookie := response.headers.get("set-cookie"):
        headers["set-cookie"] = cookie
    return StreamingResponse(words(), media_type="text/plain", headers=headers)


@app.get("/")
async def page(who: Subject, response: Response) -> FileResponse:  # noqa: ARG001 - the visitor gets a cookie
    """The web page."""
    return FileResponse(Path(__file__).with_name("page.html"), headers=dict(response.headers))


@app.get("/conversations")
async def conversations(who: Subject) -> list[dict[str, Any]]:
    """The subject's conversations, with the tier each of them is in, and when it expires."""
    mine = tenant(who)
    agent = graph.compile(checkpointer=mine)
    listed = []
    async for conversation in mine.athread_ids():
        status = await mine.aexplain(conversation)
        messages = (await agent.aget_state(config(conversation))).values.get("messages")
        if status.tier is None or not messages:
            continue  # expired meanwhile
        listed.append(
            {
                "id": conversation,
                "title": str(messages[0].text)[:60],
                "tier": status.tier,
                "state": status.state,
                "expires_at": status.expires_at if status.state == "ephemeral" else None,
            }
        )
    return listed


@app.post("/conversations")
async def begin(who: Subject, said: Said, response: Response) -> StreamingResponse:
    """Begin a conversation; its id is the server's choice."""
    return answer(tenant(who), secrets.token_urlsafe(12), said, response)


@app.post("/conversations/{conversation}")
async def go_on(who: Subject, conversation: str, said: Said, response: Response) -> StreamingResponse:
    """Say something in a conversation."""
    mine = tenant(who)
    await known(mine, conversation)
    return answer(mine, conversation, said, response)


@app.get("/conversations/{conversation}")
async def read(who: Subject, conversation: str) -> list[dict[str, str]]:
    """What was said."""
    mine = tenant(who)
    await known(mine, conversation)
    state = await graph.compile(checkpointer=mine).aget_state(config(conversation))
    return [{"by": message.type, "text": str(message.text)} for message in state.values.get("messages", [])]


@app.delete("/conversations/{conversation}", status_code=204)
async def delete(who: Subject, conversation: str) -> None:
    """Forget a conversation, in both tiers."""
    mine = tenant(who)
    await known(mine, conversation)
    await mine.adelete_thread(conversation)
