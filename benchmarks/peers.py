"""The savers that are compared, each as its own documentation sets it up, on the same servers."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from typing_extensions import Self

from benchmarks import bound
from benchmarks.measures import Call, Results
from benchmarks.payloads import Superstep, at
from benchmarks.plain_pool import use_plain_pool
from benchmarks.world import World
from langgraph_tiered_checkpoint import Promotion, TieredSaver

Saver = BaseCheckpointSaver[Any]
Opener = Callable[[World, int], AbstractAsyncContextManager[Saver]]
"""Opens a saver for so many sessions at once."""

POOL = 20
"""Connections to Postgres at most, of a pool that serves many sessions."""


class Absent(Exception):  # noqa: N818 - not an error: the comparison goes on without it
    """This peer is not at hand."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the comparison."""

    name: str
    saver: Saver
    sync: bool = False
    before: Callable[[str], Awaitable[object]] | None = None
    """What brings a thread into the state that the peer is about, not timed."""

    async def prepare(self, step: Superstep) -> dict[str, Call]:
        """The operations of a superstep, ready to be timed, in order."""
        saver = self.saver
        thread = at(step.config["configurable"]["thread_id"])
        if self.before is not None and not step.first:
            await self.before(step.config["configurable"]["thread_id"])
        if self.sync:
            return {
                "put": _as_call(saver.put, step.config, step.checkpoint, step.metadata, step.new_versions),
                "put_writes": _as_call(saver.put_writes, step.head, step.writes, step.task_id),
                "get_tuple": _as_call(saver.get_tuple, thread),
                "list": _as_call(lambda: list(saver.list(thread, limit=10))),
            }

        async def listed() -> object:
            return [found async for found in saver.alist(thread, limit=10)]

        return {
            "put": lambda: saver.aput(step.config, step.checkpoint, step.metadata, step.new_versions),
            "put_writes": lambda: saver.aput_writes(step.head, step.writes, step.task_id),
            "get_tuple": lambda: saver.aget_tuple(thread),
            "list": listed,
        }


def _as_call(function: Callable[..., object], *args: object) -> Call:
    async def call() -> object:
        return function(*args)

    return call


class Peers:
    """Opens peers, and keeps the reasons of those that are not at hand."""

    def __init__(self, world: World, results: Results, workload: str, case: str) -> None:
        self._world, self._results, self._workload, self._case = world, results, workload, case
        self._stack = AsyncExitStack()
        self._open: list[Peer] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def open(self, *names: str, sessions: int = 1) -> list[Peer]:
        """The peers of these names that are at hand."""
        peers = []
        for name in names:
            try:
                saver = await self._stack.enter_async_context(OPENERS[name](self._world, sessions))
            except Absent as absent:
                self._results.fail(self._workload, self._case, name, str(absent))
                continue
            before = None
            if name in STATES:
                assert isinstance(saver, TieredSaver)
                before = STATES[name](saver)
            peers.append(Peer(name, saver, name in SYNC, before))
        return peers


@asynccontextmanager
async def _memory(world: World, sessions: int) -> AsyncIterator[Saver]:
    yield InMemorySaver()


@asynccontextmanager
async def _sqlite(world: World, sessions: int) -> AsyncIterator[Saver]:
    try:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    except ImportError as missing:
        raise Absent(f"langgraph-checkpoint-sqlite is not installed (SQLite {sqlite3.sqlite_version})") from missing
    with TemporaryDirectory() as directory:
        async with AsyncSqliteSaver.from_conn_string(str(Path(directory) / "checkpoints.sqlite")) as saver:
            await saver.setup()
            yield saver


@asynccontextmanager
async def _postgres_sync(world: World, sessions: int) -> AsyncIterator[Saver]:
    with PostgresSaver.from_conn_string(world.database()) as saver:
        saver.setup()
        yield saver


@asynccontextmanager
async def _postgres(world: World, sessions: int) -> AsyncIterator[Saver]:
    async with AsyncPostgresSaver.from_conn_string(world.database()) as saver:
        await saver.setup()
        yield saver


