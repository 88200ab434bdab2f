"""What the workers share beside the conversations, in Redis.

Who is signed in, who has left, how many requests there were, and which conversation is being answered: a key each, with
a TTL. Where Redis loses them, users sign in again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable

from fastapi import HTTPException, Request
from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger("chat")

redis: Redis = Redis.from_url(
    os.environ["REDIS_URL"],
    socket_timeout=5,
    socket_connect_timeout=5,
    retry=Retry(NoBackoff(), 1),  # once, on a new connection: the one that was at hand may be from before a restart
    decode_responses=True,
)


def digest(text: str) -> str:
    """What stands for a text in keys: who reads Redis learns neither a name nor a secret."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# Who is signed in. The cookie is a key to what is kept here, so signing out ends the session wherever its cookie is.


async def begin_session(user: str, seconds: float) -> str:
    """The secret for the user's cookie."""
    secret = secrets.token_urlsafe(32)
    await redis.set(f"chat:session:{digest(secret)}", user, px=max(1, int(seconds * 1000)))
    return secret


async def user_of(secret: str) -> str | None:
    """Whose session it is, if it is one that has neither ended nor expired."""
    user: str | None = await redis.get(f"chat:session:{digest(secret)}")
    return user


async def end_session(secret: str) -> None:
    """The cookie is worth nothing any more, nor is a copy of it."""
    await redis.delete(f"chat:session:{digest(secret)}")


# Who has left. A visitor is known by a signature alone, and survives a Redis that does not; that one has left is kept
# for as long as the signature would be good.


async def leave(visitor: str, seconds: int) -> None:
    """The visitor's cookie is worth nothing any more, nor is a copy of it."""
    await redis.set(f"chat:left:{digest(visitor)}", "", ex=seconds)


async def has_left(visitor: str) -> bool:
    """Whether a visitor with a good signature has left."""
    return bool(await redis.exists(f"chat:left:{digest(visitor)}"))


# How much there was of something in this minute.


async def count(what: str, who: str, most: int) -> None:
    """Count one more, in all workers together.

    Raises:
        HTTPException: there were more than `most` in this minute.
    """
    minute, second = divmod(int(time.time()), 60)
    key = f"chat:count:{what}:{digest(who)}:{minute}"
    async with redis.pipeline(transaction=True) as at_once:
        at_once.incr(key)
        at_once.expire(key, 120)
        counted, _ = await at_once.execute()
    if counted > most:
        raise HTTPException(429, f"Too many {what}: wait a minute", {"retry-after": str(60 - second)})


def address(request: Request) -> str:
    """Where a request comes from. Behind a proxy, tell uvicorn which one to believe: `--forwarded-allow-ips`."""
    host = request.client.host if request.client else ""
    with contextlib.suppress(ValueError):
        if (ip := ipaddress.ip_address(host)).version == 6:  # one household has all of these
            return str(ipaddress.ip_network((ip, 64), strict=False))
    return host


# Which conversation is being answered. Two runs at once would begin at the same checkpoint, and the latest one would
# have the messages of one of them only: the other's would be a fork that nobody sees.

HELD_S = 30.0  # a worker that dies at an answer holds the conversation for so long
LOOK_S = 0.3  # how often a worker looks whether it is to stop


async def claim(conversation: str) -> Lock:
    """The right to answer in a conversation, to be `held`.

    Raises:
        HTTPException: another answer is being written, by whatever worker.
    """
    lock = redis.lock(f"chat:run:{conversation}", timeout=HELD_S, blocking=False, thread_local=False)
    if not await lock.acquire():
        raise HTTPException(409, "Another answer is being written in this conversation", {"retry-after": "1"})
    return lock


async def stop(conversation: str) -> None:
    """Ask for the end of the answer that is being written now, by whatever worker. No later one is meant."""
    if token := await redis.get(f"chat:run:{conversation}"):
        await redis.set(f"chat:stop:{token}", "", px=int(HELD_S * 1000))


@contextlib.asynccontextmanager
async def held(lock: Lock, stopped: Callable[[], object]) -> AsyncIterator[None]:
    """A block in which nobody else gets the claim, and after which anybody does; `stop` has `stopped` called."""
    token: bytes = lock.local.token  # type: ignore[attr-defined]  # it has one, now that it is claimed

    async def watch() -> object:
        renewed, pause_s = time.monotonic(), LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            try:
                if await redis.exists(f"chat:stop:{token.decode()}"):
                    return stopped()
                if time.monotonic() > renewed + HELD_S / 3:
                    await lock.reacquire()
                    renewed = time.monotonic()
            except RedisError as exc:
                log.warning("the claim on a conversation could not be looked after: %s", exc)
                pause_s = HELD_S / 10

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(RedisError):  # it has run out, or will
            await lock.release()
