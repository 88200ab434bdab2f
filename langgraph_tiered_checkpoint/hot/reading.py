"""Calls of the scripts that read, and of the one that makes resident what Postgres was read for.

What each replies, as records, and how it is parsed, stands before the calls. No I/O, no clock.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.hot import fields
from langgraph_tiered_checkpoint.hot.frames import Parts, pack_blob, pack_frame, pack_list, pack_writes
from langgraph_tiered_checkpoint.hot.keys import PAGE_BYTES, Keys
from langgraph_tiered_checkpoint.hot.replies import Guarded, Moved, parse_moved, whether
from langgraph_tiered_checkpoint.records import BlobRow, DeltaAncestor, StoredCheckpoint, Typed, WriteRow
from langgraph_tiered_checkpoint.steps import Lua

LIST_STEPS = 2_000
"""How many checkpoints one script goes through: a page of a list that begins above what is wanted, or of ancestors."""


NOWHERE = "\U0010ffff"
"""Above every checkpoint id: the floor of a namespace of which nothing is known. See lua/common.lua."""


class Known(Enum):
    """Whether the hot tier has the answer to a question. See the scripts for when it says what."""

    HIT = "hit"
    """It has, here: one checkpoint, a page, a walk."""
    UNSURE = "unsure"
    """Here is what it has, and Postgres may have more."""
    NONE = "none"
    """There is nothing in either tier."""
    MISS = "miss"
    """The thread is here, but not what was asked for: Postgres may have that."""
    ABSENT = "absent"
    """The thread is not here, and nothing is known of it."""
    BUSY = "busy"
    """Likewise, and others are at it: Postgres is to be read, and nothing to be filled."""


class Found(NamedTuple):
    """What the hot tier knows of one checkpoint."""

    kind: Known
    incarnation: str
    stored: StoredCheckpoint | None
    writes: list[WriteRow]
    """On a miss: pending writes of the checkpoint that only this tier has."""
    flushed: str
    token: str
    absent_ms: float
    """When the thread was found not to be in the hot tier, by Redis's clock; 0 if it is there."""
    oldest: str | None = None
    """If unsure, the oldest checkpoint of the namespace that is in the hot tier."""


class Page(NamedTuple):
    """One page of a list."""

    kind: Known
    """HIT, NONE or ABSENT."""
    incarnation: str
    whole: bool
    floor: str
    records: list[StoredCheckpoint]
    unsure: set[tuple[str, str]]
    """(checkpoint id, namespace) of the records of which Postgres may hold more pending writes, or sends."""
    bare: set[tuple[str, str]]
    """Likewise, of those that come without their values and writes."""
    cursor: tuple[str, str] | None
    """To go on with, if there is more."""


class Walk(NamedTuple):
    """A stretch of a parent chain."""

    kind: Known
    """All but BUSY."""
    incarnation: str
    ancestors: list[DeltaAncestor]
    cursor: str
    cursor_writes: list[WriteRow]
    open_channels: list[str]
    more: bool = False
    """Whether it goes on in the hot tier, after the last ancestor."""


Records = list[StoredCheckpoint | None]
"""None for each that is not in the hot tier (any more)."""


def parse_get(ns: str, checkpoint_id: str, known: Mapping[str, BlobRow], reply: Sequence[Any]) -> Found | Moved:
    """What get.lua replies, when it was told of the values that are `known`, by channel."""
    match reply:
        case [b"hit" | b"unsure" as kind, incarnation, record, *more]:
            oldest = more[0].decode() if kind == b"unsure" else None
            found = _record(record, Parts(known))
            return Found(Known(kind.decode()), incarnation.decode(), found, [], "", "", 0, oldest)
        case [b"miss", incarnation, writes, flushed]:
            early = Parts().writes(ns, checkpoint_id, writes)
            return Found(Known.MISS, incarnation.decode(), None, early, flushed.decode(), "", 0)
        case [b"none", incarnation, *ms]:
            return Found(Known.NONE, incarnation.decode(), None, [], "", "", float(ms[0]) if ms else 0)
        case [b"absent" | b"busy" as kind, token, ms]:
            return Found(Known(kind.decode()), "", None, [], "", token.decode(), float(ms))
        case _:
            return parse_moved(reply)


