"""The async connections to Redis: one per event loop, shared by all of its tasks.

redis-py connects and authenticates; then its transport is given a protocol of ours, which writes what the tasks of
one tick ask in one go, and hands out replies in order as they arrive. So no task of ours ever waits for replies,
nothing is left behind in a loop that ends, and a cancelled caller's reply is dropped in its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

import hiredis
import redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, NoPermissionError, NoScriptError, OutOfMemoryError, ReadOnlyError

from langgraph_tiered_checkpoint.io.exchanges import (
    SMALLEST_LIMIT_BYTES,
    Command,
    ServerCheck,
    check_server,
    connection_settings,
    invoke,
    is_stale,
    lost_on,
    packed,
    run_id_of,
    weight,
)
from langgraph_tiered_checkpoint.io.targets import HotTarget
from langgraph_tiered_checkpoint.steps import Lua

_MORE: Final = object()


_REFUSALS: Final[dict[str, type[redis.RedisError]]] = {
    "AUTH": redis.AuthenticationError,
    "LOADING": BusyLoadingError,
    "NOAUTH": redis.AuthenticationError,
    "NOPERM": NoPermissionError,
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
}


def _refusal(text: str) -> redis.RedisError:
    return _REFUSALS.get(text.partition(" ")[0], redis.ResponseError)(text)


class _Request:
    """Commands that are answered together."""

    __slots__ = ("count", "future", "replies")

    def __init__(self, future: asyncio.Future[list[Any]], count: int) -> None:
        self.future = future
        self.count = count
        self.replies: list[Any] = []


class _Connection(Protocol):
    """What we use of redis-py's async connections."""

    _reader: asyncio.StreamReader | None
    _writer: asyncio.StreamWriter | None

    async def connect(self) -> None: ...


