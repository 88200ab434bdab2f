"""The sync connections to Postgres, and transactions on them.

For a URL the connections are pooled here: bounded, made by whoever needs one (so that a failure to connect is
that caller's error, with its reason), without threads or tasks in the background that would have to survive a fork or
the end of an event loop. Given psycopg_pool pools are used as they are.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import capabilities
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from langgraph_tiered_checkpoint.cold.arrays import teach_arrays
from langgraph_tiered_checkpoint.errors import TieredCheckpointError
from langgraph_tiered_checkpoint.io.faults import StatementTimeoutError, is_transient, may_repeat
from langgraph_tiered_checkpoint.io.slots import Slots
from langgraph_tiered_checkpoint.io.targets import ColdTarget
from langgraph_tiered_checkpoint.io.transactions import (
    CANCEL_S,
    HOLDING_IDLES,
    HOLDING_OPENS,
    IDLE_S,
    Repeat,
    can_roll_back,
    check_encodings,
    dedicated_settings,
    need,
    next_statement,
    opening_of,
    outside_transactions,
    speaks_binary,
    took_too_long,
    within,
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
        """Say nothing: it went with its saver, or its fork. libpq's part closes itself in the process that made it."""


def _worth_repeating(connection: Any, exc: Exception) -> Repeat | None:
    """What to raise instead of `exc` if a second run is worth it, on a connection that is in order."""
    if not isinstance(exc, psycopg.Error) or not may_repeat(exc, closed=connection.closed):
        return None
    if not is_transient(exc):
        connection.close()
    return Repeat(exc)


class SyncPostgres:
    """Connections for any number of threads."""

    def __init__(self, target: ColdTarget) -> None:
        self._target = target
        self._idle: list[_Connection] = []
        self._slots = Slots(target.max_size, target.timeout_s, partial(took_too_long, target))

    def transact(self, step: Tx[T]) -> T:
        """Run a transaction; a second time if its connection is lost or Postgres asks for it.

        Raises:
            psycopg.Error: it failed. What the body itself raises goes through.
        """
        try:
            return self._attempt(step)
        except Repeat as first:
            if not first.transient:
                self._drop_idle()
        try:
            return self._attempt(step)
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

    def close(self) -> None:
        """Close the connections that are not in use."""
        with contextlib.suppress(IndexError):  # another thread may take one first
            while True:
                self._idle.pop().close()

    def _attempt(self, step: Tx[T]) -> T:
        if self._target.url is None:
            return self._attempt_in(need(self._target.sync_pool, "an async", "sync"), step)
        return self._slots.run(partial(self._attempt_here, step))

    def _attempt_here(self, step: Tx[T]) -> T:
        connection = self._unused() or self._connect()
        try:
            result = _transaction(connection, step)
        except StatementTimeoutError:
            self.close()  # a server that has vanished without a word would cost every connection its patience
            raise
        except (psycopg.Error, TieredCheckpointError) as exc:
            repeat = _worth_repeating(connection, exc)
            self._keep(connection)
            if repeat is not None:
                raise repeat from exc
            raise
        self._keep(connection)
        return result

    def _attempt_in(self, pool: Any, step: Tx[T]) -> T:
        connections: list[Any] = []
        try:
            connections.append(pool.getconn(timeout=self._target.timeout_s))
            try:
                return _transaction(connections[0], step)
            except psycopg.Error as exc:
                if (repeat := _worth_repeating(connections[0], exc)) is not None:
                    raise repeat from exc
                raise
        finally:
            if connections:
                pool.putconn(connections[0])

    def _unused(self) -> _Connection | None:
        """A connection that is open, but not in use."""
        with contextlib.suppress(IndexError):
            connection = self._idle.pop()
            if time.monotonic() - connection.used_at < IDLE_S:
                return connection
            connection.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        """Have a connection used again. Never one that an exception from elsewhere has left half-way."""
        if not connection.closed:
            connection.used_at = time.monotonic()
            self._idle.append(connection)
        with contextlib.suppress(IndexError):  # another thread may take it first
            if time.monotonic() - self._idle[0].used_at > IDLE_S:
                self._idle.pop(0).close()

    def _drop_idle(self) -> None:
        if self._target.url is None:
            need(self._target.sync_pool, "an async", "sync").check()
        else:
            self.close()

    def _connect(self) -> _Connection:
        connection = _Connection.connect(self._target.url or "", **self._target.connection_settings)
        connection.patience_s = self._target.timeout_s
        return connection

    def dedicated(self) -> Any:
        """A connection for the caller alone, who closes it."""
        if self._target.url is not None:
            return self._connect()
        pool = need(self._target.sync_pool, "an async", "sync")
        info = pool.conninfo() if callable(pool.conninfo) else pool.conninfo
        settings = pool.kwargs() if callable(pool.kwargs) else pool.kwargs
        return pool.connection_class.connect(info or "", **dedicated_settings(settings))


def _transaction(connection: Any, step: Tx[T]) -> T:
    """Run `step` on a connection that is in no transaction. BEGIN goes with the first statement."""
    body = step.body()
    try:
        statement, result = next_statement(body, None)
        if statement is None:
            return result  # type: ignore[no-any-return]
        opening = opening_of(step, begin=connection.autocommit)
        teach_arrays(connection)
        check_encodings(connection)
        cursor = connection.cursor(row_factory=tuple_row, binary=speaks_binary(connection))
        _open(connection, opening, cursor, statement)
        while True:
            statement, result = next_statement(body, [] if cursor.rownumber is None else cursor.fetchall())
            if statement is None:
                break
            cursor.execute(*statement)
        if connection.info.transaction_status != TransactionStatus.IDLE:
            connection.commit()
    except (psycopg.Error, TieredCheckpointError) as exc:
        if can_roll_back(connection, exc):
            with contextlib.suppress(psycopg.Error):
                connection.rollback()
        if connection.info.transaction_status != TransactionStatus.IDLE:
            connection.close()
        raise
    except BaseException:
        connection.close()
        raise
    finally:
        body.close()
    return result  # type: ignore[no-any-return]


def _open(connection: Any, opening: list[str], cursor: Any, statement: Sql) -> None:
    """Execute the first statement of a transaction, and what goes before it, in one round trip if libpq can."""
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
