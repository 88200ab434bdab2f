"""Keys of the hot tier, and one typed builder per script. No I/O, no clock.

The layout of a thread's hash is described in lua/common.lua; what each script promises, in its own header.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.hot.frames import pack_blob, pack_frame, pack_list, pack_writes
from langgraph_tiered_checkpoint.hot.replies import (
    CopiedPage,
    Found,
    Guarded,
    Lease,
    Moved,
    Page,
    Records,
    Walk,
    WriteReply,
    parse_copied,
    parse_delta,
    parse_get,
    parse_list,
    parse_records,
    parse_write,
)
from langgraph_tiered_checkpoint.hot.workers import parse_workers
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, StoredCheckpoint, Worker, WriteRow
from langgraph_tiered_checkpoint.steps import SERVER_RUN, Lua

R = TypeVar("R")

BUCKETS = 256
LEASE_MS = 30_000
TOMBSTONE_MS = 600_000
PAGE_BYTES = 4_000_000
"""How much one page of a flush carries, about."""
DUE_PAGE = 100
"""How many due threads are read at once, about, of each bucket."""
LIST_STEPS = 2_000
"""How many checkpoints one script goes through: a page of a list that begins above what is wanted, or of ancestors."""
ALIVE_MS = 120_000
"""How long a promoter counts as alive after it has said so, which it does every 30 s."""
COUNTED, COUNTED_DUE = 8, 20
"""Threads of each bucket that are looked at to tell of all: some at random, and those that are due first."""
SCAN_FIELDS = 1_000
"""How many fields one page of a first copy reads at most, about: some milliseconds of the server's time."""


def _raw(reply: Any) -> Any:
    return reply


class Writer(NamedTuple):
    """Who writes: what every mutation of a thread carries."""

    thread_id: str
    op: str
    """Random, and the same when the call is repeated."""
    incarnation: str
    confirmed: bool
    """Whether the thread is known to have existed in this incarnation."""
    since_ms: float
    """When the run began, or what it names was made: a thread deleted since is not to be brought back."""
    promote: str = ""
    """A reason to promote the thread with this write."""


class FoundOrigin(NamedTuple):
    """What Postgres said of a thread that was not resident, for the script that asked."""

    kind: str
    """ "new" or "cold"."""
    token: str
    flushed: str = ""
    pinned: bool = False


NOWHERE = "\U0010ffff"
"""Above every checkpoint id: the floor of a namespace of which nothing is known. See lua/common.lua."""

UNKNOWN_ORIGIN = FoundOrigin("", "")


