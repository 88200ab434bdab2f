"""The sync connections to Postgres, and transactions on them.

For a URL the connections are pooled here: bounded, made by whoever needs one (so that a failure to connect is
that caller's error, with its reason), without threads or tasks in the background that would have to survive a fork or
the end of an event loop. Given psycopg_pool pools are used as they are.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import capabilities
from psycopg.abc import PQGen

from langgraph_tiered_checkpoint.errors import TieredCheckpointError
from langgraph_tiered_checkpoint.io.faults import StatementTimeoutError
from langgraph_tiered_checkpoint.io.slots import Slots
from langgraph_tiered_checkpoint.io.targets import ColdTarget
from langgraph_tiered_checkpoint.io.transactions import (
    CANCEL_S,
    HOLDING_IDLES,
    HOLDING_OPENS,
    IDLE_S,
    Action,
    Repeat,
    dedicated_settings,
    outside_transactions,
    took_too_long,
    transaction,
    within,
    wrong_pool,
)
from langgraph_tiered_checkpoint.steps import Alone, Sql, Tx

T = TypeVar("T")


class _Connection(psycopg.Connection[Any]):
    """A connection of our own."""

    patience_s: float | None = None
    used_at = 0.0

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        try:
            return super().wait(within(gen, self.patience_s), *args, **kwargs)
        except StatementTimeoutError:
            if capabilities.has_cancel_safe():
                with contextlib.suppress(psycopg.Error):
                    self.cancel_safe(timeout=CANCEL_S)
            raise

    def __del__(self, *_: Any) -> None:
        """Do not warn of a connection that nobody closed, as psycopg does: libpq closes it where it was made."""


class _OwnPool:
    """Connections of our own: some idle, and as many in use as there are slots."""

    def __init__(self, target: ColdTarget) -> None:
        self._target = target
        self.idle: list[_Connection] = []
        self.slots = Slots(target.max_size, target.timeout_s, partial(took_too_long, target))

    def lend(self, use: Callable[[Any], T]) -> T:
        """What `use` makes of a connection."""
        return self.slots.run(partial(self._lend, use))

    def _lend(self, use: Callable[[Any], T]) -> T:
        connection = self._unused() or self.connect()
        try:
            result = use(connection)
        except StatementTimeoutError:
            self.renew()  # a server that has vanished without a word would cost every connection its patience
            raise
        except (psycopg.Error, TieredCheckpointError, Repeat):
            self._keep(connection)
            raise
        self._keep(connection)
        return result

    def _unused(self) -> _Connection | None:
        """A connection that is open, but not in use."""
        with contextlib.suppress(IndexError):
            connection = self.idle.pop()
            if time.monotonic() - connection.used_at < IDLE_S:
                return connection
            connection.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        """Have a connection used again. Never one that an exception from elsewhere has left half-way."""
        if not connection.closed:
            connection.used_at = time.monotonic()
            self.idle.append(connection)
        with contextlib.suppress(IndexError):  # another thread may take it first
            if time.monotonic() - self.idle[0].used_at > IDLE_S:
                self.idle.pop(0).close()

    def renew(self) -> None:
        """Close the connections that are not in use."""
        with contextlib.suppress(IndexError):  # another thread may take one first
            while True:
                self.idle.pop().close()

    def connect(self) -> _Connection:
        """A connection outside of the pool."""
        connection = _Connection.connect(self._target.url or "", **self._target.connection_settings)
        connection.patience_s = self._target.timeout_s
        return connection


class _GivenPool:
    """A pool of psycopg_pool."""

    def __init__(self, target: ColdTarget) -> None:
        self._target = target

    @property
    def _pool(self) -> Any:
        if self._target.sync_pool is None:
            raise wrong_pool("an async", "sync")
        return self._target.sync_pool

    def lend(self, use: Callable[[Any], T]) -> T:
        """What `use` makes of a connection."""
        held: list[Any] = []
        try:
            held.append(self._pool.getconn(timeout=self._target.timeout_s))
            return use(held[0])
        finally:
            if held:
                self._pool.putconn(held[0])

    def renew(self) -> None:
        """Have the connections replaced that are lost."""
        self._pool.check()

    def connect(self) -> Any:
        """A connection outside of the pool."""
        pool = self._pool
        info = pool.conninfo() if callable(pool.conninfo) else pool.conninfo
        settings = pool.kwargs() if callable(pool.kwargs) else pool.kwargs
        return pool.connection_class.connect(info or "", **dedicated_settings(settings))


class SyncPostgres:
    """Transactions for any number of threads."""

    def __init__(self, target: ColdTarget) -> None:
        self._pool = _GivenPool(target) if target.url is None else _OwnPool(target)

    def transact(self, step: Tx[T]) -> T:
        """Run a transaction; a second time if its connection is lost or Postgres asks for it.

        Raises:
            psycopg.Error: it failed. What the body itself raises goes through.
        """

        def attempt(connection: Any) -> T:
            return _carried_out(transaction(connection, step, _open))

        try:
            return self._pool.lend(attempt)
        except Repeat as first:
            if not first.transient:
                self._pool.renew()
        try:
            return self._pool.lend(attempt)
        except Repeat as second:
            raise second.error from None

    def alone(self, step: Alone) -> bool:
        """Run its statements, unless somebody else has the lock.

        Raises:
            psycopg.Error: one failed; StatementTimeoutError: one takes too long.
        """
        with contextlib.closing(self.dedicated()) as holder, holder.transaction():
            holder.execute(HOLDING_OPENS)
            if holder.execute(*step.lock).fetchone() != (True,):
                return False
            holder.execute(HOLDING_IDLES)
            with contextlib.closing(self.dedicated()) as builder:
                for statement in self.transact(step.work):
                    for pause_s in outside_transactions(builder.pgconn, statement, step.patience_s):
                        time.sleep(pause_s)
        return True

    def dedicated(self) -> Any:
        """A connection for the caller alone, who closes it."""
        return self._pool.connect()

    def close(self) -> None:
        """Close the connections that are not in use, if they are ours."""
        if isinstance(self._pool, _OwnPool):
            self._pool.renew()


def _carried_out(actions: Generator[Action, Any, T]) -> T:
    try:
        action = next(actions)
        while True:
            try:
                result = action()
            except BaseException as exc:  # noqa: BLE001 - the transaction decides
                action = actions.throw(exc)
            else:
                action = actions.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _open(connection: Any, opening: list[str], cursor: Any, statement: Sql) -> None:
    if opening and psycopg.Pipeline.is_supported():
        with connection.pipeline() as pipeline:
            for text in opening:
                connection.execute(text)
            cursor.execute(*statement)
            pipeline.sync()
    else:
        for text in opening:
            connection.execute(text)
        cursor.execute(*statement)
