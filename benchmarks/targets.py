"""What this package wants to reach beside the others, and whether the run at hand reached it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from benchmarks.archive import AFTER, BEFORE
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
    cpu: float | None = None
    """The same in CPU time of the client, which depends less on what else the machine does."""
    at_best: float | None = None
    """What the limit measures in the same place."""

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
        for part in (
            _operations,
            _agent,
            _sessions,
            _promotion,
            _flushing,
            _histories,
            _conversation,
            _archive,
            _memory,
            _startup,
        )
        for target in part(results)
    ]


def _operations(results: Results) -> Iterator[Target]:
    for case in ("20 messages", "200 messages"):
        for operation in ("put", "put_writes", "get_tuple"):
            for peer, base in (("TieredSaver", "limit"), ("TieredSaver, sync", "limit, sync")):
                kind = "sync" if "sync" in peer else "async"
                claim = f"{operation}, {case}, {kind} / the limit"
                storing = f"{base}, HSET" if operation != "get_tuple" else base
                yield _timed(results, 1, claim, (case, peer, base, operation), 1.25, storing)
        compared = (case, "TieredSaver", "InMemorySaver", "get_tuple")
        yield _timed(results, 1, f"get_tuple, {case} / InMemorySaver", compared, 1.25, "limit")


def _agent(results: Results) -> Iterator[Target]:
    whole, many = "window of messages, whole", "small value, 50 channels"
    for case, operation, bound in (
        (whole, "put", 3),
        ("window of messages", "put", 4),
        ("small value", "put_writes", 3),
        ("small value", "get_tuple", 2.5),
    ):
        ratio = results.ratio("agent", case, "TieredSaver", "base", f"{operation} server us")
        yield Target(10, f"{case}: Redis's own time for {operation} / its commands alone", ratio, bound, "at most")
    ours = [results.get("agent", case, "TieredSaver", "put server us") for case in (many, "small value")]
    growth = ours[0] / ours[1] if ours[0] and ours[1] else None
    yield Target(10, "small value: Redis's own time for put, 50 channels / 10", growth, 1.1, "at most")
    for case, operation, bound in (
        ("window of messages", "put", 0.75),
        ("small value", "put", 0.7),
        ("window of messages", "get_tuple", 0.6),
        ("window of messages", "get_tuple by id", 0.6),
    ):
        wall, cpu = (
            results.ratio("agent", case, "TieredSaver", "AsyncValkeySaver", f"{operation} {unit}")
            for unit in ("us", "cpu us")
        )
        yield Target(10, f"{case}: {operation} / AsyncValkeySaver", wall, bound, "at most", cpu)


def _timed(
    results: Results, number: int, claim: str, compared: tuple[str, str, str, str], bound: float, limit: str = ""
) -> Target:
    """A bound on the time of an operation: case, peer, the other peer, operation."""
    case, peer, base, operation = compared
    wall, cpu = (results.ratio("operations", case, peer, base, f"{operation} {unit}") for unit in ("us", "cpu us"))
    at_best = results.ratio("operations", case, limit, base, f"{operation} us") if limit else None
    return Target(number, claim, wall, bound, "at most", cpu, at_best)


def _sessions(results: Results) -> Iterator[Target]:
    case = "64 sessions"
    for kind, bound in (("turns", 0.9), ("operations", 0.85)):
        yield _rate(results, f"{kind} per second / InMemorySaver", (case, "InMemorySaver", kind), bound)
    claim = "operations per second / the same over a plain pool"
    yield _rate(results, claim, (case, "TieredSaver, plain pool", "operations"), 2.5)
    failed = results.get("crowd", "2,000 tasks", "TieredSaver", "failed tasks")
    yield Target(2, "2,000 tasks at once: tasks that fail", failed, 0, "at most")
    case, peer = "chat, durability async", "TieredSaver"
    wall, cpu = (overhead(results, case, peer, measure) for measure in ("run us", "run cpu us"))
    at_best = overhead(results, case, "limit")
    yield Target(2, "one session: checkpointing / InMemorySaver's", wall, 1.7, "at most", cpu, at_best)


def _rate(results: Results, claim: str, compared: tuple[str, str, str], bound: float) -> Target:
    """A bound on what is done per second by many sessions: case, the other peer, what."""
    case, base, kind = compared
    ratio, at_best = (results.ratio("sessions", case, peer, base, f"{kind} per s") for peer in ("TieredSaver", "limit"))
    cpu = results.ratio("sessions", case, base, "TieredSaver", f"{kind} cpu us")
    return Target(2, f"{case}: {claim}", ratio, bound, "at least", cpu, at_best)


def overhead(results: Results, case: str, peer: str, measure: str = "run us") -> float | None:
    """What a peer adds to a run that keeps nothing, as a multiple of what InMemorySaver adds."""
    ours, theirs, nothing = (results.get("runs", case, name, measure) for name in (peer, "InMemorySaver", NOTHING))
    if ours is None or theirs is None or nothing is None or theirs <= nothing:
        return None
    return (ours - nothing) / (theirs - nothing)


def _promotion(results: Results) -> Iterator[Target]:
    for case in ("20 messages", "200 messages"):
        for state in ("dirty", "clean"):
            claim = f"put on a {state} thread, {case} / an ephemeral one"
            yield _timed(results, 3, claim, (case, f"TieredSaver, {state}", "TieredSaver", "put"), 1.1)
        claim = f'put, "through", {case} / AsyncPostgresSaver'
        yield _timed(results, 3, claim, (case, "TieredSaver, through", "AsyncPostgresSaver", "put"), 1.15)


def _flushing(results: Results) -> Iterator[Target]:
    for case in ("first flush", "later flush"):
        ratio, at_best = (
            results.ratio("flushing", case, peer, "AsyncPostgresSaver", "checkpoints per s")
            for peer in ("TieredSaver, 1 worker", "limit")
        )
        claim = f"{case}, one worker: checkpoints per second / AsyncPostgresSaver"
        yield Target(4, claim, ratio, 10, "at least", at_best=at_best)


def _histories(results: Results) -> Iterator[Target]:
    cases = sorted({key.case for key in results.of("history")}, key=lambda case: int(case.split()[0].replace(",", "")))
    peer, base = "TieredSaver, evicted", "AsyncPostgresSaver"
    for case in cases:
        wall, cpu = (results.ratio("history", case, peer, base, f"get_tuple {unit}") for unit in ("us", "cpu us"))
        yield Target(5, f"first read after eviction, {case} / AsyncPostgresSaver", wall, 1.3, "at most", cpu)
    for number, place, operation in (
        (5, "evicted", "get_tuple"),
        (6, "ephemeral", "list"),
        (6, "promoted", "list"),
        (6, "evicted", "list"),
    ):
        wall, cpu = (
            _growth(results, cases, f"TieredSaver, {place}", f"{operation} {unit}") for unit in ("us", "cpu us")
        )
        claim = "first read after eviction" if operation == "get_tuple" else f"list(limit=10), {place}"
        yield Target(number, f"{claim}: longest history / shortest", wall, 1.2, "at most", cpu)


def _growth(results: Results, cases: list[str], peer: str, measure: str) -> float | None:
    figures = [results.get("history", case, peer, measure) for case in cases]
    if len(figures) < 2 or not figures[0] or figures[-1] is None:
        return None
    return figures[-1] / figures[0]


def _conversation(results: Results) -> Iterator[Target]:
    """Of the longest one."""
    lengths = {int(key.case.split()[0].replace(",", "")): key.case for key in results.of("conversation")}
    turns = max(lengths, default=0)
    case, puts = lengths.get(turns, "a conversation"), PUTS_PER_TURN * turns
    live = results.get("conversation", case, "TieredSaver", "live state bytes")
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
        found = results.get("conversation", case, peer, measure)
        ratio = None if live is None or found is None else found / (times * live + each * puts)
        yield Target(7, f"{case}: {claim}", ratio, 1, "at most")


def _archive(results: Results) -> Iterator[Target]:
    """A number of its own: what is said of years in Postgres."""
    for case in dict.fromkeys(key.case for key in results.of("archive")):

        def ratio(measure: str, case: str = case) -> float | None:
            return results.ratio("archive", case, AFTER, BEFORE, measure)

        size, live = results.get("archive", case, AFTER, "bytes"), results.get("archive", case, BEFORE, "live bytes")
        yield Target(
            11, f"{case}, at rest: Postgres / live state", size / live if size and live else None, 4, "at most"
        )
        yield Target(11, f"{case}: CPU of archiving a checkpoint / of flushing it", ratio("cpu us"), 0.5, "at most")
        for operation, bound in (("by id", 10), ("page", 5), ("head", 1.1)):
            claim = f"{case}, archived: {operation} / from the official tables"
            yield Target(11, claim, ratio(f"{operation} us"), bound, "at most", ratio(f"{operation} cpu us"))


def _memory(results: Results) -> Iterator[Target]:
    left = results.get("memory", "many threads", "TieredSaver", "left bytes")
    ratio = None if left is None else left / BOUND
    yield Target(8, "memory that many threads leave in the client / remembered_bytes", ratio, 1.25, "at most")


def _startup(results: Results) -> Iterator[Target]:
    base = "langgraph.checkpoint.base, redis and psycopg"
    ratio = results.ratio("startup", "import", "langgraph_tiered_checkpoint", base, "import cpu ms")
    yield Target(9, f"import / import of {base}", ratio, 1.2, "at most")


PARTS = (_operations, _agent, _sessions, _promotion, _flushing, _histories, _conversation, _memory, _startup)
