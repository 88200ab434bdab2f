"""How fast checkpoints reach Postgres: flushed by one worker or by several, put by AsyncPostgresSaver, as bare rows."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from typing import Any

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from typing_extensions import Self

from benchmarks.measures import Results, no_collections
from benchmarks.payloads import Chat, Superstep
from benchmarks.profiles import Profile
from benchmarks.world import World
from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.cold.schema import ColdSchema
from langgraph_tiered_checkpoint.plans.promoting import AT_ONCE, flush_many

WORKLOAD = "flushing"
MESSAGES = 20
STEPS = 10
"""Checkpoints of each thread, with the writes of a task each."""
CASES = ("first flush", "later flush")
WORKERS = (1, 2, 4)
POOL = 20
WARM = 40
"""Threads that each worker flushes before: enough for both of its lanes."""
COPIED = {
    "checkpoints": "thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata",
    "checkpoint_blobs": "thread_id, checkpoint_ns, channel, version, type, blob",
    "checkpoint_writes": "thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path",
}


async def flushing(world: World, results: Results, profile: Profile) -> None:
    """Each way in turn, several times over, each time with threads of its own."""
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(profile.flushes + 1):
        for workers in WORKERS:
            for case, rate in zip(CASES, await _flushed(world, profile.flushed, workers), strict=True):
                rates[case, f"TieredSaver, {workers} worker{'s' * (workers > 1)}"] += [rate] * (number > 0)
        for name, pooled in (("AsyncPostgresSaver", False), ("AsyncPostgresSaver, pool", True)):
            rate, url = await _put(world, profile.flushed // 4, pooled=pooled)
            copied = _copied(world, url, profile.flushed // 4)
            for case in CASES:
                rates[case, name] += [rate] * (number > 0)
                rates[case, "limit"] += [copied] * (number > 0)
        world.clear()
    for (case, name), values in rates.items():
        results.add(WORKLOAD, case, name, "checkpoints per s", statistics.median(values))


def _supersteps(threads: int, name: str = "flushed") -> list[list[Superstep]]:
    chats = [Chat(f"{name}-{number}", MESSAGES, seed=number) for number in range(threads)]
    return [[talk.superstep() for _ in range(STEPS)] for talk in chats]


async def _flushed(world: World, threads: int, workers: int) -> list[float]:
    """Checkpoints a second, when the threads are new to Postgres and when they are not."""
    url = world.database()
    prefix = f"flushed{workers}"
    chats, before = _supersteps(threads), _supersteps(WARM * workers, "before")
    ids = [f"flushed-{number}" for number in range(threads)]
    settings: dict[str, Any] = {"promotion": Promotion(checkpoints=1), "promoter": "external", "key_prefix": prefix}
    rates = []
    async with TieredSaver.from_urls(world.redis_url, url, **settings) as saver:
        await saver.asetup()
        halves = (slice(None, STEPS // 2), slice(STEPS // 2, None))
        with Workers(world, url, settings, workers) as team:
            for timed, some in ((False, before), (True, chats)):
                names = [steps[0].head["configurable"]["thread_id"] for steps in some]
                for half in halves:
                    for steps in some:
                        for step in steps[half]:
                            await _store(saver, step)
                    spent = await asyncio.to_thread(team.work, names)
                    rates += [threads * STEPS / 2 / spent] * timed
        assert {(await saver.aexplain(thread_id)).state for thread_id in ids} == {"clean"}
    return rates


async def _put(world: World, threads: int, *, pooled: bool) -> tuple[float, str]:
    """Checkpoints a second: one after the other, or as many threads at once as the pool has connections; and where."""
    chats = _supersteps(threads)
    async with AsyncExitStack() as stack:
        url = world.database()
        if pooled:
            settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
            pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
                url, min_size=POOL, max_size=POOL, open=False, timeout=120, kwargs=settings
            )
            saver = AsyncPostgresSaver(await stack.enter_async_context(pool))
        else:
            saver = await stack.enter_async_context(AsyncPostgresSaver.from_conn_string(url))
        await saver.setup()

        async def session(steps: list[Superstep]) -> None:
            for step in steps:
                await _store(saver, step)

        await asyncio.gather(*(session(steps) for steps in _supersteps(POOL, "before")))
        with no_collections():
            begun = time.perf_counter()
            if pooled:
                await asyncio.gather(*(session(steps) for steps in chats))
            else:
                for steps in chats:
                    await session(steps)
            return threads * STEPS / (time.perf_counter() - begun), url


def _copied(world: World, source: str, threads: int) -> float:
    """Checkpoints a second, when the rows that AsyncPostgresSaver has written are copied to our tables, in one go."""
    target = world.database()
    with psycopg.connect(source) as here, psycopg.connect(target) as there:
        there.execute(ColdSchema(None).ddl().encode())
        there.commit()
        rows = {}
        for table, columns in COPIED.items():
            query = f"COPY (SELECT {columns} FROM {table} WHERE thread_id LIKE 'flushed-%') TO STDOUT (FORMAT BINARY)"
            with here.cursor().copy(query.encode()) as copy:
                rows[table] = b"".join(copy)
        begun = time.perf_counter()
        for table, columns in COPIED.items():
            with there.cursor().copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
                copy.write(rows[table])
        there.commit()
        return threads * STEPS / (time.perf_counter() - begun)


async def _store(saver: Any, step: Superstep) -> None:
    await saver.aput(step.config, step.checkpoint, step.metadata, step.new_versions)
    await saver.aput_writes(step.head, step.writes, step.task_id)


class Workers:
    """Processes that each flush their share of the threads, as promoters do."""

    def __init__(self, world: World, url: str, settings: dict[str, Any], count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_worker, args=(theirs, world.redis_url, url, settings), daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        for end in self._ends:
            end.recv()  # it is ready
        return self

    def __exit__(self, *exc: object) -> None:
        for end, process in zip(self._ends, self._processes, strict=True):
            end.close()
            process.join(10)
            if process.is_alive():
                process.kill()

    def work(self, ids: list[str]) -> float:
        """Seconds until all of these threads are flushed."""
        begun = time.perf_counter()
        for number, end in enumerate(self._ends):
            end.send(ids[number :: len(self._ends)])
        for end in self._ends:
            failed = end.recv()
            assert not failed, failed
        return time.perf_counter() - begun


def _worker(control: Connection, redis_url: str, url: str, settings: dict[str, Any]) -> None:
    with TieredSaver.from_urls(redis_url, url, **settings) as saver:
        saver.setup()
        control.send("ready")
        try:
            while True:
                ids: list[str] = control.recv()
                failed: dict[str, str] = {}
                for start in range(0, len(ids), AT_ONCE):
                    failed |= saver._sync.run(flush_many(saver._store, ids[start : start + AT_ONCE]))
                control.send(failed)
        except EOFError:
            return
