"""Single operations and runs through a proxy: round trips and bytes as counted there, and the time under a delay."""

from __future__ import annotations

import functools
import random
from contextlib import AsyncExitStack
from typing import NamedTuple

from benchmarks.graphs import chat, thread, turn
from benchmarks.limit import Limit, limits
from benchmarks.measures import Results, Stopwatch, no_collections
from benchmarks.operations import measure
from benchmarks.payloads import Chat
from benchmarks.peers import Peer, Peers
from benchmarks.profiles import Profile
from benchmarks.wire import Wire, wire
from benchmarks.world import World

WORKLOAD = "network"
MESSAGES = 20
CHATS, CALLS = 6, 8
"""Of each peer, while its bytes and round trips are counted."""

PEERS = (
    "PostgresSaver",
    "AsyncPostgresSaver",
    "AsyncPostgresSaver, pool",
    "AsyncValkeySaver",
    "AsyncRedisSaver",
    "TieredSaver, sync",
    "TieredSaver",
    "TieredSaver, through",
)
DELAYS_MS = (0.5, 2.0)


async def network(world: World, results: Results, profile: Profile) -> None:
    """First count, then delay."""
    with wire() as proxy:
        behind = world.through(proxy)
        for name in PEERS:
            async with Peers(behind, results, WORKLOAD, "counted") as opener:
                for peer in await opener.open(name):
                    await _count(world, proxy, results, peer)
        for delay_ms in DELAYS_MS:
            case = f"{delay_ms} ms"
            async with AsyncExitStack() as stack:
                opener = await stack.enter_async_context(Peers(behind, results, WORKLOAD, case))
                rows: list[Peer | Limit] = [*await stack.enter_async_context(limits(behind))]
                peers = await opener.open(*PEERS)
                proxy.delay(delay_ms / 1_000)
                stopwatch = await measure([*rows, *peers], MESSAGES, profile.wire)
                await _runs(
                    stopwatch, [peer for peer in peers if not peer.sync and peer.before is None], profile.wire // 2
                )
                proxy.delay(0)
            stopwatch.report(results, WORKLOAD, case)


async def _runs(stopwatch: Stopwatch, peers: list[Peer], rounds: int) -> None:
    graphs = {peer.name: chat(peer.saver) for peer in peers}
    order = list(graphs)
    warm = Stopwatch()
    for number in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            with no_collections():
                call = functools.partial(graphs[name].ainvoke, turn(number), thread(f"run {name}"))
                await (stopwatch if number else warm).time(name, "run", call)


class _Snapshot(NamedTuple):
    round_trips: float
    bytes_out: float
    bytes_in: float
    commands: float
    redis_cpu_us: float
    postgres_cpu_us: float


def _snapshot(world: World, proxy: Wire) -> _Snapshot:
    return _Snapshot(*proxy.passed(), world.redis_commands(), world.redis_cpu_s() * 1e6, world.postgres_cpu_s() * 1e6)


async def _count(world: World, proxy: Wire, results: Results, peer: Peer) -> None:
    """Each operation several times in a row, so that looking at the counters weighs little; that is taken off."""
    spent: dict[str, list[float]] = {
        name: [0.0] * len(_Snapshot._fields) for name in ("put", "get_tuple", "put_writes", "list")
    }
    for number in range(CHATS):
        talk = Chat(f"counted {peer.name} {number}", MESSAGES)
        for call in (await peer.prepare(talk.superstep())).values():
            await call()
        ready = [await peer.prepare(talk.superstep()) for _ in range(CALLS)]
        for name, sums in spent.items():
            idle, before = _snapshot(world, proxy), _snapshot(world, proxy)
            for calls in ready:
                await calls[name]()
            after = _snapshot(world, proxy)
            for i, (a, b, c) in enumerate(zip(idle, before, after, strict=True)):
                sums[i] += (c - b) - (b - a)
    for name, sums in spent.items():
        for field, total in zip(_Snapshot._fields, sums, strict=True):
            measure_name = f"{name} {field.replace('_', ' ')}"
            results.add(WORKLOAD, "counted", peer.name, measure_name, total / CHATS / CALLS)
