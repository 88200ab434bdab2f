"""What becomes of the archive when checkpoints are dropped, and when a thread is copied. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from langgraph_tiered_checkpoint.cold.archiving import ColdArchive
from langgraph_tiered_checkpoint.cold.segments import Entry, Opened, Place
from langgraph_tiered_checkpoint.records import Outline, Renaming, Typed
from langgraph_tiered_checkpoint.steps import Statements

Decide = Callable[[list[Outline]], Collection[Place]]
"""From the outline of a thread to some of its checkpoints. Pure: it may be called again."""


class Standing(NamedTuple):
    """Where the checkpoints of a thread stand."""

    official: list[Outline]
    archived: list[tuple[Opened, list[Outline]]]
    """By segment, whose values are not read; without what is in the official tables, too."""

    @property
    def outline(self) -> list[Outline]:
        """Of all of them."""
        return self.official + [line for _, lines in self.archived for line in lines]


class ColdRepacking(ColdArchive):
    """How the archive follows when others change what a thread consists of."""

    def _standing(self, thread_id: str) -> Statements[Standing]:
        official = yield from self.outline(thread_id)
        there = {(line.ns, line.checkpoint_id) for line in official}
        archived = []
        for number, contents, copied in (yield self._q("contents_of_thread", thread=thread_id)):
            segment = Opened(thread_id, number, contents)
            lines = [
                line._replace(run_id="") if line.checkpoint_id <= copied else line
                for line in segment.outlines()
                if (line.ns, line.checkpoint_id) not in there
            ]
            archived.append((segment, lines))
        return Standing(official, archived)

    def _drop_archived(
        self, thread_id: str, standing: Standing, named: Collection[Place], archivable: Decide
    ) -> Statements[list[Outline]]:
        """Drop what is named from the archive, for good; the reply is what has come back from there.

        That is what may not be archived any more: what is a head by now, and what a head needs. A segment that loses
        something is packed anew.
        """
        staying = [line for line in standing.outline if (line.ns, line.checkpoint_id) not in named]
        may_stay = set(archivable(staying))
        back: list[Outline] = []
        for segment, lines in standing.archived:
            places = set(segment.places)
            returning = [
                line
                for line in lines
                if (line.ns, line.checkpoint_id) not in named and (line.ns, line.checkpoint_id) not in may_stay
            ]
            orphaned = any((line.ns, line.parent_id) in named for line in lines)
            gone = [place for place in places if place in named]
            if not (gone or returning or orphaned):
                continue
            if gone:
                spaces, ids = [ns for ns, _ in gone], [id_ for _, id_ in gone]
                yield self._q("take_writes", thread=thread_id, spaces=spaces, ids=ids)
            if len(gone) < len(places):
                yield from self._repack(thread_id, segment.number, named, returning)
            yield self._q("drop_segments", thread=thread_id, numbers=[segment.number])
            back += returning
        return back

    def _repack(
        self, thread_id: str, number: int, named: Collection[Place], returning: Sequence[Outline]
    ) -> Statements[None]:
        """Store what stays of a segment as another one, and put into the official tables what returns there."""
        [segment] = yield from self._segments(thread_id, [number])
        entries = [
            _without_parent(entry) if (entry.row.ns, entry.row.parent_id) in named else entry
            for entry in segment.entries(place for place in segment.places if place not in named)
        ]
        places = {(line.ns, line.checkpoint_id) for line in returning}
        yield from self._bring(thread_id, [entry for entry in entries if entry.place in places])
        yield from self._put_away(thread_id, [entry for entry in entries if entry.place not in places])

    def _put_away(self, thread_id: str, entries: Sequence[Entry]) -> Statements[None]:
        full, last = self.packed(entries)
        for segment in [*full, last.finish()] if len(last) else full:
            yield from self._put_segment(thread_id, segment)

    def _copy_archived(self, source: str, target: str, renaming: Renaming | None) -> Statements[int]:
        """Copy the archive of a thread; the reply is how many checkpoints there are in it."""
        count = 0
        for number, *_ in (yield self._q("contents_of_thread", thread=source)):
            [segment] = yield from self._segments(source, [number])
            entries = [entry._replace(outline=entry.outline._replace(run_id="")) for entry in segment.entries()]
            if renaming is not None:
                entries = yield from self._renamed(entries, renaming)
            yield from self._put_away(target, entries)
            count += len(entries)
        return count

    def _renamed(self, entries: Iterable[Entry], renaming: Renaming) -> Statements[list[Entry]]:
        """Checkpoints with the copy's own thread id in their metadata, which are then as Postgres would spell them."""
        renamed: list[Entry] = []
        changed: list[int] = []
        for entry in entries:
            row = entry.row
            exact: Typed | None = None
            if row.exact_type is not None and row.sha256 == sha256(row.metadata.encode()).digest():
                exact = row.exact_type, row.exact or b""
            metadata, typed = renaming.rename(row.metadata.encode(), exact)
            if (metadata.decode(), typed) != (row.metadata, exact):
                changed.append(len(renamed))
                row = row._replace(metadata=metadata.decode())
                if exact is not None:
                    type_, data = typed or (None, None)
                    row = row._replace(exact_type=type_, exact=data)
            renamed.append(entry._replace(row=row))
        if changed:
            texts = [renamed[at].row.metadata for at in changed]
            for at, (text, digest) in zip(changed, (yield self._q("spelled", metadata=texts)), strict=True):
                row = renamed[at].row._replace(metadata=text)
                if row.exact_type is not None and row.sha256 is not None:
                    row = row._replace(sha256=digest)
                renamed[at] = renamed[at]._replace(row=row)
        return renamed


def _without_parent(entry: Entry) -> Entry:
    return Entry(entry.outline._replace(parent_id=""), entry.row._replace(parent_id=None), entry.blobs, entry.writes)
