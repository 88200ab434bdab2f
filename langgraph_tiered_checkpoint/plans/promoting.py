"""Plans that bring Postgres up to date with many threads: what a promoter runs, and the barrier."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import ColdRefusedError, ColdTimeoutError, FlushError
from langgraph_tiered_checkpoint.hot.flushing import Base, DuePage, Lease, Rows
from langgraph_tiered_checkpoint.hot.keys import BUCKETS, PAGE_BYTES
from langgraph_tiered_checkpoint.hot.replies import State
from langgraph_tiered_checkpoint.hot.upkeep import Lapses
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.plans.buckets import BucketPages, of_each
from langgraph_tiered_checkpoint.plans.copying import NO_ROWS, Copy, batch_of, joined_base, size_of
from langgraph_tiered_checkpoint.plans.flushing import acknowledged, commit, concerns_all, flush, park
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import ThreadBatch
from langgraph_tiered_checkpoint.steps import Lanes, LuaBatch, Plan

BATCH = 32
"""Threads flushed together, at most."""

_LANES = 2
"""Flushes at once in one worker: one reads Redis while Postgres works for the other. More would wait for each other."""

AT_ONCE = 2 * _LANES * BATCH
"""Threads that keep one worker busy: at the end of them, one lane may wait for the other."""

_SWEPT_BUCKETS, _SWEPT_THREADS, _SWEPT_RUNS = 64, 50, 500
"""Of a sweep: buckets that are asked in one request; threads, and entries of runs, that one script deals with."""

_SCANS = 8
"""Threads of which a first copy reads a page each in one request."""


def due_threads(store: Store) -> Plan[list[str]]:
    """Every thread that is due or dirty from the first step to the last, whether or not a worker has it in hand.

    Leases and acknowledgements change due times meanwhile, in either direction, so pages do not go by them. Of a bucket
    that another run of Redis goes on with, it begins again.
    """
    runs: dict[int, str] = {}

    def following(bucket: int, page: DuePage) -> str | None:
        run, runs[bucket] = runs.get(bucket, page.server_run), page.server_run
        if page.server_run != run:
            return "0"
        return None if page.cursor == "0" else page.cursor

    found: dict[str, None] = {}
    pages = BucketPages(store.hot.due, following, "0")
    while pages.at:
        for page in (yield from pages.next_pages()).values():
            found.update(dict.fromkeys(page.thread_ids))
    return list(found)


def flush_all(store: Store, prefix: str = "") -> Plan[None]:
    """The barrier: when this returns, Postgres holds everything promoted that was written before the call.

    Raises:
        FlushError: some threads failed for a reason of their own; the message names them.
        ColdTierError: Postgres did not answer.
    """
    due = yield from due_threads(store)
    names = [name for name in due if name.startswith(prefix)]
    failed = yield from flush_many(store, names)
    if failed:
        listed = "; ".join(f"{name!r}: {error}" for name, error in list(failed.items())[:5])
        raise FlushError(f"{len(failed)} of {len(names)} threads could not be flushed and stay in Redis: {listed}")


def lease_due(store: Store, buckets: Sequence[int], limit: int) -> Plan[list[str]]:
    """Lease what is due in some buckets: one request."""
    leased = yield from of_each(lambda bucket: store.hot.lease_due(bucket, limit), buckets)
    return [name for names in leased.values() for name in names]


def beat(store: Store, before: str, now: str) -> Plan[None]:
    """Say what a promoter says of itself while it is alive, in place of what it said `before`; if "", that it ends."""
    yield from store.hot.beat(before=before, now=now)


def sweep_in_turn(store: Store, every_ms: int) -> Plan[None]:
    """`sweep`, unless another process has done so, or begun to, within that time."""
    if (yield from store.hot.turn(every_ms)):
        yield from sweep(store)


def sweep(store: Store) -> Plan[None]:
    """Remove bookkeeping that belongs to absent threads, and make due again what has fallen out of the schedule.

    Only threads that may have lapsed since the last sweep are looked at, some in each request: others' come in between.
    """
    for start in range(0, BUCKETS, _SWEPT_BUCKETS):
        some = range(start, min(start + _SWEPT_BUCKETS, BUCKETS))
        pages = BucketPages(lambda bucket, _: store.hot.lapses(bucket, _SWEPT_THREADS), _goes_on, "", some)
        while pages.at:
            for bucket, page in (yield from pages.next_pages()).items():
                if page.thread_ids:
                    yield from store.hot.sweep(bucket, page.thread_ids, _SWEPT_RUNS)


def _goes_on(_: int, page: Lapses) -> str | None:
    return "" if page.more else None


def flush_many(store: Store, thread_ids: Sequence[str]) -> Plan[dict[str, str]]:
    """`flush_due` for any number of threads: some batches at once."""
    batches = _batches(thread_ids)
    waiting = iter(batches)
    failed: dict[str, str] = {}

    def lane() -> Plan[None]:
        try:
            for batch in waiting:
                failed.update((yield from flush_due(store, batch)))
        except BaseException:
            deque(waiting, maxlen=0)  # the other lane need not try the same
            raise

    if len(batches) > 1:
        yield from Lanes(tuple(lane() for _ in range(_LANES)))
    else:
        yield from lane()
    return failed


def _batches(thread_ids: Sequence[str]) -> list[Sequence[str]]:
    """Few, and of one size, so that the lanes end at about the same time."""
    count = -(-len(thread_ids) // BATCH)
    if count > 1:
        count += -count % _LANES
    size = -(-len(thread_ids) // max(count, 1))
    return [thread_ids[start : start + size] for start in range(0, len(thread_ids), size or 1)]


def flush_due(store: Store, thread_ids: Sequence[str]) -> Plan[dict[str, str]]:
    """Flush threads, many in one transaction; the reply has the error of each that failed for its own reason.

    Such a thread stays dirty and is tried again later. It is one whose rows Postgres refuses, or takes too long for
    while it does not for others. An outage is raised instead.
    """
    cold = store.need_cold("flushed", ", ".join(thread_ids[:3]))
    try:
        alone = yield from _flush_together(store, cold, thread_ids)
    except Exception as exc:
        if (yield from concerns_all(cold, thread_ids[0], exc)):
            raise
        alone = list(thread_ids)  # one of them must not keep the others from Postgres
    failed = yield from _flush_each(store, cold, alone)
    slow = {thread_id: error for thread_id, error in failed.items() if isinstance(error, ColdTimeoutError)}
    if len(slow) == len(thread_ids):
        raise slow[thread_ids[0]]
    for thread_id, error in slow.items():
        yield from park(store, thread_id, error)
    return {thread_id: f"{type(error).__name__}: {error}" for thread_id, error in failed.items()}


def _flush_each(store: Store, cold: Cold, thread_ids: Sequence[str]) -> Plan[dict[str, Exception]]:
    """Flush threads one by one; the reply has the errors that say nothing of the others."""
    failed: dict[str, Exception] = {}
    for thread_id in thread_ids:
        try:
            yield from flush(store, thread_id)
        except Exception as exc:
            if (yield from concerns_all(cold, thread_id, exc)):
                raise
            failed[thread_id] = exc
    return failed


def _flush_together(store: Store, cold: Cold, thread_ids: Sequence[str]) -> Plan[list[str]]:
    """Flush the changes of several threads together; the reply names those that need a flush of their own."""
    leases = yield from LuaBatch(tuple(store.hot.lease(t) for t in thread_ids))
    dirty = {
        t: lease
        for t, lease in zip(thread_ids, leases, strict=True)
        if isinstance(lease, Lease) and lease.state is State.DIRTY
    }
    first = {t: lease for t, lease in dirty.items() if not (lease.flushed or lease.rebase or lease.moved)}
    copies = [Copy.begun(t, p) for t, p in dirty.items() if p.flushed and not p.rebase]
    if first:
        copies += yield from _begin(store, cold, first)
    alone = dirty.keys() - {copy.thread_id for copy in copies}
    while copies:
        copies, failed = yield from _flush_pages(store, cold, copies)
        alone |= failed
    return [t for t in dirty if t in alone]


def _flush_pages(store: Store, cold: Cold, copies: Sequence[Copy]) -> Plan[tuple[list[Copy], set[str]]]:
    """Flush the next changes of several threads, a page in all.

    The reply is what there is more of, and the threads that need a flush of their own.
    """
    share = PAGE_BYTES // len(copies)
    calls = (store.hot.changes(c.thread_id, c.lease, c.number, share) for c in copies)
    pages = yield from LuaBatch(tuple(calls))
    batches: dict[str, ThreadBatch] = {}
    following: dict[str, Copy] = {}
    failed: set[str] = set()
    for copy, changes in zip(copies, pages, strict=True):
        thread_id = copy.thread_id
        if changes is None or not copy.is_of_the_time_of(changes):
            if not copy.lease.flushed:
                yield from cold.unclaim(thread_id, copy.lease.incarnation)
            failed |= {thread_id} if changes else set()
            continue
        batches[thread_id], after = copy.page(changes)
        if changes.more and (after.base or changes.number < copy.lease.last_number):
            following[thread_id] = after
    committed = yield from _commit_together(store, cold, list(batches.values()))
    acks = [b for t, b in batches.items() if t in committed and b.flushed]
    if acks:
        asked = (store.hot.ack(b.thread_id, incarnation=b.incarnation, through=b.flushed) for b in acks)
        replies = yield from LuaBatch(tuple(asked))
        for batch, reply in zip(acks, replies, strict=True):
            yield from acknowledged(store, batch.thread_id, batch.incarnation, reply)
            if not reply.verdict.accepted and batch.thread_id in following:
                del following[batch.thread_id]
                failed.add(batch.thread_id)
    failed |= batches.keys() - committed
    return [copy for t, copy in following.items() if t in committed], failed


def _commit_together(store: Store, cold: Cold, batches: Sequence[ThreadBatch]) -> Plan[frozenset[str]]:
    """Commit what is not refused, a few MB at a time: all of it is in memory three times over."""
    committed: frozenset[str] = frozenset()
    page: list[ThreadBatch] = []
    size = 0
    for i, batch in enumerate(batches):
        page.append(batch)
        size += size_of(Rows(batch.checkpoints, batch.blobs, batch.writes))
        if size >= PAGE_BYTES or i == len(batches) - 1:
            with suppress(ColdRefusedError):  # one damaged thread must not keep the others from Postgres
                committed |= yield from commit(store, cold, page)
            page, size = [], 0
    return committed


def _begin(store: Store, cold: Cold, first: Mapping[str, Lease]) -> Plan[list[Copy]]:
    """Begin the first copy of several threads: claim them, and copy what they hold, but for what the reply has.

    A thread that is not in the reply needs a flush of its own.
    """
    claim = new_id()
    claimed = yield from cold.claim_all([(t, lease.incarnation, lease.reason) for t, lease in first.items()], claim)
    based = [t for t in claimed if first[t].needs_base]
    bases = yield from _copy_bases(store, cold, {t: first[t] for t in based}, claim)
    return [Copy.begun(t, first[t], claim, bases.get(t)) for t in claimed if t in bases or not first[t].needs_base]


def _copy_bases(store: Store, cold: Cold, first: Mapping[str, Lease], claim: str) -> Plan[dict[str, Base]]:
    """Copy what several threads hold, but for what the reply has. Of a thread that is not in it the copy has failed."""
    bases: dict[str, Base] = {}
    names = list(first)
    for start in range(0, len(names), _SCANS):
        cursors = dict.fromkeys(names[start : start + _SCANS], "0")
        while cursors:
            share = PAGE_BYTES // len(cursors)
            scans = (store.hot.scan(t, first[t], at, share) for t, at in cursors.items())
            replies = yield from LuaBatch(tuple(scans))
            for thread_id, scan in zip(list(cursors), replies, strict=True):
                if scan is None:
                    bases.pop(thread_id, None)
                    yield from cold.unclaim(thread_id, first[thread_id].incarnation)
                    cursors[thread_id] = "0"
                else:
                    cursors[thread_id] = scan.cursor
                    bases[thread_id] = joined_base(bases.get(thread_id), scan.base)
            cursors = {t: cursor for t, cursor in cursors.items() if cursor != "0"}
            if sum(size_of(base.rows) for base in bases.values()) >= PAGE_BYTES:
                pages = [batch_of(t, first[t], base.rows, "", claim) for t, base in bases.items()]
                committed = yield from _commit_together(store, cold, pages)
                bases = {t: base._replace(rows=NO_ROWS) for t, base in bases.items() if t in committed}
                cursors = {t: cursor for t, cursor in cursors.items() if t in committed}
    return bases
