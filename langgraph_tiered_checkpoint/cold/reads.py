"""Statements that read the cold tables, and how their rows become records. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.cold.archived import Walk, stored_in, walk_in
from langgraph_tiered_checkpoint.cold.pages import ColdPages
from langgraph_tiered_checkpoint.cold.rows import describe, merge_writes, ordered, sends_among
from langgraph_tiered_checkpoint.cold.schema import TABLES
from langgraph_tiered_checkpoint.cold.segments import Opened, key_of
from langgraph_tiered_checkpoint.records import (
    BlobRow,
    CheckpointRow,
    DeltaAncestor,
    DeltaPage,
    Origin,
    Outline,
    StoredCheckpoint,
    Typed,
    WriteRow,
)
from langgraph_tiered_checkpoint.steps import Statements, Tx

Row = tuple[Any, ...]

_RUN_ID_INDEX_CHARS = 64


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
    archived: bool = False
    """Whether it is in the archive: to be answered with, but not to become resident."""


class ColdStatus(NamedTuple):
    """What `explain` says of a thread's cold side."""

    origin: Origin
    """Of empty texts for a thread that only the official saver has written."""
    checkpoints: int
    """Those in the official tables."""
    promoted_at: datetime | None
    last_write_at: datetime | None
    reason: str
    archived: int = 0
    """How many more there are in the archive."""


class Holdings(NamedTuple):
    """How much the tables have of a thread."""

    checkpoints: int
    values: int
    pending_writes: int
    bytes: int
    """Of values and pending writes, as they are stored."""


class ColdReader(ColdPages):
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
            key=None if checkpoint_id is None else [key_of((ns, checkpoint_id))],
            since=since,
            latest=checkpoint_id is None or None,
            channels=channels,
        )
        parts: dict[str, dict[str, bytes]] = {"contents": {}, "frame": {}}
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
                case "contents" | "frame":
                    parts[kind][a] = data
                case _:
                    heads_exist = True
        segments = [Opened(thread_id, int(n), parts["contents"][n], frame) for n, frame in parts["frame"].items()]
        stored = None if row is None else StoredCheckpoint(row, blobs, [])
        found = [WriteRow(ns, *write) for write in writes]
        answer = ColdAnswer(origin, stored, found, ordered(sends), heads_exist)
        for segment in segments:
            answer = yield from self._with_archived(answer, segment, ns, checkpoint_id)
        if answer.stored is None:
            return answer
        id_ = answer.stored.row.checkpoint_id
        own = [write for write in answer.early if write.checkpoint_id == id_]
        early = [write for write in answer.early if write.checkpoint_id != id_]
        wanted = [blob for blob in answer.stored.blobs if channels is None or blob.channel in channels]
        return answer._replace(stored=answer.stored._replace(blobs=wanted, writes=own), early=early)

    def _with_archived(
        self, answer: ColdAnswer, segment: Opened, ns: str, checkpoint_id: str | None
    ) -> Statements[ColdAnswer]:
        """The answer, if there is none from the tables; or with the writes that were made before it was put again."""
        place = ns, checkpoint_id or max(id_ for of, id_ in segment.places if of == ns)
        held = answer.stored.row.checkpoint_id if answer.stored else ""
        if place not in segment.places or held > place[1]:
            return answer
        in_segment = stored_in(segment, place)
        answer = answer._replace(early=merge_writes(in_segment.writes, answer.early))
        if held == place[1]:
            return answer
        sends, row = answer.sends, in_segment.row
        if row.sends_at_parent and row.parent_id:
            parent = ns, row.parent_id
            sends = sends_among((yield from self._all_writes_of(segment.thread_id, [parent])).get(parent, ()))
        return answer._replace(stored=in_segment, sends=sends, archived=True)

    def writes_of(self, thread_id: str, keys: Sequence[tuple[str, str]]) -> Tx[dict[tuple[str, str], list[WriteRow]]]:
        """The pending writes of some (namespace, checkpoint id) pairs, whether or not the checkpoints are there."""
        return Tx("writes_of", thread_id, partial(self._all_writes_of, thread_id, list(keys)), together=False)

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
        seen: set[str] = set()
        walk = Walk([], checkpoint_id, channels)
        while walk.cursor and walk.sought:
            at = walk.cursor
            above = yield from self._walk_tables(thread_id, ns, walk, seen)
            place = ns, above.cursor
            for segment in (yield from self._segments_of(thread_id, [place] if above.cursor else [])).values():
                above = walk_in(segment, ns, above, seen)
            walk = above
            if walk.cursor == at:
                break
        return DeltaPage(walk.ancestors, "")

    def _walk_tables(self, thread_id: str, ns: str, walk: Walk, seen: set[str]) -> Statements[Walk]:
        """Go up the parents as long as they are in the official tables."""
        parents: dict[int, tuple[str, str]] = {}
        inline: dict[int, dict[str, Typed]] = defaultdict(dict)
        blobs: dict[int, dict[str, Typed]] = defaultdict(dict)
        writes: dict[int, list[Row]] = defaultdict(list)
        query = self._q("delta_history", thread=thread_id, ns=ns, id=walk.cursor, channels=walk.sought)
        for kind, distance, name, type_, task_id, task_path, idx, data in (yield query):
            match kind:
                case "ancestor":
                    parents[distance] = name, type_
                case "inline":
                    inline[distance][name] = (type_, data)
                case "blob":
                    blobs[distance][name] = (type_, data)
                case _:
                    writes[distance].append((task_id, idx, name, type_, data, task_path))
        for n, (id_, parent_id) in sorted(parents.items()):
            if id_ in seen:
                return walk._replace(cursor="")
            seen.add(id_)
            of_one = [WriteRow(ns, id_, *write) for write in writes[n]]
            walk = walk.onward(DeltaAncestor(id_, inline[n] | blobs[n], of_one), parent_id)
        return walk

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
