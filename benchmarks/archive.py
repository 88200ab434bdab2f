"""What a long chat costs in Postgres at rest, what archiving it costs, and what is then read from there."""

from __future__ import annotations

import functools
import random
import time
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig

from benchmarks.graphs import chat, thread, tool_loop, turn
from benchmarks.measures import Results, Stopwatch, no_collections
from benchmarks.profiles import Profile
from benchmarks.world import World
from langgraph_tiered_checkpoint import Promotion, TieredSaver

WORKLOAD = "archive"
THREAD = "long"
BEFORE, AFTER = "official tables", "archive"
GRAPHS = {"MessagesState": (chat, 1), "agent": (tool_loop, 10)}
"""What runs, and of how many turns one is taken: an agent says ten times as much in each."""
READS = 24
_FLUSHED_TURNS = 20


async def archive(world: World, results: Results, profile: Profile) -> None:
    """A chat, and an agent's: flushed as it goes on, evicted, read; archived, and read again."""
    for kind, (_, part) in GRAPHS.items():
        url = world.database()
        turns = max(profile.turns) // part
        async with TieredSaver.from_urls(
            world.redis_url, url, promotion=Promotion(checkpoints=1), promoter="external"
        ) as saver:
            case = f"{kind}, {turns:,} turns"
            await _converse(saver, results, case, kind, turns)
            await _read(saver, results, case, BEFORE)
            results.add(WORKLOAD, case, BEFORE, "bytes", _size(url))
            begun = time.process_time()
            with no_collections():
                await saver.aarchive(THREAD)
            archived = (await saver.aexplain(THREAD)).archived
            results.add(WORKLOAD, case, AFTER, "cpu us", (time.process_time() - begun) * 1e6 / archived)
            await _read(saver, results, case, AFTER)
            results.add(WORKLOAD, case, AFTER, "bytes", _size(url))
        world.clear()


async def _converse(saver: TieredSaver, results: Results, case: str, kind: str, turns: int) -> None:
    graph, config = GRAPHS[kind][0](saver), thread(THREAD)
    cpu_s = 0.0
    for number in range(turns):
        with no_collections():
            await graph.ainvoke(turn(number), config, durability="async")
            if number % _FLUSHED_TURNS == _FLUSHED_TURNS - 1 or number == turns - 1:
                begun = time.process_time()
                await saver.aflush(THREAD)
                cpu_s += time.process_time() - begun
    state: Any = await saver.aget_tuple(config)
    live = sum(len(saver.serde.dumps_typed(value)[1]) for value in state.checkpoint["channel_values"].values())
    results.add(WORKLOAD, case, BEFORE, "live bytes", live)
    status = await saver.aexplain(THREAD)
    results.add(WORKLOAD, case, BEFORE, "cpu us", cpu_s * 1e6 / (status.cold_checkpoints or 1))


async def _read(saver: TieredSaver, results: Results, case: str, place: str) -> None:
    """Of the middle of the history, which is archived later; and the head, which never is."""
    ids = [
        found.config async for found in saver.alist(thread(THREAD)) if not found.config["configurable"]["checkpoint_ns"]
    ]
    source, stopwatch = random.Random(0), Stopwatch()
    await saver.aevict(THREAD)
    for number in range(READS + 4):
        config = ids[source.randrange(len(ids) // 4, 3 * len(ids) // 4)]
        watch = stopwatch if number >= 4 else Stopwatch()
        with no_collections():
            await watch.time(place, "by id", functools.partial(saver.aget_tuple, config))
            await watch.time(place, "page", functools.partial(_page, saver, config))
            await saver.aevict(THREAD)
            await watch.time(place, "head", functools.partial(saver.aget_tuple, thread(THREAD)))
            await saver.aevict(THREAD)
    stopwatch.report(results, WORKLOAD, case)


async def _page(saver: TieredSaver, before: RunnableConfig) -> None:
    assert len([found async for found in saver.alist(thread(THREAD), before=before, limit=10)]) == 10


def _size(url: str) -> float:
    """All tables with their indexes, without the space that `VACUUM` makes free for what comes next."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM FULL")
        tables = "SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        row = conn.execute(f"SELECT sum(pg_total_relation_size(oid)) FROM ({tables}) AS t".encode()).fetchone()
    return float(row[0]) if row else 0.0
