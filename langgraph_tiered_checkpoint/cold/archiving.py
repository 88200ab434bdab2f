"""Statements that move checkpoints between the official tables and the archive. No I/O.

What is packed was read before, without a lock. So whoever stores it makes sure, behind the fence, that nothing was
flushed since; and that as many rows are taken out as were packed, should another saver have written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from langgraph_tiered_checkpoint.cold.packing import Difference, Packing
from langgraph_tiered_checkpoint.cold.reads import ColdReader
from langgraph_tiered_checkpoint.cold.rows import versions_of
from langgraph_tiered_checkpoint.cold.segments import (
    ENTRY_BYTES,
    FULL_BYTES,
    FULL_CHECKPOINTS,
    BlobColumns,
    CheckpointColumns,
    Entry,
    Opened,
    Place,
    Segment,
    WriteColumns,
    key_of,
)
from langgraph_tiered_checkpoint.errors import ThreadBusyError
from langgraph_tiered_checkpoint.records import Origin, Outline
from langgraph_tiered_checkpoint.steps import Statements, Tx

_PAGE_BYTES = 16_000_000
_PAGE_CHECKPOINTS = 64
_GROWTH = 4
"""A segment is packed again with what follows it if it has at most as many times the checkpoints."""

Blob = tuple[str, str, str]
"""(namespace, channel, version)"""

Choose = Callable[[list[Outline]], Collection[Place]]
"""From the outline of a thread's official rows to what is to be archived. Pure: it may be called again."""


class Survey(NamedTuple):
    """What of a thread is to be archived, and is not yet."""

    origin: Origin
    chosen: list[Outline]
    """In order."""
    official: int
    """How many checkpoints there are in the official tables."""
    joining: list[int]
    """Segments that are to be packed again with it: small ones, and those that have some of it already."""


class Page(NamedTuple):
    """Some checkpoints as they stand in the tables."""

    entries: list[Entry]
    looked_at: int
    """How many of those asked for were looked at. What is too large for a segment is not among the entries."""


class Bundle(NamedTuple):
    """What goes to the archive at once."""

    segments: list[Segment]
    joined: list[int]
    """Segments that they replace."""
    places: list[Place]
    """What leaves the official tables."""
    blobs: list[Blob]
    """What these refer to, whoever else does."""
    writes: int
    """How many pending writes they have."""


