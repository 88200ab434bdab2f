"""How far a thread has been copied to Postgres, and what goes there next. No steps."""

from __future__ import annotations

from typing import NamedTuple

from langgraph_tiered_checkpoint.hot.flushing import Base, Changes, Lease, Rows
from langgraph_tiered_checkpoint.records import ThreadBatch

NO_ROWS = Rows([], [], [])


class Copy(NamedTuple):
    """How far a thread has been copied."""

    thread_id: str
    lease: Lease
    """Of the thread as it is known by now: with what has been flushed meanwhile."""
    claim: str
    """What a first copy is committed behind; else empty."""
    number: int
    """Of the last change that has been read."""
    base: Base | None
    """Until it is mended; its rows, until they are committed."""

    @classmethod
    def begun(cls, thread_id: str, lease: Lease, claim: str = "", base: Base | None = None) -> Copy:
        """Nothing of the log has been read yet."""
        return cls(thread_id, lease, claim, lease.flushed_number, base)

    def is_of_the_time_of(self, changes: Changes) -> bool:
        """Whether Redis has not gone back in time since the base was read, as far as can be told."""
        return self.base is None or self.base.is_of_the_time_of(changes)

    def page(self, changes: Changes) -> tuple[ThreadBatch, Copy]:
        """What to commit when these changes have been read, and what follows it.

        What is left of the base goes with the first page, and the fence is not moved before the base is mended.
        """
        base, lease = self.base, self.lease
        mended = base is None or base.is_mended_by(changes)
        through = changes.through if mended else lease.flushed
        expected = lease.flushed or self.claim
        batch = batch_of(self.thread_id, lease, joined(base and base.rows, changes.rows), through, expected)
        following = self._replace(
            lease=lease._replace(flushed=through),
            number=changes.number,
            base=base._replace(rows=NO_ROWS) if base and not mended else None,
        )
        return batch, following


def joined_base(first: Base | None, then: Base) -> Base:
    """Pages of one base."""
    if first is None:
        return then
    return Base(joined(first.rows, then.rows), then.number, first.runs | then.runs)


def joined(first: Rows | None, then: Rows) -> Rows:
    """Rows in order: of those with the same key a commit writes the last."""
    if first is None:
        return then
    return Rows(first.checkpoints + then.checkpoints, first.blobs + then.blobs, first.writes + then.writes)


def size_of(rows: Rows) -> int:
    """What rows carry, in bytes, about."""
    size = sum(len(row.checkpoint) + len(row.metadata) for row in rows.checkpoints)
    return size + sum(len(blob.data) for blob in rows.blobs) + sum(len(write.data) for write in rows.writes)


def batch_of(thread_id: str, lease: Lease, rows: Rows, through: str, expected: str) -> ThreadBatch:
    """Rows for Postgres, and the fence: what was flushed before, or the claim."""
    return ThreadBatch(
        thread_id,
        lease.incarnation,
        expected,
        through,
        *rows,
        lease.last_write_ms,
        lease.reason,
        lease.copied,
    )
