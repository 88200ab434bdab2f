"""The chat service as a demo: one click signs in, and another wipes Redis, to show what survives that.

serve.py starts it, on servers that it has made for the purpose. Nothing else imports this module: the service itself,
`app:app`, has neither.
"""

from __future__ import annotations

import os
from typing import Literal

import shared
import who
from app import DEMO_USERS, app, paced, service
from fastapi import Depends, HTTPException, Request, Response
from pydantic import BaseModel
from story import expect_warnings

__all__ = ["app"]

USERS = ("alice", "bob")
SESSION_S = 3600
DIRECTORY = os.environ["CHAT_DEMO"]
"""Where the Redis that serve.py has made keeps its data. It is called by a random name."""

expect_warnings("ttl=", "held nothing of the store")  # minutes play days here, and Redis is wiped on purpose
DEMO_USERS.extend(USERS)


class User(BaseModel):
    user: Literal["alice", "bob"]


@service.post("/demo/session", status_code=204, dependencies=[Depends(paced)])
async def sign_in(wanted: User, request: Request, response: Response) -> None:
    """Begin a session as somebody who needs no password. Nobody in a demo has anything to hide."""
    await who.begin(request, response, wanted.user, SESSION_S)


async def embedded() -> None:
    """See that this Redis is the one that serve.py has made, by its own word: then nothing else is in it.

    Raises:
        HTTPException: it is some other Redis, and may be somebody's.
    """
    if (await shared.redis.config_get("dir")) != {"dir": DIRECTORY}:
        raise HTTPException(403, "This Redis is not the demo's own")


@service.delete("/demo/redis", status_code=204, dependencies=[Depends(paced), Depends(embedded)])
async def wipe(_: who.Subject) -> None:
    """Empty Redis, as a crash without persistence would. Only who is signed in stays so, or nobody could look."""
    sessions = {
        key: (await shared.redis.get(key), await shared.redis.pttl(key))
        async for key in shared.redis.scan_iter("chat:session:*")
    }
    async with shared.redis.pipeline(transaction=True) as at_once:
        at_once.flushall()
        for key, (user, left_ms) in sessions.items():
            if user and left_ms > 0:
                at_once.set(key, user, px=left_ms)
        await at_once.execute()
