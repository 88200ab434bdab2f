"""The two runners, which execute plans. Twins.

Everything that a plan leaves out happens here or below: NOSCRIPT, retries, timeouts, error translation.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

from typing_extensions import assert_never

from langgraph_tiered_checkpoint.cold import schema
from langgraph_tiered_checkpoint.cold.preparing import INDEX_S, build_indexes, prepare, set_up
from langgraph_tiered_checkpoint.cold.schema import ColdSchema
from langgraph_tiered_checkpoint.errors import ConfigurationError, StoreChangedError, TieredCheckpointError
from langgraph_tiered_checkpoint.hot import scripts
from langgraph_tiered_checkpoint.io.connections import AsyncPorts, Connections, SyncPorts
from langgraph_tiered_checkpoint.io.faults import DRIVER_ERRORS, caused_by, hot_fault, is_foreign, translate
from langgraph_tiered_checkpoint.io.lanes import arun_at_once, aside, run_at_once
from langgraph_tiered_checkpoint.io.pooling import pooling_of
from langgraph_tiered_checkpoint.io.telemetry import Telemetry
from langgraph_tiered_checkpoint.plans.binding import Doubt, Here, bind
from langgraph_tiered_checkpoint.steps import (
    Alone,
    Ask,
    AskPooling,
    Behind,
    Lanes,
    Lua,
    LuaBatch,
    Pause,
    Plan,
    Step,
    Tx,
    misread,
)

T = TypeVar("T")


class _Runner:
    """What both runners know.

    Args:
        connections: the servers; shared by a pair of runners.
        schema: how to set up the tables; None does without (the plans then run on tables that somebody else made).
    """

    def __init__(self, connections: Connections, schema: ColdSchema | None = None) -> None:
        self._connections = connections
        self._schema = schema
        self._telemetry = Telemetry(connections.hot, connections.cold)

    @property
    def display_urls(self) -> str:
        """Where the servers are, for messages; no password in it."""
        cold = self._connections.cold
        return f"{self._connections.hot.display_url} {'without a cold tier' if cold is None else cold.display_url}"

    @property
    def here(self) -> Here:
        """The two servers as this process knows them."""
        return self._connections.here

    def _next(
        self, plan: Plan[Any], asked: Step | None, reply: object, fault: Exception | None, server: Step | None = None
    ) -> Step:
        """The plan's next step, after the reply to what it has asked, or after the fault that this has raised.

        `server` is what it has last asked a server for, and may still be making something of.

        Whatever comes out of a plan otherwise is an error of this package: what is not, is made one here.

        Raises:
            StopIteration: the plan has returned.
        """
        try:
            if fault is None or asked is None:
                return plan.send(reply)
            error = translate(fault, asked, self._connections.hot, self._connections.cold)
            return plan.throw(caused_by(fault, error))
        except (StopIteration, TieredCheckpointError):
            raise
        except Exception as exc:
            if is_foreign(exc):
                raise
            raise misread(exc, server or asked) from exc

    def _unprepared(self, step: Step) -> bool:
        """Whether the tiers have to be looked at before a step."""
        return self._connections.check.doubted or (isinstance(step, Tx) and not self._connections.prepared)

    def _preparation(self, schema: ColdSchema) -> Plan[None]:
        """What has to be done before the first transaction, or when the tiers may be of different stores by now."""
        cold = self._connections.cold
        if not self._connections.prepared and self._connections.auto_setup and cold is not None:
            found = yield from prepare(schema, cold.timeout_s)
            self._connections.indexed = not found.unindexed
        elif not self._connections.prepared:
            yield from schema.check_schema()
        yield from self._binding(schema)

    def _binding(self, schema: ColdSchema, *, take_over: bool = False) -> Plan[None]:
        """Make sure that the two tiers are of one store. If they are not, nothing is done any more until they are."""
        check = self._connections.check
        check.asking = True
        try:
            store = yield from bind(schema, self._connections.here, Doubt(check.store, take_over))
        except ConfigurationError:
            check.doubted = True
            raise
        finally:
            check.asking = False
        schema.store = check.store = store
        check.doubted = False
        self._connections.prepared = True

    def _no_cold_tier(self, step: Tx[Any]) -> ConfigurationError:
        return ConfigurationError(f"{step.name} of thread {step.thread!r} needs Postgres; pass a postgres_url")


_files_read: list[bool] = []
"""Whether a process that knows an event loop has read the scripts and statements."""


def _read_files() -> None:
    scripts.load()
    schema.load()
    _files_read.append(True)


class SyncRunner(_Runner):
    """Executes plans in the calling thread; any number of threads may at once."""

    def run(self, plan: Plan[T]) -> T:
        """Execute a plan; its result. What a step raises is raised inside the plan, which may handle it.

        Raises:
            HotTierError, ColdTierError: a server did not answer, or refused.
            ConfigurationError: a server that cannot be used as configured.
        """
        return self._drive(self._telemetry.follow(plan), self._perform)

    def _go_on(self, plan: Plan[T]) -> T:
        """Execute what is a part of another plan."""
        return self._drive(plan, self._perform)

    def _drive(self, plan: Plan[T], perform: Callable[[Step], Any]) -> T:
        step: Step | None = None
        server: Step | None = None
        reply: object = None
        fault: Exception | None = None
        while True:
            try:
                step = self._next(plan, step, reply, fault, server)
            except StopIteration as done:
                return cast("T", done.value)
            if isinstance(step, Lua | LuaBatch | Tx):
                server = step
            reply = fault = None
            try:
                reply = perform(step)
            except Exception as exc:  # noqa: BLE001 - the plan decides
                fault = exc
            except BaseException:
                plan.close()
                raise

    def setup(self, index_s: float = INDEX_S, *, take_over: bool = False) -> None:
        """Check both servers, make or change the tables, and build their indexes. Many processes may do so at once.

        With `take_over`, the two are bound to each other even if they were of different stores.

        Raises:
            SchemaError: the tables are of a newer version than this package knows.
            ColdLockedError, ColdTimeoutError: others held the tables, or kept an index waiting for `index_s`.
            ConfigurationError, HotTierError, ColdTierError: a server cannot be used.
        """
        ports = self._connections.sync_ports()
        try:
            with suppress(StoreChangedError):  # which Postgres has to be asked about
                ports.hot.check()
        except DRIVER_ERRORS as exc:
            raise caused_by(exc, hot_fault(exc, "setup", self._connections.hot.display_url)) from exc
        if ports.cold is None or self._schema is None or self._connections.cold is None:
            return
        plan = set_up(self._schema, self._connections.cold.timeout_s, index_s)
        self._drive(plan, partial(self._send, ports))
        self._connections.indexed = True
        self._drive(self._binding(self._schema, take_over=take_over), partial(self._send, ports))

    def look(self, plan: Plan[T]) -> T:
        """Execute a plan on the servers as they are: no tables are made, and nothing is refused in advance."""
        with suppress(TieredCheckpointError, *DRIVER_ERRORS):  # the plan finds that out by itself
            self._connections.sync_ports().hot.check()
        return self._drive(plan, partial(self._send, self._connections.sync_ports()))

    @property
    def unindexed(self) -> bool:
        """Whether the tables are known to lack an index."""
        return not self._connections.indexed

    def build_indexes(self) -> None:
        """Build the indexes that are missing, unless another process does."""
        if self._schema is not None and self._connections.auto_setup:
            plan = build_indexes(self._schema, INDEX_S)
            self._connections.indexed = self._drive(plan, partial(self._send, self._connections.sync_ports()))

    def close(self) -> None:
        """Close this process's sync connections. They are opened again on demand."""
        self._connections.close()

    def _perform(self, step: Step) -> Any:
        ports = self._connections.sync_ports()
        if self._unprepared(step):
            self._prepare(ports)
        try:
            return self._send(ports, step)
        except StoreChangedError:
            if not isinstance(step, Lua | LuaBatch | Tx):  # of which the one concerned was repeated already
                raise
            self._connections.check.doubted = True
            self._prepare(ports)
            return self._send(ports, step)

    def _send(self, ports: SyncPorts, step: Step) -> Any:  # noqa: C901, PLR0911 - one for each kind
        match step:
            case Lua():
                return ports.hot.run((step,))[0]
            case LuaBatch():
                return ports.hot.run(step.calls)
            case Ask():
                return ports.hot.ask(step.commands)
            case Tx():
                if ports.cold is None:
                    raise self._no_cold_tier(step)
                return ports.cold.transact(step)
            case Alone():
                return ports.cold is not None and ports.cold.alone(step)
            case AskPooling():
                return pooling_of(self._connections.cold)
            case Pause():
                return time.sleep(step.seconds)
            case Lanes():
                return run_at_once(self._go_on, step.plans)
            case Behind():
                return self._go_on(step.plan())
            case _:
                assert_never(step)

    def _prepare(self, ports: SyncPorts) -> None:
        if ports.cold is None or self._schema is None:
            return
        failed_before = ports.unprepared
        with ports.preparing:
            if self._connections.prepared and not self._connections.check.doubted:
                return
            if ports.unprepared is not None and ports.unprepared is not failed_before:
                raise copy.copy(ports.unprepared)  # it has just failed, and waiting in turn would take as often as long
            try:
                self._drive(self._preparation(self._schema), partial(self._send, ports))
            except TieredCheckpointError as exc:
                ports.unprepared = exc
                raise


