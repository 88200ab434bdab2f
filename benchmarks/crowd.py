"""Two thousand tasks of one process at once, with every saver's connections left at their defaults: who survives."""

from __future__ import annotations

import asyncio
import itertools
import time

from benchmarks.measures import Results, no_collections
from benchmarks.payloads import Chat
from benchmarks.peers import Peer, Peers
from benchmarks.profiles import Profile
from benchmarks.world import World

WORKLOAD = "crowd"
CASE = "2,000 tasks"
THREADS, TASKS = 200, 2_000
MESSAGES = 20

PEERS = (
    "InMemorySaver",
    "AsyncPostgresSaver, pool",
    "AsyncValkeySaver",
    "AsyncRedisSaver",
    "TieredSaver",
    "TieredSaver, plain pool",
)


async def crowd(world: World, results: Results, profile: Profile) -> None:
    """Every task writes for one of the threads, and reads it."""
    for name in PEERS:
        async with Peers(world, results, WORKLOAD, CASE) as opener:
            for peer in await opener.open(name):
                chats = [Chat(f"{name}-{number}", MESSAGES) for number in range(THREADS)]
                for talk in chats:
                    await (await peer.prepare(talk.superstep()))["put"]()
                await _meet(results, peer, chats)
        world.clear()


async def _meet(results: Results, peer: Peer, chats: list[Chat]) -> None:
    async def visit(talk: Chat, number: int) -> None:
        await peer.saver.aput_writes(talk.head, [("messages", [f"from task {number}"])], f"task-{number}")
        found = await peer.saver.aget_tuple(talk.head)
        assert found is not None
        assert any(task_id == f"task-{number}" for task_id, _, _ in found.pending_writes or ()), "a write is missing"

    with no_collections():
        begun = time.perf_counter()
        visits = [visit(talk, number) for talk, number in zip(itertools.cycle(chats), range(TASKS), strict=False)]
        outcomes = await asyncio.gather(*visits, return_exceptions=True)
        took_s = time.perf_counter() - begun
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    results.add(WORKLOAD, CASE, peer.name, "failed tasks", len(failures))
    if failures:
        results.fail(WORKLOAD, CASE, peer.name, f"{type(failures[0]).__name__}: {failures[0]}")
    else:
        results.add(WORKLOAD, CASE, peer.name, "operations per s", 2 * TASKS / took_s)
