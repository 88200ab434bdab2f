"""What this package wants to reach beside the others, and whether the run at hand reached it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from benchmarks.conversation import PUTS_PER_TURN
from benchmarks.measures import Results
from benchmarks.memory import BOUND
from benchmarks.runs import NOTHING

KIB = 1024


class Target(NamedTuple):
    """One line: what is to be, what is."""

    number: int
    claim: str
    measured: float | None
    bound: float
    sense: Literal["at most", "at least"]

    @property
    def met(self) -> bool | None:
        """None if it was not measured."""
        if self.measured is None:
            return None
        return self.measured <= self.bound if self.sense == "at most" else self.measured >= self.bound


def targets(results: Results) -> list[Target]:
    """All of them, in order."""
    return [
        target
        for part in (_operations, _sessions, _promotion, _flushing, _histories, _conversation, _memory, _startup)
        for target in part(results)
    ]


def _operations(results: Results) -> Iterator[Target]:
    for case in ("20 messages", "200 messages"):
        for operation in ("put", "put_writes", "get_tuple"):
            for peer, base in (("TieredSaver", "limit"), ("TieredSaver, sync", "limit, sync")):
                ratio = results.ratio("operations", case, peer, base, f"{operation} us")
                kind = "sync" if "sync" in peer else "async"
                yield Target(1, f"{operation}, {case}, {kind} / the limit", ratio, 1.25, "at most")
        ratio = results.ratio("operations", case, "TieredSaver", "InMemorySaver", "get_tuple us")
        yield Target(1, f"get_tuple, {case} / InMemorySaver", ratio, 1.25, "at most")


def _sessions(results: Results) -> Iterator[Target]:
    case = "64 sessions"
    for kind, bound in (("turns", 0.9), ("operations", 0.85)):
        ratio = results.ratio("sessions", case, "TieredSaver", "InMemorySaver", f"{kind} per s")
        yield Target(2, f"{case}: {kind} per second / InMemorySaver", ratio, bound, "at least")
    ratio = results.ratio("sessions", case, "TieredSaver", "TieredSaver, plain pool", "operations per s")
    yield Target(2, f"{case}: operations per second / the same over a plain pool", ratio, 2.5, "at least")
    failed = results.get("crowd", "2,000 tasks", "TieredSaver", "failed tasks")
    yield Target(2, "2,000 tasks at once: tasks that fail", failed, 0, "at most")
    case = "chat, durability async"
    yield Target(
        2, "one session: checkpointing / InMemorySaver's", overhead(results, case, "TieredSaver"), 1.7, "at most"
    )


def overhead(results: Results, case: str, peer: str, measure: str = "run us") -> float | None:
    """What a peer adds to a run that keeps nothing, as a multiple of what InMemorySaver adds."""
    ours, theirs, nothing = (results.get("runs", case, name, measure) for name in (peer, "InMemorySaver", NOTHING))
    if ours is None or theirs is None or nothing is None or theirs <= nothing:
        return None
    return (ours - nothing) / (theirs - nothing)


def _promotion(results: Results) -> Iterator[Target]:
    for case in ("20 messages", "200 messages"):
        for state in ("dirty", "clean"):
            ratio = results.ratio("operations", case, f"TieredSaver, {state}", "TieredSaver", "put us")
            yield Target(3, f"put on a {state} thread, {case} / an ephemeral one", ratio, 1.1, "at most")
        ratio = results.ratio("operations", case, "TieredSaver, through", "AsyncPostgresSaver", "put us")
        yield Target(3, f'put, "through", {case} / AsyncPostgresSaver', ratio, 1.15, "at most")


def _flushing(results: Results) -> Iterator[Target]:
    for case in ("first flush", "later flush"):
        ratio = results.ratio("flushing", case, "TieredSaver, 1 worker", "AsyncPostgresSaver", "checkpoints per s")
        yield Target(4, f"{case}, one worker: checkpoints per second / AsyncPostgresSaver", ratio, 10, "at least")


def _histories(results: Results) -> Iterator[Target]:
    cases = sorted({key.case for key in results.of("history")}, key=lambda case: int(case.split()[0].replace(",", "")))
    for case in cases:
        ratio = results.ratio("history", case, "TieredSaver, evicted", "AsyncPostgresSaver", "get_tuple us")
        yield Target(5, f"first read after eviction, {case} / AsyncPostgresSaver", ratio, 1.3, "at most")
    grown: Callable[[str, str], float | None] = lambda place, measure: _growth(results, cases, place, measure)  # noqa: E731
    yield Target(
        5, "first read after eviction: longest history / shortest", grown("evicted", "get_tuple us"), 1.2, "at most"
    )
    for place in ("ephemeral", "promoted", "evicted"):
        yield Target(6, f"list(limit=10), {place}: longest history / shortest", grown(place, "list us"), 1.2, "at most")


def _growth(results: Results, cases: list[str], place: str, measure: str) -> float | None:
    """Between histories that are both longer than a page."""
    figures = [results.get("history", case, f"TieredSaver, {place}", measure) for case in cases]
    if len(figures) < 2 or figures[0] is None or figures[-1] is None:
        return None
    return figures[-1] / figures[0]


def _conversation(results: Results) -> Iterator[Target]:
    cases = {key.case: int(key.case.split()[0].replace(",", "")) for key in results.of("conversation")}
    for case, turns in cases.items():
        puts = PUTS_PER_TURN * turns

        def figure(peer: str, measure: str, case: str = case) -> float | None:
            return results.get("conversation", case, peer, measure)

        live = figure("TieredSaver", "live state bytes")
        for peer, measure, claim, times, each in (
            ("TieredSaver", "sent to redis bytes", "bytes sent / (5 × live state + 2 KB per put)", 5, 2 * KIB),
            ("TieredSaver, promoted", "redis memory bytes", "Redis memory, promoted / (4 × live state)", 4, 0),
            (
                "TieredSaver",
                "redis memory bytes",
                "Redis memory, ephemeral / (2 × live state + 2 KB per checkpoint)",
                2,
                2 * KIB,
            ),
        ):
            found = figure(peer, measure)
            ratio = None if live is None or found is None else found / (times * live + each * puts)
            yield Target(7, f"{case}: {claim}", ratio, 1, "at most")


def _memory(results: Results) -> Iterator[Target]:
    left = results.get("memory", "many threads", "TieredSaver", "left bytes")
    ratio = None if left is None else left / BOUND
    yield Target(8, "memory that many threads leave in the client / remembered_bytes", ratio, 1.25, "at most")


def _startup(results: Results) -> Iterator[Target]:
    base = "langgraph.checkpoint.base, redis and psycopg"
    ratio = results.ratio("startup", "import", "langgraph_tiered_checkpoint", base, "import cpu ms")
    yield Target(9, f"import / import of {base}", ratio, 1.2, "at most")
