"""The flush protocol: claim, copy, commit, acknowledge. Of some threads at once, or of one.

Every step can be repeated, and any number of workers may flush the same thread at once: the commit is fenced by
the incarnation and by the change id that Postgres must still hold, and an acknowledgement names what was committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import zip_longest
from typing import NamedTuple

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import ColdRefusedError
from langgraph_tiered_checkpoint.hot.flushing import (
    Acknowledged,
    Base,
    Changes,
    Lease,
    Rows,
    Verdict,
    size_of,
)
from langgraph_tiered_checkpoint.hot.keys import PAGE_BYTES
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.plans.dropping import trim
from langgraph_tiered_checkpoint.plans.failover import compare
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import ThreadBatch
from langgraph_tiered_checkpoint.steps import Plan, together

_NO_ROWS = Rows([], [], [])

_SCANS = 8
"""Threads of which a first copy reads a page each in one request."""


class Copied(NamedTuple):
    """Postgres has what the thread held, and it is acknowledged."""

    number: int
    """Of the last change."""
    through: str
    """Its id."""
    verdict: Verdict


class Ended(Enum):
    """Not all of a thread was copied."""

    CHANGED = "changed"
    """It is not any more as it was leased: gone, begun anew, or flushed by others."""
    FENCED = "fenced"
    """Postgres holds something else than the copy goes on from, or has refused it."""


class Copy(NamedTuple):
    """How far a thread has been copied."""

    thread_id: str
    lease: Lease
    """Of the thread as it is known by now: with what has been flushed meanwhile."""
    fence: str
    """What it is committed behind: what was flushed before, or the claim of a first copy."""
    number: int
    """Of the last change that has been read."""
    base: Base | None
    """Until it is mended; its rows, until they are committed."""
    done: bool = False
    """Whether all has been read that the thread held when it was leased; of one that is uploaded again, all."""

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
        batch = _batch(self.thread_id, lease, _joined(base and base.rows, changes.rows), through, self.fence)
        following = self._replace(
            lease=lease._replace(flushed=through),
            fence=through or self.fence,
            number=changes.number,
            base=base._replace(rows=_NO_ROWS) if base and not mended else None,
            done=mended and not (changes.more and (lease.rebase or changes.number < lease.last_number)),
        )
        return batch, following


def copy(store: Store, cold: Cold, leases: Mapping[str, Lease]) -> Plan[dict[str, Copied | Ended]]:
    """Bring Postgres up to what some dirty threads held when they were leased; the reply is what came of each.

    Of several, one that Postgres refuses does not hold up the others.

    Raises:
        ColdRefusedError: Postgres refuses the rows of the only one.
    """
    fences = yield from _claim(cold, leases)
    based = {t: leases[t] for t in fences if leases[t].needs_base}
    bases = yield from _copy_bases(store, cold, based, fences)
    copies = [
        Copy(t, leases[t], fence, leases[t].flushed_number, bases.get(t))
        for t, fence in fences.items()
        if t in bases or t not in based
    ]
    ended: dict[str, Copied | Ended] = dict.fromkeys(leases, Ended.FENCED)
    while copies:
        copies = yield from _copy_changes(store, cold, copies, ended)
    return ended


def _claim(cold: Cold, leases: Mapping[str, Lease]) -> Plan[dict[str, str]]:
    """The fences, and of first copies rows in Postgres before anything is read: it is committed behind their claims.

    A thread that somebody else has flushed already is not in the reply.
    """
    first = [(t, lease.incarnation, lease.reason) for t, lease in leases.items() if not lease.flushed]
    origins = (yield from cold.claim(first, new_id())) if first else {}
    claims = {
        t: origin.claim
        for t, origin in origins.items()
        if origin.incarnation == leases[t].incarnation and not origin.flushed
    }
    fences = {t: lease.flushed or claims.get(t, "") for t, lease in leases.items()}
    return {t: fence for t, fence in fences.items() if fence}


def _copy_bases(
    store: Store, cold: Cold, leases: Mapping[str, Lease], fences: Mapping[str, str]
) -> Plan[dict[str, Base]]:
    """Copy all that some threads hold, without moving the fences, but for the last rows: these are the reply.

    A thread whose copy has failed is not in it. What changes meanwhile is in the log.
    """
    bases: dict[str, Base] = {}
    names = list(leases)
    for start in range(0, len(names), _SCANS):
        cursors = dict.fromkeys(names[start : start + _SCANS], "0")
        while cursors:
            share = PAGE_BYTES // len(cursors)
            pages = yield from together(store.hot.scan(t, leases[t], at, share) for t, at in cursors.items())
            for thread_id, page in zip(list(cursors), pages, strict=True):
                if page is None:
                    bases.pop(thread_id, None)
                    yield from _take_back(cold, thread_id, leases[thread_id])
                    cursors[thread_id] = "0"
                else:
                    cursors[thread_id] = page.cursor
                    bases[thread_id] = _joined_base(bases.get(thread_id), page.base)
            cursors = {t: cursor for t, cursor in cursors.items() if cursor != "0"}
            if cursors and sum(size_of(base.rows) for base in bases.values()) >= PAGE_BYTES:
                read = [_batch(t, leases[t], b.rows, leases[t].flushed, fences[t]) for t, b in bases.items()]
                held = yield from _commit_pages(store, cold, read, alone=len(fences) == 1)
                bases = {t: base._replace(rows=_NO_ROWS) for t, base in bases.items() if t in held}
                cursors = {t: cursor for t, cursor in cursors.items() if t in held}
    return bases


def _copy_changes(
    store: Store, cold: Cold, copies: Sequence[Copy], ended: dict[str, Copied | Ended]
) -> Plan[list[Copy]]:
    """Copy the next changes, a page in all, commit and acknowledge them.

    What goes on is the reply; what does not, and is not fenced, is noted in `ended`.
    """
    share = PAGE_BYTES // len(copies)
    pages = yield from together(store.hot.changes(c.thread_id, c.lease, c.number, share) for c in copies)
    read: list[ThreadBatch] = []
    following: dict[str, Copy] = {}
    for one, changes in zip(copies, pages, strict=True):
        if changes is None or not one.is_of_the_time_of(changes):
            yield from _give_up(store, cold, one, changes)
            ended[one.thread_id] = Ended.CHANGED
        else:
            batch, following[one.thread_id] = one.page(changes)
            read.append(batch)
    held = yield from _commit_pages(store, cold, read, alone=len(ended) == 1)
    following = {t: one for t, one in following.items() if t in held}
    moved = [one for one in following.values() if one.base is None]
    replies = yield from together(
        store.hot.ack(one.thread_id, incarnation=one.lease.incarnation, through=one.lease.flushed) for one in moved
    )
    for one, reply in zip(moved, replies, strict=True):
        yield from acknowledged(store, one.thread_id, one.lease.incarnation, reply)
        if not reply.verdict.accepted:
            ended[one.thread_id] = Ended.CHANGED
        elif one.done:
            ended[one.thread_id] = Copied(one.number, one.lease.flushed, reply.verdict)
    return [one for t, one in following.items() if ended[t] is Ended.FENCED]


def _commit_pages(store: Store, cold: Cold, batches: Sequence[ThreadBatch], *, alone: bool) -> Plan[frozenset[str]]:
    """Commit what is not refused, a few MB at a time: all of it is in memory three times over."""
    held: frozenset[str] = frozenset()
    page: list[ThreadBatch] = []
    for batch, following in zip_longest(batches, batches[1:]):
        page.append(batch)
        if following is None or following.keep != batch.keep or sum(map(size_of, page)) >= PAGE_BYTES:
            try:
                held |= yield from commit(store, cold, page)
            except ColdRefusedError:
                if alone:
                    raise
            page = []
    return held


def commit(store: Store, cold: Cold, batches: Sequence[ThreadBatch]) -> Plan[frozenset[str]]:
    """Commit together what is to be kept alike, and enter in the journal what Postgres took."""
    held = yield from cold.commit(batches, keep=batches[0].keep)
    store.journal.committed(batches, held)
    return held


def acknowledged(store: Store, thread_id: str, incarnation: str, reply: Acknowledged) -> Plan[None]:
    """Do what the reply to an acknowledgement asks for: trim the thread, or compare the tiers again."""
    if reply.is_long:
        yield from trim(store, thread_id, incarnation)
    if reply.verdict is Verdict.DIVERGED:  # Redis went back in time before it, and may have been vouched for since
        lease = yield from store.hot.lease(thread_id)
        if isinstance(lease, Lease) and lease.incarnation == incarnation:
            yield from compare(store, thread_id, lease.incarnation, lease.flushed)


def _give_up(store: Store, cold: Cold, one: Copy, changes: Changes | None) -> Plan[None]:
    """It is gone, or Redis has gone back in time since the base was read: Postgres may have got what Redis has lost."""
    lease = one.lease
    yield from _take_back(cold, one.thread_id, lease)
    if changes is not None and lease.flushed:
        yield from store.hot.rebase(
            one.thread_id, incarnation=lease.incarnation, flushed=lease.flushed, op=new_id(), whole=True
        )


def _take_back(cold: Cold, thread_id: str, lease: Lease) -> Plan[None]:
    """Of a first copy that has come to nothing, Postgres keeps neither the claim nor what it has got."""
    if not lease.flushed:
        yield from cold.unclaim(thread_id, lease.incarnation)


def _batch(thread_id: str, lease: Lease, rows: Rows, through: str, fence: str) -> ThreadBatch:
    return ThreadBatch(
        thread_id,
        lease.incarnation,
        fence,
        through,
        *rows,
        lease.last_write_ms,
        lease.reason,
        lease.copied,
        keep=lease.rebase > 0,
    )


def _joined_base(first: Base | None, then: Base) -> Base:
    """Pages of one base."""
    if first is None:
        return then
    return Base(_joined(first.rows, then.rows), then.number, first.runs | then.runs)


def _joined(first: Rows | None, then: Rows) -> Rows:
    """Rows in order: of those with the same key a commit writes the last."""
    if first is None:
        return then
    return Rows(first.checkpoints + then.checkpoints, first.blobs + then.blobs, first.writes + then.writes)
