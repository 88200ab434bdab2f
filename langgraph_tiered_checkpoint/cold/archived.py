"""Statements that read what is archived, and how it becomes records. No I/O."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.cold.rows import describe
from langgraph_tiered_checkpoint.cold.schema import ColdSchema
from langgraph_tiered_checkpoint.cold.segments import Opened, Place, key_of
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, DeltaAncestor, StoredCheckpoint, Typed, WriteRow
from langgraph_tiered_checkpoint.steps import Statements


class Archived(NamedTuple):
    """What the archive has of a page."""

    segments: Mapping[Place, Opened]
    """By the checkpoints of the page that are in them."""
    above: str | None
    """The page is known down to this id, which it goes without; None if it is known to its end."""


class Window(NamedTuple):
    """Which checkpoints of a thread a page may have."""

    ns: str | None
    checkpoint_id: str | None
    before_id: str | None
    after: Place | None
    """Where the last page ended."""
    last: Place | None
    """Where the official rows of this page end, if there are more of them."""

    def has(self, place: Place) -> bool:
        """Whether this is one of them."""
        ns, id_ = place
        return (
            self.ns in (None, ns)
            and self.checkpoint_id in (None, id_)
            and (self.before_id is None or id_ < self.before_id)
            and (self.after is None or (id_, ns) < (self.after[1], self.after[0]))
            and (self.last is None or (id_, ns) >= (self.last[1], self.last[0]))
        )

    @property
    def highest(self) -> str | None:
        """No id is above this one."""
        bounds = [self.checkpoint_id, self.before_id, self.after and self.after[1]]
        return min((bound for bound in bounds if bound is not None), default=None)

    @property
    def lowest(self) -> str | None:
        """No id is below this one."""
        return self.checkpoint_id or (self.last and self.last[1])


class ArchiveReader(ColdSchema):
    """What can be asked of the archive, inside other bodies."""

    def _segments_of(self, thread_id: str, places: Collection[Place]) -> Statements[dict[Place, Opened]]:
        """Where these checkpoints are, of those that are archived."""
        ids = [id_ for _, id_ in places]
        if not ids:
            return {}
        keys = [key_of(place) for place in places]
        rows = yield self._q("segments_of", thread=thread_id, lowest=min(ids), highest=max(ids), keys=keys)
        segments = [Opened(thread_id, *row) for row in rows]
        return {place: segment for segment in segments for place in places if place in segment.places}

    def _archived_page(self, thread_id: str, window: Window, official: Sequence[Place]) -> Statements[Archived]:
        """What the archive has in a window, as far down as there is something sure on the page."""
        found: dict[Place, Opened] = {}
        keys = None
        if window.checkpoint_id is not None and window.ns is not None:
            keys = [key_of((window.ns, window.checkpoint_id))]
        after_id, after_segment = None, None
        while True:
            rows = yield self._q(
                "page_of_segments",
                thread=thread_id,
                after_id=after_id,
                after_segment=after_segment,
                highest=window.highest,
                lowest=window.lowest,
                ns=window.ns,
                keys=keys,
            )
            if not rows:
                return Archived(found, None)
            after_segment, after_id, contents, frame = rows[0]
            segment = Opened(thread_id, after_segment, contents, frame)
            found |= {place: segment for place in segment.places if window.has(place)}
            if len(rows) == 1:
                return Archived(found, None)
            above = rows[1][1]
            if any(id_ > above for _, id_ in (*found, *official)):
                return Archived(found, above)


def stored_in(segment: Opened, place: Place) -> StoredCheckpoint:
    """An archived checkpoint with all that it needs."""
    return StoredCheckpoint(row_in(segment, place), blobs_in(segment, place), writes_in(segment, place))


def row_in(segment: Opened, place: Place) -> CheckpointRow:
    """An archived checkpoint without its values."""
    row = segment.row(place)
    exact = None
    if row.exact_type is not None and row.sha256 == sha256(row.metadata.encode()).digest():
        exact = (row.exact_type, row.exact or b"")
    return describe(row.ns, row.checkpoint_id, row.parent_id or "", row.checkpoint, row.metadata, exact)


def blobs_in(segment: Opened, place: Place) -> list[BlobRow]:
    """The values of an archived checkpoint."""
    return [BlobRow(b.ns, b.channel, b.version, b.type, b.data or b"") for b in segment.blobs(place)]


def writes_in(segment: Opened, place: Place) -> list[WriteRow]:
    """The pending writes of an archived checkpoint."""
    return [
        WriteRow(w.ns, w.checkpoint_id, w.task_id, w.idx, w.channel, w.type or "", w.data, w.task_path)
        for w in segment.writes(place)
    ]


class Walk(NamedTuple):
    """A way up the parents, as far as it went."""

    ancestors: list[DeltaAncestor]
    cursor: str
    """The next ancestor; empty when the walk is over."""
    sought: list[str]
    """Channels that have not met a stored value."""

    def onward(self, ancestor: DeltaAncestor, parent_id: str) -> Walk:
        """The walk with its next ancestor."""
        self.ancestors.append(ancestor)
        still = [channel for channel in self.sought if channel not in ancestor.seeds]
        return self._replace(cursor=parent_id, sought=still)


def walk_in(segment: Opened, ns: str, walk: Walk, seen: set[str]) -> Walk:
    """Go up the parents as long as they are in this segment, as the query `delta_history` does in the tables."""
    while walk.sought and (place := (ns, walk.cursor)) in segment.places:
        if walk.cursor in seen:
            return walk._replace(cursor="")
        seen.add(walk.cursor)
        row = row_in(segment, place)
        seeds = _seeds(row, blobs_in(segment, place), walk.sought)
        writes = [write for write in writes_in(segment, place) if write.channel in walk.sought]
        walk = walk.onward(DeltaAncestor(walk.cursor, seeds, writes), row.parent_id)
    return walk


def _seeds(row: CheckpointRow, blobs: Iterable[BlobRow], sought: Collection[str]) -> dict[str, Typed]:
    inline: dict[str, Any] = json.loads(row.checkpoint).get("channel_values") or {}
    seeds: dict[str, Typed] = {c: ("json", json.dumps(inline[c]).encode()) for c in sought if c in inline}
    return seeds | {b.channel: (b.type, b.data) for b in blobs if b.channel in sought and b.type != "empty"}
