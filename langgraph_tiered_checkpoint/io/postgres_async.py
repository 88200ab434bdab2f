"""Transactions in Postgres for the tasks of one event loop: the async twin of postgres_sync.py."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Generator
from typing import Any, TypeVar

import psycopg
from psycopg import capabilities
from psycopg.abc import PQGen

from langgraph_tiered_checkpoint.io.faults import StatementTimeoutError
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


class _OwnPool:
    """Connections of our own: some idle, and as many in use as there are slots."""

    def __init__(self, target: ColdTarget) -> None:
        self._target = target
        self.idle: list[_AsyncConnection] = []
        self._slots: asyncio.Queue[None] = asyncio.Queue()
        for _ in range(target.max_size):
            self._slots.put_nowait(None)

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[Any]:
        """A connection, as long as it is used."""
        await self._take_slot()
        try:
            connection = await self._unused() or await self.connect()
            try:
                yield connection
            except StatementTimeoutError:
                await self.renew()  # a server that has vanished without a word would cost every connection its patience
                raise
            finally:
                if not connection.closed:
                    connection.used_at = time.monotonic()
                    self.idle.append(connection)
        finally:
            self._slots.put_nowait(None)
        if self.idle and time.monotonic() - self.idle[0].used_at > IDLE_S:
            await self.idle.pop(0).close()

    async def _take_slot(self) -> None:
        if not self._slots.empty():
            self._slots.get_nowait()
            return
        try:
            await asyncio.wait_for(self._slots.get(), self._target.timeout_s)
        except asyncio.TimeoutError:
            raise took_too_long(self._target) from None

    async def _unused(self) -> _AsyncConnection | None:
        """A connection that is open, but not in use."""
        if not self.idle:
            return None
        connection = self.idle.pop()
        if time.monotonic() - connection.used_at < IDLE_S:
            return connection
        await connection.close()
        return None

    async def renew(self) -> None:
        """Close the connections that are not in use."""
        while self.idle:
            await self.idle.pop().close()

    async def connect(self) -> _AsyncConnection:
        """A connection outside of the pool."""
        connection = await _AsyncConnection.connect(self._target.url or "", **self._target.connection_settings)
        connection.patience_s = self._target.timeout_s
        return connection


class _GivenPool:
    """A pool of psycopg_pool."""

    def __init__(self, target: ColdTarget) -> None:
        self._target = target

    @property
    def _pool(self) -> Any:
        if self._target.async_pool is None:
            raise wrong_pool("a sync", "async")
        return self._target.async_pool

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[Any]:
        """A connection, as long as it is used."""
        connection = await self._pool.getconn(timeout=self._target.timeout_s)
        try:
            yield connection
        finally:
            await self._pool.putconn(connection)

    async def renew(self) -> None:
        """Have the connections replaced that are lost."""
        await self._pool.check()

    async def connect(self) -> Any:
        """A connection outside of the pool."""
        info = await _resolved(self._pool.conninfo)
        settings = await _resolved(self._pool.kwargs)
        return await self._pool.connection_class.connect(info or "", **dedicated_settings(settings))


class AsyncPostgres:
    """Transactions for the tasks of one event loop."""

    def __init__(self, target: ColdTarget) -> None:
        self._pool = _GivenPool(target) if target.url is None else _OwnPool(target)

    async def transact(self, step: Tx[T]) -> T:
        """Run a transaction; a second time if its connection is lost or Postgres asks for it.

        Raises:
            psycopg.Error: it failed. What the body itself raises goes through.
        """
        try:
            return await self._attempt(step)
        except Repeat as first:
            if not first.transient:
                await self._pool.renew()
        try:
            return await self._attempt(step)
        except Repeat as second:
            raise second.error from None

    async def _attempt(self, step: Tx[T]) -> T:
        async with self._pool.lent() as connection:
            return await _carried_out(transaction(connection, step, _open))

    async def alone(self, step: Alone) -> bool:
        """Run its statements, unless somebody else has the lock.

        Raises:
            psycopg.Error: one failed; StatementTimeoutError: one takes too long.
        """
        async with _closing(await self._pool.connect()) as holder, holder.transaction():
            await holder.execute(HOLDING_OPENS)
            if await (await holder.execute(*step.lock)).fetchone() != (True,):
                return False
            await holder.execute(HOLDING_IDLES)
            async with _closing(await self._pool.connect()) as builder:
                for statement in await self.transact(step.work):
                    for pause_s in outside_transactions(builder.pgconn, statement, step.patience_s):
                        await asyncio.sleep(pause_s)
        return True

    async def close(self) -> None:
        """Close the connections that are not in use, if they are ours."""
        if isinstance(self._pool, _OwnPool):
            await self._pool.renew()


async def _carried_out(actions: Generator[Action, Any, T]) -> T:
    try:
        action = next(actions)
        while True:
            try:
                result = await action()
            except BaseException as exc:  # noqa: BLE001 - the transaction decides
                action = actions.throw(exc)
            else:
                action = actions.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


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
