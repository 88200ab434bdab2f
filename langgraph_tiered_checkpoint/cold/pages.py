"""Pages of checkpoints: what is in the official tables, and what is archived. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.types import TASKS

from langgraph_tiered_checkpoint.cold.archived import ArchiveReader, Window, blobs_in, row_in, writes_in
from langgraph_tiered_checkpoint.cold.rows import describe, merge_writes, sends_among
from langgraph_tiered_checkpoint.cold.segments import Place
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, StoredCheckpoint, Typed, WriteRow
from langgraph_tiered_checkpoint.steps import Sql, Statements, Tx

Row = tuple[Any, ...]
ListedCheckpoint = tuple[StoredCheckpoint, list[Typed]]
"""The checkpoint, and the pending sends of its parent if it is older than format v4."""

PAGE_BYTES = 4_000_000
"""How many bytes of values, and how many of writes, a page carries, about."""
_NO_BOUND = 2**62


class ColdPage(NamedTuple):
    """One page of a list."""

    listed: list[ListedCheckpoint]
    more: bool


class ColdPages(ArchiveReader):
    """What can be asked of many checkpoints at once."""

    def page(
        self,
        thread_id: str,
        ns: str | None,
        *,
        before: tuple[str, str] | None,
        checkpoint_id: str | None,
        before_id: str | None,
        limit: int,
        wanted: Callable[[CheckpointRow], bool] | None = None,
        path: str | None = None,
    ) -> Tx[ColdPage]:
        """A page of checkpoints, by id and namespace, both descending.

        At most four statements, however long the page, and one for each segment in it. Blobs that checkpoints share are
        fetched once. It ends when it has some MB, with the checkpoint that makes them up, or where the next segment
        begins.

        Args:
            thread_id: whose.
            ns: None for all namespaces.
            before: where the last page ended: (checkpoint id, namespace).
            checkpoint_id: only this one.
            before_id: only checkpoints with a smaller id.
            limit: how many.
            wanted: of others the reply has the row alone. Pure: it may be called again.
            path: a jsonpath that the metadata of all wanted ones fulfil, where they are plain JSON.
        """
        after_id, after_ns = before or (None, None)
        filters = {"ns": ns, "id": checkpoint_id, "before_id": before_id, "path": path}
        start = {"after_id": after_id, "after_ns": after_ns, "limit": limit}
        query = self._q("page_of_thread" if ns is None else "page_of_namespace", thread=thread_id, **filters, **start)
        window = Window(ns, checkpoint_id, before_id, before and (before[1], before[0]), None)
        return Tx("page", thread_id, partial(self._page, thread_id, query, window, limit, wanted), together=False)

    def _page(
        self,
        thread_id: str,
        query: Sql,
        window: Window,
        limit: int,
        wanted: Callable[[CheckpointRow], bool] | None,
    ) -> Statements[ColdPage]:
        found = yield query
        rows = [_described(row) for row in found if row[0] is not None]
        if len(rows) < len(found):
            return (yield from self._page_with_archive(thread_id, rows, window, limit, wanted))
        chosen = [i for i, row in enumerate(rows) if wanted is None or wanted(row)]
        page: list[ListedCheckpoint] = [(StoredCheckpoint(row, [], []), []) for row in rows]
        complete = yield from self._complete(thread_id, [rows[i] for i in chosen])
        for i, one in zip(chosen, complete, strict=False):
            page[i] = one
        if len(complete) < len(chosen):
            return ColdPage(page[: chosen[len(complete)]], more=True)
        return ColdPage(page, more=len(page) == limit)

    def _page_with_archive(
        self,
        thread_id: str,
        rows: list[CheckpointRow],
        window: Window,
        limit: int,
        wanted: Callable[[CheckpointRow], bool] | None,
    ) -> Statements[ColdPage]:
        """A page of official rows, with what of it is archived."""
        official = {(row.ns, row.checkpoint_id): row for row in rows}
        if len(rows) == limit:
            window = window._replace(last=list(official)[-1])
        archived = yield from self._archived_page(thread_id, window, list(official))
        above, segments = archived.above, archived.segments
        places = [place for place in {**official, **segments} if above is None or place[1] > above]
        places.sort(key=lambda place: (place[1], place[0]), reverse=True)
        more = above is not None or window.last is not None or len(places) > limit
        described = {p: official[p] if p in official else row_in(segments[p], p) for p in places[:limit]}
        chosen = {place for place, row in described.items() if wanted is None or wanted(row)}
        of_tables = [place for place in described if place in official and place in chosen]
        rest = [place for place in described if place not in official and place in chosen]
        listed = yield from self._complete(thread_id, [described[place] for place in of_tables])
        complete = dict(zip(of_tables, listed, strict=False))
        late = yield from self._late_writes(thread_id, [described[place] for place in rest])
        page: list[ListedCheckpoint] = []
        size = 0
        for place, row in described.items():
            if place not in chosen:
                page.append((StoredCheckpoint(row, [], []), []))
                continue
            if size >= PAGE_BYTES or (place in official and place not in complete):
                return ColdPage(page, more=True)
            if place in complete:
                stored, sends = complete[place]
            else:
                stored = StoredCheckpoint(row, blobs_in(segments[place], place), late.get(place, []))
                sends = sends_among(late.get((row.ns, row.parent_id), [])) if row.sends_at_parent else []
            if place in segments:
                stored = stored._replace(writes=merge_writes(writes_in(segments[place], place), stored.writes))
            page.append((stored, sends))
            size += sum(len(blob.data) for blob in stored.blobs)
        return ColdPage(page, more)

    def _late_writes(self, thread_id: str, rows: Sequence[CheckpointRow]) -> Statements[dict[Place, list[WriteRow]]]:
        """What was written to archived checkpoints since; and all writes of parents that have their sends."""
        if not rows:
            return {}
        parents = [(row.ns, row.parent_id) for row in rows if row.sends_at_parent and row.parent_id]
        late, _ = yield from self._writes_of(thread_id, [(row.ns, row.checkpoint_id) for row in rows])
        return late | ((yield from self._all_writes_of(thread_id, parents)) if parents else {})

    def _all_writes_of(self, thread_id: str, places: Sequence[Place]) -> Statements[dict[Place, list[WriteRow]]]:
        """The pending writes of some checkpoints, archived or not."""
        writes, _ = yield from self._writes_of(thread_id, places)
        for place, segment in (yield from self._segments_of(thread_id, places)).items():
            writes[place] = merge_writes(writes_in(segment, place), writes.get(place, ()))
        return writes

    def _complete(self, thread_id: str, rows: list[CheckpointRow]) -> Statements[list[ListedCheckpoint]]:
        """Fetch the blobs, writes and sends that belong to rows of a page: of the first ones, if all are too much."""
        if not rows:
            return []
        blobs, fit = yield from self._blobs_of(thread_id, rows)
        rows = rows[:fit]
        keys = [(row.ns, row.checkpoint_id) for row in rows]
        writes, fit = yield from self._writes_of(thread_id, keys, most=PAGE_BYTES)
        rows = rows[:fit]
        parents = [(row.ns, row.parent_id) for row in rows if row.sends_at_parent and row.parent_id]
        sends, _ = (yield from self._writes_of(thread_id, parents, TASKS)) if parents else ({}, 0)
        page = []
        for row in rows:
            own = [found for ref in row.refs if (found := blobs.get((row.ns, *ref)))]
            stored = StoredCheckpoint(row, own, writes.get((row.ns, row.checkpoint_id), []))
            of_parent = sends.get((row.ns, row.parent_id), []) if row.sends_at_parent else []
            page.append((stored, sends_among(of_parent)))
        return page

    def _blobs_of(
        self, thread_id: str, rows: list[CheckpointRow]
    ) -> Statements[tuple[dict[tuple[str, ...], BlobRow], int]]:
        """The blobs of the first rows of a page, by key, and of how many rows these are all."""
        refs: dict[tuple[str, ...], int] = {}
        for number, row in enumerate(rows):
            for ref in row.refs:
                refs.setdefault((row.ns, *ref), number)
        blobs: dict[tuple[str, ...], BlobRow] = {}
        fit = len(rows)
        if refs:
            spaces, channels, versions = map(list, zip(*refs, strict=True))
            keys = {"thread": thread_id, "spaces": spaces, "channels": channels, "versions": versions}
            query = self._q("blobs_of", **keys, numbers=list(refs.values()), most=PAGE_BYTES)
            for number, fits, *blob in (yield query):
                if fits:
                    blobs[blob[0], blob[1], blob[2]] = BlobRow(*blob)
                else:
                    fit = min(fit, number)
        return blobs, fit

    def _writes_of(
        self, thread_id: str, keys: Sequence[tuple[str, str]], channel: str | None = None, most: int = _NO_BOUND
    ) -> Statements[tuple[dict[tuple[str, str], list[WriteRow]], int]]:
        """The writes of the first checkpoints, by key, and of how many checkpoints these are all."""
        keys = list(dict.fromkeys(keys))
        spaces, ids = map(list, zip(*keys, strict=True))
        query = self._q("writes_of", thread=thread_id, spaces=spaces, ids=ids, channel=channel, most=most)
        found = defaultdict(list)
        fit = len(keys)
        for number, fits, *write in (yield query):
            if fits:
                found[write[0], write[1]].append(WriteRow(*write))
            else:
                fit = min(fit, number - 1)
        return found, fit


def _described(row: Row) -> CheckpointRow:
    ns, checkpoint_id, parent_id, checkpoint, metadata, exact_type, exact = row
    return describe(
        ns, checkpoint_id, parent_id, checkpoint, metadata, None if exact_type is None else (exact_type, exact)
    )
