"""Threads with a long history: the first read after eviction, and a page of the list, beside AsyncPostgresSaver.

It reads the very same rows: the tables are its own. So a thread is made once, and kept in each place.
"""

from __future__ import annotations

import functools
import random
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, NamedTuple

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.measures import Results, Stopwatch, no_collections
from benchmarks.payloads import Chat, at
from benchmarks.profiles import Profile
from benchmarks.world import World
from langgraph_tiered_checkpoint import Promotion, TieredSaver

WORKLOAD = "history"
MESSAGES = 20
PLACES = ("ephemeral", "promoted", "evicted")
OFFICIAL = ("AsyncPostgresSaver", "AsyncPostgresSaver, pool")


class Stop(NamedTuple):
    """One call that is timed, after one that is not."""

    peer: str
    operation: str
    saver: Any
    thread_id: str
    evict: bool


async def history(world: World, results: Results, profile: Profile) -> None:
    """Every round visits every place, in random order."""
    url = world.database()
    async with AsyncExitStack() as stack:
        tiered = await stack.enter_async_context(
            TieredSaver.from_urls(
                world.redis_url, url, promotion=Promotion.never(), ttl=timedelta(hours=1), promoter="external"
            )
        )
        single = await stack.enter_async_context(AsyncPostgresSaver.from_conn_string(url))
        settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(url, min_size=2, max_size=4, open=False, kwargs=settings)
        pooled = AsyncPostgresSaver(await stack.enter_async_context(pool))
        await tiered.asetup()
        for length in profile.history:
            for place in PLACES:
                await _make(tiered, f"{place}-{length}", length, place)
        world.analyze(url)
        for length in profile.history:
            stops = _stops(tiered, dict(zip(OFFICIAL, (single, pooled), strict=True)), length)
            stopwatch = await _visit(tiered, stops, profile.cold_rounds)
            stopwatch.report(results, WORKLOAD, f"{length:,} checkpoints")
    world.clear()


async def _make(saver: TieredSaver, thread_id: str, length: int, place: str) -> None:
    """Small checkpoints, and a last one of a chat of ordinary length."""
    talk = Chat(thread_id, 1)
    for number in range(length):
        talk.resize(1 if number < length - 1 else MESSAGES)
        step = talk.superstep()
        await saver.aput(step.config, step.checkpoint, step.metadata, step.new_versions)
        if place != "ephemeral" and number == 0:
            await saver.apromote(thread_id)
        if number % 500 == 0:
            await saver.aflush()
        if number == length - 1:
            await saver.aput_writes(step.head, step.writes, step.task_id)
    if place != "ephemeral":
        await saver.aflush(thread_id)


def _stops(tiered: TieredSaver, official: dict[str, AsyncPostgresSaver], length: int) -> list[Stop]:
    stops = []
    for operation in ("get_tuple", "list"):
        for place in PLACES:
            thread_id = f"{place}-{length}"
            stops += [Stop(f"TieredSaver, {place}", operation, tiered, thread_id, evict=place == "evicted")]
        stops += [Stop(name, operation, saver, f"evicted-{length}", evict=False) for name, saver in official.items()]
    return stops


async def _visit(tiered: TieredSaver, stops: list[Stop], rounds: int) -> Stopwatch:
    stopwatch, warm = Stopwatch(), Stopwatch()
    order = list(stops)
    for number in range(rounds + 3):
        random.shuffle(order)
        for stop in order:
            if stop.evict:
                await tiered.aevict(stop.thread_id)
            call = functools.partial(_get if stop.operation == "get_tuple" else _list, stop.saver, stop.thread_id)
            with no_collections():
                await (warm if number < 3 else stopwatch).time(stop.peer, stop.operation, call)
    return stopwatch


async def _get(saver: Any, thread_id: str) -> None:
    found = await saver.aget_tuple(at(thread_id))
    assert len(found.checkpoint["channel_values"]["messages"]) >= MESSAGES


async def _list(saver: Any, thread_id: str) -> None:
    found = [one async for one in saver.alist(at(thread_id), limit=10)]
    assert len(found) == 10
