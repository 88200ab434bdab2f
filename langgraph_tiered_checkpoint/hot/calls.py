"""One typed builder per script: those that read and write here, the others in the modules that it takes them from.

No I/O, no clock. What each script promises stands in its own header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.hot import fields
from langgraph_tiered_checkpoint.hot.flushing import FlushingCalls
from langgraph_tiered_checkpoint.hot.frames import pack_blob, pack_frame, pack_list, pack_writes
from langgraph_tiered_checkpoint.hot.keys import PAGE_BYTES
from langgraph_tiered_checkpoint.hot.recipes import Packed
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


MOST_ARGUMENTS = 3_000
"""Of one call, about: managed services refuse commands of 4,000."""

NOWHERE = "\U0010ffff"
"""Above every checkpoint id: the floor of a namespace of which nothing is known. See lua/common.lua."""

UNKNOWN_ORIGIN = FoundOrigin("", "")


class Hot(FlushingCalls, ReshapingCalls, UpkeepCalls):
    """Builders of script calls under one prefix and one set of policies."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        promotion = settings.promotion
        after = promotion.after
        policy = {  # numbers would be turned into text on each call
            "ttl": self._ttl_ms,
            "hot_ttl": self._hot_ttl_ms,
            "after": -1 if after is None else int(after.total_seconds() * 1000),
            "checkpoints": promotion.checkpoints or 0,
            "bytes": promotion.bytes or 0,
            "on_interrupt": int(promotion.on_interrupt),
            "before_expiry": int(promotion.before_expiry),
        }
        self._policy = {name: str(value) for name, value in policy.items()}
        self._refresh = "1" if settings.refresh_on_read else "0"

    # Writing

    def put(
        self,
        writer: Writer,
        row: CheckpointRow,
        values: Packed,
        expected: Sequence[tuple[str, str]],
        origin: FoundOrigin = UNKNOWN_ORIGIN,
        *,
        taken_over: bool,
        note_run: bool,
    ) -> Guarded[WriteReply]:
        """Store a checkpoint and values. One round trip.

        `expected` are (channel, version) of the values that have to be stored already; `taken_over`: with the parent.
        """
        ns, place, frame = row.ns, fields.place(row.ns, row.checkpoint_id), pack_frame(row)
        looked_at: list[bytes | str] = ["s", f"h{ns}", f"y{place}"]
        wanted: list[bytes | str] = []
        for field, has_to_be in values.conditions:
            looked_at.append(field)
            wanted.append(has_to_be)
        rest: list[bytes | str] = [*looked_at, *wanted, f"c{place}", frame]
        for pair in values.pairs:
            rest += pair
        many = len(rest) > MOST_ARGUMENTS
        on_top = row.parent_id != "" and row.checkpoint_id.encode() > row.parent_id.encode()
        log = [writer.op, "c", place, *[fields.value(ns, blob.channel, blob.version) for blob in values.stored]]
        return self._guarded(
            "put",
            writer.thread_id,
            parse_write,
            **self._of_writer(writer, origin),
            ns=ns,
            id=row.checkpoint_id,
            parent=row.parent_id,
            quick="1" if taken_over and on_top and not many else "0",
            size=str(len(frame) + values.bytes),
            root=row.root_id,
            run_id=row.run_id if note_run else "",
            log=pack_list(log),
            expected=pack_list([fields.value(ns, *ref) for ref in expected]),
            packed=pack_list(rest) if many else b"",
            looked_at=str(len(looked_at)),
            rest=() if many else rest,
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
        place = fields.place(ns, checkpoint_id)
        packed = pack_writes(writes)
        names = [fields.ordinal(place, idx, task_id) for idx, _ in packed]
        alone = len(set(names)) == len(names)
        special = "".join("1" if isinstance(idx, int) and idx < 0 else "0" for idx, _ in packed)
        return self._guarded(
            "put_writes",
            writer.thread_id,
            parse_write,
            **self._of_writer(writer, origin),
            ns=ns,
            id=checkpoint_id,
            quick="1" if alone and not interrupt else "0",
            interrupt="1" if interrupt else "0",
            special=special,
            looked_at=str(3 + len(packed)),
            rest=("s", f"h{ns}", f"y{place}", *names, *[frame for _, frame in packed]),
        )

    def _of_writer(self, writer: Writer, origin: FoundOrigin) -> dict[str, str]:
        """What every write carries."""
        return {
            "thread_id": writer.thread_id,
            "op": writer.op,
            "incarnation": writer.incarnation,
            "confirmed": "1" if writer.confirmed else "0",
            "cold": self._cold,
            "since": f"{writer.since_ms:.3f}",
            "origin": origin.kind,
            "token": origin.token,
            "flushed": origin.flushed,
            "pinned": "1" if origin.pinned else "0",
            **self._policy,
            "reason": writer.promote,
            "interval": self._interval_ms,
        }

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
        have: list[str] = []
        for blob in known.values():
            have += (fields.value(ns, blob.channel, blob.version), blob.tag)
        return self._guarded(
            "get",
            thread_id,
            partial(parse_get, ns, checkpoint_id, known),
            ns=ns,
            id=checkpoint_id,
            refresh=self._refresh,
            root=root_id,
            cold=self._cold,
            token=token,
            rest=have,
        )

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
        return self._guarded(
            "list",
            thread_id,
            parse_list,
            one="0" if ns is None else "1",
            ns=ns or "",
            below=below,
            at_id=at_id,
            at_ns=at_ns,
            limit=str(limit),
            only=only,
            room=str(PAGE_BYTES),
            value_room=str(value_bytes),
            steps=str(LIST_STEPS),
        )

    def records(self, thread_id: str, places: Iterable[tuple[str, str]]) -> Guarded[Records]:
        """Checkpoints by id and namespace. One round trip."""
        names = [part for id_, ns in places for part in (ns, id_)]
        return self._guarded("records", thread_id, parse_records, room=str(PAGE_BYTES), rest=names)

    def delta(self, thread_id: str, ns: str, checkpoint_id: str, channels: Sequence[str]) -> Guarded[Walk]:
        """What the ancestors of a checkpoint hold of some channels, or the first of them. One round trip."""
        return self._guarded(
            "delta",
            thread_id,
            partial(parse_delta, ns),
            ns=ns,
            id=checkpoint_id,
            room=str(PAGE_BYTES),
            most=str(LIST_STEPS),
            rest=channels,
        )

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
        pairs: list[bytes | str] = []
        if stored is not None:
            row = stored.row
            pairs += (f"c{fields.place(ns, row.checkpoint_id)}", pack_frame(row, filled=True))
            for blob in stored.blobs:
                pairs += (fields.value(ns, blob.channel, blob.version), pack_blob(blob, tag))
        return self._call(
            "fill",
            thread_id,
            whether("ok", "skip"),
            thread_id=thread_id,
            token=token,
            incarnation=incarnation,
            flushed=flushed,
            pinned="1" if pinned else "0",
            ttl=self._ttl_ms,
            hot_ttl=self._hot_ttl_ms,
            ns=ns,
            id=stored.row.checkpoint_id if stored else "",
            size=str(sum(map(len, pairs[1::2]))),
            writes=pack_list(writes),
            since=since,
            rest=pairs,
        )
