"""Statements over the cold tables: what is written, added to what reads.py reads. No I/O.

Whoever changes rows of a thread locks its row in `tiered_threads` first, so flushes, structural operations and
deletes of one thread exclude each other. Bodies are written for READ COMMITTED; under a stricter default they can
fail with a serialization failure, and may be repeated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

from langgraph_tiered_checkpoint.cold.reads import ColdAnswer, ColdStatus
from langgraph_tiered_checkpoint.cold.repacking import ColdRepacking, Decide
from langgraph_tiered_checkpoint.cold.rows import describe
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.records import (
    BlobRow,
    CheckpointRow,
    Origin,
    Outline,
    Renaming,
    ThreadBatch,
    WriteRow,
)
from langgraph_tiered_checkpoint.steps import Statements, Tx

__all__ = ["Cold", "ColdAnswer", "ColdStatus", "Decide", "describe"]

_CLAIM_ATTEMPTS = 10


def _none(_: object) -> Collection[tuple[str, str]]:
    return ()


class Cold(ColdRepacking):
    """Statements over the cold tables. No I/O.

    Args:
        schema: where the tables are; None for the connection's search path.
        difference: how to say what is new in a value that follows another one; None packs values whole.

    Raises:
        ConfigurationError: not a possible name of a schema.
    """

    def adopt(self, thread_id: str, fresh_incarnation: str) -> Tx[Origin | None]:
        """The origin of a thread; one that only the official saver has written gets its row first.

        The reply is None if Postgres has nothing of the thread, or a claim alone, whose worker is about to copy
        something, or died when the thread was being deleted. Only for a thread that was not in the hot tier: what the
        holder of a claim has copied by now is of an incarnation that has ended, and can be committed no more. One
        statement, unless there is a claim, or somebody else adopts it just now.
        """
        return Tx("adopt", thread_id, partial(self._adopt, thread_id, fresh_incarnation), together=False)

    def _adopt(self, thread_id: str, incarnation: str) -> Statements[Origin | None]:
        origin = None
        for row in (
            yield from self._in_store("adopt", thread=thread_id, incarnation=incarnation, flushed=f"0.{incarnation}")
        ):
            origin = Origin(*row) if row[0] else (yield from self._origin(thread_id))  # somebody else was faster
        while origin is not None and not origin.flushed:
            if (yield self._q("void_claim", thread=thread_id, incarnation=origin.incarnation, claim=incarnation)):
                [(any_rows, _)] = yield self._q("has_rows", source=thread_id, target=thread_id)
                return origin if any_rows else None
            origin = yield from self._origin(thread_id)
        return origin

    def claim(self, threads: Sequence[tuple[str, str, str]], fresh_claim: str) -> Tx[dict[str, Origin]]:
        """Make sure that some (thread id, incarnation, reason) have rows; the reply has each row as it stands.

        It may be of another incarnation. Its `claim` is `fresh_claim` if it is new; who finds another worker's claim
        shares it. A thread whose row comes and goes meanwhile is missing. One statement.
        """
        return Tx("claim", _names(threads), partial(self._claim, threads, fresh_claim), together=False)

    def _claim(self, threads: Sequence[tuple[str, str, str]], claim: str) -> Statements[dict[str, Origin]]:
        found: dict[str, Origin] = {}
        missing = sorted(threads)
        for _ in range(_CLAIM_ATTEMPTS):
            ids, incarnations, reasons = map(list, zip(*missing, strict=True))
            rows = yield from self._in_store(
                "claim", threads=ids, incarnations=incarnations, reasons=reasons, claim=claim
            )
            found.update((thread_id, Origin(*row)) for thread_id, *row in rows)
            missing = [thread for thread in missing if thread[0] not in found]
            if not missing:
                break
        return found

    def unclaim(self, thread_id: str, incarnation: str) -> Tx[bool]:
        """Take back a claim and what a first upload has copied. False: there is none, or something was flushed."""
        return Tx("unclaim", thread_id, partial(self._unclaim, thread_id, incarnation))

    def _unclaim(self, thread_id: str, incarnation: str) -> Statements[bool]:
        taken_back = bool((yield self._q("unclaim", thread=thread_id, incarnation=incarnation)))
        if taken_back:
            yield from self._delete_rows(thread_id)
        return taken_back

    def _delete_rows(self, thread_id: str) -> Statements[None]:
        for name in ("delete_checkpoints", "delete_writes", "delete_blobs"):
            yield self._q(name, thread=thread_id, spaces=None)
        yield self._q("delete_segments", thread=thread_id)

    def commit(self, batches: Sequence[ThreadBatch], *, keep: bool = False) -> Tx[frozenset[str]]:
        """Write one batch per thread. The reply names the threads whose fence held; of the others nothing is written.

        With `keep`, rows that are there already stay as they are.

        One statement, however many rows.
        """
        return Tx(
            "commit",
            _names(batches),
            partial(self._commit, tuple(batches), keep=keep),
            together=False,
        )

    def _commit(self, batches: Sequence[ThreadBatch], *, keep: bool) -> Statements[frozenset[str]]:
        held = yield from self._in_store(
            "commit",
            several=len(batches) > 1 or None,
            thread=batches[0].thread_id if len(batches) == 1 else None,
            threads=[batch.thread_id for batch in batches],
            incarnations=[batch.incarnation for batch in batches],
            expected=[batch.expected for batch in batches],
            flushed=[batch.flushed for batch in batches],
            last_writes=[batch.last_write_ms for batch in batches],
            reasons=[batch.reason for batch in batches],
            copied=[batch.copied for batch in batches],
            counts=[len(batch.checkpoints) for batch in batches],
            keep=keep,
            **_checkpoint_columns((b.thread_id, row) for b in batches for row in b.checkpoints),
            **_blob_columns((b.thread_id, row) for b in batches for row in b.blobs),
            **_write_columns((b.thread_id, row) for b in batches for row in b.writes),
        )
        return frozenset(thread_id for (thread_id,) in held)

    def pin(self, thread_id: str, incarnation: str, pinned: bool) -> Tx[bool]:  # noqa: FBT001 - stored as it is
        """Pin or unpin; the reply is whether the thread is there in this incarnation."""
        return Tx("pin", thread_id, partial(self._pin, thread_id, incarnation, pinned), together=False)

    def _pin(self, thread_id: str, incarnation: str, pinned: bool) -> Statements[bool]:  # noqa: FBT001 - as `pin`
        return bool((yield self._q("pin", thread=thread_id, incarnation=incarnation, pinned=pinned)))

    def delete(self, thread_id: str, incarnations: Collection[str]) -> Tx[None]:
        """Delete everything of a thread, unless an incarnation that is not among those has been flushed.

        A claim goes whosesoever it is, with what was copied under it: its worker finds no fence, and starts again.
        """
        return Tx("delete", thread_id, partial(self._delete, thread_id, frozenset(incarnations)))

    def _delete(self, thread_id: str, incarnations: frozenset[str]) -> Statements[None]:
        [(incarnation, flushed)] = yield from self._in_store("hold", thread=thread_id)
        if flushed and incarnation not in incarnations:
            return
        yield from self._delete_rows(thread_id)
        yield self._q("delete_origin", thread=thread_id)

    def drop(
        self,
        thread_id: str,
        incarnation: str,
        expected_flushed: str,
        new_flushed: str,
        decide: Decide,
        timeout_ms: int,
        archivable: Decide = _none,
    ) -> Tx[bool]:
        """Drop the checkpoints that `decide` names, with their writes and the blobs that no kept one references.

        They may be archived. What is left, and is not `archivable`, comes back from the archive.

        A kept checkpoint whose parent goes has no parent any more. A namespace that loses its last checkpoint loses
        its leftover blobs too; writes that wait for a checkpoint stay. A thread of which nothing is left loses its row.
        The reply is whether the fence held; if not, nothing was done.
        """
        body = partial(self._drop, thread_id, incarnation, expected_flushed, new_flushed, decide, archivable)
        return Tx("drop", thread_id, body, timeout_ms)

    def _drop(
        self, thread_id: str, incarnation: str, expected: str, flushed: str, decide: Decide, archivable: Decide
    ) -> Statements[bool]:
        if (thread_id, incarnation, expected) not in (yield from self._in_store("lock", threads=[thread_id])):
            return False
        standing = yield from self._standing(thread_id)
        named = set(decide(standing.outline))
        outline = standing.official
        if standing.archived:
            outline = outline + (yield from self._drop_archived(thread_id, standing, named, archivable))
        kept: dict[str, list[Outline]] = defaultdict(list)
        dropped: dict[str, list[str]] = defaultdict(list)
        for line in outline:
            if (line.ns, line.checkpoint_id) in named:
                dropped[line.ns].append(line.checkpoint_id)
            else:
                kept[line.ns].append(line)
        gone = [ns for ns in dropped if ns not in kept]
        if gone:
            for name in ("delete_arrived_writes", "delete_checkpoints", "delete_blobs"):
                yield self._q(name, thread=thread_id, spaces=gone)
        for ns in dropped.keys() & kept.keys():
            orphans = [line.checkpoint_id for line in kept[ns] if (ns, line.parent_id) in named]
            yield from self._thin(thread_id, ns, dropped[ns], orphans)
        if not kept and (yield self._q("delete_empty_origin", thread=thread_id)):
            yield self._q("delete_blobs", thread=thread_id, spaces=None)
            return True
        yield self._q("advance", threads=[thread_id], flushed=[flushed], last_writes=[0], reasons=[""])
        left = sum(map(len, kept.values()))
        yield self._q("looked_through", thread=thread_id, incarnation=incarnation, flushed=flushed, left=left)
        return True

    def _thin(self, thread_id: str, ns: str, ids: list[str], orphans: list[str]) -> Statements[None]:
        """Drop some checkpoints of a namespace that keeps others."""
        freed = yield self._q("drop_checkpoints", thread=thread_id, ns=ns, ids=ids)
        yield self._q("drop_writes", thread=thread_id, ns=ns, ids=ids)
        if orphans:
            yield self._q("orphan", thread=thread_id, ns=ns, ids=orphans)
        garbage = defaultdict(list)
        channels, versions = [channel for channel, _ in freed], [version for _, version in freed]
        for channel, version in (
            yield self._q("unreferenced", thread=thread_id, ns=ns, channels=channels, versions=versions)
        ):
            garbage[channel].append(version)
        for channel, unused in garbage.items():
            yield self._q("drop_blobs", thread=thread_id, ns=ns, channel=channel, versions=unused)

    def copy(
        self, source: str, target: str, target_incarnation: str, flushed: str, renaming: Renaming | None = None
    ) -> Tx[int]:
        """Copy all rows of a thread to a new one; the reply is the number of checkpoints copied now.

        Nothing is written if the source has neither checkpoints nor writes. The thread id in metadata becomes the
        copy's; where they are kept exactly, too, in one statement more.

        Raises:
            ConfigurationError: the target exists.
        """
        body = partial(self._copy, source, target, target_incarnation, flushed, renaming)
        return Tx("copy", f"{source} -> {target}", body)

    def _copy(
        self, source: str, target: str, incarnation: str, flushed: str, renaming: Renaming | None
    ) -> Statements[int]:
        exists = ConfigurationError(f"thread {target!r} already exists. Copy {source!r} to an id that is not in use")
        yield self._q("share", thread=source)
        [(any_source, any_target)] = yield self._q("has_rows", source=source, target=target)
        if any_target:
            origin = yield from self._origin(target)
            if origin is not None and origin.incarnation == incarnation:
                return 0  # this very copy was committed, and the answer lost
            raise exists
        if not any_source:
            return 0
        if not (
            yield from self._in_store(
                "copy_origin", source=source, target=target, incarnation=incarnation, flushed=flushed
            )
        ):
            raise exists
        was, own = (renaming.source, renaming.target) if renaming else (None, None)
        rows = yield self._q("copy_checkpoints", source=source, target=target, was=was, own=own)
        exact = [row for row in rows if row[0] is not None]
        if renaming and exact:
            changed = [renaming.rename(metadata.encode(), (type_, data)) for _, _, metadata, type_, data, _ in exact]
            typed = [also or (None, None) for _, also in changed]
            yield self._q(
                "rename_exact",
                thread=target,
                spaces=[row[0] for row in exact],
                ids=[row[1] for row in exact],
                metadata=[metadata.decode() for metadata, _ in changed],
                exact_types=[type_ for type_, _ in typed],
                exact=[data for _, data in typed],
            )
        yield self._q("copy_blobs", source=source, target=target)
        yield self._q("copy_writes", source=source, target=target)
        return int(sum(row[5] for row in rows)) + (yield from self._copy_archived(source, target, renaming))


def _names(threads: Iterable[tuple[Any, ...]]) -> str:
    """For messages, of what begins with thread ids."""
    return ", ".join(thread_id for thread_id, *_ in threads)


# One statement cannot touch a row twice, so of rows with the same key the last one stays; of pending writes the first
# one, but for the special ones.


def _checkpoint_columns(rows: Iterable[tuple[str, CheckpointRow]]) -> dict[str, list[Any] | None]:
    unique = list({(thread, row.ns, row.checkpoint_id): (thread, row) for thread, row in rows}.values())
    exact = [row.exact_metadata or (None, None) for _, row in unique]
    return {
        "c_threads": [thread for thread, _ in unique] or None,
        "c_spaces": [row.ns for _, row in unique],
        "c_ids": [row.checkpoint_id for _, row in unique],
        "c_parents": [row.parent_id or None for _, row in unique],
        "c_checkpoints": [row.checkpoint.decode() for _, row in unique],
        "c_metadata": [row.metadata.decode() for _, row in unique],
        "c_exact_types": [type_ for type_, _ in exact],
        "c_exact": [data for _, data in exact],
    }


def _blob_columns(rows: Iterable[tuple[str, BlobRow]]) -> dict[str, list[Any] | None]:
    unique = list({(thread, row.ns, row.channel, row.version): (thread, row) for thread, row in rows}.values())
    return {
        "b_threads": [thread for thread, _ in unique] or None,
        "b_spaces": [row.ns for _, row in unique],
        "b_channels": [row.channel for _, row in unique],
        "b_versions": [row.version for _, row in unique],
        "b_types": [row.type for _, row in unique],
        "b_blobs": [row.data for _, row in unique],
    }


def _write_columns(rows: Iterable[tuple[str, WriteRow]]) -> dict[str, list[Any] | None]:
    by_key: dict[tuple[Any, ...], tuple[str, WriteRow]] = {}
    for thread, row in rows:
        key = thread, row.ns, row.checkpoint_id, row.task_id, row.idx
        if row.idx < 0 or key not in by_key:
            by_key[key] = thread, row
    unique = by_key.values()
    return {
        "w_threads": [thread for thread, _ in unique] or None,
        "w_spaces": [row.ns for _, row in unique],
        "w_ids": [row.checkpoint_id for _, row in unique],
        "w_tasks": [row.task_id for _, row in unique],
        "w_indexes": [row.idx for _, row in unique],
        "w_channels": [row.channel for _, row in unique],
        "w_types": [row.type for _, row in unique],
        "w_blobs": [row.data for _, row in unique],
        "w_paths": [row.task_path for _, row in unique],
    }