@asynccontextmanager
async def _postgres_pool(world: World, sessions: int) -> AsyncIterator[Saver]:
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    size = min(sessions, POOL)
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        world.database(), min_size=size, max_size=size, open=False, timeout=120, kwargs=settings
    )
    async with pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        yield saver


@asynccontextmanager
async def _valkey(world: World, sessions: int) -> AsyncIterator[Saver]:
    try:
        from langgraph_checkpoint_aws import AsyncValkeySaver
    except ImportError as missing:
        raise Absent("langgraph-checkpoint-aws[valkey] is not installed") from missing
    size = 8 * sessions if sessions > 1 else 10  # a run writes from several tasks at once; 10 is the default
    async with AsyncValkeySaver.from_conn_string(world.redis_url, ttl_seconds=3600, pool_size=size) as saver:
        yield saver


@asynccontextmanager
async def _redis(world: World, sessions: int) -> AsyncIterator[Saver]:
    if world.stack_url is None:
        raise Absent("no Redis with the modules for search and JSON was given (--redis-stack URL)")
    try:
        from langgraph.checkpoint.redis.aio import AsyncRedisSaver
    except ImportError as missing:
        raise Absent("langgraph-checkpoint-redis is not installed") from missing
    ttl = {"default_ttl": 60, "refresh_on_read": True}
    pool = {"max_connections": 8 * sessions} if sessions > 1 else {}
    async with AsyncRedisSaver.from_conn_string(world.stack_url, connection_args=pool, ttl=ttl) as saver:
        await saver.asetup()
        yield saver


def _tiered(*, plain_pool: bool = False, **settings: Any) -> Opener:
    chosen: dict[str, Any] = {
        "promotion": Promotion.never(),
        "ttl": timedelta(hours=1),
        "promoter": "external",
    } | settings

    @asynccontextmanager
    async def opened(world: World, sessions: int) -> AsyncIterator[Saver]:
        async with TieredSaver.from_urls(world.redis_url, world.database(), key_prefix=_prefix(), **chosen) as saver:
            await saver.asetup()
            if plain_pool:
                await use_plain_pool(saver, 8 * sessions if sessions > 1 else None)
            yield saver

    return opened


_prefixes: list[str] = []


def _prefix() -> str:
    _prefixes.append(f"lgt{len(_prefixes)}")
    return _prefixes[-1]


OPENERS: dict[str, Opener] = {
    "limit": bound.opened,
    "InMemorySaver": _memory,
    "AsyncSqliteSaver": _sqlite,
    "PostgresSaver": _postgres_sync,
    "AsyncPostgresSaver": _postgres,
    "AsyncPostgresSaver, pool": _postgres_pool,
    "AsyncValkeySaver": _valkey,
    "AsyncRedisSaver": _redis,
    "TieredSaver": _tiered(),
    "TieredSaver, sync": _tiered(),
    "TieredSaver, dirty": _tiered(),
    "TieredSaver, clean": _tiered(),
    "TieredSaver, through": _tiered(cold_writes="through"),
    "TieredSaver, promoted": _tiered(promotion=Promotion(checkpoints=1), promoter="embedded"),
    "TieredSaver, no TTL": _tiered(ttl=None),
    "TieredSaver, no refresh": _tiered(refresh_on_read=False),
    "TieredSaver, whole values": _tiered(remembered_bytes=0),
    "TieredSaver, plain pool": _tiered(plain_pool=True),
}
"""By name. "TieredSaver" alone keeps its threads ephemeral, and is async."""

SYNC = {"PostgresSaver", "TieredSaver, sync"}

Before = Callable[[str], Awaitable[object]]


def _promoted_once(saver: TieredSaver) -> Before:
    promoted = set()

    async def before(thread_id: str) -> None:
        if thread_id not in promoted:
            promoted.add(thread_id)
            await saver.apromote(thread_id)

    return before


def _flushed(saver: TieredSaver) -> Before:
    promote = _promoted_once(saver)

    async def before(thread_id: str) -> None:
        await promote(thread_id)
        await saver.aflush(thread_id)

    return before


STATES: dict[str, Callable[[TieredSaver], Before]] = {
    "TieredSaver, dirty": _promoted_once,
    "TieredSaver, clean": _flushed,
    "TieredSaver, through": _promoted_once,
}
