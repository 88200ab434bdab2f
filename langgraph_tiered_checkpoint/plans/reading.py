"""Plans that read: one checkpoint, a listing, the history of delta channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from langgraph_tiered_checkpoint.cold.rows import merge_writes, sends_among
from langgraph_tiered_checkpoint.cold.writes import Cold, ColdAnswer
from langgraph_tiered_checkpoint.errors import HotFullError, TieredCheckpointError
from langgraph_tiered_checkpoint.hot.reading import Found, Known, Walk
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.plans.flushing import ask
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import DeltaAncestor, Origin, StoredCheckpoint, Typed
from langgraph_tiered_checkpoint.steps import Behind, Lua, Plan

ROUNDS = 3
"""How often a read starts over when the thread moves between tiers under it, before it answers from what it has."""


class Answer(NamedTuple):
    """One checkpoint, if there is one, and the incarnation of its thread ("" without a thread)."""

    stored: StoredCheckpoint | None
    sends: list[Typed]
    incarnation: str
    absent_ms: float
    """When the thread was found not to be in the hot tier, by Redis's clock; 0 if it is there."""


def get(
    store: Store,
    thread_id: str,
    ns: str,
    checkpoint_id: str,
    root_id: str = "",
    channels: Collection[str] | None = None,
) -> Plan[Answer]:
    """One checkpoint, or the latest of a namespace. Resident: one round trip.

    Not resident: one more to Postgres, and one to make the head of the namespace resident. Of some channels only,
    neither tier is asked for other values, and nothing is made resident.
    """
    for attempt in range(ROUNDS):
        token = "" if checkpoint_id or channels is not None else new_id()
        known = store.known_values.known(thread_id, ns)
        call = store.hot.get(thread_id, ns, checkpoint_id, root_id=root_id, token=token, known=known, channels=channels)
        found = yield from ask(store, thread_id, call)
        if found.kind in (Known.HIT, Known.NONE) or store.cold is None:
            sends = sends_among(found.stored.sends) if found.stored else []
            return Answer(found.stored, sends, found.incarnation, found.absent_ms)
        answer, again = yield from _consult(store, store.cold, thread_id, ns, checkpoint_id, found, channels)
        if not again or attempt == ROUNDS - 1:
            if answer.stored and found.stored and answer.stored.row is found.stored.row:
                return answer._replace(sends=(yield from _all_sends(store.cold, thread_id, found.stored)))
            return answer
    raise AssertionError("unreachable")


def _consult(
    store: Store,
    cold: Cold,
    thread_id: str,
    ns: str,
    checkpoint_id: str,
    found: Found,
    channels: Collection[str] | None,
) -> Plan[tuple[Answer, bool]]:
    """Ask Postgres for what the hot tier does not answer for. True: it should now, ask it again."""
    answer = yield from cold.fetch(thread_id, ns, checkpoint_id or None, found.oldest, channels)
    origin = answer.origin
    claimed = origin is not None and not origin.flushed
    if claimed or (origin is None and answer.heads_exist):
        origin = yield from cold.adopt(thread_id, new_id())
    if claimed and origin is not None and origin.flushed:  # committed meanwhile
        return (yield from _consult(store, cold, thread_id, ns, checkpoint_id, found, channels))
    filled = False
    to_fill = channels is None and not checkpoint_id and not answer.sends and not answer.archived
    if to_fill and found.kind is not Known.BUSY:
        filled = yield from _fill(store, thread_id, ns, found, answer, origin)
    stored, sends, hot_writes = answer.stored, answer.sends, found.writes
    if found.stored and (stored is None or stored.row.checkpoint_id <= found.stored.row.checkpoint_id):
        id_ = found.stored.row.checkpoint_id
        in_cold = [*(stored.writes if stored else ()), *answer.early]
        stored = found.stored._replace(writes=[write for write in in_cold if write.checkpoint_id == id_])
        sends, hot_writes = [], found.stored.writes
    if stored and hot_writes:
        stored = stored._replace(writes=merge_writes(stored.writes, hot_writes))
    incarnation = origin.incarnation if origin else found.incarnation
    return Answer(stored, sends, incarnation, found.absent_ms), filled


def _all_sends(cold: Cold, thread_id: str, stored: StoredCheckpoint) -> Plan[list[Typed]]:
    """The pending sends of a checkpoint of the hot tier, of which some may be in Postgres alone."""
    if not stored.row.sends_at_parent:
        return []
    parent = stored.row.ns, stored.row.parent_id
    found = yield from cold.writes_of(thread_id, [parent])
    return sends_among(merge_writes(found.get(parent, []), stored.sends))


