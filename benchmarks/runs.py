"""Whole runs of graphs, one at a time: a chat under each durability, a fan-out, a tool loop with subgraphs."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.graphs import Graph, Saver, chat, fan_out, thread, tool_loop, turn
from benchmarks.measures import Results, Stopwatch, no_collections
from benchmarks.peers import Peers
from benchmarks.profiles import Profile
from benchmarks.world import World

WORKLOAD = "runs"
NOTHING = "no checkpointer"
TURNS = 10
"""Turns of one chat; then comes a new thread, whose first run is not timed."""

PEERS = (
    "limit",
    "InMemorySaver",
    "AsyncSqliteSaver",
    "AsyncPostgresSaver",
    "AsyncPostgresSaver, pool",
    "AsyncValkeySaver",
    "AsyncRedisSaver",
    "TieredSaver",
    "TieredSaver, promoted",
)

Durability = Literal["sync", "async", "exit"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of run."""

    case: str
    build: Callable[[Saver | None], Graph]
    given: Callable[[int], dict[str, Any]]
    """Its input, by the number of the run on its thread."""
    durability: Durability = "async"
    grows: int = 0
    """Messages that a run adds."""
    share: float = 1.0
    """How many rounds, of those of a profile."""


def _items(count: int) -> Callable[[int], dict[str, Any]]:
    return lambda _: {"items": list(range(count))}


KINDS = (
    Kind("chat, durability sync", chat, turn, "sync", 2),
    Kind("chat, durability async", chat, turn, "async", 2),
    Kind("chat, durability exit", chat, turn, "exit", 2),
    Kind("tool loop with subgraphs", tool_loop, lambda number: turn(number) | {"rounds": 0}, "async", 15, 0.5),
    Kind("fan-out of 100", fan_out, _items(100), "async", share=0.2),
    Kind("fan-out of 500", fan_out, _items(500), "async", share=0.05),
)


async def runs(world: World, results: Results, profile: Profile) -> None:
    """Run by run, in random order of peers."""
    for kind in KINDS:
        async with Peers(world, results, WORKLOAD, kind.case) as opener:
            peers = await opener.open(*PEERS, sessions=64)
            graphs = {NOTHING: kind.build(None)} | {peer.name: kind.build(peer.saver) for peer in peers}
            stopwatch = await _measure(results, kind, graphs, max(int(profile.runs * kind.share), 3))
        stopwatch.report(results, WORKLOAD, kind.case)
        world.clear()


async def _measure(results: Results, kind: Kind, graphs: dict[str, Graph], rounds: int) -> Stopwatch:
    """What a peer fails at is kept as its result, and the others go on."""
    stopwatch, warm = Stopwatch(), Stopwatch()
    order, failed = list(graphs), set[str]()
    for number in range(rounds + rounds // TURNS + 1):
        thread_number, step = divmod(number, TURNS + 1)
        random.shuffle(order)
        for name in order:
            if name in failed:
                continue
            config = thread(f"{name}-{thread_number}")
            call = functools.partial(
                graphs[name].ainvoke,
                _history(kind, step) if name == NOTHING else kind.given(step),
                config,
                durability=None if name == NOTHING else kind.durability,
            )
            try:
                with no_collections():
                    await (stopwatch if step else warm).time(name, "run", call)
            except Exception as exc:  # noqa: BLE001 - how a peer fails is a result
                failed.add(name)
                results.fail(WORKLOAD, kind.case, name, f"{type(exc).__name__}: {exc}")
    return stopwatch


def _history(kind: Kind, step: int) -> dict[str, Any]:
    """For a graph that keeps nothing: as many messages as have been said by then, before the input."""
    given = kind.given(step)
    if kind.grows:
        said = [turn(number)["messages"][0] for number in range(-kind.grows * step, 0)]
        given["messages"] = [*said, *given["messages"]]
    return given
