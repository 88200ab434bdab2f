"""Plans that move what is no head into the archive, and back.

Archiving is a structural operation, as prune is: what is archived is not resident any more, so nothing that is written
later can refer to a value that the official tables lack. It is read and packed before writers are held off.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from langgraph_tiered_checkpoint.cold.archiving import Bundle, Survey
from langgraph_tiered_checkpoint.cold.rows import merge_writes
from langgraph_tiered_checkpoint.cold.segments import Entry, Place
from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import NotPromotableError, ThreadBusyError
from langgraph_tiered_checkpoint.hot.flushing import Lease
from langgraph_tiered_checkpoint.hot.replies import State
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.plans import pruning, reading
from langgraph_tiered_checkpoint.plans.flushing import concerns_all, flush
from langgraph_tiered_checkpoint.plans.reshaping import TX_MS, in_place_of_hot_copy, next_change
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.steps import Pause, Plan

LEASED = 16
"""Threads that one worker takes on at once."""
LEASE_S = 900.0
_ROUNDS = 50
_PAUSE_S = 0.02


class Due(NamedTuple):
    """A thread that is to be archived, and that nobody else takes on for a while."""

    thread_id: str
    idle: bool
    """If not, it is a long one."""


def archive(store: Store, thread_id: str, *, newest: int = 0, left: int = 0) -> Plan[int]:
    """Pack what is no head of its namespace, nor needed by one; the reply is how many checkpoints that was.

    Args:
        store: the tiers.
        thread_id: a promoted thread, or one that was never written here.
        newest: so many root checkpoints stay, too, with the calls they started.
        left: how many checkpoints are then said to be left for the next time, at most.

    Raises:
        NotPromotableError: the thread is ephemeral.
        ThreadBusyError: it is written all the time. What was archived by then, stays so.
    """
    cold = store.need_cold("archived", thread_id)
    count, resident, lost = 0, False, 0
    while lost < _ROUNDS:
        yield from flush(store, thread_id)
        lease = yield from store.hot.lease(thread_id)
        there = isinstance(lease, Lease)
        if isinstance(lease, Lease) and lease.state is State.EPHEMERAL:
            raise NotPromotableError(f"thread {thread_id!r} is ephemeral: Postgres has none of it. promote() it first")
        if not there and (yield from cold.adopt(thread_id, new_id())) is None:
            return count
        survey = yield from cold.survey(thread_id, partial(pruning.archivable, newest=newest))
        fence = (lease.incarnation, lease.flushed) if isinstance(lease, Lease) else None
        if survey is not None and fence in (None, survey.origin[:2]):
            bundle = yield from _bundle(cold, thread_id, survey)
            if not bundle.places:
                yield from cold.looked_through(thread_id, survey.origin, min(left, survey.official))
                break
            resident = resident or there
            if (yield from _store_away(store, cold, thread_id, survey, bundle)):
                count, lost = count + len(bundle.places), 0
                continue
        lost += 1
        yield from Pause(_PAUSE_S)
    if resident:  # as it was, but for what is archived
        yield from reading.get(store, thread_id, "", "")
    if lost == _ROUNDS:
        raise ThreadBusyError(f"thread {thread_id!r} is written too fast to be archived; nothing was lost, try again")
    return count


def _store_away(store: Store, cold: Cold, thread_id: str, survey: Survey, bundle: Bundle) -> Plan[bool]:
    origin = survey.origin
    left = survey.official - len(bundle.places)
    change = cold.store_away(thread_id, origin, next_change(origin.flushed), bundle, left, TX_MS)
    return (yield from in_place_of_hot_copy(store, thread_id, origin.incarnation, origin.flushed, change))


def _bundle(cold: Cold, thread_id: str, survey: Survey) -> Plan[Bundle]:
    """Pack as much as one segment holds, after what has to be packed again with it."""
    chosen = {(line.ns, line.checkpoint_id) for line in survey.chosen}
    rest: list[Entry] = []
    earlier: dict[Place, Entry] = {}
    if chosen and survey.joining:
        for opened in (yield from cold.segments(thread_id, survey.joining)):
            for entry in opened.entries():
                if entry.place in chosen:  # put again since
                    earlier[entry.place] = entry
                else:
                    rest.append(entry)
    segments, packing = cold.packed(rest)
    taken: list[Entry] = []
    outlines = survey.chosen
    while outlines and not packing.is_full():
        page = yield from cold.entries(thread_id, outlines, packing.knows)
        for entry in page.entries:
            if packing.is_full():  # values that are known to this segment are not to the next
                break
            packing.add(_merged(earlier.pop(entry.place, None), entry))
            taken.append(entry)
        outlines = outlines[page.looked_at :]
    more, last = cold.packed(earlier.values(), packing)
    segments += [*more, last.finish()] if len(last) else more
    blobs = dict.fromkeys((blob.ns, blob.channel, blob.version) for entry in taken for blob in entry.blobs)
    writes = sum(len(entry.writes) for entry in taken)
    return Bundle(segments, survey.joining, [entry.place for entry in taken], list(blobs), writes)


def _merged(earlier: Entry | None, entry: Entry) -> Entry:
    """A checkpoint that was put again after it was archived, with the writes from before."""
    return entry if earlier is None else entry._replace(writes=merge_writes(earlier.writes, entry.writes))


def lease_to_archive(store: Store) -> Plan[list[Due]]:
    """Some threads that the policy says are to be archived. What is not done when its lease ends is due again."""
    cold = store.need_cold("archived", "*")
    policy = store.settings.archive
    idle_s = None if policy.idle is None else policy.idle.total_seconds()
    most = None if store.settings.hot_checkpoints is None else policy.checkpoints
    leased = yield from cold.lease_to_archive(idle_s=idle_s, checkpoints=most, lease_s=LEASE_S, limit=LEASED)
    return [Due(thread_id, idle) for thread_id, idle in leased]


def archive_leased(store: Store, due: Due) -> Plan[str]:
    """Archive as the policy says. The reply is the error, if it says nothing of other threads; else empty."""
    cold = store.need_cold("archived", due.thread_id)
    newest, most = store.settings.hot_checkpoints, store.settings.archive.checkpoints
    try:
        if due.idle or newest is None or most is None:
            yield from archive(store, due.thread_id)
        else:
            yield from archive(store, due.thread_id, newest=newest, left=most // 2)
    except Exception as exc:
        if (yield from concerns_all(cold, due.thread_id, exc)):
            raise
        return f"{type(exc).__name__}: {exc}"
    return ""


def unarchive(store: Store, thread_id: str) -> Plan[None]:
    """Put everything that is archived of a thread back into the official tables, a segment in a transaction.

    It stays there until the thread has been written again, and the policy says so. Repeating it completes it.
    """
    cold = store.need_cold("unarchived", thread_id)
    while (yield from cold.bring_back(thread_id, TX_MS)):
        pass
