"""The two runners, which execute plans, and the connections that they share.

Everything that a plan leaves out happens here or below: NOSCRIPT, retries, timeouts, error translation. Twins.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import redis
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis as AsyncRedisClient
from redis.asyncio import RedisCluster as AsyncRedisCluster
from typing_extensions import assert_never

from langgraph_tiered_checkpoint.cold_schema import ColdSchema
from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.faults import DRIVER_ERRORS, cold_fault, hot_fault, translate
from langgraph_tiered_checkpoint.lanes import arun_at_once, run_at_once
from langgraph_tiered_checkpoint.postgres_loop import AsyncPostgres
from langgraph_tiered_checkpoint.postgres_ports import SyncPostgres
from langgraph_tiered_checkpoint.redis_loop import AsyncCluster, AsyncRedis
from langgraph_tiered_checkpoint.redis_ports import ServerCheck, SyncCluster, SyncRedis
from langgraph_tiered_checkpoint.steps import Lanes, Lua, LuaBatch, Pause, Plan, Step, Tx
from langgraph_tiered_checkpoint.targets import ColdTarget, HotTarget

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class _SyncPorts:
    """What the threads of one process share."""

    def __init__(self, targets: Targets) -> None:
        hot, cold = targets.hot, targets.cold
        self.hot: SyncRedis | SyncCluster
        if isinstance(hot.sync_client, redis.RedisCluster):
            self.hot = SyncCluster(hot.sync_client, hot, targets.check)
        else:
            self.hot = SyncRedis(hot, targets.check)
        self.cold = None if cold is None else SyncPostgres(cold)
        self.preparing = threading.Lock()


class _AsyncPorts:
    """What the tasks of one event loop share."""

    def __init__(self, targets: Targets) -> None:
        hot, cold = targets.hot, targets.cold
        self.hot: AsyncRedis | AsyncCluster
        if isinstance(hot.async_client, AsyncRedisCluster):
            self.hot = AsyncCluster(hot.async_client, hot, targets.check)
        else:
            self.hot = AsyncRedis(hot, targets.check)
        self.cold = None if cold is None else AsyncPostgres(cold)
        self.preparing = asyncio.Lock()
        self.until_loop_ends: AsyncGenerator[None] | None = None


@dataclass(eq=False)
class _Process:
    """What one process has open."""

    sync_ports: _SyncPorts | None = None
    async_ports: dict[asyncio.AbstractEventLoop, _AsyncPorts] = field(default_factory=dict)


class Targets:
    """The servers of a saver, and its connections to them: sync ones, and some for each event loop.

    Opens nothing until used. A forked child starts with none, and leaves the parent's alone.

    Args:
        hot: the Redis.
        cold: the Postgres, or None.
        auto_setup: make sure of the tables with the first use of Postgres; otherwise they are only checked.
    """

    def __init__(self, hot: HotTarget, cold: ColdTarget | None, *, auto_setup: bool = True) -> None:
        self.hot = hot
        self.cold = cold
        self.auto_setup = auto_setup
        self.check = ServerCheck()
        self.prepared = False
        """Whether the tables are known to be fit for use."""
        self._process = _Process()
        _all_targets.add(self)

    @classmethod
    def of(cls, redis_: object, postgres: object, settings: Settings) -> Self:
        """From what users pass: a URL, a client or pool, or a pair of a sync and an async one.

        Raises:
            ConfigurationError: none of these.
        """
        hot: dict[str, Any] = _sorted("redis", redis_, AsyncRedisClient | AsyncRedisCluster, "client")
        cold: dict[str, Any] = _sorted("postgres", postgres, AsyncConnectionPool, "pool")
        return cls(
            HotTarget(**hot, key_prefix=settings.key_prefix, timeout_s=settings.timeouts.hot.total_seconds()),
            None
            if postgres is None
            else ColdTarget(
                **cold,
                prepare_threshold=1 if settings.prepare_statements else None,
                timeout_s=settings.timeouts.cold.total_seconds(),
            ),
            auto_setup=settings.auto_setup,
        )

    def sync_ports(self) -> _SyncPorts:
        """The connections for threads."""
        ports = self._process.sync_ports
        if ports is None:
            ports = self._process.sync_ports = _SyncPorts(self)
        return ports

    async def async_ports(self) -> _AsyncPorts:
        """The connections of the running event loop."""
        loop = asyncio.get_running_loop()
        of_loops = self._process.async_ports
        ports = of_loops.get(loop)
        if ports is None:
            for other in [other for other in of_loops if other.is_closed()]:
                of_loops.pop(other, None)
            ports = of_loops[loop] = _AsyncPorts(self)
            ports.until_loop_ends = _until_loop_ends(ports, of_loops, loop)
            await anext(ports.until_loop_ends)
        return ports

    def close(self) -> None:
        """Close the sync connections that are not in use. They are opened again on demand."""
        ports, self._process.sync_ports = self._process.sync_ports, None
        if ports is not None:
            ports.hot.close()
            if ports.cold is not None:
                ports.cold.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop. They are opened again on demand."""
        ports = self._process.async_ports.get(asyncio.get_running_loop())
        if ports is not None and ports.until_loop_ends is not None:
            await ports.until_loop_ends.aclose()

    def abandon(self) -> _Process:
        """Start anew, as a forked child has to. What is returned has to be kept, unused, while the process lives."""
        process, self._process = self._process, _Process()
        return process


