"""What an older Redis has brought back, compared with Postgres.

A restart or a failover can take Redis back in time, behind what Postgres has committed. A thread that it brings back
is served only after this comparison, which happens once per thread and run of the server.
"""

from __future__ import annotations

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.hot.flushing import Changed, Compared
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import Origin
from langgraph_tiered_checkpoint.steps import Plan


def compare(store: Store, thread_id: str, incarnation: str, flushed: str) -> Plan[None]:
    """Vouch for the hot copy of a thread, drop it, or mark it to be uploaded. Two to four round trips.

    More, if others change meanwhile what Redis takes for `flushed`: they may have seen less of what Postgres has.

    If Redis has lost time, only changes that were never acknowledged are uploaded, so that nothing comes back that
    was pruned in that time; the copy is dropped, and with it what Postgres knows to be deleted. If Postgres has lost
    time, everything is uploaded. Where both have branches of their own, both survive, and the higher id is the latest.
    """
    cold = store.need_cold("compared", thread_id)
    while True:
        origin = yield from cold.origin(thread_id)
        reply = yield from _settle(store, cold, thread_id, incarnation, flushed, origin)
        if not isinstance(reply, Changed):
            return
        flushed = reply.flushed


def _settle(
    store: Store, cold: Cold, thread_id: str, incarnation: str, flushed: str, origin: Origin | None
) -> Plan[Compared | Changed]:
    """Whether it is settled, or has changed."""
    hot = store.hot
    held = origin.flushed if origin else ""
    ours = origin is not None and origin.incarnation == incarnation
    if not ours and (held or flushed):
        yield from hot.bury(thread_id, op=new_id(), incarnations=(incarnation,))
        return Compared.GONE
    if held == flushed:
        # A first upload under way is of what Redis held before, if not of an incarnation that has ended; once
        # it is taken back, it cannot be committed.
        if origin is not None and not held and not (yield from cold.unclaim(thread_id, origin.incarnation)):
            return Changed(flushed)
        return (yield from hot.vouch(thread_id, incarnation=incarnation, flushed=flushed))
    acknowledged = yield from hot.ack(thread_id, incarnation=incarnation, through=held)
    if acknowledged.verdict.accepted:  # Postgres had committed it, and only the acknowledgement was lost
        return (yield from hot.vouch(thread_id, incarnation=incarnation, flushed=held))
    redis_lost_time = change_number(held) > change_number(flushed)
    if redis_lost_time:
        reply = yield from hot.forget(thread_id, incarnation=incarnation, flushed=flushed)
        if reply is not Compared.DIRTY:
            return reply
    return (
        yield from hot.rebase(
            thread_id, incarnation=incarnation, flushed=held, op=new_id(), whole=not redis_lost_time, seen=flushed
        )
    )


def change_number(change_id: str) -> int:
    """Which change of the thread it was; 0 before any."""
    return int(change_id.partition(".")[0] or 0)
