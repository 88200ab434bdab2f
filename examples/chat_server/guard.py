"""What stands around every route: how long a body may be, and the headers that all answers have."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 1024  # of a body: 4,000 characters, each written as an escape, and more than enough

HEADERS = {
    "cache-control": "no-store",  # what an answer says, a refusal too, depends on who asks
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",  # the page has its own
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
ONLY_TLS = {"strict-transport-security": "max-age=31536000"}


class Guard:
    """The outermost layer: it sees what the framework answers by itself, too."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._headers = HEADERS | (ONLY_TLS if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on. A body is counted as it comes, whatever its length was said to be, or not said."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BYTES:
                raise HTTPException(413, "This is too long")
            return message

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, counted, labelled)