async def _until_loop_ends(
    ports: _AsyncPorts, of_loops: dict[asyncio.AbstractEventLoop, _AsyncPorts], loop: asyncio.AbstractEventLoop
) -> AsyncGenerator[None]:
    """Close the connections when it is closed.

    By us, or by the event loop, which closes all async generators before it ends; or by the collector, when a saver
    is dropped without being closed.
    """
    try:
        yield
    finally:
        of_loops.pop(loop, None)
        ports.hot.close()
        if ports.cold is not None:
            await ports.cold.close()
        await asyncio.sleep(0)  # transports close in the loop's next round


def _sorted(what: str, given: object, async_kinds: Any, noun: str) -> dict[str, Any]:
    if given is None or isinstance(given, str):
        return {"url": given}
    pair = given if isinstance(given, tuple | list) else (given,)
    found = {f"{'async' if isinstance(one, async_kinds) else 'sync'}_{noun}": one for one in pair}
    if len(found) != len(pair):
        raise ConfigurationError(f"{what}: a pair must be of one sync and one async {noun}")
    return found


_all_targets: weakref.WeakSet[Targets] = weakref.WeakSet()
_of_the_parent: list[_Process] = []


def _after_fork_in_child() -> None:
    _of_the_parent.extend([targets.abandon() for targets in list(_all_targets)])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class _Finished(Exception):  # noqa: N818 - a signal, not an error
    """The plan has returned."""

    def __init__(self, result: object) -> None:
        self.result = result


class _Runner:
    """What both runners know.

    Args:
        targets: the servers; shared by a pair of runners.
        schema: how to set up the tables; None does without (the plans then run on tables that somebody else made).
    """

    def __init__(self, targets: Targets, schema: ColdSchema | None = None) -> None:
        self._targets = targets
        self._schema = schema

    def _next(self, plan: Plan[Any], reply: object, fault: tuple[Exception, Step] | None) -> Step:
        """The plan's next step, after a reply, or after what a step raised.

        Raises:
            _Finished: the plan has returned.
        """
        try:
            if fault is None:
                return plan.send(reply)
            exc, step = fault
            error = translate(exc, step, self._targets.hot, self._targets.cold)
            if error is not exc:
                error.__cause__ = exc
            return plan.throw(error)
        except StopIteration as done:
            raise _Finished(done.value) from None

    def _no_cold_tier(self, step: Tx[Any]) -> ConfigurationError:
        return ConfigurationError(f"{step.name} of thread {step.thread!r} needs Postgres; pass a postgres_url")