def parse_list(reply: Sequence[Any]) -> Page | Moved:
    match reply:
        case [b"page", incarnation, whole, floor, records, *cursor]:
            given = Parts()
            found = [_record(r[:7], given) for r in records]
            places = [(stored.row.checkpoint_id, stored.row.ns) for stored in found]
            unsure = {place for place, r in zip(places, records, strict=True) if r[7] != b"1"}
            bare = {place for place, r in zip(places, records, strict=True) if r[8] != b"1"}
            at = (cursor[0].decode(), cursor[1].decode()) if cursor else None
            return Page(Known.HIT, incarnation.decode(), whole == b"1", floor.decode(), found, unsure, bare, at)
        case [b"none" | b"absent" as kind, *_]:
            return Page(Known(kind.decode()), "", kind == b"none", "", [], set(), set(), None)
        case _:
            return parse_moved(reply)


def parse_records(reply: Sequence[Any]) -> Records | Moved:
    match reply:
        case [b"records", records]:
            given = Parts()
            return [None if r is None else _record(r, given) for r in records]
        case _:
            return parse_moved(reply)


def parse_delta(ns: str, reply: Sequence[Any]) -> Walk | Moved:
    match reply:
        case [b"walk", *walk]:
            return _walk(ns, walk)
        case [b"none" | b"miss" | b"unsure" | b"absent" as kind, *more]:
            return Walk(Known(kind.decode()), more[0].decode() if more else "", [], "", [], [])
        case _:
            return parse_moved(reply)


def _record(reply: Sequence[Any], given: Parts) -> StoredCheckpoint:
    ns, checkpoint_id, frame, links, values, writes, sends = reply
    row = given.checkpoint(ns.decode(), checkpoint_id.decode(), frame, links)
    blobs = [
        given.blob(row.ns, channel, version, value)
        for (channel, version), value in zip(row.refs, values, strict=False)
        if value is not None
    ]
    of_parent = given.writes(row.ns, row.parent_id, sends) if sends else ()
    return StoredCheckpoint(row, blobs, given.writes(row.ns, row.checkpoint_id, writes), of_parent)


def _walk(ns: str, walk: Sequence[Any]) -> Walk:
    incarnation, ancestors, cursor, cursor_writes, still, more = walk
    found = []
    given = Parts()
    for checkpoint_id, seeds, writes, frame in ancestors:
        name = checkpoint_id.decode()
        values: dict[str, Typed] = {}
        for channel, value in zip(seeds[::2], seeds[1::2], strict=True):
            channel_name = channel.decode()
            if value is None:
                values[channel_name] = inline_value(given.checkpoint(ns, name, frame, b"").checkpoint, channel_name)
            else:
                blob = given.blob(ns, channel_name, "", value)
                values[channel_name] = blob.type, blob.data
        found.append(DeltaAncestor(name, values, given.writes(ns, name, writes)))
    at = cursor.decode()
    return Walk(
        Known.HIT,
        incarnation.decode(),
        found,
        at,
        given.writes(ns, at, cursor_writes),
        [c.decode() for c in still],
        more == b"1",
    )


def inline_value(checkpoint: bytes, channel: str) -> Typed:
    """The value of a channel that is inline in a checkpoint's JSON, as JSON."""
    return "json", json.dumps(json.loads(checkpoint)["channel_values"][channel]).encode()


class ReadingCalls(Keys):
    """Calls that read."""

    def get(
        self,
        thread_id: str,
        ns: str,
        checkpoint_id: str,
        *,
        root_id: str,
        token: str,
        known: Mapping[str, BlobRow] = MappingProxyType({}),
        channels: Collection[str] | None = None,
    ) -> Guarded[Found]:
        """One checkpoint, or the latest of a namespace, without the values that are known. One round trip.

        Of some channels only, it is as if there were no other values.
        """
        have: list[str] = []
        for blob in known.values():
            have += (fields.value(ns, blob.channel, blob.version), blob.tag)
        only = b"" if channels is None else pack_list([fields.value(ns, channel, "") for channel in channels])
        head = (ns, checkpoint_id, self._refresh, root_id, self._cold, token, only)
        return self._by_position("get", thread_id, partial(parse_get, ns, checkpoint_id, known), head, have)

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
