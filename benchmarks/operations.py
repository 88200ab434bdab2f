"""Single operations on resident threads, one at a time: what a superstep costs its caller."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

from benchmarks.limit import Limit, limits
from benchmarks.measures import Call, Results, Stopwatch, no_collections
from benchmarks.payloads import episodes
from benchmarks.peers import Peer, Peers
from benchmarks.profiles import Profile
from benchmarks.world import World

WORKLOAD = "operations"
WARM_UP = 10

PEERS = (
    "InMemorySaver",
    "AsyncSqliteSaver",
    "PostgresSaver",
    "AsyncPostgresSaver",
    "AsyncPostgresSaver, pool",
    "AsyncValkeySaver",
    "AsyncRedisSaver",
    "TieredSaver, sync",
    "TieredSaver",
    "TieredSaver, dirty",
    "TieredSaver, clean",
    "TieredSaver, through",
    "TieredSaver, no TTL",
    "TieredSaver, no refresh",
)
"""Without the limits, which come on top."""


async def operations(world: World, results: Results, profile: Profile) -> None:
    """Every round makes the same superstep with every peer, in random order."""
    for messages, rounds in profile.operations:
        case = f"{messages} messages"
        async with AsyncExitStack() as stack:
            peers = await stack.enter_async_context(Peers(world, results, WORKLOAD, case))
            rows: list[Peer | Limit] = [*await peers.open(*PEERS), *await stack.enter_async_context(limits(world))]
            stopwatch = await measure(rows, messages, rounds)
        stopwatch.report(results, WORKLOAD, case)


async def measure(rows: list[Peer | Limit], messages: int, rounds: int) -> Stopwatch:
    """Superstep by superstep; each operation for all rows, then the next one."""
    stopwatch, warm = Stopwatch(), Stopwatch()
    supersteps = {row.name: episodes(row.name, messages) for row in rows}
    order = list(rows)
    counted = 0
    while counted < WARM_UP + rounds:
        random.shuffle(order)
        prepared: list[tuple[str, dict[str, Call]]] = []
        first = False
        for row in order:
            step = next(supersteps[row.name])
            first = step.first
            prepared.append((row.name, await row.prepare(step)))
        counted += not first
        into = warm if first or counted <= WARM_UP else stopwatch
        with no_collections():
            for operation in ("put", "put_writes", "get_tuple", "list"):
                for name, calls in prepared:
                    if operation in calls:
                        await into.time(name, operation, calls[operation])
    return stopwatch
