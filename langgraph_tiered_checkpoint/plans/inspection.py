"""Plans that look without touching: explain, stats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Literal

from typing_extensions import assert_never

from langgraph_tiered_checkpoint.cold.writes import ColdStatus
from langgraph_tiered_checkpoint.errors import ColdTierError
from langgraph_tiered_checkpoint.hot.durability import info_field
from langgraph_tiered_checkpoint.hot.replies import State
from langgraph_tiered_checkpoint.hot.upkeep import Census, Damaged, Figures, HotStatus
from langgraph_tiered_checkpoint.plans.buckets import of_each
from langgraph_tiered_checkpoint.plans.failover import change_number
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import HotCount, ThreadStatus, TierStats
from langgraph_tiered_checkpoint.steps import Ask, Lua, Plan, together

_STATES: dict[State, Literal["ephemeral", "dirty", "clean"]] = {
    State.EPHEMERAL: "ephemeral",
    State.DIRTY: "dirty",
    State.CLEAN: "clean",
}


def explain(store: Store, stored_id: str, thread_id: str) -> Plan[ThreadStatus]:
    """Where a thread is, and why. One round trip per tier; the TTL is not refreshed.

    While Postgres is down, a resident thread is described from its hot copy.

    Raises:
        ColdTierError: the thread is not resident, and Postgres did not answer.
    """
    hot = yield from store.hot.status(stored_id)
    cold: ColdStatus | None = None
    cold_error: str | None = None
    if store.cold is not None:
        try:
            cold = yield from store.cold.status(stored_id)
        except ColdTierError as exc:
            if hot is None:
                raise
            cold_error = str(exc)
    if cold is not None and not cold.checkpoints and not cold.origin.flushed:
        cold = None
    match hot:
        case HotStatus():
            status = _resident(thread_id, hot, cold, cold_error)
        case Damaged(what):
            status = _damaged(thread_id, what, cold, cold_error)
        case None:
            status = _not_resident(thread_id, cold)
        case _:
            assert_never(hot)
    return replace(status, warnings=tuple(store.dangers))


def _damaged(thread_id: str, what: str, cold: ColdStatus | None, cold_error: str | None) -> ThreadStatus:
    if cold_error:
        held = "whether Postgres holds any of it is not known while it does not answer"
    elif cold is None:
        held = "Postgres holds nothing of it"
    else:
        held = "Postgres holds what was flushed"
    return ThreadStatus(
        thread_id=thread_id,
        tier="hot" if cold is None else "both",
        state="damaged",
        why=f"its hot copy cannot be read: {what}; {held}",
        incarnation=cold.origin.incarnation if cold else None,
        cold_checkpoints=None if cold_error else cold.checkpoints if cold else 0,
        archived=cold.archived if cold else 0,
        last_write_at=cold.last_write_at if cold else None,
        pinned=cold.origin.pinned if cold else False,
        cold_error=cold_error,
    )


def _not_resident(thread_id: str, cold: ColdStatus | None) -> ThreadStatus:
    if cold is None:
        return ThreadStatus(
            thread_id=thread_id,
            tier=None,
            state="absent",
            why="no tier holds it: it was never written, was deleted, or has expired",
        )
    return ThreadStatus(
        thread_id=thread_id,
        tier="cold",
        state="cold",
        why=f"promoted ({cold.reason or 'written by another saver'}); its hot copy has lapsed",
        incarnation=cold.origin.incarnation,
        cold_checkpoints=cold.checkpoints,
        promoted_at=cold.promoted_at,
        promoted_by=cold.reason or None,
        archived=cold.archived,
        last_write_at=cold.last_write_at,
        pinned=cold.origin.pinned,
    )


def _resident(thread_id: str, hot: HotStatus, cold: ColdStatus | None, cold_error: str | None) -> ThreadStatus:
    other_life = cold is not None and cold.origin.incarnation not in ("", hot.incarnation)
    in_cold = bool(hot.flushed) if cold_error else cold is not None and not other_life
    since_dirty_ms = hot.now_ms - hot.dirty_since_ms
    return ThreadStatus(
        thread_id=thread_id,
        tier="both" if in_cold else "hot",
        state=_STATES[hot.state],
        why=_why_clean(hot, cold, cold_error) if hot.state is State.CLEAN else _why(hot),
        incarnation=hot.incarnation,
        hot_checkpoints=hot.checkpoints,
        cold_checkpoints=None if cold_error else cold.checkpoints if cold else 0,
        archived=cold.archived if cold else 0,
        hot_bytes=max(hot.memory_bytes, 0),
        expires_at=_at(hot.now_ms + hot.ttl_ms) if hot.ttl_ms > 0 else None,
        created_at=_at(hot.created_ms),
        promoted_at=cold.promoted_at if cold and in_cold else None,
        promoted_by=hot.reason or None,
        last_write_at=_at(hot.last_write_ms),
        unflushed_age=timedelta(milliseconds=since_dirty_ms) if hot.state is State.DIRTY else None,
        due_at=_at(hot.due_ms) if hot.due_ms is not None else None,
        lease=hot.lease_ms > hot.now_ms,
        pinned=hot.pinned,
        interrupted=hot.interrupted,
        last_error=hot.error or None,
        cold_error=cold_error,
    )


def _why(hot: HotStatus) -> str:
    match hot.state:
        case State.EPHEMERAL if hot.ttl_ms > 0:
            return f"not promoted; it is deleted {hot.ttl_ms / 1000:.0f} s from now unless it is used again"
        case State.EPHEMERAL:
            return "not promoted, and kept for ever: ttl=None"
        case _ if hot.error:
            return f"promoted ({hot.reason}); its last flush failed {hot.failures} times and will be tried again"
        case _:
            return f"promoted ({hot.reason}); it holds changes that Postgres has not committed yet"


def _why_clean(hot: HotStatus, cold: ColdStatus | None, cold_error: str | None) -> str:
    """What Postgres does not confirm is not claimed of it."""
    promoted = f"promoted ({hot.reason}); "
    if cold_error:
        return promoted + "Postgres has committed everything, but cannot be asked now whether it still holds it"
    if cold is None or cold.origin.incarnation != hot.incarnation:
        return promoted + (
            "but Postgres does not hold this incarnation of the thread any more, though nobody deleted it here. The "
            "hot copy may be all there is; its TTL ends it, unless it is written to"
        )
    if cold.origin.flushed == hot.flushed:
        return promoted + "Postgres holds everything, the hot copy may lapse at any time"
    if change_number(cold.origin.flushed) > change_number(hot.flushed):
        return promoted + "Postgres holds later changes: they have just been flushed, or Redis has gone back in time"
    return promoted + "Postgres has gone back in time, behind what this copy holds: evict() uploads it again"


def _at(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=timezone.utc)


def tenant_stats(store: Store, prefix: str) -> Plan[TierStats]:
    """What of the figures is a tenant's own: one request to Redis. The others would tell of everybody's threads."""
    buckets = yield from _figures(store)
    names = [name for bucket in buckets for name in bucket.parked]
    return TierStats(parked_threads=tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix)))


def _figures(store: Store) -> Plan[list[Figures]]:
    return list((yield from of_each(store.hot.figures)).values())


def _census(store: Store, buckets: Sequence[Figures]) -> Iterator[Lua[Census]]:
    """What counts some threads of each bucket that has any, and then those that are due first."""
    for names in (*(bucket.some for bucket in buckets), *(bucket.due_first for bucket in buckets)):
        if names:
            yield store.hot.census(names)


def _counted(buckets: Sequence[Figures], counts: Sequence[Census]) -> Mapping[State, HotCount]:
    """Threads and bytes by state: of all of each bucket, by some of it."""
    threads, memory = dict.fromkeys(_STATES, 0.0), dict.fromkeys(_STATES, 0.0)
    with_some = (bucket for bucket in buckets if bucket.some)
    for bucket, count in zip(with_some, counts, strict=False):
        stands_for = bucket.threads / len(bucket.some)
        for state in _STATES:
            threads[state] += count.threads[state] * stands_for
            memory[state] += count.bytes[state] * stands_for
    return {state: HotCount(threads=round(threads[state]), bytes=round(memory[state])) for state in _STATES}


def _figure(info: object, name: str) -> int | None:
    told = info_field(info, name)
    return int(told) if told.isdigit() else None


def stats(store: Store) -> Plan[TierStats]:
    """Figures of the whole store: four requests to Redis, one to Postgres."""
    buckets = yield from _figures(store)
    workers = yield from store.hot.workers()
    counts = yield from together(_census(store, buckets))
    counted = _counted(buckets, counts)
    oldest_unflushed_ms = max((count.oldest_unflushed_ms for count in counts), default=-1)
    [memory] = yield from Ask((("INFO", "memory"),))
    cold_threads, cold_bytes, cold_error = None, None, None
    if store.cold is not None:
        try:
            cold_threads, cold_bytes = yield from store.cold.figures()
        except ColdTierError as exc:
            cold_error = str(exc)
    oldest_ms = max(bucket.oldest_ms for bucket in buckets)
    return TierStats(
        hot_threads=sum(bucket.threads for bucket in buckets),
        ephemeral=counted[State.EPHEMERAL],
        dirty=counted[State.DIRTY],
        clean=counted[State.CLEAN],
        hot_bytes=_figure(memory, "used_memory"),
        hot_limit_bytes=_figure(memory, "maxmemory"),
        due_threads=sum(bucket.due for bucket in buckets),
        overdue_threads=sum(bucket.overdue for bucket in buckets),
        oldest_due_age=timedelta(milliseconds=oldest_ms) if oldest_ms >= 0 else None,
        oldest_unflushed_age=timedelta(milliseconds=oldest_unflushed_ms) if oldest_unflushed_ms >= 0 else None,
        flushed_per_s=sum(worker.flushed_per_s for worker in workers),
        workers=tuple(workers),
        parked_threads=tuple(name for bucket in buckets for name in bucket.parked),
        cold_threads=cold_threads,
        cold_bytes=cold_bytes,
        cold_error=cold_error,
        warnings=tuple(store.dangers),
    )
