"""What an older Redis has brought back, compared with Postgres.

A restart or a failover can take Redis back in time, behind what Postgres has committed. A thread that it brings back
is served only after this comparison, which happens once per thread and run of the server.
"""

from __future__ import annotations

from langgraph_tiered_checkpoint.lives import new_id
from langgraph_tiered_checkpoint.plans.store import Store
from langgraph_tiered_checkpoint.steps import Plan


def compare(store: Store, thread_id: str, incarnation: str, flushed: str) -> Plan[None]:
    """Vouch for the hot copy of a thread, forget it, or mark it to be uploaded whole. Two or three round trips.

    It is forgotten if Postgres says that the thread was deleted since, and uploaded if Postgres holds other changes
    than those that were flushed from here: then both branches survive, and the higher id is the latest.
    """
    cold = store.need_cold("compared", thread_id)
    origin = yield cold.origin(thread_id)
    held = origin.flushed if origin else ""
    if (origin is not None and origin.incarnation != incarnation) or (origin is None and flushed):
        yield store.hot.delete(thread_id, new_id(), (incarnation,))
        return
    if held != flushed:
        verdict, _ = yield store.hot.ack(thread_id, incarnation, held)
        if verdict in (b"diverged", b"stale"):
            yield store.hot.rebase(thread_id, incarnation, held, new_id())
            return
    yield store.hot.vouch(thread_id, incarnation, held)
