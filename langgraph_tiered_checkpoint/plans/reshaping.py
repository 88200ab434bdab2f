"""Plans that change what a thread consists of: delete, prune, delete_for_runs, copy, evict.

On a promoted thread such an operation flushes, swaps the hot copy for a marker that holds writers off, works in one
Postgres transaction behind the fence, and takes the marker away. On an ephemeral one it works in the hot tier alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import (
    ColdRefusedError,
    ConfigurationError,
    NotPromotableError,
    ThreadBusyError,
    TieredCheckpointError,
)
from langgraph_tiered_checkpoint.hot.flushing import Lease, NoLease
from langgraph_tiered_checkpoint.hot.replies import State
from langgraph_tiered_checkpoint.hot.reshaping import CopiedPage, Evicted
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.plans import pruning
from langgraph_tiered_checkpoint.plans.buckets import BucketPages
from langgraph_tiered_checkpoint.plans.dropping import drop, outline
from langgraph_tiered_checkpoint.plans.erasing import erase
from langgraph_tiered_checkpoint.plans.failover import change_number, compare
from langgraph_tiered_checkpoint.plans.flushing import ask, flush
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import Outline, Renaming
from langgraph_tiered_checkpoint.steps import Lua, Pause, Plan, Tx

Decide = Callable[[list[Outline]], set[pruning.Place]]

HOLD_MS = 30_000
TX_MS = 20_000
_ROUNDS = 50
_PAUSE_S = 0.02
_MEMBERS = 500


def delete(store: Store, thread_id: str) -> Plan[float]:
    """Remove a thread from both tiers for good. One round trip; of a promoted thread two transactions and two or three.

    Redis is told which incarnation is over before Postgres forgets it: a transaction that is repeated doesn't know what
    it deleted the first time, and nobody is to flush or fill that incarnation any more. What was flushed of one that
    began after Postgres was asked, stays. The last round trip is for a Redis that has fallen back meanwhile.

    Repeating the whole completes a delete that failed half-way. The reply is as of when the thread is gone, in
    milliseconds by Redis's clock.
    """
    deleted = None
    while deleted is None:
        deleted = yield from store.hot.delete(thread_id, new_id())
    maybe_cold, run = deleted.maybe_cold, deleted.server_run
    gone = {deleted.incarnation} - {""}
    while store.cold is not None and maybe_cold:
        origin = yield from store.cold.adopt(thread_id, new_id())
        if origin is not None and origin.incarnation not in gone:
            gone.add(origin.incarnation)
            yield from store.hot.bury(thread_id, op=new_id(), incarnations=sorted(gone))
        yield from store.cold.delete(thread_id, gone)
        if not gone:
            break
        buried = yield from store.hot.bury(thread_id, op=new_id(), incarnations=sorted(gone))
        # What another run of Redis has brought back may have been flushed, and evicted.
        maybe_cold, run = buried.was_here or buried.server_run != run, buried.server_run
    if gone:
        store.journal.deleted(thread_id)
    return deleted.gone_ms


def prune(store: Store, thread_id: str) -> Plan[None]:
    """Keep the latest checkpoint of each namespace and what it needs."""
    yield from _restructure(store, thread_id, pruning.all_but_latest)


def delete_runs(store: Store, thread_id: str, run_ids: frozenset[str]) -> Plan[None]:
    """Remove what some runs wrote to one thread. The head may move back."""
    yield from _restructure(store, thread_id, lambda outlines: pruning.of_runs(run_ids, outlines))


def threads_of_runs(store: Store, run_ids: Sequence[str], prefix: str) -> Plan[list[str]]:
    """The threads that some runs wrote to, in either tier."""
    found: set[str] = set()
    for run_id in run_ids:
        pages = BucketPages(partial(_members, store, run_id), _after, "")
        while pages.at:
            for members in (yield from pages.next_pages()).values():
                found.update(member.partition("\0")[2] for member in members)
    if store.cold is not None:
        found.update((yield from store.cold.threads_of_runs(run_ids, prefix)))
    return sorted(name for name in found if name.startswith(prefix))


def _members(store: Store, run_id: str, bucket: int, after: str) -> Lua[list[str]]:
    return store.hot.threads_of_run(bucket, run_id=run_id, after=after, limit=_MEMBERS)


def _after(_: int, members: Sequence[str]) -> str | None:
    return members[-1] if len(members) == _MEMBERS else None


def _restructure(store: Store, thread_id: str, decide: Decide) -> Plan[None]:
    for _ in range(_ROUNDS):
        lease = yield from store.hot.lease(thread_id)
        if isinstance(lease, Lease) and lease.moved:
            yield from flush(store, thread_id)
            done = False
        elif isinstance(lease, Lease) and lease.state is State.EPHEMERAL:
            done = yield from _drop_hot(store, thread_id, lease.incarnation, decide)
        elif store.cold is None:
            return
        else:
            done = yield from _drop_cold(store, store.cold, thread_id, decide)
        if done:
            store.journal.restructured(thread_id)
            return
        yield from Pause(_PAUSE_S)
    raise ThreadBusyError(f"thread {thread_id!r} is being written too fast to be changed; nothing was lost, try again")


def _drop_hot(store: Store, thread_id: str, incarnation: str, decide: Decide) -> Plan[bool]:
    outlined = yield from outline(store, thread_id, incarnation)
    if outlined is None:
        return False
    dropped = decide(outlined.outlines)
    if not (yield from drop(store, thread_id, outlined, dropped)):
        return False
    orphans = pruning.orphaned(outlined.outlines, dropped)
    if orphans:
        yield from store.hot.orphan(thread_id, incarnation, orphans)
    yield from erase(store, thread_id, incarnation)
    return True


def _drop_cold(store: Store, cold: Cold, thread_id: str, decide: Decide) -> Plan[bool]:
    yield from flush(store, thread_id)
    lease = yield from store.hot.lease(thread_id)
    if isinstance(lease, NoLease):
        origin = yield from cold.adopt(thread_id, new_id())
        if origin is None:
            return True
        incarnation, flushed = origin.incarnation, origin.flushed
    else:
        incarnation, flushed = lease.incarnation, lease.flushed
    change = cold.drop(thread_id, incarnation, flushed, next_change(flushed), decide, TX_MS, pruning.all_but_latest)
    return (yield from in_place_of_hot_copy(store, thread_id, incarnation, flushed, change))


def in_place_of_hot_copy(store: Store, thread_id: str, incarnation: str, flushed: str, change: Tx[bool]) -> Plan[bool]:
    """Change what Postgres holds of a clean thread while a marker, in place of the hot copy, holds writers off.

    False: the hot tier or the fence is not as the caller saw it. Nothing was done.
    """
    token = new_id()
    evicted = yield from store.hot.evict(
        thread_id, incarnation=incarnation, flushed=flushed, token=token, hold_ms=HOLD_MS
    )
    if evicted is not Evicted.DONE:
        return False
    try:
        done = yield from change
    except TieredCheckpointError:
        yield from store.hot.reopen(thread_id, token)
        raise
    yield from store.hot.reopen(thread_id, token)
    return done


def next_change(flushed: str) -> str:
    """The change id that follows what was flushed, of a structural operation."""
    return f"{change_number(flushed) + 1}.{new_id()}"


def copy(store: Store, source: str, target: str, renaming: Renaming) -> Plan[None]:
    """Copy a thread, with all its history, to an id that is free. The copy has an incarnation, and runs, of its own.

    In its metadata it has its own id where the source has the source's.

    Raises:
        ConfigurationError: the target exists.
        ThreadBusyError: the source was written, or changed tiers, all the time; one of a page (4 MB) may be written.
    """
    for _ in range(_ROUNDS):
        token = new_id()
        held = yield from store.hot.evict(target, incarnation="", flushed="", token=token, hold_ms=HOLD_MS)
        if held is not Evicted.DONE:
            raise _taken(source, target)
        try:
            if store.cold is not None and (yield from store.cold.adopt(target, new_id())) is not None:
                raise _taken(source, target)
            done = yield from _copy_to(store, source, target, token, renaming)
        except TieredCheckpointError:
            yield from store.hot.reopen(target, token)
            raise
        yield from store.hot.reopen(target, token)
        if done:
            return
        yield from Pause(_PAUSE_S)
    raise ThreadBusyError(
        f"thread {source!r} could not be copied to {target!r}: it is written, or changes "
        "tiers, all the time. Nothing was copied; try again, at best when no run writes it"
    )


def _copy_to(store: Store, source: str, target: str, token: str, renaming: Renaming) -> Plan[bool]:
    page = yield from ask(store, source, store.hot.copy_out(source, "0"))
    if page is not None and page.state is State.EPHEMERAL:
        return (yield from _copy_hot(store, source, target, token, renaming, page))
    if store.cold is None:
        return True
    if page is not None:
        yield from flush(store, source)
    yield from store.cold.copy(source, target, new_id(), f"1.{new_id()}", renaming)
    return True


def _copy_hot(store: Store, source: str, target: str, token: str, renaming: Renaming, page: CopiedPage) -> Plan[bool]:
    """Copy an ephemeral thread, page by page, of which this is the first. False: it has changed meanwhile."""
    while page.cursor != "0":
        staged = yield from store.hot.stage(target, token=token, hold_ms=HOLD_MS, fields=page.renamed(renaming))
        following = yield from ask(store, source, store.hot.copy_out(source, page.cursor))
        if not staged or following is None or following.meta != page.meta:
            return False
        page = following
    return (
        yield from store.hot.land(
            target, token=token, incarnation=new_id(), meta=page.meta, fields=page.renamed(renaming)
        )
    )


def _taken(source: str, target: str) -> ConfigurationError:
    return ConfigurationError(
        f"thread {source!r} cannot be copied to {target!r}: that thread exists. Choose an id that is not in use"
    )


def evict(store: Store, thread_id: str) -> Plan[None]:
    """Take a promoted thread out of the hot tier, flushing first. The next read brings it back.

    Postgres is asked whether it holds what is about to be dropped.

    Raises:
        NotPromotableError: the thread is ephemeral: its hot copy is all there is.
        ColdRefusedError: Postgres does not hold this incarnation of the thread.
    """
    cold = store.need_cold("evicted", thread_id)
    for _ in range(_ROUNDS):
        yield from flush(store, thread_id)
        lease = yield from store.hot.lease(thread_id)
        incarnation, flushed = "", ""
        if isinstance(lease, Lease):
            if lease.state is State.EPHEMERAL:
                raise NotPromotableError(
                    f"thread {thread_id!r} is ephemeral: its hot copy is all there is. promote() it first"
                )
            if lease.state is State.CLEAN and not (yield from _in_postgres(store, cold, thread_id, lease)):
                continue
            incarnation, flushed = lease.incarnation, lease.flushed
        evicted = yield from store.hot.evict(thread_id, incarnation=incarnation, flushed=flushed)
        if evicted is not Evicted.DIRTY:
            if evicted is Evicted.DONE:
                store.journal.evicted(thread_id)
            return
        yield from Pause(_PAUSE_S)
    raise ThreadBusyError(f"thread {thread_id!r} is being written too fast to be evicted; try again")


def _in_postgres(store: Store, cold: Cold, thread_id: str, lease: Lease) -> Plan[bool]:
    """Whether Postgres has flushed what a clean hot copy takes to be flushed. If not, look at the hot copy again."""
    origin = yield from cold.origin(thread_id)
    if origin is not None and (origin.incarnation, origin.flushed) == (lease.incarnation, lease.flushed):
        return True
    again = yield from store.hot.lease(thread_id)
    seen = lease.incarnation, State.CLEAN, lease.flushed
    if isinstance(again, NoLease) or (again.incarnation, again.state, again.flushed) != seen:
        return False
    if origin is None or origin.incarnation != lease.incarnation:
        raise ColdRefusedError(
            f"thread {thread_id!r} was not evicted: Postgres does not hold it any more, though nobody deleted it here. "
            "Restore its rows from a backup. Until then Redis has a copy; its TTL ends it, unless it is written to"
        )
    yield from compare(store, thread_id, lease.incarnation, lease.flushed)
    return False