class ColdArchive(ColdReader):
    """What can be done to the archive."""

    def __init__(self, schema: str | None, difference: Difference | None = None) -> None:
        super().__init__(schema)
        self._difference = difference

    def packing(self) -> Packing:
        """An empty segment."""
        return Packing(self._difference)

    def survey(self, thread_id: str, choose: Choose) -> Tx[Survey | None]:
        """What is to be archived of a thread; None if nothing was ever flushed of it. Three statements."""
        return Tx("survey", thread_id, partial(self._survey, thread_id, choose))

    def _survey(self, thread_id: str, choose: Choose) -> Statements[Survey | None]:
        origin = yield from self._origin(thread_id)
        if origin is None or not origin.flushed:
            return None
        outline: list[Outline] = [Outline(*row) for row in (yield self._q("outline", thread=thread_id))]
        places = set(choose(outline))
        chosen = [line for line in outline if (line.ns, line.checkpoint_id) in places]
        chosen.sort(key=lambda line: (line.checkpoint_id, line.ns))
        joining: list[int] = []
        if chosen:
            keys = [key_of((o.ns, o.checkpoint_id)) for o in chosen]
            sizes = yield self._q("sizes_of_segments", thread=thread_id, keys=keys)
            joining = _joining(sizes, len(chosen))
        return Survey(origin, chosen, len(outline), joining)

    def segments(self, thread_id: str, numbers: Sequence[int]) -> Tx[list[Opened]]:
        """Some segments of a thread."""
        return Tx("segments", thread_id, partial(self._segments, thread_id, list(numbers)), together=False)

    def _segments(self, thread_id: str, numbers: list[int]) -> Statements[list[Opened]]:
        rows = yield self._q("segments_by_number", thread=thread_id, numbers=numbers)
        return [Opened(thread_id, *row) for row in rows]

    def entries(self, thread_id: str, outlines: Sequence[Outline], known: Callable[[Blob], bool]) -> Tx[Page]:
        """The first of these checkpoints as they stand in the tables: some MB. Five statements.

        Values that are `known` come without their bytes.
        """
        body = partial(self._entries, thread_id, list(outlines[:_PAGE_CHECKPOINTS]), known)
        return Tx("entries", thread_id, body, together=False)

    def _entries(self, thread_id: str, outlines: list[Outline], known: Callable[[Blob], bool]) -> Statements[Page]:
        spaces, ids = [o.ns for o in outlines], [o.checkpoint_id for o in outlines]
        rows = [
            CheckpointColumns(*row)
            for row in (yield self._q("columns_of_checkpoints", thread=thread_id, spaces=spaces, ids=ids))
        ]
        of_writes = yield self._q("sizes_of_writes", thread=thread_id, spaces=spaces, ids=ids)
        places = [(o.ns, o.checkpoint_id) for o in outlines]
        writes = {places[number - 1]: (count, size) for number, count, size in of_writes}
        refs = {(row.ns, row.checkpoint_id): _refs(row) for row in rows}
        blobs = list(dict.fromkeys(blob for of_one in refs.values() for blob in of_one))
        sizes = yield self._q("sizes_of_blobs", thread=thread_id, **_blob_keys(blobs))
        size_of = {blobs[number - 1]: size for number, size in sizes}
        taken: list[CheckpointColumns] = []
        looked_at = size = 0
        for row in rows:
            place = row.ns, row.checkpoint_id
            count, of_its_writes = writes.get(place, (0, 0))
            its = [blob for blob in refs[place] if blob in size_of]
            whole = sum(size_of[blob] for blob in its) + of_its_writes + (len(its) + 2 * count) * ENTRY_BYTES
            whole += len(row.checkpoint) + len(row.metadata) + len(row.exact or b"")
            looked_at += 1
            if whole < FULL_BYTES:
                taken.append(row)
                size += whole
                if size >= _PAGE_BYTES:
                    break
        entries = yield from self._complete_entries(thread_id, outlines, taken, refs, size_of, known)
        return Page(entries, looked_at if len(rows) == len(outlines) or looked_at < len(rows) else len(outlines))

    def _complete_entries(
        self,
        thread_id: str,
        outlines: Sequence[Outline],
        rows: Sequence[CheckpointColumns],
        refs: dict[Place, list[Blob]],
        there: Collection[Blob],
        known: Callable[[Blob], bool],
    ) -> Statements[list[Entry]]:
        values = {}
        of_rows = (blob for row in rows for blob in refs[row.ns, row.checkpoint_id])
        if wanted := list(dict.fromkeys(blob for blob in of_rows if blob in there and not known(blob))):
            found = yield self._q("columns_of_blobs", thread=thread_id, **_blob_keys(wanted))
            values = {row[:3]: BlobColumns(*row) for row in found}
        writes: dict[Place, list[WriteColumns]] = {}
        spaces, ids = [row.ns for row in rows], [row.checkpoint_id for row in rows]
        for write in (yield self._q("columns_of_writes", thread=thread_id, spaces=spaces, ids=ids)) if rows else ():
            writes.setdefault((write[0], write[1]), []).append(WriteColumns(*write))
        by_place = {(o.ns, o.checkpoint_id): o for o in outlines}
        entries = []
        for row in rows:
            place = row.ns, row.checkpoint_id
            needed = [blob for blob in refs[place] if blob in there or known(blob)]
            blobs = [values.get(blob) or BlobColumns(*blob, "", None) for blob in needed]
            entries.append(Entry(by_place[place], row, blobs, writes.get(place, [])))
        return entries

    def store_away(
        self, thread_id: str, origin: Origin, new_flushed: str, bundle: Bundle, left: int, timeout_ms: int
    ) -> Tx[bool]:
        """Replace official rows by segments. The reply is whether the fence held; if not, nothing was done.

        Args:
            thread_id: the thread.
            origin: the fence, as it was when the rows were read.
            new_flushed: what it becomes.
            bundle: what is stored, and taken out.
            left: how many checkpoints are left that may be archived.
            timeout_ms: for each statement.

        Raises:
            ThreadBusyError: somebody else has changed the rows without moving the fence. Nothing was done.
        """
        body = partial(self._store_away, thread_id, origin, new_flushed, bundle, left)
        return Tx("store_away", thread_id, body, timeout_ms)

    def _store_away(
        self, thread_id: str, origin: Origin, new_flushed: str, bundle: Bundle, left: int
    ) -> Statements[bool]:
        fence = (thread_id, origin.incarnation, origin.flushed)
        if fence not in (yield from self._in_store("lock", threads=[thread_id])):
            return False
        spaces, ids = [ns for ns, _ in bundle.places], [id_ for _, id_ in bundle.places]
        [(checkpoints,)] = yield self._q("take_checkpoints", thread=thread_id, spaces=spaces, ids=ids)
        [(writes,)] = yield self._q("take_writes", thread=thread_id, spaces=spaces, ids=ids)
        dropped = 0
        if bundle.joined:
            [(dropped,)] = yield self._q("drop_segments", thread=thread_id, numbers=bundle.joined)
        if (checkpoints, writes, dropped) != (len(bundle.places), bundle.writes, len(bundle.joined)):
            raise ThreadBusyError(
                f"thread {thread_id!r} was not archived: another saver is writing to it in Postgres. Nothing was "
                "changed; it will be tried again"
            )
        yield self._q("take_blobs", thread=thread_id, **_blob_keys(bundle.blobs))
        for segment in bundle.segments:
            yield from self._put_segment(thread_id, segment)
        yield self._q("advance", threads=[thread_id], flushed=[new_flushed], last_writes=[0], reasons=[""])
        yield self._q(
            "looked_through", thread=thread_id, incarnation=origin.incarnation, flushed=new_flushed, left=left
        )
        return True

    def _put_segment(self, thread_id: str, segment: Segment) -> Statements[None]:
        yield self._q("put_segment", thread=thread_id, **segment._asdict())

    def looked_through(self, thread_id: str, origin: Origin, left: int) -> Tx[None]:
        """Note how many checkpoints of a thread are left that may be archived: none, until something is written."""
        return Tx("looked_through", thread_id, partial(self._looked_through, thread_id, origin, left), together=False)

    def _looked_through(self, thread_id: str, origin: Origin, left: int) -> Statements[None]:
        yield self._q(
            "looked_through", thread=thread_id, incarnation=origin.incarnation, flushed=origin.flushed, left=left
        )

    def bring_back(self, thread_id: str, timeout_ms: int) -> Tx[bool]:
        """Put the rows of one segment of a thread back as they were. The reply is whether there are more segments.

        Flushes need not be kept out for longer: what was written since stays, and nothing refers to less than before.
        """
        return Tx("bring_back", thread_id, partial(self._bring_back, thread_id), timeout_ms)

    def _bring_back(self, thread_id: str) -> Statements[bool]:
        for incarnation, flushed in (yield from self._in_store("hold_incarnation", thread=thread_id)):
            rows = yield self._q("first_segments", thread=thread_id)
            for number, contents, frame in rows[:1]:
                yield from self._bring(thread_id, Opened(thread_id, number, contents, frame).entries())
                yield self._q("drop_segments", thread=thread_id, numbers=[number])
            yield self._q("looked_through", thread=thread_id, incarnation=incarnation, flushed=flushed, left=0)
            return len(rows) > 1
        return False

    def _bring(self, thread_id: str, entries: Iterable[Entry]) -> Statements[None]:
        """Insert the rows of some checkpoints, some MB at a time."""
        page: list[Entry] = []
        size = 0
        for entry in entries:
            page.append(entry)
            size += entry.bytes
            if size >= _PAGE_BYTES:
                yield from self._bring_page(thread_id, page)
                page, size = [], 0
        if page:
            yield from self._bring_page(thread_id, page)

    def _bring_page(self, thread_id: str, page: Sequence[Entry]) -> Statements[None]:
        rows = [entry.row for entry in page]
        yield self._q(
            "bring_checkpoints",
            thread=thread_id,
            spaces=[row.ns for row in rows],
            ids=[row.checkpoint_id for row in rows],
            parents=[row.parent_id for row in rows],
            types=[row.type for row in rows],
            checkpoints=[row.checkpoint for row in rows],
            metadata=[row.metadata for row in rows],
            exact_types=[row.exact_type for row in rows],
            exact=[row.exact for row in rows],
            digests=[row.sha256 for row in rows],
        )
        blobs = list({blob[:3]: blob for entry in page for blob in entry.blobs}.values())
        if blobs:
            types, values = [blob.type for blob in blobs], [blob.data for blob in blobs]
            yield self._q("bring_blobs", thread=thread_id, types=types, blobs=values, **_blob_keys(blobs))
        writes = [write for entry in page for write in entry.writes]
        if writes:
            yield self._q(
                "bring_writes",
                thread=thread_id,
                spaces=[write.ns for write in writes],
                ids=[write.checkpoint_id for write in writes],
                tasks=[write.task_id for write in writes],
                indexes=[write.idx for write in writes],
                channels=[write.channel for write in writes],
                types=[write.type for write in writes],
                blobs=[write.data for write in writes],
                paths=[write.task_path for write in writes],
            )

    def packed(self, entries: Iterable[Entry], packing: Packing | None = None) -> tuple[list[Segment], Packing]:
        """As many segments as these checkpoints need, and one in the making that is not full."""
        segments, packing = [], packing or self.packing()
        for entry in [*entries, None]:
            if packing.is_full():
                segments.append(packing.finish())
                packing = self.packing()
            if entry is not None:
                packing.add(entry)
        return segments, packing

    def lease_to_archive(
        self, *, idle_s: float | None, checkpoints: int | None, lease_s: float, limit: int
    ) -> Tx[list[tuple[str, bool]]]:
        """Threads to archive, for a while nobody else's: those that are idle (True), and long ones."""
        body = partial(self._lease_to_archive, idle_s, checkpoints, lease_s, limit)
        return Tx("lease_to_archive", "*", body, together=False)

    def _lease_to_archive(
        self, idle_s: float | None, checkpoints: int | None, lease_s: float, limit: int
    ) -> Statements[list[tuple[str, bool]]]:
        leased: list[tuple[str, bool]] = []
        if idle_s is not None:
            rows = yield self._q("lease_idle", idle_s=idle_s, lease_s=lease_s, limit=limit)
            leased += [(thread_id, True) for (thread_id,) in rows]
        if checkpoints is not None:
            many = checkpoints >= 50 or None
            rows = yield self._q("lease_long", checkpoints=checkpoints, many=many, lease_s=lease_s, limit=limit)
            leased += [(thread_id, False) for (thread_id,) in rows]
        return leased


def _joining(sizes: Iterable[Sequence[int]], chosen: int) -> list[int]:
    """Which segments are packed again, of (number, checkpoints, bytes, whether it has some already), newest first."""
    joining = []
    gathered, size, small = chosen, 0, True
    for number, checkpoints, raw_bytes, has_some in sizes:
        small = (
            small
            and checkpoints <= _GROWTH * gathered
            and gathered + checkpoints <= FULL_CHECKPOINTS
            and size + raw_bytes <= FULL_BYTES // 2
        )
        if small or has_some:
            joining.append(number)
            gathered += checkpoints
            size += raw_bytes
    return joining


def _refs(row: CheckpointColumns) -> list[Blob]:
    """What a checkpoint refers to; not all of it needs to be there."""
    return [(row.ns, channel, version) for channel, version in versions_of(row.checkpoint).items()]


def _blob_keys(blobs: Sequence[Sequence[object]]) -> dict[str, list[object]]:
    return {
        "spaces": [blob[0] for blob in blobs],
        "channels": [blob[1] for blob in blobs],
        "versions": [blob[2] for blob in blobs],
    }
