"""Statements that read the cold tables, and how their rows become records. No I/O."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.types import TASKS

from langgraph_tiered_checkpoint.codec import delta_depth, sends_at_parent
from langgraph_tiered_checkpoint.cold.schema import TABLES, ColdSchema
from langgraph_tiered_checkpoint.records import (
    BlobRow,
    CheckpointRow,
    DeltaAncestor,
    DeltaPage,
    Origin,
    Outline,
    StoredCheckpoint,
    Typed,
    Unreadable,
    WriteRow,
)
from langgraph_tiered_checkpoint.steps import Sql, Statements, Tx

Row = tuple[Any, ...]
ListedCheckpoint = tuple[StoredCheckpoint, list[Typed]]
"""The thread id, the checkpoint, and the pending sends of its parent if it is older than format v4."""

PAGE_BYTES = 4_000_000
"""How many bytes of values, and how many of writes, a page carries, about."""
_NO_BOUND = 2**62

_RUN_ID_INDEX_CHARS = 64

_EXACT = json.JSONDecoder(parse_int=str, parse_float=str)


class ColdAnswer(NamedTuple):
    """What Postgres knows of one checkpoint and its thread."""

    origin: Origin | None
    """None also for a thread that only the official saver has written: see `heads_exist`."""
    stored: StoredCheckpoint | None
    early: list[WriteRow]
    """Pending writes of other checkpoints: of the one asked for, if Postgres does not hold it, or of later ones."""
    sends: list[Typed]
    """Pending sends of the parent, in order, for a checkpoint that is older than format v4."""
    heads_exist: bool
    """Whether the thread has any checkpoint or pending write at all."""


class ColdPage(NamedTuple):
    """One page of a list."""

    listed: list[ListedCheckpoint]
    more: bool


class ColdStatus(NamedTuple):
    """What `explain` says of a thread's cold side."""

    origin: Origin
    """Of empty texts for a thread that only the official saver has written."""
    checkpoints: int
    promoted_at: datetime | None
    last_write_at: datetime | None
    reason: str


class Holdings(NamedTuple):
    """How much the tables have of a thread."""

    checkpoints: int
    values: int
    pending_writes: int
    bytes: int
    """Of values and pending writes, as they are stored."""


