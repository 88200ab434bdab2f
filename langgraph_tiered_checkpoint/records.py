"""What the two tiers exchange: rows in wire form and the public status records. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

Typed = tuple[str, bytes]
"""A serialized value: the serde's type tag and its bytes."""


class Unreadable(Exception):  # noqa: N818 - a signal to the runner, which knows of which thread
    """What it names is stored, and cannot be read; the cause says why."""


class UnreadableValue(Unreadable):
    """What it names is a value, and the serde refuses it."""


class CheckpointRow(NamedTuple):
    """One checkpoint without the values that live in blobs.

    `checkpoint` and `metadata` are UTF-8 JSON and travel verbatim; `checkpoint` carries inline primitives in
    its `channel_values`. `exact_metadata` is set only where JSON would not give the metadata back faithfully.
    """

    ns: str
    checkpoint_id: str
    parent_id: str
    """The parent's id; empty at the start of a chain."""
    checkpoint: bytes
    metadata: bytes
    exact_metadata: Typed | None
    refs: tuple[tuple[str, str], ...]
    """(channel, version as text) of every channel whose value is not inline."""
    inline: tuple[str, ...]
    """Channels whose value is inline in `checkpoint`."""
    run_id: str
    root_id: str
    """The root checkpoint that started this subgraph call; the own id in the root namespace."""
    depth: int
    """How many ancestors the delta channels of this checkpoint may need (0 without delta channels)."""
    sends_at_parent: bool = False
    """Whether its pending sends are writes of its parent: in formats before v4."""


class Recipe(NamedTuple):
    """How the hot tier puts a value together: see lua/values.lua. Its bytes are the type, NUL, the data."""

    arena: str
    piece_bytes: int
    items: tuple[bytes | tuple[int, int], ...]
    """Text, or offset and length in the arena."""
    bytes: int
    """How long the arena was then."""


class BlobRow(NamedTuple):
    """The value of one channel at one version, as the serde wrote it."""

    ns: str
    channel: str
    version: str
    type: str
    data: bytes
    tag: str = ""
    """Of the write that stored the value in the hot tier, where it is known: it stands for the very bytes."""
    recipe: Recipe | None = None
    """What the hot tier makes the value of, where that is known; none if it has it whole."""


class WriteRow(NamedTuple):
    """One pending write."""

    ns: str
    checkpoint_id: str
    task_id: str
    idx: int
    channel: str
    type: str
    data: bytes
    task_path: str


class StoredCheckpoint(NamedTuple):
    """A checkpoint with everything needed to rebuild its tuple. The order of blobs and writes means nothing."""

    row: CheckpointRow
    blobs: list[BlobRow]
    writes: list[WriteRow]
    sends: Sequence[WriteRow] = ()
    """Of an old format, from the hot tier: the pending sends of its parent that are there."""


class Outline(NamedTuple):
    """Where one checkpoint stands among the others: enough to decide what a prune keeps."""

    ns: str
    checkpoint_id: str
    parent_id: str
    root_id: str
    depth: int
    run_id: str
    refs: tuple[tuple[str, str], ...] = ()
    """(channel, version as text) of its values, where the hot tier says so."""

    @property
    def place(self) -> tuple[str, str]:
        """Namespace and id."""
        return self.ns, self.checkpoint_id


class Origin(NamedTuple):
    """What Postgres knows of a thread, as one row."""

    incarnation: str
    flushed: str
    """The change id that was flushed last; empty if a first copy has not been committed yet."""
    pinned: bool
    claim: str = ""
    """What a first copy is committed behind: differs if the row was deleted meanwhile, and the thread claimed anew.
    Empty where nobody asks."""


class Tables(NamedTuple):
    """Which store the tables in Postgres are of."""

    store: str
    """Its id; empty if of none yet."""
    redis: str
    """Where its Redis is, and the key prefix; for messages, and to recognise it by. No password in it."""


class ThreadBatch(NamedTuple):
    """What one flush of one thread writes: rows, and the fence they are written behind."""

    thread_id: str
    incarnation: str
    expected: str
    """The change id that Postgres must hold for the batch to apply; of a first copy, the claim."""
    flushed: str
    """The change id that Postgres holds afterwards."""
    checkpoints: list[CheckpointRow]
    blobs: list[BlobRow]
    writes: list[WriteRow]
    last_write_ms: int
    """Unix time in milliseconds of the thread's last write."""
    reason: str
    """Why the thread was promoted."""
    copied: str = ""
    """Of a copy, its last checkpoint that no run of its own wrote; empty where that is nothing new."""
    keep: bool = False
    """Whether rows that are there already stay as they are: Redis has lost time, and they may be newer."""


class Renaming(NamedTuple):
    """How a copy comes to have its own thread id in its metadata."""

    source: str
    """As the caller knows it, and as it may be in the metadata."""
    target: str
    rename: Callable[[bytes, Typed | None], tuple[bytes, Typed | None]]
    """Plain and exact metadata of the source to those of the copy: as they came where the source's id is not in them.
    Pure: it may be called again."""


class DeltaPage(NamedTuple):
    """A stretch of a parent chain, newest ancestor first, as far as one tier could follow it."""

    ancestors: list[DeltaAncestor]
    cursor: str
    """The next ancestor to look up, in the other tier; empty when the walk is over."""


class DeltaAncestor(NamedTuple):
    """One ancestor's part in a delta channel's history."""

    checkpoint_id: str
    seeds: dict[str, Typed]
    """Channel -> its stored value. A value stored inline has the type "json"."""
    writes: list[WriteRow]