class AsyncRunner(_Runner):
    """Executes plans in the running event loop; any number of tasks, and of loops, may at once."""

    async def run(self, plan: Plan[T]) -> T:
        """Execute a plan; its result. What a step raises is raised inside the plan, which may handle it.

        Raises:
            HotTierError, ColdTierError: a server did not answer, or refused.
            ConfigurationError: a server that cannot be used as configured.
        """
        return await self._drive(self._telemetry.follow(plan), self._perform)

    async def _go_on(self, plan: Plan[T]) -> T:
        """Execute what is a part of another plan."""
        return await self._drive(plan, self._perform)

    async def _drive(self, plan: Plan[T], perform: Callable[[Step], Awaitable[Any]]) -> T:
        if not _files_read:
            await aside(_read_files)
        step: Step | None = None
        server: Step | None = None
        reply: object = None
        fault: Exception | None = None
        while True:
            try:
                step = self._next(plan, step, reply, fault, server)
            except StopIteration as done:
                return cast("T", done.value)
            if isinstance(step, Lua | LuaBatch | Tx):
                server = step
            reply = fault = None
            try:
                reply = await perform(step)
            except Exception as exc:  # noqa: BLE001 - the plan decides
                fault = exc
            except BaseException:
                plan.close()
                raise

    async def setup(self, index_s: float = INDEX_S, *, take_over: bool = False) -> None:
        """Check both servers, make or change the tables, and build their indexes. Many processes may do so at once.

        With `take_over`, the two are bound to each other even if they were of different stores.

        Raises:
            SchemaError: the tables are of a newer version than this package knows.
            ColdLockedError, ColdTimeoutError: others held the tables, or kept an index waiting for `index_s`.
            ConfigurationError, HotTierError, ColdTierError: a server cannot be used.
        """
        ports = await self._connections.async_ports()
        try:
            with suppress(StoreChangedError):  # which Postgres has to be asked about
                await ports.hot.check()
        except DRIVER_ERRORS as exc:
            raise caused_by(exc, hot_fault(exc, "setup", self._connections.hot.display_url)) from exc
        if ports.cold is None or self._schema is None or self._connections.cold is None:
            return
        plan = set_up(self._schema, self._connections.cold.timeout_s, index_s)
        await self._drive(plan, partial(self._send, ports))
        self._connections.indexed = True
        await self._drive(self._binding(self._schema, take_over=take_over), partial(self._send, ports))

    async def look(self, plan: Plan[T]) -> T:
        """Execute a plan on the servers as they are: no tables are made, and nothing is refused in advance."""
        ports = await self._connections.async_ports()
        with suppress(TieredCheckpointError, *DRIVER_ERRORS):  # the plan finds that out by itself
            await ports.hot.check()
        return await self._drive(plan, partial(self._send, ports))

    async def aclose(self) -> None:
        """Close the connections of the running event loop. They are opened again on demand."""
        await self._connections.aclose()

    async def _perform(self, step: Step) -> Any:
        ports = await self._connections.async_ports()
        if self._unprepared(step):
            await self._prepare(ports)
        try:
            return await self._send(ports, step)
        except StoreChangedError:
            if not isinstance(step, Lua | LuaBatch | Tx):  # of which the one concerned was repeated already
                raise
            self._connections.check.doubted = True
            await self._prepare(ports)
            return await self._send(ports, step)

    async def _send(self, ports: AsyncPorts, step: Step) -> Any:  # noqa: C901, PLR0911 - one for each kind
        match step:
            case Lua():
                return (await ports.hot.run((step,)))[0]
            case LuaBatch():
                return await ports.hot.run(step.calls)
            case Ask():
                return await ports.hot.ask(step.commands)
            case Tx():
                if ports.cold is None:
                    raise self._no_cold_tier(step)
                return await ports.cold.transact(step)
            case Alone():
                return ports.cold is not None and await ports.cold.alone(step)
            case AskPooling():
                return await aside(partial(pooling_of, self._connections.cold))
            case Pause():
                return await asyncio.sleep(step.seconds)
            case Lanes():
                return await arun_at_once(self._go_on, step.plans)
            case Behind():
                return None if ports.unanswered.leave(step, ports.hot, self._go_on) else await self._go_on(step.plan())
            case _:
                assert_never(step)

    async def _prepare(self, ports: AsyncPorts) -> None:
        if ports.cold is None or self._schema is None:
            return
        failed_before = ports.unprepared
        async with ports.preparing:
            if self._connections.prepared and not self._connections.check.doubted:
                return
            if ports.unprepared is not None and ports.unprepared is not failed_before:
                raise copy.copy(ports.unprepared)  # it has just failed, and waiting in turn would take as often as long
            try:
                await self._drive(self._preparation(self._schema), partial(self._send, ports))
            except TieredCheckpointError as exc:
                ports.unprepared = exc
                raise
