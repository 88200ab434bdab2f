"""Many sessions at once in one process: raw operations, and turns of whole graphs. Throughput.

The speed of a machine may change from one second to the next, so a peer whose batches are short is measured more often
in each round than one that takes long.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

from benchmarks.graphs import chat, thread, turn
from benchmarks.measures import Results, no_collections
from benchmarks.payloads import Chat, Superstep
from benchmarks.peers import Peer, Peers
from benchmarks.profiles import Profile
from benchmarks.world import World

WORKLOAD = "sessions"
MESSAGES = 20

PEERS = (
    "limit",
    "InMemorySaver",
    "AsyncSqliteSaver",
    "AsyncPostgresSaver, pool",
    "AsyncValkeySaver",
    "AsyncRedisSaver",
    "TieredSaver",
    "TieredSaver, promoted",
    "TieredSaver, plain pool",
)

Session = Callable[[], Coroutine[Any, Any, object]]
"""What one session does in a round."""

_names = itertools.count()


async def sessions(world: World, results: Results, profile: Profile) -> None:
    """Batch by batch, in random order of peers."""
    for count, steps, turns in profile.sessions:
        case = f"{count} session{'s' * (count > 1)}"
        for kind, each, make in (("operations", steps * 3, Operations), ("turns", turns, Turns)):
            async with Peers(world, results, WORKLOAD, case) as opener:
                peers = await opener.open(*PEERS, sessions=count)
                jobs: list[Operations | Turns] = [make(peer, count, each) for peer in peers]
                rounds = Rounds(results, case, kind, count * each)
                often = [job for job in jobs for _ in range(await rounds.repeats(job))]
                for _ in range(profile.session_rounds):
                    random.shuffle(often)
                    for job in often:
                        await rounds.take(job)
                rounds.report()
            world.clear()


class Rounds:
    """Throughput, batch by batch; a peer that fails once is out."""

    def __init__(self, results: Results, case: str, kind: str, size: int) -> None:
        self._results, self._case, self._kind, self._size = results, case, kind, size
        self._rates: dict[str, list[float]] = defaultdict(list)
        self._costs_us: dict[str, list[float]] = defaultdict(list)
        self._failed: set[str] = set()

    async def repeats(self, job: Operations | Turns) -> int:
        """Warm up; how many of its batches go into a second, from one to ten."""
        started = time.perf_counter()
        await self.take(job)
        took_s = time.perf_counter() - started
        for kept in (self._rates, self._costs_us):
            kept.pop(job.peer.name, None)
        return min(max(int(1 / took_s), 1), 10)

    async def take(self, job: Operations | Turns) -> None:
        """Time one batch."""
        name = job.peer.name
        if name in self._failed:
            return
        try:
            batch = await job.prepare()
            with no_collections():
                cpu, wall = time.process_time(), time.perf_counter()
                await _together([session() for session in batch])
                wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        except Exception as exc:  # noqa: BLE001 - how a peer fails under load is a result
            self._failed.add(name)
            self._results.fail(WORKLOAD, f"{self._case}, {self._kind}", name, f"{type(exc).__name__}: {exc}")
        else:
            self._rates[name].append(self._size / wall_s)
            self._costs_us[name].append(cpu_s / self._size * 1e6)

    def report(self) -> None:
        """Keep the medians."""
        for name in self._rates.keys() - self._failed:
            rate, cost = statistics.median(self._rates[name]), statistics.median(self._costs_us[name])
            self._results.add(WORKLOAD, self._case, name, f"{self._kind} per s", rate)
            self._results.add(WORKLOAD, self._case, name, f"{self._kind} cpu us", cost)


class Operations:
    """Raw operations: the supersteps of a chat, in each session."""

    def __init__(self, peer: Peer, count: int, each: int) -> None:
        self.peer = peer
        self._count, self._steps = count, each // 3

    async def prepare(self) -> list[Session]:
        """New chats, begun."""
        chats = [Chat(f"{self.peer.name}-{next(_names)}", MESSAGES) for _ in range(self._count)]
        first = [functools.partial(self._superstep, chat.superstep()) for chat in chats]
        await _few_at_once(first)
        return [functools.partial(self._run, [chat.superstep() for _ in range(self._steps)]) for chat in chats]

    async def _run(self, supersteps: list[Superstep]) -> None:
        for step in supersteps:
            await self._superstep(step)

    async def _superstep(self, step: Superstep) -> None:
        calls = await self.peer.prepare(step)
        for operation in ("put", "put_writes", "get_tuple"):
            await calls[operation]()


class Turns:
    """Turns of a chat graph, in each session."""

    def __init__(self, peer: Peer, count: int, each: int) -> None:
        self.peer = peer
        self._count, self._each = count, each
        self._graph = chat(peer.saver)

    async def prepare(self) -> list[Session]:
        """New chats, of as many messages as those of `Operations`."""
        configs = [thread(f"{self.peer.name}-{next(_names)}") for _ in range(self._count)]
        said = {"messages": [turn(number)["messages"][0] for number in range(MESSAGES - 1)]}
        await _few_at_once([functools.partial(self._graph.ainvoke, said, config) for config in configs])
        return [functools.partial(self._run, config) for config in configs]

    async def _run(self, config: RunnableConfig) -> None:
        for number in range(self._each):
            await self._graph.ainvoke(turn(MESSAGES + number), config, durability="async")


async def _together(jobs: Sequence[Coroutine[Any, Any, object]]) -> None:
    for outcome in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _few_at_once(jobs: Sequence[Session]) -> None:
    """What comes before the measurement, in a way that every peer bears."""
    for start in range(0, len(jobs), 8):
        await _together([job() for job in jobs[start : start + 8]])
