"""What a long conversation costs: bytes to Redis, memory there, rows in Postgres, and time, turn by turn."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.graphs import Saver, chat, thread, turn
from benchmarks.measures import Results, no_collections
from benchmarks.peers import Peers
from benchmarks.profiles import Profile
from benchmarks.world import World
from langgraph_tiered_checkpoint import TieredSaver

WORKLOAD = "conversation"
THREAD = "long"

PUTS_PER_TURN = 3
"""Checkpoints that LangGraph makes of one: of the input, with the user's message, and with the answer."""

PEERS = (
    "InMemorySaver",
    "AsyncSqliteSaver",
    "AsyncPostgresSaver",
    "AsyncValkeySaver",
    "AsyncRedisSaver",
    "TieredSaver",
    "TieredSaver, promoted",
)
LONG = 500
"""Turns beyond which only `InMemorySaver` and this package talk on: the others would for minutes."""


async def conversation(world: World, results: Results, profile: Profile) -> None:
    """One peer after the other: each has the servers to itself, so that what they count is its own."""
    for turns in profile.turns:
        case = f"{turns:,} turns"
        for name in PEERS if turns <= LONG else [peer for peer in PEERS if peer.startswith(("InMemory", "Tiered"))]:
            async with Peers(world, results, WORKLOAD, case) as opener:
                for peer in await opener.open(name):
                    await _converse(world, results, case, name, peer.saver, turns)
            world.clear()


async def _converse(world: World, results: Results, case: str, name: str, saver: Saver, turns: int) -> None:
    graph, config = chat(saver), thread(THREAD)
    size, sent = world.postgres_bytes(), world.redis_bytes_in()
    servers_s = world.redis_cpu_s(), world.postgres_cpu_s()
    took_ms: list[float] = []
    cpu_s = 0.0
    for number in range(turns):
        with no_collections():
            cpu, begun = time.process_time(), time.perf_counter()
            await graph.ainvoke(turn(number), config, durability="async")
            took_ms.append((time.perf_counter() - begun) * 1_000)
            cpu_s += time.process_time() - cpu
    if isinstance(saver, TieredSaver):
        await saver.aflush()

    def add(measure: str, figure: float) -> None:
        results.add(WORKLOAD, case, name, measure, figure)

    state: Any = await saver.aget_tuple(config)
    assert state is not None, "the thread is gone"
    live = len(saver.serde.dumps_typed(state.checkpoint["channel_values"]["messages"])[1])
    add("live state bytes", live)
    add("turn ms", statistics.median(took_ms))
    add("last turns ms", statistics.median(took_ms[-20:]))
    add("turn cpu ms", cpu_s / turns * 1_000)
    add("turn redis cpu ms", (world.redis_cpu_s() - servers_s[0]) / turns * 1_000)
    add("turn postgres cpu ms", (world.postgres_cpu_s() - servers_s[1]) / turns * 1_000)
    add("sent to redis bytes", world.redis_bytes_in() - sent)
    add("redis memory bytes", world.redis_memory_bytes())
    add("postgres bytes", world.postgres_bytes() - size)
