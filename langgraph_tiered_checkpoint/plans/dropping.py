"""Taking checkpoints out of the hot tier: what a prune has decided on, or a trim.

What goes, and what goes with it, is found out here, from an outline of the whole thread; the script makes sure that all
of that is still so, and removes. So a thread that is never trimmed pays nothing for it, and one that is, little.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice

from langgraph_tiered_checkpoint.hot.reshaping import Drop, Dropped, DroppedInPart, Outlined
from langgraph_tiered_checkpoint.plans import pruning
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import Outline
from langgraph_tiered_checkpoint.steps import Plan

_DROPS = 200
"""Checkpoints in one script."""

_ROUNDS = 3


def outline(store: Store, thread_id: str, incarnation: str) -> Plan[Outlined | None]:
    """Where all checkpoints of a hot thread stand; None if the thread began another incarnation under the reader."""
    first = page = yield from store.hot.outline(thread_id, "")
    outlines: list[Outline] = []
    while first is not None and page is not None and page.incarnation == incarnation:
        outlines += page.outlines
        if not page.cursor:
            return first._replace(outlines=outlines)
        page = yield from store.hot.outline(thread_id, page.cursor)
    return None


def drop(store: Store, thread_id: str, outlined: Outlined, dropped: Collection[pruning.Place]) -> Plan[bool]:
    """Remove checkpoints, some at a time: each script is atomic. False: the thread is not as it was."""
    staying = pruning.heads(outlined.outlines, dropped)
    pending = deque(_drops(outlined.outlines, dropped))
    more = False
    while pending or more:
        page = list(islice(pending, _DROPS))
        spaces = {"", *(item.place[0] for item in page)}
        kept = [place for place in staying if place[0] in spaces]
        done = len(page)
        match (yield from store.hot.drop(thread_id, outlined, page, kept)):
            case Dropped.DONE:
                more = False
            case DroppedInPart(done):
                more = True
            case Dropped.CHANGED:
                return False
            case Dropped.GONE:
                return True
        for _ in range(done):
            pending.popleft()
    return True


def _drops(outlines: Sequence[Outline], dropped: Collection[pruning.Place]) -> list[Drop]:
    """What is to go, newest first; each with the values that nobody needs any more when it has gone."""
    needed = {(o.ns, *ref) for o in outlines if o.place not in dropped for ref in o.refs}
    last = {(o.ns, *ref): o.place for o in outlines for ref in o.refs if (o.ns, *ref) not in needed}
    newer: dict[str, str] = {}
    above: pruning.Place | None = None
    items = []
    for o in outlines:
        if o.place in dropped:
            values = [ref for ref in dict.fromkeys(o.refs) if last.get((o.ns, *ref)) == o.place]
            items.append(Drop(o.place, newer.get(o.ns, ""), above, values))
        else:
            newer[o.ns], above = o.checkpoint_id, o.place
    return items


def trim(store: Store, thread_id: str, incarnation: str) -> Plan[None]:
    """Keep `hot_checkpoints` root checkpoints, the subgraph calls that they started, and what these need.

    If the thread is written in a way that this does not allow for meanwhile, a later flush trims it.
    """
    most = store.settings.hot_checkpoints
    for _ in range(_ROUNDS):
        outlined = yield from outline(store, thread_id, incarnation)
        if outlined is None or outlined.unflushed is None or most is None:
            return
        dropped = pruning.all_but_newest(outlined.outlines, most, outlined.unflushed)
        if not dropped or (yield from drop(store, thread_id, outlined, dropped)):
            return
