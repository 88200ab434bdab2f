"""What is measured, and how: results as flat records, and a stopwatch for calls."""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Call = Callable[[], Awaitable[object]]
"""One call with everything made ready that is not to be timed."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a figure is of."""

    workload: str
    case: str
    peer: str
    measure: str
    """With its unit as the last word, such as "put us"."""


@dataclass(slots=True)
class Results:
    """All figures, and what could not be had."""

    figures: dict[Key, float] = field(default_factory=dict)
    failures: dict[Key, str] = field(default_factory=dict)
    """Why there is no figure."""
    servers: str = ""
    """Versions of what was measured against."""
    done: list[str] = field(default_factory=list)
    """Workloads that are complete."""

    def add(self, workload: str, case: str, peer: str, measure: str, figure: float) -> None:
        """Keep a figure."""
        self.figures[Key(workload, case, peer, measure)] = figure

    def fail(self, workload: str, case: str, peer: str, why: str) -> None:
        """Keep the reason for which a peer has no figures."""
        self.failures[Key(workload, case, peer, "")] = why

    def get(self, workload: str, case: str, peer: str, measure: str) -> float | None:
        """A figure, if it was measured."""
        return self.figures.get(Key(workload, case, peer, measure))

    def ratio(self, workload: str, case: str, peer: str, other: str, measure: str) -> float | None:
        """One peer's figure as a multiple of another's."""
        ours, theirs = self.get(workload, case, peer, measure), self.get(workload, case, other, measure)
        return None if ours is None or not theirs else ours / theirs

    def failures_of(self, workload: str, peer: str) -> str:
        """Why a peer has no figures, whatever the case."""
        found = (why for key, why in self.failures.items() if key.workload == workload and key.peer == peer)
        return next(found, "")

    def of(self, workload: str) -> list[Key]:
        """The figures of a workload, in the order of their measurement."""
        return [key for key in self.figures if key.workload == workload]


class Stopwatch:
    """Times of calls, by peer and operation."""

    def __init__(self) -> None:
        self._wall_us: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._cpu_us: dict[tuple[str, str], list[float]] = defaultdict(list)

    async def time(self, peer: str, operation: str, call: Call) -> None:
        """Make a call, timed: by the clock, and in CPU time of this process, its background threads included."""
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        await call()
        wall_us = (time.perf_counter_ns() - wall) / 1_000
        self._cpu_us[peer, operation].append((time.process_time_ns() - cpu) / 1_000)
        self._wall_us[peer, operation].append(wall_us)

    def report(self, results: Results, workload: str, case: str) -> None:
        """Keep the medians, and what 99 of 100 calls stay below."""
        for (peer, operation), values in self._wall_us.items():
            results.add(workload, case, peer, f"{operation} us", statistics.median(values))
            results.add(workload, case, peer, f"{operation} p99 us", percentile(values, 0.99))
        for (peer, operation), values in self._cpu_us.items():
            results.add(workload, case, peer, f"{operation} cpu us", statistics.median(values))


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@contextmanager
def no_collections() -> Iterator[None]:
    """Collect young garbage before, nothing meanwhile."""
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
