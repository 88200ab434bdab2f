"""Plans that bring Postgres up to date with many threads: what a promoter runs, and the barrier."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import ColdTimeoutError, FlushError
from langgraph_tiered_checkpoint.hot.flushing import DuePage, Lease
from langgraph_tiered_checkpoint.hot.keys import BUCKETS
from langgraph_tiered_checkpoint.hot.replies import State
from langgraph_tiered_checkpoint.hot.upkeep import Lapses
from langgraph_tiered_checkpoint.plans.buckets import BucketPages, of_each
from langgraph_tiered_checkpoint.plans.copying import Copied, copy
from langgraph_tiered_checkpoint.plans.flushing import concerns_all, flush, park
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.steps import Lanes, Plan, together

BATCH = 32
"""Threads flushed together, at most."""

_LANES = 2
"""Flushes at once in one worker: one reads Redis while Postgres works for the other. More would wait for each other."""

AT_ONCE = 2 * _LANES * BATCH
"""Threads that keep one worker busy: at the end of them, one lane may wait for the other."""

_SWEPT_BUCKETS, _SWEPT_THREADS, _SWEPT_RUNS = 64, 50, 500
"""Of a sweep: buckets that are asked in one request; threads, and entries of runs, that one script deals with."""


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


def sweep_in_turn(store: Store, every_ms: int) -> Plan[bool]:
    """`sweep`, unless another process has done so, or begun to, within that time. The reply is whether it was ours."""
    ours = yield from store.hot.turn(every_ms)
    if ours:
        yield from sweep(store)
    return ours


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
    leases = yield from together(map(store.hot.lease, thread_ids))
    dirty = {
        t: lease
        for t, lease in zip(thread_ids, leases, strict=True)
        if isinstance(lease, Lease) and lease.state is State.DIRTY
    }
    plain = {t: lease for t, lease in dirty.items() if not lease.rebase and (lease.flushed or not lease.moved)}
    outcomes = (yield from copy(store, cold, plain)) if plain else {}
    return [t for t in dirty if not isinstance(outcomes.get(t), Copied)]
