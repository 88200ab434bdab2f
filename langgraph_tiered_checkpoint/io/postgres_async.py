"""Transactions in Postgres for the tasks of one event loop: the async twin of postgres_sync.py."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import psycopg
from psycopg import capabilities
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from langgraph_tiered_checkpoint.cold.arrays import teach_arrays
from langgraph_tiered_checkpoint.io.faults import StatementTimeoutError, is_transient, may_repeat
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


class _AsyncConnection(psycopg.AsyncConnection[Any]):
    """A connection of our own."""

    patience_s: float | None = None
    used_at = 0.0

    async def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        try:
            return await super().wait(within(gen, self.patience_s), *args, **kwargs)
        except StatementTimeoutError:
            if capabilities.has_cancel_safe():
                with contextlib.suppress(psycopg.Error):
                    await self.cancel_safe(timeout=CANCEL_S)
            raise

    def __del__(self, *_: Any) -> None:
        """Say nothing, as the sync one."""


class AsyncPostgres:
    """Connections for the tasks of one event loop."""

    def __init__(self, target: ColdTarget) -> None:
        self._target = target
        self._idle: list[_AsyncConnection] = []
        self._slots: asyncio.Queue[None] = asyncio.Queue()
        for _ in range(target.max_size):
            self._slots.put_nowait(None)

    async def transact(self, step: Tx[T]) -> T:
        """Run a transaction; a second time if its connection is lost or Postgres asks for it.

        Raises:
            psycopg.Error: it failed. What the body itself raises goes through.
        """
        try:
            return await self._attempt(step)
        except Repeat as first:
            if not first.transient:
                await self._drop_idle()
        try:
            return await self._attempt(step)
        except Repeat as second:
            raise second.error from None

    async def alone(self, step: Alone) -> bool:
        """Run its statements, unless somebody else has the lock.

        Raises:
            psycopg.Error: one failed; StatementTimeoutError: one takes too long.
        """
        async with _closing(await self._dedicated()) as holder, holder.transaction():
            await holder.execute(HOLDING_OPENS)
            if await (await holder.execute(*step.lock)).fetchone() != (True,):
                return False
            await holder.execute(HOLDING_IDLES)
            async with _closing(await self._dedicated()) as builder:
                for statement in await self.transact(step.work):
                    for pause_s in outside_transactions(builder.pgconn, statement, step.patience_s):
                        await asyncio.sleep(pause_s)
        return True

    async def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            await self._idle.pop().close()

    async def _attempt(self, step: Tx[T]) -> T:
        connection = await self._take()
        try:
            return await _transaction(connection, step)
        except StatementTimeoutError:
            if self._target.url is not None:
                await self.close()  # a server that has vanished without a word would cost every connection its patience
            raise
        except psycopg.Error as exc:
            if may_repeat(exc, closed=connection.closed):
                if not is_transient(exc):
                    await connection.close()
                raise Repeat(exc) from exc
            raise
        finally:
            await self._give(connection)

    async def _take(self) -> Any:
        if self._target.url is None:
            return await need(self._target.async_pool, "a sync", "async").getconn(timeout=self._target.timeout_s)
        if self._slots.empty():
            try:
                await asyncio.wait_for(self._slots.get(), self._target.timeout_s)
            except asyncio.TimeoutError:
                raise took_too_long(self._target) from None
        else:
            self._slots.get_nowait()
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                return await self._connect()
            if time.monotonic() - connection.used_at < IDLE_S:
                return connection
            await connection.close()
            return await self._connect()
        except BaseException:
            self._slots.put_nowait(None)
            raise

    async def _give(self, connection: Any) -> None:
        if self._target.url is None:
            await need(self._target.async_pool, "a sync", "async").putconn(connection)
            return
        if not connection.closed:
            connection.used_at = time.monotonic()
            self._idle.append(connection)
        self._slots.put_nowait(None)
        if self._idle and time.monotonic() - self._idle[0].used_at > IDLE_S:
            await self._idle.pop(0).close()

    async def _drop_idle(self) -> None:
        if self._target.url is None:
            await need(self._target.async_pool, "a sync", "async").check()
        else:
            await self.close()

    async def _connect(self) -> _AsyncConnection:
        connection = await _AsyncConnection.connect(self._target.url or "", **self._target.connection_settings)
        connection.patience_s = self._target.timeout_s
        return connection

    async def _dedicated(self) -> Any:
        if self._target.url is not None:
            return await self._connect()
        pool = need(self._target.async_pool, "a sync", "async")
        info = await _resolved(pool.conninfo)
        settings = await _resolved(pool.kwargs)
        return await pool.connection_class.connect(info or "", **dedicated_settings(settings))


async def _transaction(connection: Any, step: Tx[T]) -> T:
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
        await _open(connection, opening, cursor, statement)
        while True:
            statement, result = next_statement(body, [] if cursor.rownumber is None else await cursor.fetchall())
            if statement is None:
                break
            await cursor.execute(*statement)
        if connection.info.transaction_status != TransactionStatus.IDLE:
            await connection.commit()
    except Exception as exc:
        if can_roll_back(connection, exc):
            with contextlib.suppress(psycopg.Error):
                await connection.rollback()
        if connection.info.transaction_status != TransactionStatus.IDLE:
            await connection.close()
        raise
    except BaseException:
        await connection.close()
        raise
    finally:
        body.close()
    return result  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def _closing(connection: Any) -> AsyncIterator[Any]:
    try:
        yield connection
    finally:
        await connection.close()


async def _resolved(given: Any) -> Any:
    value = given() if callable(given) else given
    return await value if inspect.isawaitable(value) else value


async def _open(connection: Any, opening: list[str], cursor: Any, statement: Sql) -> None:
    """Execute the first statement of a transaction, and what goes before it, in one round trip if libpq can."""
    if opening and psycopg.Pipeline.is_supported():
        async with connection.pipeline() as pipeline:
            for text in opening:
                await connection.execute(text)
            await cursor.execute(*statement)
            await pipeline.sync()
    else:
        for text in opening:
            await connection.execute(text)
        await cursor.execute(*statement)
