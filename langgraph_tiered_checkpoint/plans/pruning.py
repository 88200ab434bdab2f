"""What a prune keeps. Pure: decides on outlines, in either tier."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from langgraph_tiered_checkpoint.records import Outline

Place = tuple[str, str]
"""(namespace, checkpoint id)"""


def is_call(ns: str) -> bool:
    """Whether the namespace belongs to one call of a subgraph: its task id stands after a ":"."""
    return ":" in ns


def all_but_latest(outlines: Iterable[Outline]) -> set[Place]:
    """What "keep_latest" drops.

    Kept is the latest checkpoint of each namespace, with the ancestors that its delta channels are rebuilt from.
    A subgraph call goes with the root checkpoint that it started from, once that one is saved; a
    `checkpointer=True` subgraph outlives its calls.
    """
    spaces = _by_namespace(outlines)
    roots = spaces.get("", {})
    kept_roots = _latest_with_ancestors(roots) if roots else set()
    dropped: set[Place] = set()
    for ns, checkpoints in spaces.items():
        started_from = checkpoints[max(checkpoints)].root_id
        if is_call(ns) and started_from in roots and started_from not in kept_roots:
            kept: set[str] = set()
        else:
            kept = kept_roots if ns == "" else _latest_with_ancestors(checkpoints)
        dropped |= {(ns, checkpoint_id) for checkpoint_id in checkpoints if checkpoint_id not in kept}
    return dropped


def all_but_newest(outlines: Iterable[Outline], most: int, unflushed: Iterable[Place]) -> set[Place]:
    """What a trim drops, given the outlines newest first.

    Kept are the newest root checkpoints and the subgraph calls that they started; what Postgres does not hold yet; and
    the head of each namespace that outlives its calls, with the ancestors that its delta channels are rebuilt from.
    """
    spaces = _by_namespace(outlines)
    roots = list(spaces.get("", ()))
    if len(roots) <= most:
        return set()
    limit, kept = roots[most - 1], set(unflushed)
    dropped: set[Place] = set()
    for ns, checkpoints in spaces.items():
        heads_ = set() if is_call(ns) else _latest_with_ancestors(checkpoints)
        for checkpoint_id, outline in checkpoints.items():
            runs_on = is_call(ns) and outline.root_id >= limit
            if checkpoint_id < limit and checkpoint_id not in heads_ and not runs_on and outline.place not in kept:
                dropped.add(outline.place)
    return dropped


def archivable(outlines: Iterable[Outline], newest: int = 0) -> set[Place]:
    """What may be archived: what "keep_latest" drops, but for so many of the newest root checkpoints.

    With these stay the calls that they started, and the parents that have sends of old formats.
    """
    lines = list(outlines)
    places = all_but_latest(lines)
    roots = set(sorted(line.checkpoint_id for line in lines if line.ns == "")[-newest:] if newest else ())
    kept = [line for line in lines if line.root_id in roots]
    parents = {(line.ns, line.parent_id) for line in kept if line.depth}
    return places - {(line.ns, line.checkpoint_id) for line in kept} - parents


def of_runs(run_ids: Collection[str], outlines: Iterable[Outline]) -> set[Place]:
    """The checkpoints that some runs wrote."""
    return {(o.ns, o.checkpoint_id) for o in outlines if o.run_id in run_ids}


def heads(outlines: Iterable[Outline], dropped: Collection[Place]) -> list[Place]:
    """The latest checkpoint that stays, of each namespace."""
    latest: dict[str, str] = {}
    for o in outlines:
        if (o.ns, o.checkpoint_id) not in dropped:
            latest[o.ns] = max(latest.get(o.ns, ""), o.checkpoint_id)
    return list(latest.items())


def orphaned(outlines: Iterable[Outline], dropped: Collection[Place]) -> list[Place]:
    """Kept checkpoints whose parent is not, or is gone already: whoever dropped it may have died before this."""
    kept = {(o.ns, o.checkpoint_id): o for o in outlines if (o.ns, o.checkpoint_id) not in dropped}
    return [place for place, o in kept.items() if o.parent_id and (o.ns, o.parent_id) not in kept]


def _by_namespace(outlines: Iterable[Outline]) -> dict[str, dict[str, Outline]]:
    """By id, in each."""
    spaces: dict[str, dict[str, Outline]] = {}
    for outline in outlines:
        spaces.setdefault(outline.ns, {})[outline.checkpoint_id] = outline
    return spaces


def _latest_with_ancestors(checkpoints: dict[str, Outline]) -> set[str]:
    at = checkpoints.get(max(checkpoints))
    kept: set[str] = set()
    depth = at.depth if at else 0
    while at is not None and at.checkpoint_id not in kept:
        kept.add(at.checkpoint_id)
        if depth <= 0:
            break
        depth -= 1
        at = checkpoints.get(at.parent_id)
    return kept
