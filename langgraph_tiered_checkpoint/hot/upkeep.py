"""Calls of the scripts that look at threads without reading them, and keep the lists of the buckets.

What each replies, as records, and how it is parsed, stands before the calls. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import msgpack

from langgraph_tiered_checkpoint.hot import permissions
from langgraph_tiered_checkpoint.hot.frames import pack_list
from langgraph_tiered_checkpoint.hot.keys import Keys, bucket_of
from langgraph_tiered_checkpoint.hot.replies import State, texts, unknown, word
from langgraph_tiered_checkpoint.hot.scripts import header
from langgraph_tiered_checkpoint.hot.workers import parse_workers
from langgraph_tiered_checkpoint.records import Worker
from langgraph_tiered_checkpoint.steps import Lua

TOMBSTONE_MS: Final = 600_000
ALIVE_MS: Final = 120_000
"""How long a promoter counts as alive after it has said so, which it does every 30 s."""
COUNTED: Final = 8
COUNTED_DUE: Final = 20
"""Threads of each bucket that are looked at to tell of all: some at random, and those that are due first."""

R = TypeVar("R")


class HotStatus(NamedTuple):
    """A thread as `explain` describes it."""

    incarnation: str
    state: State
    flushed: str
    """The change id that was flushed last; "" if none was."""
    checkpoints: int
    created_ms: float
    last_write_ms: float
    dirty_since_ms: float
    reason: str
    error: str
    failures: int
    """Flushes that failed in a row."""
    pinned: bool
    interrupted: bool
    ttl_ms: int
    """What is left of it; -1 without one."""
    due_ms: float | None
    memory_bytes: int
    """-1 if Redis does not tell."""
    now_ms: int
    lease_ms: int
    """When a promoter's lease ends; 0 without one."""


class Damaged(NamedTuple):
    """The thread's hot copy cannot be read."""

    what: str


class Figures(NamedTuple):
    """What there is in one bucket."""

    threads: int
    due: int
    overdue: int
    oldest_ms: int
    """How long the oldest has been due; -1 if nothing is."""
    parked: list[str]
    some: list[str]
    """Some of its threads, at random."""
    due_first: list[str]


class Census(NamedTuple):
    """Some threads of one bucket, counted."""

    threads: Mapping[State, int]
    bytes: Mapping[State, int]
    oldest_unflushed_ms: int
    """How long the oldest has been dirty; -1 if none is."""


class Lapses(NamedTuple):
    """Threads of one bucket that may have lapsed."""

    thread_ids: list[str]
    more: bool


def parse_status(reply: Any) -> HotStatus | Damaged | None:
    """None: there is no such thread here, or a marker in place of it."""
    match reply:
        case [b"thread", packed, ttl_ms, due_ms, memory_bytes, now_ms, lease_ms]:
            return _status(msgpack.unpackb(packed), ttl_ms, due_ms, memory_bytes, now_ms, lease_ms)
        case [b"damaged", what]:
            return Damaged(what.decode())
        case [b"absent"] | [b"marker", _]:
            return None
        case _:
            raise unknown(reply)


def _status(
    meta: dict[str, Any], ttl_ms: int, due_ms: bytes, memory_bytes: int, now_ms: int, lease_ms: int
) -> HotStatus:
    return HotStatus(
        incarnation=meta["incarnation"],
        state=State(meta["state"]),
        flushed=meta["flushed"],
        checkpoints=meta["checkpoints"],
        created_ms=meta["created"],
        last_write_ms=meta["last_write"],
        dirty_since_ms=meta["dirty_since"],
        reason=meta["reason"],
        error=meta["error"],
        failures=meta["failures"],
        pinned=bool(meta["pinned"]),
        interrupted=bool(meta["interrupted"]),
        ttl_ms=ttl_ms,
        due_ms=float(due_ms) if due_ms else None,
        memory_bytes=memory_bytes,
        now_ms=now_ms,
        lease_ms=lease_ms,
    )


def parse_figures(reply: Any) -> Figures:
    threads, due, overdue, oldest_ms, parked, some, due_first = reply
    return Figures(threads, due, overdue, oldest_ms, texts(parked), texts(some), texts(due_first))