def _fill(store: Store, thread_id: str, ns: str, found: Found, answer: ColdAnswer, origin: Origin | None) -> Plan[bool]:
    """Make what Postgres said resident. True: the hot tier should know now.

    A Redis that is full leaves the answer as it stands.
    """
    resident = found.kind in (Known.MISS, Known.UNSURE)
    if not found.token and not resident:
        return False
    incarnation, flushed, pinned, _ = origin or ("", "", False, "")
    head = answer.stored.row.checkpoint_id if answer.stored else ""
    since = head if found.oldest is None else min(head, found.oldest)
    tag = new_id()
    fill = store.hot.fill(
        thread_id,
        token=found.token,
        incarnation=incarnation,
        flushed=flushed,
        pinned=pinned,
        ns=ns,
        stored=answer.stored,
        early=answer.early,
        since=since,
        tag=tag,
    )
    if answer.stored:  # which it will be; if not, that is found out
        store.known_values.remember(thread_id, ns, answer.stored.blobs, tag)
    if not resident:
        yield from Behind(partial(_attempt, fill))
        return False
    try:
        yield from fill
    except HotFullError:
        return False
    return True


def _each_once(ancestors: Iterable[DeltaAncestor], visited: set[str]) -> list[DeltaAncestor]:
    """Those before the first that was visited: parents can go round in a circle."""
    found: list[DeltaAncestor] = []
    for ancestor in ancestors:
        if ancestor.checkpoint_id in visited:
            break
        visited.add(ancestor.checkpoint_id)
        found.append(ancestor)
    return found


def _attempt(fill: Lua[object]) -> Plan[None]:
    """If it fails, a marker is left for some seconds, and the next read but these fills."""
    with suppress(TieredCheckpointError):
        yield from fill


def delta_history(
    store: Store, thread_id: str, ns: str, checkpoint_id: str, channels: Sequence[str]
) -> Plan[list[DeltaAncestor]]:
    """The ancestors of a checkpoint, newest first, as far as the channels need them.

    At most two round trips per tier, and one more for each 4 MB that the hot tier holds of them.
    """
    if not checkpoint_id:
        latest = yield from get(store, thread_id, ns, "")
        if latest.stored is None:
            return []
        checkpoint_id = latest.stored.row.checkpoint_id
    call = store.hot.delta(thread_id, ns, checkpoint_id, channels)
    walk = yield from ask(store, thread_id, call)
    if walk.kind is Known.UNSURE:  # a read of the latest settles what is unsure
        yield from get(store, thread_id, ns, "")
        walk = yield from ask(store, thread_id, call)
    while walk.more:
        walk = yield from _walk_on(store, thread_id, ns, checkpoint_id, walk)
    if walk.kind is Known.NONE or (walk.kind is Known.HIT and not walk.cursor) or store.cold is None:
        return walk.ancestors
    if walk.kind is Known.HIT:
        cursor, still = walk.cursor, walk.open_channels
    else:
        answer = yield from store.cold.fetch(thread_id, ns, checkpoint_id)
        if answer.stored is None:
            return []
        cursor, still = answer.stored.row.parent_id, list(channels)
        if not cursor:
            return []
    page = yield from store.cold.delta_history(thread_id, ns, cursor, still)
    ancestors = _each_once(page.ancestors, {checkpoint_id, *(ancestor.checkpoint_id for ancestor in walk.ancestors)})
    if ancestors and walk.cursor_writes:
        wanted = [w for w in walk.cursor_writes if w.channel in still]
        ancestors[0] = ancestors[0]._replace(writes=merge_writes(ancestors[0].writes, wanted))
    return [*walk.ancestors, *ancestors]


def _walk_on(store: Store, thread_id: str, ns: str, checkpoint_id: str, walk: Walk) -> Plan[Walk]:
    """A walk with its next page. If that has left the hot tier meanwhile, the rest is in Postgres, or deleted."""
    call = store.hot.delta(thread_id, ns, walk.ancestors[-1].checkpoint_id, walk.open_channels)
    following = yield from ask(store, thread_id, call)
    if following.kind is not Known.HIT:
        return walk._replace(more=False)
    seen = {checkpoint_id, *(ancestor.checkpoint_id for ancestor in walk.ancestors)}
    fresh = _each_once(following.ancestors, seen)
    if len(fresh) < len(following.ancestors):  # the parents go round in a circle
        following = following._replace(cursor="", more=False)
    return following._replace(ancestors=[*walk.ancestors, *fresh])
