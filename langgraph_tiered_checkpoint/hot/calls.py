"""One typed builder per script: those that read and write here, the others in the modules that it takes them from.

No I/O, no clock. What each script promises stands in its own header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.hot.flushing import FlushingCalls
from langgraph_tiered_checkpoint.hot.frames import pack_blob, pack_frame, pack_list, pack_writes
from langgraph_tiered_checkpoint.hot.keys import PAGE_BYTES
from langgraph_tiered_checkpoint.hot.replies import (
    Found,
    Guarded,
    Page,
    Records,
    Walk,
    WriteReply,
    parse_delta,
    parse_get,
    parse_list,
    parse_records,
    parse_write,
    whether,
)
from langgraph_tiered_checkpoint.hot.reshaping import ReshapingCalls
from langgraph_tiered_checkpoint.hot.upkeep import UpkeepCalls
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, StoredCheckpoint, WriteRow
from langgraph_tiered_checkpoint.steps import Lua

LIST_STEPS = 2_000
"""How many checkpoints one script goes through: a page of a list that begins above what is wanted, or of ancestors."""


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


class Hot(FlushingCalls, ReshapingCalls, UpkeepCalls):
    """Builders of script calls under one prefix and one set of policies."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        promotion = settings.promotion
        after = promotion.after
        policy = (
            -1 if after is None else int(after.total_seconds() * 1000),
            promotion.checkpoints or 0,
            promotion.bytes or 0,
            int(promotion.on_interrupt),
            int(promotion.before_expiry),
        )
        self._policy = (*self._ttls, *map(str, policy))  # numbers would be turned into text on each call
        self._refresh = "1" if settings.refresh_on_read else "0"

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
        *,
        token: str,
        incarnation: str,
        flushed: str,
        pinned: bool,
        ns: str,
        stored: StoredCheckpoint | None,
        early: Iterable[WriteRow],
        since: str,
        tag: str,
    ) -> Lua[bool]:
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
            *self._ttls,
            ns,
        ]
        if stored is None:
            args += ("", "", "", packed, since)
        else:
            row = stored.row
            args += (row.checkpoint_id, row.parent_id, pack_frame(row, filled=True), packed, since)
            for blob in stored.blobs:
                args += (blob.channel, blob.version, pack_blob(blob, tag))
        return self._call(
            "fill", thread_id, ("threads", "gone", "lapses"), *args, self._run, parse=whether("ok", "skip")
        )