def parse_census(reply: Any) -> Census:
    *counts, oldest_ms = reply
    states = (State.EPHEMERAL, State.DIRTY, State.CLEAN)
    threads, sizes = counts[: len(states)], counts[len(states) :]
    return Census(dict(zip(states, threads, strict=True)), dict(zip(states, sizes, strict=True)), oldest_ms)


def parse_lapses(reply: Any) -> Lapses:
    names, more = reply
    return Lapses(texts(names), more == b"1")


def parse_swept(reply: Any) -> None:
    if word(reply) != "ok":
        raise unknown(reply)


def parse_yes(reply: Any) -> bool:
    """Whether it said "1"."""
    if reply not in (b"1", b"0"):
        raise unknown(reply)
    return bool(reply == b"1")


def parse_each(reply: Any) -> list[bool]:
    return list(map(parse_yes, reply))


class UpkeepCalls(Keys):
    """Calls that look at threads, and keep the lists of the buckets."""

    def turn(self, for_ms: int) -> Lua[bool]:
        """Whether it is the caller's turn to sweep. Not of one bucket: the store's own."""
        return Lua("turn", (f"{self._prefix}:turn",), (str(for_ms),), "*", parse_yes)

    @property
    def workers_key(self) -> str:
        """Not of one bucket either."""
        return f"{self._prefix}:workers"

    def beat(self, *, before: str, now: str) -> Lua[bool]:
        return Lua("beat", (self.workers_key,), (before, now, str(ALIVE_MS)), "*", parse_yes)

    def workers(self) -> Lua[list[Worker]]:
        return Lua("workers", (self.workers_key,), (str(ALIVE_MS),), "*", parse_workers)

    def probe(self) -> Lua[list[str]]:
        """What the user lacks to run the scripts. Changes nothing."""
        key = f"{self._prefix}:probe"
        return Lua("probe", (key,), (pack_list(permissions.calls(key)),), "*", partial(permissions.refused, key))

    def lapses(self, bucket: int, limit: int) -> Lua[Lapses]:
        return self._of_bucket("lapses", bucket, parse_lapses, most=str(limit), kept=str(TOMBSTONE_MS))

    def sweep(self, bucket: int, thread_ids: Sequence[str], most_runs: int) -> Lua[None]:
        lists = header("sweep").keys[:-1]
        keys = (*(self.bucket_key(bucket, name) for name in lists), *map(self.thread_key, thread_ids))
        return Lua("sweep", keys, (str(most_runs), *thread_ids), f"bucket {bucket:02x}", parse_swept)

    def status(self, thread_id: str) -> Lua[HotStatus | Damaged | None]:
        return self._call("status", thread_id, parse_status, thread_id=thread_id)

    def figures(self, bucket: int) -> Lua[Figures]:
        return self._of_bucket("bucket", bucket, parse_figures, some=str(COUNTED), first=str(COUNTED_DUE))

    def census(self, thread_ids: Sequence[str]) -> Lua[Census]:
        """Of threads of one bucket."""
        return self._of_threads("census", thread_ids, parse=parse_census)

    def threads(self, bucket: int, *, prefix: str, after: str, limit: int) -> Lua[list[str]]:
        return self._of_bucket("names", bucket, texts, list_="threads", prefix=prefix, after=after, most=str(limit))

    def present(self, thread_ids: Sequence[str]) -> Lua[list[bool]]:
        """Of threads of one bucket."""
        return self._of_threads("present", thread_ids, parse=parse_each)

    def _of_threads(self, script: str, thread_ids: Sequence[str], *, parse: Callable[[Any], R]) -> Lua[R]:
        return Lua(script, tuple(map(self.thread_key, thread_ids)), (), f"bucket {bucket_of(thread_ids[0]):02x}", parse)

    def threads_of_run(self, bucket: int, *, run_id: str, after: str, limit: int) -> Lua[list[str]]:
        """The run's members of the list of runs: see lua/runs.lua."""
        prefix = f"{run_id}\0"
        return self._of_bucket("names", bucket, texts, list_="runs", prefix=prefix, after=after, most=str(limit))
