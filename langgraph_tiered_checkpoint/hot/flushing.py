"""Calls of the scripts that bring Postgres up to date, and compare it with what an older Redis brings back.

What each replies, as records, and how it is parsed, stands before the calls. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from langgraph_tiered_checkpoint.hot import fields
from langgraph_tiered_checkpoint.hot.frames import Parts
from langgraph_tiered_checkpoint.hot.keys import PAGE_BYTES, Keys
from langgraph_tiered_checkpoint.hot.replies import State, texts, unknown, whether, word
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, ThreadBatch, WriteRow
from langgraph_tiered_checkpoint.steps import Lua

LEASE_MS: Final = 30_000
DUE_PAGE: Final = 100
"""How many due threads are read at once, about, of each bucket."""
SCAN_FIELDS: Final = 1_000
"""How many fields one page of a first copy reads at most, about: some milliseconds of the server's time."""
_FIRST_DELAY_MS, _LONGEST_DELAY_MS = "1000", "600000"


class DuePage(NamedTuple):
    """Some of the threads that are due or dirty in one bucket."""

    cursor: str
    """Of the next page; "0" at the end."""
    server_run: str
    """To another run of the server the cursor means nothing."""
    thread_ids: list[str]


class Lease(NamedTuple):
    """A thread as a promoter sees it before a flush."""

    incarnation: str
    state: State
    flushed: str
    flushed_number: int
    last_number: int
    last_write_ms: int
    reason: str
    rebase: int
    """1: everything is to be uploaded again; 2: what was never acknowledged; then the hot copy is dropped."""
    pinned: bool
    moved: bool
    """Whether it may be older than what Postgres holds: see lua/run.lua."""
    copied: str
    """Of a copy, its last checkpoint that no run of its own wrote, if the hot tier knows."""
    server_run: str

    @property
    def needs_base(self) -> bool:
        """Whether the log does not name all that Postgres may lack: it begins with the change that made it due."""
        return self.rebase == 1 or (not self.flushed and self.flushed_number > 0)


class NoLease(NamedTuple):
    """The thread is not in the hot tier."""

    server_run: str


class Rows(NamedTuple):
    """Rows on their way to Postgres."""

    checkpoints: list[CheckpointRow]
    blobs: list[BlobRow]
    writes: list[WriteRow]


def size_of(rows: Rows | ThreadBatch) -> int:
    """What rows carry, in bytes, about."""
    size = sum(len(row.checkpoint) + len(row.metadata) for row in rows.checkpoints)
    return size + sum(len(blob.data) for blob in rows.blobs) + sum(len(write.data) for write in rows.writes)


class Changes(NamedTuple):
    """What a stretch of changes touched."""

    through: str
    number: int
    rows: Rows
    more: bool
    run: str
    """Of the server that said so."""


class Base(NamedTuple):
    """All that a thread holds, or a part of it, read while it changes: torn, until the log is replayed on top of it."""

    rows: Rows
    number: int
    """Of the last change when it was read: the log has to be replayed to there at least."""
    runs: frozenset[str]
    """Of the servers that it was read from."""

    def is_mended_by(self, changes: Changes) -> bool:
        """Whether with these changes, the last of several pages perhaps, it is what the thread held at one time."""
        return changes.number >= self.number and self.is_of_the_time_of(changes)

    def is_of_the_time_of(self, changes: Changes) -> bool:
        """Whether Redis has not gone back in time since it was read, as far as can be told."""
        return self.runs == {changes.run} and (changes.more or changes.number >= self.number)


class Scanned(NamedTuple):
    """One page of everything that a thread holds."""

    cursor: str
    """Of the next page; "0" at the end."""
    base: Base


class Verdict(Enum):
    """What an acknowledgement has made of the thread."""

    CLEAN = "clean"
    DIRTY = "dirty"
    """It was written meanwhile."""
    DIVERGED = "diverged"
    """The hot tier never had that change."""
    STALE = "stale"
    """A later one was acknowledged before."""
    GONE = "gone"

    @property
    def accepted(self) -> bool:
        """Whether what was committed is acknowledged now."""
        return self in (Verdict.CLEAN, Verdict.DIRTY)


class Acknowledged(NamedTuple):
    """The reply to an acknowledgement."""

    verdict: Verdict
    is_long: bool
    """Whether the thread is to be trimmed."""


class Changed(NamedTuple):
    """Nothing was done: the thread is not as the caller saw it."""

    flushed: str
    """What is flushed of it by now."""


class Compared(Enum):
    """What came of a thread that was compared with Postgres."""

    DONE = "ok"
    GONE = "gone"
    DIRTY = "dirty"
    """It was not dropped, since it has changes that were never acknowledged."""


def parse_due(reply: Any) -> DuePage:
    cursor, server_run, names = reply
    return DuePage(cursor.decode(), server_run.decode(), texts(names))


def parse_lease(reply: Any) -> Lease | NoLease:
    match reply:
        case [
            b"thread",
            incarnation,
            state,
            flushed,
            number,
            last,
            last_ms,
            reason,
            rebase,
            pinned,
            moved,
            copied,
            run,
        ]:
            return Lease(
                incarnation.decode(),
                State(state.decode()),
                flushed.decode(),
                number,
                last,
                last_ms,
                reason.decode(),
                rebase,
                bool(pinned),
                bool(moved),
                copied.decode(),
                run.decode(),
            )
        case [b"absent", run]:
            return NoLease(run.decode())
        case _:
            raise unknown(reply)