class _Link(asyncio.Protocol):
    """One connection: requests go out in order, replies come back in the same order."""

    def __init__(self, connection: _Connection, timeout_s: float) -> None:
        self.closed = False
        self.run_id = ""
        """Of the server at the other end."""
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._waiting: deque[_Request] = deque()
        self._outgoing: list[bytes] = []
        self._progress_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._blocked: asyncio.Future[None] | None = None
        self._replies = hiredis.Reader(protocolError=redis.InvalidResponse, replyError=_refusal, notEnoughData=_MORE)
        # redis-py closes, with a warning, what its connection still holds when it is collected. The writer does
        # likewise, so it has to live as long as the transport.
        writer = connection._writer  # noqa: SLF001 - there is no public way to the transport
        if writer is None:
            raise redis.ConnectionError("the connection was closed while it was being made")
        connection._reader = connection._writer = None  # noqa: SLF001
        self._writer = writer
        self._transport = writer.transport
        writer.transport.set_protocol(self)

    async def request(self, commands: Sequence[bytes]) -> list[Any]:
        """Send commands, together with what other tasks ask in this tick; their replies.

        Raises:
            redis.ConnectionError: the connection was lost before all replies had come.
            redis.TimeoutError: the server has sent nothing for too long.
        """
        while self._blocked is not None:
            await asyncio.wait((self._blocked,))
        if self.closed:
            raise redis.ConnectionError("Connection lost")
        return await self.send(commands)

    @property
    def writable(self) -> bool:
        """Whether what is sent goes out at once."""
        return not self.closed and self._blocked is None

    def send(self, commands: Sequence[bytes]) -> asyncio.Future[list[Any]]:
        """`request` without waiting, where the connection is writable."""
        request = _Request(self._loop.create_future(), len(commands))
        if not self._waiting:
            self._progress_at = self._loop.time()
            if self._watch is None:
                self._watch = self._loop.call_later(self._timeout_s, self._check_progress)
        self._waiting.append(request)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing += commands
        return request.future

    def abort(self, error: Exception) -> None:
        """Give the connection up; what waits gets `error`."""
        self._transport.abort()
        self._fail(error)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and not self.closed:
            self._transport.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))

    def _check_progress(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        left_s = self._progress_at + self._timeout_s - self._loop.time()
        if left_s <= 0:
            self.abort(redis.TimeoutError(f"nothing received for {self._timeout_s} s"))
        else:
            self._watch = self._loop.call_later(left_s, self._check_progress)

    def _fail(self, error: Exception) -> None:
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self.resume_writing()
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(error)

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are complete."""
        self._progress_at = self._loop.time()
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets(False)) is not _MORE:  # noqa: FBT003 - hiredis takes no keyword
                if not isinstance(reply, hiredis.PushNotification):
                    self._deliver(reply)
        except (redis.InvalidResponse, IndexError) as exc:
            self.abort(redis.ConnectionError(f"the server does not speak Redis: {exc}"))

    def _deliver(self, reply: Any) -> None:
        request = self._waiting[0]
        request.replies.append(reply)
        if len(request.replies) == request.count:
            self._waiting.popleft()
            if not request.future.done():
                request.future.set_result(request.replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed."""
        self._fail(redis.ConnectionError(f"Connection lost: {exc or 'closed by server'}"))

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        if self._blocked is None:
            self._blocked = self._loop.create_future()

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        blocked, self._blocked = self._blocked, None
        if blocked is not None and not blocked.done():
            blocked.set_result(None)


class AsyncRedis:
    """The connection of one event loop.

    A request is sent again once if the connection turns out to be lost: scripts can be repeated.
    """

    def __init__(self, target: HotTarget, check: ServerCheck) -> None:
        self._target = target
        self._check = check
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None

    async def run(self, calls: Sequence[Lua[Any]]) -> list[Any]:
        """Run scripts, pipelined; their replies.

        Raises:
            redis.RedisError: the server did not answer, or with an error.
        """
        exchange = invoke(calls)
        commands = next(exchange)
        try:
            while True:
                commands = exchange.send(await self._exchange(commands))
        except StopIteration as done:
            return cast("list[Any]", done.value)

    def send(self, call: Lua[Any], run_id: str | None) -> asyncio.Future[list[Any]] | None:
        """Send a script before whatever is asked next. The reply, a list of one, can be an error.

        None, and nothing is sent, without a connection that is writable, or if the server does not run as `run_id`.
        """
        link = self._link
        if link is None or not link.writable or run_id not in (None, link.run_id):
            return None
        return link.send(packed(next(invoke((call,))), link.run_id))

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands; their replies, an exception where one is refused.

        Raises:
            redis.RedisError: the server did not answer.
        """
        return await self._exchange(commands)

    async def check(self) -> None:
        """Make sure that the server is there and can be used.

        Raises:
            ConfigurationError: it cannot.
            redis.RedisError: it did not answer.
        """
        await self._connected()

    def close(self) -> None:
        """Close the connection; what waits on it gets a `redis.ConnectionError`."""
        if self._connecting is not None:
            self._connecting.cancel()
        link, self._link = self._link, None
        if link is not None and not link.closed:
            link.abort(redis.ConnectionError("the saver was closed"))

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        link = self._link
        if link is None or link.closed:
            link = await self._connected()
        try:
            replies = await link.request(packed(commands, link.run_id))
            if not is_stale(replies):
                return replies
            link.abort(redis.ConnectionError("the server is not the one to talk to"))
        except redis.TimeoutError:
            raise
        except redis.ConnectionError:
            pass
        if weight(commands) >= SMALLEST_LIMIT_BYTES:  # it may be to blame: others are not to lose theirs once more
            return await self._apart(commands)
        link = await self._connected()
        return await link.request(packed(commands, link.run_id))

    async def _apart(self, commands: Sequence[Command]) -> list[Any]:
        link = await self._connect()
        try:
            return await link.request(packed(commands, link.run_id))
        except redis.ConnectionError as exc:
            raise lost_on(commands, exc) from exc
        finally:
            link.abort(redis.ConnectionError("it was for one request"))

    async def _connected(self) -> _Link:
        """A link that works; callers that come while it is being made wait for the same one."""
        if self._link is not None and not self._link.closed:
            return self._link
        connecting = self._connecting
        if connecting is None:
            connecting = self._connecting = asyncio.get_running_loop().create_task(self._connect())
            connecting.add_done_callback(self._note)
        await asyncio.wait((connecting,))
        if connecting.cancelled():
            raise redis.ConnectionError("the saver was closed")
        return connecting.result()

    def _note(self, connecting: asyncio.Task[_Link]) -> None:
        self._connecting = None
        if not connecting.cancelled() and connecting.exception() is None:
            self._link = connecting.result()

    async def _connect(self) -> _Link:
        pool: Any = self._target.async_pool
        settings = connection_settings(pool, self._target.timeout_s, Retry(NoBackoff(), 0))
        connection: _Connection = pool.connection_class(**settings)
        await connection.connect()
        link = _Link(connection, self._target.timeout_s)
        exchange = check_server(self._target, self._check)
        try:
            exchange.send(await link.request(packed(next(exchange))))
        except StopIteration as done:
            link.run_id = run_id_of(done.value[0])
        except BaseException:
            link.abort(redis.ConnectionError("the server failed the check"))
            raise
        return link
