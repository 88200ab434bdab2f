"""Plans that look without touching: explain, stats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import msgpack

from langgraph_tiered_checkpoint.cold.writes import ColdStatus
from langgraph_tiered_checkpoint.errors import ColdTierError
from langgraph_tiered_checkpoint.hot.calls import BUCKETS
from langgraph_tiered_checkpoint.hot.durability import info_field
from langgraph_tiered_checkpoint.plans.failover import change_number
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import HotCount, ThreadStatus, TierStats
from langgraph_tiered_checkpoint.steps import Ask, Lua, LuaBatch, Plan

_SOME, _DUE = 5, 6
"""Where the reply of bucket.lua names threads."""

_STATES = {"e": "ephemeral", "d": "dirty", "c": "clean"}


def explain(store: Store, stored_id: str, thread_id: str) -> Plan[ThreadStatus]:
    """Where a thread is, and why. One round trip per tier; the TTL is not refreshed.

    While Postgres is down, a resident thread is described from its hot copy.

    Raises:
        ColdTierError: the thread is not resident, and Postgres did not answer.
    """
    reply = yield store.hot.status(stored_id)
    resident = reply[0] in (b"thread", b"damaged")
    cold: ColdStatus | None = None
    cold_error: str | None = None
    if store.cold is not None:
        try:
            cold = yield store.cold.status(stored_id)
        except ColdTierError as exc:
            if not resident:
                raise
            cold_error = str(exc)
    if cold is not None and not cold.checkpoints and not cold.origin.flushed:
        cold = None
    if reply[0] == b"damaged":
        status = _damaged(thread_id, reply[1].decode(), cold, cold_error)
    else:
        status = _resident(thread_id, reply, cold, cold_error) if resident else _not_resident(thread_id, cold)
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
        last_write_at=cold.last_write_at,
        pinned=cold.origin.pinned,
    )


def _resident(thread_id: str, reply: Sequence[Any], cold: ColdStatus | None, cold_error: str | None) -> ThreadStatus:
    _, packed, ttl_ms, due, memory, now_ms, lease_ms = reply
    meta = msgpack.unpackb(packed)
    due_ms = float(due) if due else None
    other_life = cold is not None and cold.origin.incarnation not in ("", meta["i"])
    in_cold = bool(meta["fl"]) if cold_error else cold is not None and not other_life
    return ThreadStatus(
        thread_id=thread_id,
        tier="both" if in_cold else "hot",
        state=_STATES[meta["s"]],  # type: ignore[arg-type]  # the three literals of ThreadStatus.state
        why=_why(meta, ttl_ms) if meta["s"] != "c" else _why_clean(meta, cold, cold_error),
        incarnation=meta["i"],
        hot_checkpoints=meta["n"],
        cold_checkpoints=None if cold_error else cold.checkpoints if cold else 0,
        hot_bytes=max(memory, 0),
        expires_at=_at(now_ms + ttl_ms) if ttl_ms > 0 else None,
        created_at=_at(meta["ct"]),
        last_write_at=_at(meta["lw"]),
        unflushed_age=timedelta(milliseconds=now_ms - meta["du"]) if meta["s"] == "d" else None,
        due_at=_at(due_ms) if due_ms is not None else None,
        lease=lease_ms > now_ms,
        pinned=bool(meta["pin"]),
        interrupted=bool(meta["int"]),
        last_error=meta["er"] or None,
        cold_error=cold_error,
    )


def _why(meta: dict[str, Any], ttl_ms: int) -> str:
    match meta["s"]:
        case "e" if ttl_ms > 0:
            return f"not promoted; it is deleted {ttl_ms / 1000:.0f} s from now unless it is used again"
        case "e":
            return "not promoted, and kept for ever: ttl=None"
        case "d" if meta["er"]:
            return f"promoted ({meta['rs']}); its last flush failed {meta['bk']} times and will be tried again"
        case _:
            return f"promoted ({meta['rs']}); it holds changes that Postgres has not committed yet"


def _why_clean(meta: dict[str, Any], cold: ColdStatus | None, cold_error: str | None) -> str:
    """What Postgres does not confirm is not claimed of it."""
    promoted = f"promoted ({meta['rs']}); "
    if cold_error:
        return promoted + "Postgres has committed everything, but cannot be asked now whether it still holds it"
    if cold is None or cold.origin.incarnation != meta["i"]:
        return promoted + (
            "but Postgres does not hold this incarnation of the thread any more, though nobody deleted it here. The "
            "hot copy may be all there is; its TTL ends it, unless it is written to"
        )
    if cold.origin.flushed == meta["fl"]:
        return promoted + "Postgres holds everything, the hot copy may lapse at any time"
    if change_number(cold.origin.flushed) > change_number(meta["fl"]):
        return promoted + "Postgres holds later changes: they have just been flushed, or Redis has gone back in time"
    return promoted + "Postgres has gone back in time, behind what this copy holds: evict() uploads it again"


def _at(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=timezone.utc)


def tenant_stats(store: Store, prefix: str) -> Plan[TierStats]:
    """What of the figures is a tenant's own: one request to Redis. The others would tell of everybody's threads."""
    replies = yield from _buckets(store)
    names = [name.decode() for reply in replies for name in reply[4]]
    return TierStats(parked_threads=tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix)))


def _buckets(store: Store) -> Plan[list[Any]]:
    return (yield LuaBatch(tuple(store.hot.bucket(bucket) for bucket in range(BUCKETS))))  # type: ignore[no-any-return]


def _census(store: Store, replies: Sequence[Any]) -> Iterator[Lua[Any]]:
    """What counts some threads of each bucket that has any, and then those that are due first."""
    for at in (_SOME, _DUE):
        for bucket, reply in enumerate(replies):
            if reply[at]:
                yield store.hot.census(bucket, [name.decode() for name in reply[at]])


def _counted(replies: Sequence[Any], counts: Sequence[Any]) -> dict[str, HotCount]:
    """Threads and bytes by state: of all of each bucket, by some of it."""
    threads, memory = dict.fromkeys(_STATES, 0.0), dict.fromkeys(_STATES, 0.0)
    with_some = (reply for reply in replies if reply[_SOME])
    for reply, count in zip(with_some, counts, strict=False):
        stands_for = reply[0] / len(reply[_SOME])
        for state, number, size in zip(_STATES, count[:3], count[3:6], strict=True):
            threads[state] += number * stands_for
            memory[state] += size * stands_for
    return {state: HotCount(threads=round(threads[state]), bytes=round(memory[state])) for state in _STATES}


def _figure(info: object, name: str) -> int | None:
    told = info_field(info, name)
    return int(told) if told.isdigit() else None


def stats(store: Store) -> Plan[TierStats]:
    """Figures of the whole store: three requests to Redis, one to Postgres."""
    replies = yield from _buckets(store)
    calls = list(_census(store, replies))
    workers, *counts = yield from LuaBatch((store.hot.workers(), *calls))
    counted = _counted(replies, counts)
    oldest_unflushed_ms = max((count[6] for count in counts), default=-1)
    [memory] = yield from Ask((("INFO", "memory"),))
    cold_threads, cold_bytes, cold_error = None, None, None
    if store.cold is not None:
        try:
            cold_threads, cold_bytes = yield store.cold.figures()
        except ColdTierError as exc:
            cold_error = str(exc)
    oldest_ms = max(reply[3] for reply in replies)
    return TierStats(
        hot_threads=sum(reply[0] for reply in replies),
        ephemeral=counted["e"],
        dirty=counted["d"],
        clean=counted["c"],
        hot_bytes=_figure(memory, "used_memory"),
        hot_limit_bytes=_figure(memory, "maxmemory"),
        due_threads=sum(reply[1] for reply in replies),
        overdue_threads=sum(reply[2] for reply in replies),
        oldest_due_age=timedelta(milliseconds=oldest_ms) if oldest_ms >= 0 else None,
        oldest_unflushed_age=timedelta(milliseconds=oldest_unflushed_ms) if oldest_unflushed_ms >= 0 else None,
        flushed_per_s=sum(worker.flushed_per_s for worker in workers),
        workers=tuple(workers),
        parked_threads=tuple(name.decode() for reply in replies for name in reply[4]),
        cold_threads=cold_threads,
        cold_bytes=cold_bytes,
        cold_error=cold_error,
        warnings=tuple(store.dangers),
    )