class ColdReader(ColdSchema):
    """What can be asked of the cold tables."""

    def fetch(
        self,
        thread_id: str,
        ns: str,
        checkpoint_id: str | None,
        since: str | None = None,
        channels: Collection[str] | None = None,
    ) -> Tx[ColdAnswer]:
        """One checkpoint, or the latest of the namespace, with all pending writes since that or since `since`.

        One statement. Of some channels only, it reads no other values.
        """
        body = partial(self._fetch, thread_id, ns, checkpoint_id, since, None if channels is None else list(channels))
        return Tx("fetch", thread_id, body, together=False)

    def _fetch(
        self, thread_id: str, ns: str, checkpoint_id: str | None, since: str | None, channels: list[str] | None
    ) -> Statements[ColdAnswer]:
        row: CheckpointRow | None = None
        origin: Origin | None = None
        blobs: list[BlobRow] = []
        writes: list[Row] = []
        sends: list[Row] = []
        heads_exist = False
        rows = yield from self._in_store(
            "fetch",
            thread=thread_id,
            ns=ns,
            id=checkpoint_id,
            since=since,
            latest=checkpoint_id is None or None,
            channels=channels,
        )
        for kind, a, b, c, d, e, number, data in rows:
            match kind:
                case "checkpoint":
                    row = describe(ns, a, b, c, d, None if e is None else (e, data))
                case "blob":
                    blobs.append(BlobRow(ns, a, b, c, data))
                case "write":
                    writes.append((e, a, number, b, c, data, d))
                case "send":
                    sends.append((d, a, number, c, data))
                case "origin":
                    origin = Origin(a, b, bool(number))
                case _:
                    heads_exist = True
        found = [WriteRow(ns, *write) for write in writes]
        if row is None:
            return ColdAnswer(origin, None, found, _ordered(sends), heads_exist)
        own = [write for write in found if write.checkpoint_id == row.checkpoint_id]
        early = [write for write in found if write.checkpoint_id != row.checkpoint_id]
        return ColdAnswer(origin, StoredCheckpoint(row, blobs, own), early, _ordered(sends), heads_exist)

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

        At most four statements, however long the page. Blobs that checkpoints share are fetched once. It ends when
        it has some MB, with the checkpoint that makes them up.

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
        return Tx("page", thread_id, partial(self._page, thread_id, query, limit, wanted), together=False)

    def _page(
        self, thread_id: str, query: Sql, limit: int, wanted: Callable[[CheckpointRow], bool] | None
    ) -> Statements[ColdPage]:
        rows = [_described(row) for row in (yield query)]
        chosen = [i for i, row in enumerate(rows) if wanted is None or wanted(row)]
        page: list[ListedCheckpoint] = [(StoredCheckpoint(row, [], []), []) for row in rows]
        complete = yield from self._complete(thread_id, [rows[i] for i in chosen])
        for i, one in zip(chosen, complete, strict=False):
            page[i] = one
        if len(complete) < len(chosen):
            return ColdPage(page[: chosen[len(complete)]], more=True)
        return ColdPage(page, more=len(page) == limit)

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

    def writes_of(self, thread_id: str, keys: Sequence[tuple[str, str]]) -> Tx[dict[tuple[str, str], list[WriteRow]]]:
        """The pending writes of some (namespace, checkpoint id) pairs, whether or not the checkpoints are there."""
        return Tx("writes_of", thread_id, partial(self._all_writes_of, thread_id, list(keys)), together=False)

    def _all_writes_of(
        self, thread_id: str, keys: list[tuple[str, str]]
    ) -> Statements[dict[tuple[str, str], list[WriteRow]]]:
        found, _ = yield from self._writes_of(thread_id, keys)
        return found

    def outline(self, thread_id: str) -> Statements[list[Outline]]:
        """Every checkpoint of a thread without its contents, in no particular order. For use inside another body."""
        return [Outline(*row) for row in (yield self._q("outline", thread=thread_id))]

    def delta_history(self, thread_id: str, ns: str, checkpoint_id: str, channels: Sequence[str]) -> Tx[DeltaPage]:
        """Follow the parents from `checkpoint_id`, itself included, until each channel met a stored value.

        One statement. An ancestor carries the writes to channels that had not met theirs before it.
        """
        return Tx(
            "delta_history",
            thread_id,
            partial(self._delta, thread_id, ns, checkpoint_id, list(channels)),
            together=False,
        )

    def _delta(self, thread_id: str, ns: str, checkpoint_id: str, channels: list[str]) -> Statements[DeltaPage]:
        ids: dict[int, str] = {}
        inline: dict[int, dict[str, Typed]] = defaultdict(dict)
        blobs: dict[int, dict[str, Typed]] = defaultdict(dict)
        writes: dict[int, list[Row]] = defaultdict(list)
        query = self._q("delta_history", thread=thread_id, ns=ns, id=checkpoint_id, channels=channels)
        for kind, distance, name, type_, task_id, task_path, idx, data in (yield query):
            match kind:
                case "ancestor":
                    ids[distance] = name
                case "inline":
                    inline[distance][name] = (type_, data)
                case "blob":
                    blobs[distance][name] = (type_, data)
                case _:
                    writes[distance].append((task_id, idx, name, type_, data, task_path))
        ancestors = [
            DeltaAncestor(id_, inline[n] | blobs[n], [WriteRow(ns, id_, *write) for write in writes[n]])
            for n, id_ in sorted(ids.items())
        ]
        return DeltaPage(ancestors, "")

    def origin(self, thread_id: str) -> Tx[Origin | None]:
        """What the row of a thread says; None without one. One look-up by primary key."""
        return Tx("origin", thread_id, partial(self._origin, thread_id), together=False)

    def holdings(self, thread_id: str) -> Tx[Holdings]:
        """How much there is of a thread, whoever wrote it. Reads its rows, not their values."""
        return Tx("holdings", thread_id, partial(self._holdings, thread_id), together=False)

    def _holdings(self, thread_id: str) -> Statements[Holdings]:
        [row] = yield from self._in_store("holdings", thread=thread_id)
        return Holdings(*row)

    def status(self, thread_id: str) -> Tx[ColdStatus | None]:
        """What `explain` says; None if Postgres has nothing of the thread."""
        return Tx("status", thread_id, partial(self._status, thread_id), together=False)

    def _status(self, thread_id: str) -> Statements[ColdStatus | None]:
        for incarnation, flushed, pinned, *rest in (yield from self._in_store("status", thread=thread_id)):
            return ColdStatus(Origin(incarnation, flushed, pinned), *rest)
        return None

    def figures(self) -> Tx[tuple[int, int]]:
        """How many threads this package has promoted or adopted, and how many bytes the tables take.

        Counts rows of one small table.
        """
        return Tx("figures", "*", self._figures, together=False)

    def _figures(self) -> Statements[tuple[int, int]]:
        [(threads, size)] = yield self._q("figures", qualified=self._qualified(TABLES))
        return int(threads), int(size or 0)

    def thread_ids(self, after: str, prefix: str, limit: int, upto: str | None = None) -> Tx[list[str]]:
        """A page of the threads that have checkpoints, whoever wrote them, in bytewise order after `after`."""
        return Tx("thread_ids", prefix, partial(self._thread_ids, after, prefix, limit, upto), together=False)

    def _thread_ids(self, after: str, prefix: str, limit: int, upto: str | None) -> Statements[list[str]]:
        rows = yield self._q("thread_ids", after=after, prefix=prefix or None, limit=limit, upto=upto)
        return [thread_id for (thread_id,) in rows]

    def threads_of_runs(self, run_ids: Sequence[str], prefix: str) -> Tx[list[str]]:
        """The threads with checkpoints of these runs, in bytewise order."""
        return Tx("threads_of_runs", prefix, partial(self._threads_of_runs, list(run_ids), prefix), together=False)

    def _threads_of_runs(self, run_ids: list[str], prefix: str) -> Statements[list[str]]:
        cut = [run_id[:_RUN_ID_INDEX_CHARS] for run_id in run_ids]
        rows = yield self._q("threads_of_runs", cut=cut, runs=run_ids, prefix=prefix or None)
        return sorted(thread_id for (thread_id,) in rows)

    def _origin(self, thread_id: str) -> Statements[Origin | None]:
        for row in (yield from self._in_store("origin", thread=thread_id)):
            return Origin(*row)
        return None


