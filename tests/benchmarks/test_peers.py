"""`make bench`: this saver beside others and beside the bare cost, in one run. Prints ratios; asserts nothing timed.

Every round makes the same superstep with every peer, in random order, so that whatever else the machine does falls
on all alike. Only ratios within one run mean anything: the figures depend on the machine, and on its disk.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
import redis
import redis.asyncio
from benchmarks.peers import AsyncPeer, BarePeer, Chat, Peer, SyncPeer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from langgraph_tiered_checkpoint import Promotion, TieredSaver

OPERATIONS = ("put", "put_writes", "get_tuple")
WARM_UP = 20

Timings = dict[tuple[str, str], list[float]]
"""Microseconds by peer and operation."""


async def measure(peers: list[Peer], rounds: int) -> Timings:
    timings: Timings = defaultdict(list)
    for number in range(WARM_UP + rounds):
        random.shuffle(peers)
        prepared = [(peer, await peer.prepare(peer.chat.superstep())) for peer in peers]
        gc.collect(0)
        gc.disable()
        try:
            for operation in OPERATIONS:
                for peer, calls in prepared:
                    call = calls[operation]
                    begun = time.perf_counter_ns()
                    await call()
                    elapsed = time.perf_counter_ns() - begun
                    if number >= WARM_UP:
                        timings[peer.name, operation].append(elapsed / 1000)
        finally:
            gc.enable()
    return timings


def table(title: str, names: list[tuple[str, str]], timings: Timings) -> str:
    medians = {key: statistics.median(values) for key, values in timings.items()}
    legend = "x: beside redis-py that sends and gets the same bytes for nothing, with the serde's own time"
    lines = [f"{title}; {legend}", f"{'':<23}" + "".join(f"{operation:>22}" for operation in OPERATIONS)]
    for name, bare in names:
        cells = [
            f"{medians[name, operation]:>12.0f} us {medians[name, operation] / medians[bare, operation]:>5.2f}x"
            for operation in OPERATIONS
        ]
        lines.append(f"{name:<23}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


@pytest.mark.benchmark
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("messages", "rounds"), [(20, 400), (200, 200)])
async def test_peers(
    messages: int, rounds: int, redis_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncExitStack() as stack:
        tiered = await stack.enter_async_context(
            # Threads stay ephemeral and resident: what every session costs.
            TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion.never(), ttl=timedelta(hours=1))
        )
        # The bare peer's bytes come from threads of a saver without Postgres: they have no origin to be looked up.
        model = stack.enter_context(TieredSaver.from_urls(redis_url, key_prefix="model"))
        sync_client = stack.enter_context(redis.Redis.from_url(redis_url))
        async_client = await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_url))
        pool: AsyncConnectionPool[Any] = await stack.enter_async_context(
            AsyncConnectionPool(
                postgres_url,
                min_size=2,
                max_size=4,
                open=False,
                kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
            )
        )
        official = AsyncPostgresSaver(pool)
        await official.setup()
        peers: list[Peer] = [
            BarePeer(model, Chat("bare sync", messages), sync_client),
            BarePeer(model, Chat("bare sync kept", messages), sync_client, keep=True),
            SyncPeer("TieredSaver, sync", tiered, Chat("sync", messages)),
            BarePeer(model, Chat("bare async", messages), sync_client, async_client),
            BarePeer(model, Chat("bare async kept", messages), sync_client, async_client, keep=True),
            AsyncPeer("TieredSaver, async", tiered, Chat("async", messages)),
            SyncPeer("InMemorySaver", InMemorySaver(), Chat("memory", messages)),
            AsyncPeer("AsyncPostgresSaver", official, Chat("postgres", messages)),
        ]
        names = [(peer.name, peer.bare) for peer in peers]
        timings = await measure(peers, rounds)
    with capsys.disabled():
        print("\n\n" + table(f"{messages} messages, medians of {rounds} interleaved rounds", names, timings))  # noqa: T201
    assert {len(values) for values in timings.values()} == {rounds}
