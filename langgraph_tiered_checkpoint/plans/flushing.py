"""Plans that bring Postgres up to date with one thread: a flush of it alone, until nothing is left to reconcile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from typing_extensions import assert_never

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import (
    ColdRefusedError,
    ColdTierError,
    ColdTimeoutError,
    DamagedThreadError,
    HotRefusedError,
    HotTierError,
    NotPromotableError,
    ThreadBusyError,
    TieredCheckpointError,
    UnexpectedError,
    UnreadableValueError,
)
from langgraph_tiered_checkpoint.hot.flushing import Lease, NoLease, Verdict
from langgraph_tiered_checkpoint.hot.replies import Guarded, Moved, State
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.plans.copying import Copied, Ended, acknowledged, commit, copy
from langgraph_tiered_checkpoint.plans.failover import compare
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import Origin, ThreadBatch
from langgraph_tiered_checkpoint.steps import Behind, Plan

R = TypeVar("R")

_ROUNDS = 10

_OF_THE_THREAD = (
    ColdRefusedError,
    DamagedThreadError,
    HotRefusedError,
    ThreadBusyError,
    UnexpectedError,
    UnreadableValueError,
)


def is_outage(exc: Exception) -> bool:
    """Whether a flush failed because of a tier; if not, it did for a reason of its own thread, and others can go on."""
    return isinstance(exc, TieredCheckpointError) and not isinstance(exc, _OF_THE_THREAD)


def flush(store: Store, thread_id: str) -> Plan[None]:
    """Bring Postgres up to what the thread held when the flush began.

    Raises:
        ColdTierError: Postgres did not answer. The thread stays dirty.
        ColdRefusedError: Postgres refused this thread's rows. The thread is parked.
        ThreadBusyError: other workers were always faster. The thread stays due.
    """
    cold = store.need_cold("flushed", thread_id)
    goal: tuple[str, int] | None = None
    for attempt in range(_ROUNDS):
        lease = yield from store.hot.lease(thread_id)
        if isinstance(lease, NoLease):
            return
        if lease.moved and not lease.rebase:
            yield from compare(store, thread_id, lease.incarnation, lease.flushed)
            continue
        if lease.state is not State.DIRTY:
            if lease.rebase:  # the worker that uploaded it died before this
                yield from store.hot.evict(thread_id, incarnation=lease.incarnation, flushed=lease.flushed)
            return
        if goal is None:
            goal = (lease.incarnation, lease.last_number)
        if lease.incarnation != goal[0] or (lease.flushed_number >= goal[1] and not lease.rebase):
            return
        if (yield from _flush_or_park(store, cold, thread_id, lease, last_chance=attempt >= _ROUNDS // 2)) >= goal[1]:
            return
    raise ThreadBusyError(f"thread {thread_id!r}: the flush lost every race against other workers; it stays due")


def flush_write(
    store: Store,
    thread_id: str,
    unflushed: ThreadBatch | None,
    server_run: str,
    left_dirty: Callable[[], None],
) -> Plan[None]:
    """Bring Postgres up to a write that has just been stored; `unflushed` is all that it lacks, if known.

    What is known need not be read from the hot tier again: a commit and an acknowledgement. Nobody waits for that one
    while the Redis that has the write runs on (`server_run`); one that has lost it has to hear so before its heads are
    believed. If it fails, the thread has been `left_dirty`.

    Raises:
        HotTierError: another run of Redis answers by now, and nobody knows whether it has the write.
        ColdTierError, ColdRefusedError, ThreadBusyError: as for `flush`.
    """
    if unflushed is not None:
        cold = store.need_cold("flushed", thread_id)
        try:
            if (yield from commit(store, cold, [unflushed])):
                yield from Behind(partial(_acknowledge, store, unflushed, left_dirty), server_run)
                return
        except Exception as exc:
            if is_outage(exc):
                raise
    yield from flush(store, thread_id)
    again = yield from store.hot.lease(thread_id)
    if again.server_run != server_run:
        raise HotTierError(
            f"thread {thread_id!r}: Redis was restarted, or has failed over, since it took the write, and may have "
            "lost it before Postgres had it. Repeat the write"
        )


def _acknowledge(store: Store, committed: ThreadBatch, left_dirty: Callable[[], None]) -> Plan[None]:
    try:
        thread_id, incarnation = committed.thread_id, committed.incarnation
        reply = yield from store.hot.ack(thread_id, incarnation=incarnation, through=committed.flushed)
        yield from acknowledged(store, thread_id, incarnation, reply)
    except TieredCheckpointError:
        left_dirty()


def _flush_or_park(store: Store, cold: Cold, thread_id: str, lease: Lease, *, last_chance: bool) -> Plan[int]:
    try:
        return (yield from _flush_once(store, cold, thread_id, lease, last_chance=last_chance))
    except Exception as exc:
        if not is_outage(exc):
            yield from _park(store, thread_id, lease, exc)
        raise


def _flush_once(store: Store, cold: Cold, thread_id: str, lease: Lease, *, last_chance: bool) -> Plan[int]:
    """The reply is the number of the change up to which all is done; 0 if that has to be looked up."""
    outcomes = yield from copy(store, cold, {thread_id: lease})
    match outcomes[thread_id]:
        case Copied(_, through, verdict) if lease.rebase:
            if verdict is Verdict.CLEAN:  # everything is uploaded again, and the hot copy goes
                yield from store.hot.evict(thread_id, incarnation=lease.incarnation, flushed=through)
        case Copied(number):
            return number
        case Ended.FENCED:
            yield from _reconcile(store, cold, thread_id, lease, last_chance=last_chance)
        case Ended.CHANGED:
            pass
        case never:
            assert_never(never)
    return 0


def _park(store: Store, thread_id: str, lease: Lease, exc: Exception) -> Plan[None]:
    store.journal.parked(thread_id, exc)
    with suppress(TieredCheckpointError):  # what went wrong with the flush is what the caller has to hear
        yield from store.hot.park(thread_id, incarnation=lease.incarnation, error=str(exc) or type(exc).__name__)


def park(store: Store, thread_id: str, exc: Exception) -> Plan[None]:
    """Let a thread that cannot be flushed for a reason of its own wait, for longer each time, and note the reason."""
    lease = yield from store.hot.lease(thread_id)
    if isinstance(lease, Lease):
        yield from _park(store, thread_id, lease, exc)


def concerns_all(cold: Cold, thread_id: str, exc: Exception) -> Plan[bool]:
    """Whether a flush failed because of a tier: Postgres may be too slow for this thread, and answer otherwise."""
    if not isinstance(exc, ColdTimeoutError):
        return is_outage(exc)
    try:
        yield from cold.status(thread_id)
    except ColdTierError:
        return True
    return False


def _reconcile(store: Store, cold: Cold, thread_id: str, lease: Lease, *, last_chance: bool) -> Plan[None]:
    """The fence did not hold: find out what Postgres has, and acknowledge it or upload everything again."""
    answer = yield from cold.status(thread_id)
    origin = answer.origin if answer and answer.origin.incarnation else None
    if origin is None or origin.incarnation != lease.incarnation:
        yield from _settle_without_row(store, cold, thread_id, lease, origin)
    elif origin.flushed:
        reply = yield from store.hot.ack(thread_id, incarnation=lease.incarnation, through=origin.flushed)
        if reply.verdict is Verdict.DIVERGED or (reply.verdict is Verdict.STALE and last_chance):
            yield from store.hot.rebase(
                thread_id,
                incarnation=lease.incarnation,
                flushed=origin.flushed,
                op=new_id(),
                whole=True,
                seen=lease.flushed,
            )


def _settle_without_row(store: Store, cold: Cold, thread_id: str, lease: Lease, origin: Origin | None) -> Plan[None]:
    """Postgres has no row of this incarnation; of another one, perhaps."""
    again = yield from store.hot.lease(thread_id)
    if isinstance(again, NoLease) or again.incarnation != lease.incarnation:
        return  # deleted meanwhile, and perhaps begun anew
    if origin is not None and not origin.flushed:  # of an incarnation that ended before this one, whose worker died
        yield from cold.unclaim(thread_id, origin.incarnation)
    elif again.rebase:  # when the tiers were compared, the row was there: deleted meanwhile
        yield from store.hot.bury(thread_id, op=new_id(), incarnations=(lease.incarnation,))
    elif origin is not None:
        raise ColdRefusedError(
            f"thread {thread_id!r}: Postgres holds another incarnation of that id ({origin.incarnation}; Redis has "
            f"{lease.incarnation}). Neither was changed, and what Redis holds stays there. Find out who wrote those "
            "rows before you give up either: a saver with another Redis or key_prefix on the same tables, which needs "
            "a schema of its own, or the backup that Postgres was restored from"
        )
    elif lease.flushed:
        raise ColdRefusedError(
            f"thread {thread_id!r}: its row in tiered_threads is gone, although nobody deleted the thread here. What "
            "Redis holds stays there. Restore the row from a backup, and see whether the thread's other rows are there"
        )


def ask(store: Store, thread_id: str, call: Guarded[R]) -> Plan[R]:
    """The reply of a script that notices when an older Redis has brought the thread back: Postgres is asked first then.

    Raises:
        ColdTierError: Postgres did not answer, so nobody knows whether the hot copy is the latest.
    """
    for _ in range(_ROUNDS):
        reply = yield from call
        if not isinstance(reply, Moved):
            return reply
        if reply.upload:
            yield from flush(store, thread_id)
        else:
            yield from compare(store, thread_id, reply.incarnation, reply.flushed)
    raise ThreadBusyError(f"thread {thread_id!r} is being compared with Postgres by others; try again")


def promote(store: Store, thread_id: str, reason: str, *, pin: bool | None = None) -> Plan[None]:
    """Promote a thread now: when this returns, Postgres holds it.

    Raises:
        NotPromotableError: there is no such thread, or no cold tier.
    """
    cold = store.need_cold("promoted", thread_id)
    incarnation = yield from store.hot.promote(thread_id, reason=reason, op=new_id(), pin=pin)
    if incarnation is not None:
        yield from flush(store, thread_id)
    else:
        origin = yield from cold.adopt(thread_id, new_id())
        if origin is None:
            raise NotPromotableError(f"thread {thread_id!r} does not exist in either tier, or has expired")
        incarnation = origin.incarnation
    if pin is not None:
        yield from cold.pin(thread_id, incarnation, pin)
