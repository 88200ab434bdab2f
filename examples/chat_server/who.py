"""Who speaks: a user with a JWT or a session that was begun with one, or an anonymous visitor with a signed cookie.

- The subject is taken from what the server itself has signed or keeps, never from a parameter.
- Signing in or out carries nothing over: whoever knew, copied or planted the cookies of before knows nothing after.
"""

from __future__ import annotations

import os
import secrets
import time
from datetime import timedelta
from typing import Annotated

import jwt
import shared
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from itsdangerous import BadData, URLSafeTimedSerializer

HTTPS = os.environ.get("CHAT_HTTPS") == "1"  # set it in production
# Browsers take a cookie with this prefix from nobody but this host, over TLS: no sibling domain can plant one.
VISITOR, SESSION = ("__Host-visitor", "__Host-session") if HTTPS else ("visitor", "session")
YEAR_S = int(timedelta(days=365).total_seconds())
SESSION_S = int(timedelta(hours=12).total_seconds())  # at most; not longer than the token that it began with

SECRET = os.environ["CHAT_SECRET"]
if len(SECRET.encode()) < 32:
    raise SystemExit("CHAT_SECRET is shorter than 32 bytes, and can be guessed: make one with `openssl rand -hex 32`")
SIGNER = URLSafeTimedSerializer(SECRET, salt="visitor")

router = APIRouter()


def set_cookie(response: Response, name: str, value: str, seconds: int) -> None:
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="lax", secure=HTTPS)


def verified(token: str) -> tuple[str, float]:
    """Whose JWT it is, and for how many seconds more.

    With an identity provider, its public key and `algorithms=["RS256"]` belong here.
    """
    try:
        # The algorithm is ours to say, not the token's: "none" or another one is refused.
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["sub", "exp"]})
        user, seconds = claims["sub"], min(int(claims["exp"]), 2**53) - time.time()
        if 0 < len(user.encode()) <= 255:
            return user, seconds
    except (jwt.InvalidTokenError, ValueError, OverflowError, RecursionError):
        pass  # not ours; or ours, and says what nobody can be called, or no time
    raise HTTPException(401, "sign in again")


def bearer(request: Request) -> str | None:
    """The token in the header `Authorization`. Other kinds of credentials make an invalid token."""
    header = request.headers.get("authorization")
    return None if header is None else header.removeprefix("Bearer ")


async def known_visitor(request: Request) -> str | None:
    """The visitor of a cookie that this server has signed, within a year, unless that one has left."""
    try:
        visitor = str(SIGNER.loads(request.cookies.get(VISITOR, ""), max_age=YEAR_S))
    except BadData:  # none, forged, too old, or signed with an older secret
        return None
    return None if await shared.has_left(visitor) else visitor


async def subject(request: Request, response: Response) -> str:
    """Who sent the request; an anonymous visitor gets a cookie if need be."""
    if (token := bearer(request)) is not None:
        return f"user:{verified(token)[0]}"
    if (session := request.cookies.get(SESSION)) is not None:
        if (user := await shared.user_of(session)) is None:
            raise HTTPException(401, "sign in again")
        return f"user:{user}"
    if (visitor := await known_visitor(request)) is None:
        visitor = secrets.token_urlsafe(16)
        set_cookie(response, VISITOR, str(SIGNER.dumps(visitor)), YEAR_S)
    return f"visitor:{visitor}"


Subject = Annotated[str, Depends(subject)]


def take_cookie(response: Response, name: str) -> None:
    response.delete_cookie(name, httponly=True, samesite="lax", secure=HTTPS)


async def end(request: Request) -> None:
    """What the request's cookies stand for is over, wherever else they are."""
    if session := request.cookies.get(SESSION):
        await shared.end_session(session)
    if visitor := await known_visitor(request):
        await shared.leave(visitor, YEAR_S)


@router.get("/session")
async def who_am_i(who: Subject, response: Response) -> dict[str, str | None]:
    """The user's name, or null for an anonymous visitor, whose cookie lasts for a year after the latest visit."""
    kind, _, name = who.partition(":")
    if kind == "visitor" and "set-cookie" not in response.headers:
        set_cookie(response, VISITOR, str(SIGNER.dumps(name)), YEAR_S)
    return {"user": name if kind == "user" else None}


async def begin(request: Request, response: Response, user: str, seconds: float) -> None:
    """Begin a session, whose cookie is out of reach of scripts."""
    await end(request)
    set_cookie(response, SESSION, await shared.begin_session(user, seconds), int(seconds))
    take_cookie(response, VISITOR)


@router.post("/session", status_code=204)
async def sign_in(request: Request, response: Response) -> None:
    """Begin a session with the JWT of the `Authorization` header."""
    user, left_s = verified(bearer(request) or "")
    await begin(request, response, user, min(left_s, SESSION_S))


@router.delete("/session", status_code=204)
async def sign_out(request: Request, response: Response) -> None:
    """Become an anonymous visitor, and a new one."""
    await end(request)
    take_cookie(response, SESSION)
    take_cookie(response, VISITOR)