class SyncRunner(_Runner):
    """Executes plans in the calling thread; any number of threads may at once."""

    def run(self, plan: Plan[T]) -> T:
        """Execute a plan; its result. What a step raises is raised inside the plan, which may handle it.

        Raises:
            HotTierError, ColdTierError: a server did not answer, or refused.
            ConfigurationError: a server that cannot be used as configured.
        """
        reply: object = None
        fault: tuple[Exception, Step] | None = None
        while True:
            try:
                step = self._next(plan, reply, fault)
            except _Finished as finished:
                return cast("T", finished.result)
            reply = fault = None
            try:
                reply = self._perform(step)
            except Exception as exc:  # noqa: BLE001 - the plan decides
                fault = exc, step
            except BaseException:
                plan.close()
                raise

    def setup(self) -> None:
        """Check both servers, and create or migrate the tables. Many processes may do so at once.

        Raises:
            SchemaError: the tables are of a newer version than this package knows.
            ConfigurationError, HotTierError, ColdTierError: a server cannot be used.
        """
        ports = self._targets.sync_ports()
        try:
            ports.hot.check()
        except DRIVER_ERRORS as exc:
            raise hot_fault(exc, "setup", self._targets.hot.place) from exc
        if ports.cold is None or self._schema is None or self._targets.cold is None:
            return
        try:
            self._set_up(ports.cold, self._schema)
        except DRIVER_ERRORS as exc:
            raise cold_fault(exc, "setup", self._targets.cold.place) from exc

    def close(self) -> None:
        """Close this process's sync connections. They are opened again on demand."""
        self._targets.close()

    def _perform(self, step: Step) -> Any:
        ports = self._targets.sync_ports()
        match step:
            case Lua():
                return ports.hot.run((step,))[0]
            case LuaBatch():
                return ports.hot.run(step.calls) if step.calls else []
            case Tx():
                if ports.cold is None:
                    raise self._no_cold_tier(step)
                if not self._targets.prepared:
                    self._prepare(ports)
                return ports.cold.transact(step)
            case Pause():
                return time.sleep(step.seconds)
            case Lanes():
                return run_at_once(self.run, step.plans)
            case _:
                assert_never(step)

    def _prepare(self, ports: _SyncPorts) -> None:
        with ports.preparing:
            if self._targets.prepared or ports.cold is None:
                return
            if self._schema is not None and self._targets.auto_setup:
                self._set_up(ports.cold, self._schema)
            elif self._schema is not None:
                ports.cold.transact(self._schema.check_schema())
            self._targets.prepared = True

    def _set_up(self, cold: SyncPostgres, schema: ColdSchema) -> None:
        if cold.transact(schema.setup_tx()):
            cold.run_concurrent(schema.concurrent_lock(), schema.concurrent_unlock(), schema.setup_tx())
        self._targets.prepared = True


class AsyncRunner(_Runner):
    """Executes plans in the running event loop; any number of tasks, and of loops, may at once."""

    async def run(self, plan: Plan[T]) -> T:
        """Execute a plan; its result. What a step raises is raised inside the plan, which may handle it.

        Raises:
            HotTierError, ColdTierError: a server did not answer, or refused.
            ConfigurationError: a server that cannot be used as configured.
        """
        reply: object = None
        fault: tuple[Exception, Step] | None = None
        while True:
            try:
                step = self._next(plan, reply, fault)
            except _Finished as finished:
                return cast("T", finished.result)
            reply = fault = None
            try:
                reply = await self._perform(step)
            except Exception as exc:  # noqa: BLE001 - the plan decides
                fault = exc, step
            except BaseException:
                plan.close()
                raise

    async def setup(self) -> None:
        """Check both servers, and create or migrate the tables. Many processes may do so at once.

        Raises:
            SchemaError: the tables are of a newer version than this package knows.
            ConfigurationError, HotTierError, ColdTierError: a server cannot be used.
        """
        ports = await self._targets.async_ports()
        try:
            await ports.hot.check()
        except DRIVER_ERRORS as exc:
            raise hot_fault(exc, "setup", self._targets.hot.place) from exc
        if ports.cold is None or self._schema is None or self._targets.cold is None:
            return
        try:
            await self._set_up(ports.cold, self._schema)
        except DRIVER_ERRORS as exc:
            raise cold_fault(exc, "setup", self._targets.cold.place) from exc

    async def aclose(self) -> None:
        """Close the connections of the running event loop. They are opened again on demand."""
        await self._targets.aclose()

    async def _perform(self, step: Step) -> Any:
        ports = await self._targets.async_ports()
        match step:
            case Lua():
                return (await ports.hot.run((step,)))[0]
            case LuaBatch():
                return await ports.hot.run(step.calls) if step.calls else []
            case Tx():
                if ports.cold is None:
                    raise self._no_cold_tier(step)
                if not self._targets.prepared:
                    await self._prepare(ports)
                return await ports.cold.transact(step)
            case Pause():
                return await asyncio.sleep(step.seconds)
            case Lanes():
                return await arun_at_once(self.run, step.plans)
            case _:
                assert_never(step)

    async def _prepare(self, ports: _AsyncPorts) -> None:
        async with ports.preparing:
            if self._targets.prepared or ports.cold is None:
                return
            if self._schema is not None and self._targets.auto_setup:
                await self._set_up(ports.cold, self._schema)
            elif self._schema is not None:
                await ports.cold.transact(self._schema.check_schema())
            self._targets.prepared = True

    async def _set_up(self, cold: AsyncPostgres, schema: ColdSchema) -> None:
        if await cold.transact(schema.setup_tx()):
            await cold.run_concurrent(schema.concurrent_lock(), schema.concurrent_unlock(), schema.setup_tx())
        self._targets.prepared = True