Verdict = Literal["ok", "warning", "failure", "unknown"]
""" "unknown" where it could not be looked at."""


class Sheet:
    """Records that people read: they print as a small table, without what is not known or does not apply."""

    __slots__ = ()

    def __repr__(self) -> str:
        told = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]  # dataclasses
        shown = {
            name: value for name, value in told.items() if not (value is None or value is False or value in {(), ""})
        }
        width = max(map(len, shown), default=0)
        lines = [f"  {name:<{width}}  {_cell(value)}" for name, value in shown.items()]
        return "\n".join([type(self).__name__, *lines])


def _cell(value: object) -> str:
    match value:
        case bool():
            return "yes"
        case datetime():
            return value.isoformat(" ", "seconds")
        case int():
            return f"{value:,}"
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ThreadStatus(Sheet):
    """What `TieredSaver.explain` says of one thread."""

    thread_id: str
    tier: Literal["hot", "both", "cold"] | None
    state: Literal["ephemeral", "dirty", "clean", "cold", "absent", "damaged"]
    why: str
    """One sentence: why the thread is in this tier and state."""
    incarnation: str | None = None
    hot_checkpoints: int = 0
    cold_checkpoints: int | None = 0
    """In the official tables. None while Postgres does not answer: see `cold_error`."""
    archived: int = 0
    """How many more there are in the archive, as far as Postgres answers."""
    hot_bytes: int = 0
    """Redis memory of the thread, in bytes, as Redis itself estimates it."""
    expires_at: datetime | None = None
    """When the hot copy lapses; for an ephemeral thread, when the thread is gone."""
    created_at: datetime | None = None
    promoted_at: datetime | None = None
    """When Postgres was first given it."""
    promoted_by: str | None = None
    """Which condition promoted it, or which call."""
    last_write_at: datetime | None = None
    unflushed_age: timedelta | None = None
    """Age of the oldest change that Postgres has not committed."""
    due_at: datetime | None = None
    lease: bool = False
    """Whether a promoter has the thread in hand."""
    pinned: bool = False
    interrupted: bool = False
    last_error: str | None = None
    """Why the last flush of the thread failed."""
    cold_error: str | None = None
    """Why Postgres could not be asked. What is said then rests on the hot copy alone."""
    warnings: tuple[str, ...] = ()
    """As in `TierStats`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that `TieredSaver.doctor` has looked at."""

    name: str
    verdict: Verdict
    found: str
    """What is there; of "unknown", why it could not be looked at."""
    why: str
    """Why it matters."""
    remedy: str = ""
    """What to do about it; empty where nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DoctorReport:
    """What `TieredSaver.doctor` has found."""

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all: "failure" before "warning", "unknown" and "ok"."""
        given = {check.verdict for check in self.checks}
        worst: tuple[Verdict, ...] = ("failure", "warning", "unknown")
        return next((verdict for verdict in worst if verdict in given), "ok")

    def __repr__(self) -> str:
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [f"  {c.verdict:<7}  {c.name:<{width}}  {c.found}" for c in self.checks]
        return "\n".join([f"{type(self).__name__} {self.verdict}", *lines])


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process whose promoter is alive, by what it said in Redis within the last two minutes."""

    host: str
    pid: int
    program: str
    version: str
    """Of this package, there."""
    started_at: datetime
    seen_at: datetime
    flushed_per_s: float
    """Threads that it flushed, on average between the last two times that it was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What `TieredSaver.health` says of the promoter of this process."""

    alive: bool
    """Whether it runs: with its first write, or with the `with` block. Never where promoter="external"."""
    trouble: str | None
    """What kept it from its work the last time that it tried; None if nothing did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HotCount:
    """About how many threads of one state are hot, and how much memory they take."""

    threads: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TierStats(Sheet):
    """What `TieredSaver.stats` says of the whole store. A saver with a scope says which threads are parked, no more."""

    hot_threads: int | None = None
    ephemeral: HotCount | None = None
    """Of this state and the next two, exact as long as no bucket (a 256th of the threads) holds more than 8 threads;
    beyond that, from 8 of each bucket that are chosen at random."""
    dirty: HotCount | None = None
    clean: HotCount | None = None
    hot_bytes: int | None = None
    """Memory that Redis uses, for whatever is in it. None where it does not tell."""
    hot_limit_bytes: int | None = None
    """Its `maxmemory`; 0 if that is not set."""
    due_threads: int | None = None
    overdue_threads: int | None = None
    oldest_due_age: timedelta | None = None
    """None where nothing is due."""
    oldest_unflushed_age: timedelta | None = None
    """Age of the oldest change that Postgres has not committed, among the 20 threads of each bucket that are due first
    and those that were counted. None where nothing is dirty."""
    flushed_per_s: float | None = None
    """Threads flushed per second, by all workers."""
    workers: tuple[Worker, ...] = ()
    """The processes whose promoters are alive."""
    parked_threads: tuple[str, ...] = ()
    """Threads whose last flush failed for a reason of their own; `explain` has the error."""
    cold_threads: int | None = None
    """None without a cold tier, or while Postgres does not answer."""
    cold_bytes: int | None = None
    """Size of the tables with their indexes. None as above."""
    cold_error: str | None = None
    """Why Postgres could not be asked."""
    warnings: tuple[str, ...] = ()
    """What will lose data although nothing fails: how Redis evicts, and that it keeps nothing on disk."""
