"""The sync connections to Redis: a bounded number, for any number of threads."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import redis
from redis.backoff import NoBackoff

from langgraph_tiered_checkpoint.io.exchanges import (
    Command,
    ServerCheck,
    check_server,
    connection_settings,
    invoke,
    is_stale,
    lost_on,
    packed,
    run_id_of,
)
from langgraph_tiered_checkpoint.io.slots import Slots
from langgraph_tiered_checkpoint.io.targets import HotTarget
from langgraph_tiered_checkpoint.steps import Lua


class _Connection(Protocol):
    """What we use of redis-py's sync connections."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...  # noqa: FBT001 - redis-py's
    def read_response(self, disable_decoding: bool) -> Any: ...  # noqa: FBT001 - redis-py's


class _Line(NamedTuple):
    """A connection, and the run id of the server at its other end."""

    connection: _Connection
    run_id: str


class SyncRedis:
    """Sync connections to one server, for any number of threads.

    A request is sent again once if its connection turns out to be lost: scripts can be repeated.
    """

    def __init__(self, target: HotTarget, check: ServerCheck) -> None:
        self._target = target
        self._check = check
        self._idle: list[_Line] = []
        self._slots = Slots(target.max_connections, target.timeout_s, self._late)

    def run(self, calls: Sequence[Lua[Any]]) -> list[Any]:
        """Run scripts, pipelined; their replies.

        Raises:
            redis.RedisError: the server did not answer, or with an error.
        """
        exchange = invoke(calls)
        commands = next(exchange)
        try:
            while True:
                commands = exchange.send(self._exchange(commands))
        except StopIteration as done:
            return cast("list[Any]", done.value)

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands; their replies, an exception where one is refused.

        Raises:
            redis.RedisError: the server did not answer.
        """
        return self._exchange(commands)

    def check(self) -> None:
        """Make sure that the server is there and can be used.

        Raises:
            ConfigurationError: it cannot.
            redis.RedisError: it did not answer.
        """
        self._slots.run(lambda: self._idle.append(self._connect()))

    def close(self) -> None:
        """Close the connections that are not in use."""
        with contextlib.suppress(IndexError):  # another thread may take one first
            while True:
                self._idle.pop().connection.disconnect()

    def _late(self) -> redis.RedisError:
        return redis.MaxConnectionsError(
            f"all {self._target.max_connections} were in use for {self._target.timeout_s:g} s"
        )

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        return self._slots.run(lambda: self._talk(commands))

    def _talk(self, commands: Sequence[Command]) -> list[Any]:
        try:
            line = self._idle.pop()
        except IndexError:
            line = self._connect()
        try:
            replies = self._attempt(line, commands)
            if not is_stale(replies):
                return replies
        except redis.TimeoutError:
            self.close()  # a server that has vanished without a word would cost every connection its patience
            raise
        except redis.ConnectionError:
            pass
        self.close()
        line = self._connect()
        try:
            return self._attempt(line, commands)
        except redis.ConnectionError as exc:
            raise lost_on(commands, exc) from exc

    def _attempt(self, line: _Line, commands: Sequence[Command]) -> list[Any]:
        """Say it, and keep the line if all was answered: one that an exception left half-way is not used again."""
        try:
            replies = self._round_trip(line.connection, packed(commands, line.run_id))
        except BaseException:
            line.connection.disconnect()
            raise
        if is_stale(replies):
            line.connection.disconnect()
        else:
            self._idle.append(line)
        return replies

    @staticmethod
    def _round_trip(connection: _Connection, data: list[bytes]) -> list[Any]:
        connection.send_packed_command(data, check_health=False)
        replies: list[Any] = []
        for _ in data:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except redis.ResponseError as refusal:
                replies.append(refusal)
        return replies

    def _connect(self) -> _Line:
        pool: Any = self._target.sync_pool
        no_retry = redis.retry.Retry(NoBackoff(), 0)
        connection: _Connection = pool.connection_class(**connection_settings(pool, self._target.timeout_s, no_retry))
        connection.connect()
        exchange = check_server(self._target, self._check)
        try:
            exchange.send(self._round_trip(connection, packed(next(exchange))))
        except StopIteration as done:
            return _Line(connection, run_id_of(done.value[0]))
        except BaseException:
            connection.disconnect()
            raise
        raise AssertionError("unreachable: the exchange is one exchange")