class Hot:
    """Builders of script calls under one prefix and one set of policies."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.key_prefix
        self._buckets = [f"{self._prefix}:{{{bucket:02x}}}:" for bucket in range(BUCKETS)]
        self._settings = settings
        promotion = settings.promotion
        after = promotion.after
        policy = (
            settings.ttl_ms,
            settings.hot_ttl_ms,
            -1 if after is None else int(after.total_seconds() * 1000),
            promotion.checkpoints or 0,
            promotion.bytes or 0,
            int(promotion.on_interrupt),
            int(promotion.before_expiry),
        )
        self._policy = tuple(map(str, policy))  # numbers would be turned into text on each call
        self._interval_ms = str(int(settings.flush_interval.total_seconds() * 1000))
        self._cold = "1" if settings.cold else "0"
        self._run = SERVER_RUN if settings.cold else ""
        self._refresh = "1" if settings.refresh_on_read else "0"

    # Keys

    def thread_key(self, thread_id: str) -> str:
        return f"{self._buckets[bucket_of(thread_id)]}t:{thread_id}"

    def bucket_key(self, bucket: int, what: str) -> str:
        return self._buckets[bucket] + what

    def _keys(self, thread_id: str, *lists: str) -> tuple[str, ...]:
        bucket = self._buckets[bucket_of(thread_id)]
        return (f"{bucket}t:{thread_id}", *[bucket + name for name in lists])

    def _call(
        self, script: str, thread_id: str, lists: Sequence[str], *args: bytes | str, parse: Callable[[Any], Any] = _raw
    ) -> Lua[Any]:
        return Lua(script, self._keys(thread_id, *lists), args, thread_id, parse)

    def _guarded(
        self,
        script: str,
        thread_id: str,
        lists: Sequence[str],
        *args: bytes | str,
        parse: Callable[[Any], R | Moved],
    ) -> Guarded[R]:
        return Guarded(script, self._keys(thread_id, *lists), (*args, self._run), thread_id, parse)

    # Writing

    def put(
        self,
        writer: Writer,
        row: CheckpointRow,
        values: Iterable[tuple[str, str, bytes]],
        expected: Sequence[int],
        origin: FoundOrigin = UNKNOWN_ORIGIN,
    ) -> Guarded[WriteReply]:
        """Store a checkpoint, and values as (channel, version, packed). One round trip."""
        return self._write(
            "put",
            writer,
            origin,
            (
                row.ns,
                row.checkpoint_id,
                row.parent_id,
                pack_frame(row),
                pack_list(list(expected)),
                *[part for value in values for part in value],
            ),
        )

    def put_writes(
        self,
        writer: Writer,
        ns: str,
        checkpoint_id: str,
        task_id: str,
        writes: Sequence[WriteRow],
        *,
        interrupt: bool,
        origin: FoundOrigin = UNKNOWN_ORIGIN,
    ) -> Guarded[WriteReply]:
        """Store pending writes of one task, any number of them. One round trip."""
        args: list[bytes | str] = [ns, checkpoint_id, task_id, "1" if interrupt else "0"]
        for idx, frame in pack_writes(writes):
            args += (str(idx), frame)
        return self._write("put_writes", writer, origin, args)

    def _write(
        self, script: str, writer: Writer, origin: FoundOrigin, args: Iterable[bytes | str]
    ) -> Guarded[WriteReply]:
        head: tuple[bytes | str, ...] = (
            writer.thread_id,
            writer.op,
            writer.incarnation,
            "1" if writer.confirmed else "0",
            self._cold,
            f"{writer.since_ms:.3f}",
            origin.kind,
            origin.token,
            origin.flushed,
            "1" if origin.pinned else "0",
            *self._policy,
            writer.promote,
            self._interval_ms,
        )
        lists = ("due", "threads", "runs", "gone", "lapses")
        return self._guarded(script, writer.thread_id, lists, *head, *args, parse=parse_write)

    # Reading

    def get(
        self,
        thread_id: str,
        ns: str,
        checkpoint_id: str,
        *,
        root_id: str,
        token: str,
        known: Mapping[str, BlobRow] = MappingProxyType({}),
    ) -> Guarded[Found]:
        """One checkpoint, or the latest of a namespace, without the values that are known. One round trip."""
        have = pack_list([part for blob in known.values() for part in (blob.channel, blob.version, blob.tag)])
        args = (ns, checkpoint_id, self._refresh, root_id, self._cold, token, have)
        return self._guarded("get", thread_id, (), *args, parse=partial(parse_get, ns, checkpoint_id, known))

    def list(
        self,
        thread_id: str,
        ns: str | None,
        *,
        below: str,
        cursor: tuple[str, str] | None,
        limit: int,
        value_bytes: int = PAGE_BYTES,
        only: str = "",
    ) -> Guarded[Page]:
        """One page, newest first; with `only`, all checkpoints of that id. One round trip."""
        at_id, at_ns = cursor or ("", "")
        one = "0" if ns is None else "1"
        most = (str(limit), only, str(PAGE_BYTES), str(value_bytes), str(LIST_STEPS))
        args = (one, ns or "", below, at_id, at_ns, *most)
        return self._guarded("list", thread_id, (), *args, parse=parse_list)

    def records(self, thread_id: str, places: Iterable[tuple[str, str]]) -> Guarded[Records]:
        """Checkpoints by id and namespace. One round trip."""
        names = (part for id_, ns in places for part in (ns, id_))
        return self._guarded("records", thread_id, (), str(PAGE_BYTES), *names, parse=parse_records)

    def delta(self, thread_id: str, ns: str, checkpoint_id: str, channels: Sequence[str]) -> Guarded[Walk]:
        """What the ancestors of a checkpoint hold of some channels, or the first of them. One round trip."""
        most = (str(PAGE_BYTES), str(LIST_STEPS))
        args = (ns, checkpoint_id, *most, *channels)
        return self._guarded("delta", thread_id, (), *args, parse=partial(parse_delta, ns))

    def fill(
        self,
        thread_id: str,
        token: str,
        incarnation: str,
        flushed: str,
        ns: str,
        stored: StoredCheckpoint | None,
        early: Iterable[WriteRow],
        since: str,
        *,
        tag: str,
        pinned: bool = False,
    ) -> Lua[Any]:
        """Make a checkpoint that Postgres holds resident, or note that there is none.

        `early` are pending writes of other checkpoints: with those of this one, all from the id `since` on. `tag` is
        random, and what the values are known by afterwards.
        """
        of_tasks: dict[tuple[str, str], list[WriteRow]] = {}
        for write in (*(stored.writes if stored else ()), *early):
            of_tasks.setdefault((write.checkpoint_id, write.task_id), []).append(write)
        writes: list[Any] = []
        for (of_checkpoint, task_id), rows in of_tasks.items():
            for idx, frame in pack_writes(rows):
                writes += (of_checkpoint, idx, task_id, frame)
        packed = pack_list(writes)
        args: list[bytes | str] = [
            thread_id,
            token,
            incarnation,
            flushed,
            "1" if pinned else "0",
            *self._policy[:2],
            ns,
        ]
        if stored is None:
            args += ("", "", "", packed, since)
        else:
            row = stored.row
            args += (row.checkpoint_id, row.parent_id, pack_frame(row, filled=True), packed, since)
            for blob in stored.blobs:
                args += (blob.channel, blob.version, pack_blob(blob, tag))
        return self._call("fill", thread_id, ("threads", "gone", "lapses"), *args, self._run)

    # Promoting

    def lease_due(self, bucket: int, limit: int) -> Lua[Any]:
        return self._of_bucket("lease_due", bucket, ("due",), str(limit), str(LEASE_MS))

    def due(self, bucket: int, cursor: str) -> Lua[Any]:
        return self._of_bucket("due", bucket, ("due",), cursor, str(DUE_PAGE), self._run)

    def lease(self, thread_id: str) -> Lua[Any]:
        return self._call("lease", thread_id, ("due",), thread_id, str(LEASE_MS), self._run)

    def changes(self, thread_id: str, lease: Lease, after: int, most_bytes: int = PAGE_BYTES) -> Lua[Any]:
        return self._call(
            "changes", thread_id, (), lease.incarnation, lease.flushed, str(after), str(most_bytes), self._run
        )

    def scan(self, thread_id: str, lease: Lease, cursor: str, most_bytes: int = PAGE_BYTES) -> Lua[Any]:
        return self._call(
            "scan",
            thread_id,
            (),
            lease.incarnation,
            lease.flushed,
            cursor,
            str(SCAN_FIELDS),
            str(most_bytes),
            self._run,
        )

    def ack(self, thread_id: str, incarnation: str, through: str) -> Lua[Any]:
        keep = str(self._settings.hot_checkpoints or 0)
        return self._call("ack", thread_id, ("due", "parked"), thread_id, incarnation, through, self._interval_ms, keep)

    def trim(self, thread_id: str, incarnation: str) -> Lua[Any]:
        return self._call("trim", thread_id, (), incarnation, str(self._settings.hot_checkpoints or 0))

    def park(self, thread_id: str, incarnation: str, error: str) -> Lua[Any]:
        return self._call("park", thread_id, ("due", "parked"), thread_id, incarnation, error, "1000", "600000")

    def rebase(
        self, thread_id: str, incarnation: str, flushed: str, op: str, *, whole: bool, seen: str = "any"
    ) -> Lua[Any]:
        args = (thread_id, incarnation, flushed, op, self._interval_ms, "1" if whole else "0", seen)
        return self._call("rebase", thread_id, ("due",), *args)

    def forget(self, thread_id: str, incarnation: str, flushed: str) -> Lua[Any]:
        return self._call("forget", thread_id, ("due", "threads", "lapses"), thread_id, incarnation, flushed)

    def vouch(self, thread_id: str, incarnation: str, flushed: str) -> Lua[Any]:
        return self._call("vouch", thread_id, (), incarnation, flushed, self._run)

    def promote(self, thread_id: str, reason: str, op: str, *, pin: bool | None = None) -> Lua[Any]:
        return self._call("promote", thread_id, ("due",), thread_id, reason, "" if pin is None else str(int(pin)), op)

    # Structural

    def evict(self, thread_id: str, incarnation: str, flushed: str, *, token: str = "", hold_ms: int = 0) -> Lua[Any]:
        lists = ("due", "threads", "lapses")
        return self._call("evict", thread_id, lists, thread_id, incarnation, flushed, token, str(hold_ms))

    def reopen(self, thread_id: str, token: str) -> Lua[Any]:
        return self._call("reopen", thread_id, (), token)

    def outline(self, thread_id: str, cursor: str) -> Lua[Any]:
        return self._call("outline", thread_id, (), cursor, "500")

    def drop(
        self, thread_id: str, incarnation: str, which: Iterable[tuple[str, str]], staying: Iterable[tuple[str, str]]
    ) -> Lua[Any]:
        kept = pack_list([part for pair in staying for part in pair])
        dropped = (part for pair in which for part in pair)
        lists = ("due", "threads", "runs", "lapses")
        return self._call("drop", thread_id, lists, thread_id, incarnation, kept, *dropped)

    def orphan(self, thread_id: str, incarnation: str, which: Iterable[tuple[str, str]]) -> Lua[Any]:
        return self._call("orphan", thread_id, (), incarnation, *(part for pair in which for part in pair))

    def made_of(self, thread_id: str, incarnation: str, cursor: str) -> Lua[Any]:
        return self._call("made_of", thread_id, (), incarnation, cursor, "2000")

    def erase(
        self,
        thread_id: str,
        incarnation: str,
        change: int,
        arena: int,
        first: int,
        last: int,
        needed: Iterable[tuple[int, int]],
        *,
        complete: bool,
    ) -> Lua[Any]:
        figures = map(str, (change, arena, first, last))
        stretches = pack_list([figure for stretch in needed for figure in stretch])
        return self._call("erase", thread_id, (), incarnation, *figures, stretches, "1" if complete else "0")

    def delete(self, thread_id: str, op: str, only: Iterable[str] = ()) -> Lua[Any]:
        return self._call(
            "delete", thread_id, ("due", "threads", "gone", "parked", "runs", "lapses"), thread_id, op, *only, self._run
        )

    def copy_out(self, thread_id: str, cursor: str, most_bytes: int = PAGE_BYTES) -> Guarded[CopiedPage | None]:
        return self._guarded("copy_out", thread_id, (), cursor, "5000", str(most_bytes), parse=parse_copied)

    def stage(self, thread_id: str, token: str, hold_ms: int, fields: Iterable[bytes]) -> Lua[Any]:
        return self._call("stage", thread_id, (), token, str(hold_ms), *fields)

    def land(
        self,
        thread_id: str,
        token: str,
        incarnation: str,
        meta: bytes,
        fields: Iterable[bytes],
    ) -> Lua[Any]:
        args: list[bytes | str] = [thread_id, token, incarnation, *self._policy[:2], meta, *fields]
        return self._call("land", thread_id, ("threads", "lapses"), *args)

    # Upkeep

    def turn(self, for_ms: int) -> Lua[Any]:
        """Not of one bucket: the store's own."""
        return Lua("turn", (f"{self._prefix}:turn",), (str(for_ms),), "*", _raw)

    @property
    def workers_key(self) -> str:
        return f"{self._prefix}:workers"

    def beat(self, before: str, now: str) -> Lua[Any]:
        """Not of one bucket either."""
        return Lua("beat", (self.workers_key,), (before, now, str(ALIVE_MS)), "*", _raw)

    def workers(self) -> Lua[Sequence[Worker]]:
        return Lua("workers", (self.workers_key,), (str(ALIVE_MS),), "*", parse_workers)

    def lapses(self, bucket: int, limit: int) -> Lua[Any]:
        return self._of_bucket("lapses", bucket, ("lapses", "gone"), str(limit), str(TOMBSTONE_MS))

    def sweep(self, bucket: int, thread_ids: Sequence[str], most_runs: int) -> Lua[Any]:
        lists = ("lapses", "threads", "due", "parked", "runs")
        keys = (*(self.bucket_key(bucket, name) for name in lists), *map(self.thread_key, thread_ids))
        return Lua("sweep", keys, (str(most_runs), *thread_ids), f"bucket {bucket:02x}", _raw)

    # Looking

    def status(self, thread_id: str) -> Lua[Any]:
        return self._call("status", thread_id, ("due",), thread_id)

    def bucket(self, bucket: int) -> Lua[Any]:
        return self._of_bucket("bucket", bucket, ("threads", "due", "parked"), str(COUNTED), str(COUNTED_DUE))

    def census(self, bucket: int, thread_ids: Sequence[str]) -> Lua[Any]:
        return Lua("census", tuple(map(self.thread_key, thread_ids)), (), f"bucket {bucket:02x}", _raw)

    def threads(self, bucket: int, prefix: str, after: str, limit: int) -> Lua[Any]:
        return self._of_bucket("names", bucket, ("threads",), prefix, after, str(limit))

    def present(self, thread_ids: Sequence[str]) -> Lua[Any]:
        """Of threads of one bucket."""
        return Lua(
            "present", tuple(map(self.thread_key, thread_ids)), (), f"bucket {bucket_of(thread_ids[0]):02x}", _raw
        )

    def threads_of_run(self, bucket: int, run_id: str, after: str, limit: int) -> Lua[Any]:
        return self._of_bucket("names", bucket, ("runs",), f"{run_id}\0", after, str(limit))

    def _of_bucket(self, script: str, bucket: int, lists: Sequence[str], *args: bytes | str) -> Lua[Any]:
        return Lua(script, tuple(self.bucket_key(bucket, name) for name in lists), args, f"bucket {bucket:02x}", _raw)


def bucket_of(thread_id: str) -> int:
    """The bucket whose hash tag puts the thread and its bookkeeping in one slot."""
    return zlib.crc32(thread_id.encode()) % BUCKETS