def describe(
    ns: str, checkpoint_id: str, parent_id: str, checkpoint_json: str, metadata_json: str, exact: Typed | None
) -> CheckpointRow:
    """A row of `checkpoints` as a record. Numbers keep the text that `jsonb` gives them, as versions are keys."""
    try:
        return _describe(ns, checkpoint_id, parent_id, checkpoint_json, metadata_json, exact)
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise Unreadable(f"checkpoint {checkpoint_id!r} of namespace {ns!r} in Postgres") from exc


def _describe(
    ns: str, checkpoint_id: str, parent_id: str, checkpoint_json: str, metadata_json: str, exact: Typed | None
) -> CheckpointRow:
    checkpoint = _EXACT.decode(checkpoint_json)
    metadata = json.loads(metadata_json)
    values = checkpoint.get("channel_values") or {}
    versions = checkpoint.get("channel_versions") or {}
    parents = metadata.get("parents") or {}
    return CheckpointRow(
        ns=ns,
        checkpoint_id=checkpoint_id,
        parent_id=parent_id,
        checkpoint=checkpoint_json.encode(),
        metadata=metadata_json.encode(),
        exact_metadata=exact,
        # An inline `true` may be the marker of a delta snapshot, whose value is a blob.
        refs=tuple((channel, str(v)) for channel, v in versions.items() if values.get(channel, True) is True),
        inline=tuple(values),
        run_id=str(metadata.get("run_id") or ""),
        root_id=str(parents.get("", "")) if ns else checkpoint_id,
        depth=delta_depth(metadata),
        sends_at_parent=sends_at_parent(checkpoint),
    )


def _described(row: Row) -> CheckpointRow:
    ns, checkpoint_id, parent_id, checkpoint, metadata, exact_type, exact = row
    return describe(
        ns, checkpoint_id, parent_id, checkpoint, metadata, None if exact_type is None else (exact_type, exact)
    )


def sends_among(writes: Iterable[WriteRow]) -> list[Typed]:
    """The pending sends among the writes of a checkpoint, in order."""
    return _ordered([(w.task_path, w.task_id, w.idx, w.type, w.data) for w in writes if w.channel == TASKS])


def _ordered(sends: list[Row]) -> list[Typed]:
    """The values of rows (task path, task id, idx, type, data), in that order."""
    return [(type_, data) for *_, type_, data in sorted(sends, key=lambda send: send[:3])]