def parse_rows(rows: Iterable[Sequence[Any]]) -> Rows:
    parsed = Rows([], [], [])
    given = Parts()
    for kind, *row in rows:
        match kind:
            case b"c":
                place, frame, links = row
                parsed.checkpoints.append(given.checkpoint(*fields.split(place), frame, links))
            case b"b":
                field, value = row
                parsed.blobs.append(given.blob(*fields.split_value(field.decode()), value))
            case b"w":
                place, frame, *_ = row
                parsed.writes.extend(given.writes(*fields.split(place), [frame]))
            case _:
                raise unknown(kind)
    return parsed


def parse_changes(reply: Any) -> Changes | None:
    """None: it is gone, or not for Postgres."""
    match reply:
        case [b"changes", through, number, rows, more, run]:
            return Changes(through.decode(), number, parse_rows(rows), more == b"1", run.decode())
        case [b"gone"]:
            return None
        case _:
            raise unknown(reply)


def parse_scan(reply: Any) -> Scanned | None:
    """None: it is gone, or not for Postgres."""
    match reply:
        case [b"scan", cursor, rows, number, _, run]:
            in_order = sorted(rows, key=lambda row: row[3] if row[0] == b"w" else 0)  # bundles have the first write win
            return Scanned(cursor.decode(), Base(parse_rows(in_order), number, frozenset([run.decode()])))
        case [b"gone"]:
            return None
        case _:
            raise unknown(reply)


def parse_ack(reply: Any) -> Acknowledged:
    _, more = reply
    return Acknowledged(Verdict(word(reply)), more == b"1")


def parse_compared(reply: Any) -> Compared | Changed:
    match reply:
        case [b"changed", flushed]:
            return Changed(flushed.decode())
        case _:
            return Compared(word(reply))


def parse_promoted(reply: Any) -> str | None:
    """The incarnation; None if there is no such thread here."""
    match reply:
        case [b"ok", incarnation, _]:
            return str(incarnation.decode())
        case [b"absent"]:
            return None
        case _:
            raise unknown(reply)


class FlushingCalls(Keys):
    """Calls that bring Postgres up to date."""

    def lease_due(self, bucket: int, limit: int) -> Lua[list[str]]:
        return self._of_bucket("lease_due", bucket, texts, most=str(limit), lease=str(LEASE_MS))

    def due(self, bucket: int, cursor: str) -> Lua[DuePage]:
        return self._of_bucket("due", bucket, parse_due, cursor=cursor, most=str(DUE_PAGE))

    def lease(self, thread_id: str) -> Lua[Lease | NoLease]:
        return self._call("lease", thread_id, parse_lease, thread_id=thread_id, lease=str(LEASE_MS))

    def changes(self, thread_id: str, lease: Lease, after: int, most_bytes: int = PAGE_BYTES) -> Lua[Changes | None]:
        return self._call(
            "changes",
            thread_id,
            parse_changes,
            incarnation=lease.incarnation,
            flushed=lease.flushed,
            after=str(after),
            room=str(most_bytes),
        )

    def scan(self, thread_id: str, lease: Lease, cursor: str, most_bytes: int = PAGE_BYTES) -> Lua[Scanned | None]:
        return self._call(
            "scan",
            thread_id,
            parse_scan,
            incarnation=lease.incarnation,
            flushed=lease.flushed,
            cursor=cursor,
            most=str(SCAN_FIELDS),
            room=str(most_bytes),
        )

    def ack(self, thread_id: str, *, incarnation: str, through: str) -> Lua[Acknowledged]:
        return self._call(
            "ack",
            thread_id,
            parse_ack,
            thread_id=thread_id,
            incarnation=incarnation,
            through=through,
            interval=self._interval_ms,
            keep=self._kept,
        )

    def park(self, thread_id: str, *, incarnation: str, error: str) -> Lua[bool]:
        return self._call(
            "park",
            thread_id,
            whether("parked", "gone"),
            thread_id=thread_id,
            incarnation=incarnation,
            error=error,
            first=_FIRST_DELAY_MS,
            longest=_LONGEST_DELAY_MS,
        )

    def promote(self, thread_id: str, *, reason: str, op: str, pin: bool | None = None) -> Lua[str | None]:
        pinned = "" if pin is None else str(int(pin))
        return self._call("promote", thread_id, parse_promoted, thread_id=thread_id, reason=reason, pin=pinned, op=op)

    def rebase(
        self, thread_id: str, *, incarnation: str, flushed: str, op: str, whole: bool, seen: str = "any"
    ) -> Lua[Compared | Changed]:
        return self._call(
            "rebase",
            thread_id,
            parse_compared,
            thread_id=thread_id,
            incarnation=incarnation,
            flushed=flushed,
            op=op,
            interval=self._interval_ms,
            whole="1" if whole else "0",
            seen=seen,
        )

    def forget(self, thread_id: str, *, incarnation: str, flushed: str) -> Lua[Compared | Changed]:
        return self._call(
            "forget", thread_id, parse_compared, thread_id=thread_id, incarnation=incarnation, flushed=flushed
        )

    def vouch(self, thread_id: str, *, incarnation: str, flushed: str) -> Lua[Compared | Changed]:
        return self._call("vouch", thread_id, parse_compared, incarnation=incarnation, flushed=flushed)
