"""The connections of a saver: sync ones for the threads of a process, and async ones for the tasks of each loop."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis
from redis.asyncio import Redis as AsyncRedisClient
from redis.asyncio import RedisCluster as AsyncRedisCluster

from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.errors import ConfigurationError, TieredCheckpointError
from langgraph_tiered_checkpoint.io.counterparts import sync_cold, sync_hot
from langgraph_tiered_checkpoint.io.exchanges import ServerCheck
from langgraph_tiered_checkpoint.io.postgres_async import AsyncPostgres
from langgraph_tiered_checkpoint.io.postgres_sync import SyncPostgres
from langgraph_tiered_checkpoint.io.redis_async import AsyncRedis
from langgraph_tiered_checkpoint.io.redis_cluster import AsyncCluster, SyncCluster
from langgraph_tiered_checkpoint.io.redis_sync import SyncRedis
from langgraph_tiered_checkpoint.io.targets import ColdTarget, HotTarget
from langgraph_tiered_checkpoint.io.unanswered import Unanswered
from langgraph_tiered_checkpoint.plans.binding import Here

if TYPE_CHECKING:
    from typing_extensions import Self


class SyncPorts:
    """What the threads of one process share."""

    def __init__(self, targets: Connections) -> None:
        hot, cold = targets.hot, targets.cold
        self.hot: SyncRedis | SyncCluster
        if isinstance(hot.sync_client, redis.RedisCluster):
            self.hot = SyncCluster(hot.sync_client, hot, targets.check)
        else:
            self.hot = SyncRedis(hot, targets.check)
        self.cold = None if cold is None else SyncPostgres(cold)
        self.preparing = threading.Lock()
        self.unprepared: TieredCheckpointError | None = None
        """Why the tables could not be prepared, the last time."""


class AsyncPorts:
    """What the tasks of one event loop share."""

    def __init__(self, targets: Connections) -> None:
        hot, cold = targets.hot, targets.cold
        self.hot: AsyncRedis | AsyncCluster
        if isinstance(hot.async_client, AsyncRedisCluster):
            self.hot = AsyncCluster(hot.async_client, hot, targets.check)
        else:
            self.hot = AsyncRedis(hot, targets.check)
        self.cold = None if cold is None else AsyncPostgres(cold)
        self.preparing = asyncio.Lock()
        self.unprepared: TieredCheckpointError | None = None
        self.unanswered = Unanswered()
        self.until_loop_ends: AsyncGenerator[None] | None = None


@dataclass(eq=False)
class _Process:
    """What one process has open."""

    opening: threading.Lock = field(default_factory=threading.Lock)
    sync_ports: SyncPorts | None = None
    async_ports: dict[asyncio.AbstractEventLoop, AsyncPorts] = field(default_factory=dict)


class Connections:
    """The servers of a saver, and its connections to them: sync ones, and some for each event loop.

    Opens nothing until used. A forked child starts with none, and leaves the parent's alone.

    Args:
        hot: the Redis.
        cold: the Postgres, or None.
        auto_setup: make sure of the tables with the first use of Postgres; otherwise they are only checked.
        flushes_later: writes to promoted threads do not wait for Postgres.
        needs_worker: nobody in this process flushes them.
    """

    def __init__(
        self,
        hot: HotTarget,
        cold: ColdTarget | None,
        *,
        auto_setup: bool = True,
        flushes_later: bool = True,
        needs_worker: bool = False,
    ) -> None:
        if cold is not None and (same := hot.address.endpoints & cold.address.endpoints):
            host, port = next(iter(same))
            raise ConfigurationError(
                f"redis and postgres are both said to be at {host}:{port}, where only one can be. Correct the URLs"
            )
        self.hot = hot
        self.cold = cold
        self.auto_setup = auto_setup
        self.check = ServerCheck(
            None if cold is None else cold.identity, flushes_later=flushes_later, needs_worker=needs_worker
        )
        self.prepared = False
        """Whether the tables are known to be fit for use."""
        self.indexed = True
        """Whether no index of theirs is known to be missing."""
        self._process = _Process()
        _all.add(self)

    @classmethod
    def of(cls, redis_: object, postgres: object, settings: Settings) -> Self:
        """From what users pass: a URL, a client or pool, or a pair of a sync and an async one.

        Raises:
            ConfigurationError: none of these.
        """
        hot: dict[str, Any] = _sorted("redis", redis_, _is_async_client, "client")
        cold: dict[str, Any] = _sorted("postgres", postgres, _is_async_pool, "pool")
        return cls(
            HotTarget(**hot, key_prefix=settings.key_prefix, timeout_s=settings.timeouts.hot.total_seconds()),
            None
            if postgres is None
            else ColdTarget(
                **cold,
                prepare_threshold=1 if settings.prepare_statements else None,
                timeout_s=settings.timeouts.cold.total_seconds(),
                schema=settings.schema,
            ),
            auto_setup=settings.auto_setup,
            flushes_later=settings.cold_writes == "behind",
            needs_worker=settings.promoter == "external",
        )

    def for_threads(self) -> Connections:
        """These, if threads can use them; else ones by the settings of the async client or pool that was given alone.

        Raises:
            ConfigurationError: its settings do not suffice for that.
        """
        hot, cold = sync_hot(self.hot), self.cold and sync_cold(self.cold)
        if hot is self.hot and cold is self.cold:
            return self
        return Connections(hot, cold, auto_setup=self.auto_setup)

    def sync_ports(self) -> SyncPorts:
        """The connections for threads."""
        process = self._process
        ports = process.sync_ports
        if ports is None:
            with process.opening:  # whoever comes at the same time gets the same ones, with one limit for all
                ports = process.sync_ports = process.sync_ports or SyncPorts(self)
        return ports

    async def async_ports(self) -> AsyncPorts:
        """The connections of the running event loop."""
        loop = asyncio.get_running_loop()
        of_loops = self._process.async_ports
        ports = of_loops.get(loop)
        if ports is None:
            for other in [other for other in of_loops if other.is_closed()]:
                of_loops.pop(other, None)
            ports = of_loops[loop] = AsyncPorts(self)
            ports.until_loop_ends = _until_loop_ends(ports, of_loops, loop, self.hot.timeout_s)
            await anext(ports.until_loop_ends)
        return ports

    @property
    def here(self) -> Here:
        """The two servers, for what binds them to each other."""
        hot, cold = self.hot, self.cold
        postgres, display_url = (
            ("", "nowhere") if cold is None else (cold.identity or cold.display_url, cold.display_url)
        )
        return Here(hot.key_prefix, hot.identity, hot.display_url, postgres, display_url)

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
            closing, ports.until_loop_ends = ports.until_loop_ends, None
            await closing.aclose()

    def abandon(self) -> _Process:
        """Start anew, as a forked child has to. What is returned has to be kept, unused, while the process lives."""
        process, self._process = self._process, _Process()
        return process


async def _until_loop_ends(
    ports: AsyncPorts,
    of_loops: dict[asyncio.AbstractEventLoop, AsyncPorts],
    loop: asyncio.AbstractEventLoop,
    patience_s: float,
) -> AsyncGenerator[None]:
    """Close the connections when it is closed, after waiting for what is unanswered.

    By us, or by the event loop, which closes all async generators before it ends; or by the collector, when a saver
    is dropped without being closed.
    """
    try:
        yield
    finally:
        try:
            await ports.unanswered.settle(patience_s)
        finally:
            of_loops.pop(loop, None)
            ports.hot.close()
            if ports.cold is not None:
                await ports.cold.close()
            await asyncio.sleep(0)  # transports close in the loop's next round


def _is_async_client(given: object) -> bool:
    return isinstance(given, AsyncRedisClient | AsyncRedisCluster)


def _is_async_pool(given: object) -> bool:
    from psycopg_pool import AsyncConnectionPool  # who gives a URL needs none of it

    return isinstance(given, AsyncConnectionPool)


def _sorted(what: str, given: object, is_async: Callable[[object], bool], noun: str) -> dict[str, Any]:
    if given is None or isinstance(given, str):
        return {"url": given}
    pair = given if isinstance(given, tuple | list) else (given,)
    found = {f"{'async' if is_async(one) else 'sync'}_{noun}": one for one in pair}
    if len(found) != len(pair):
        raise ConfigurationError(f"{what}: a pair must be of one sync and one async {noun}")
    return found


_all: weakref.WeakSet[Connections] = weakref.WeakSet()
_of_the_parent: list[_Process] = []


def _after_fork_in_child() -> None:
    _of_the_parent.extend([connections.abandon() for connections in list(_all)])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
