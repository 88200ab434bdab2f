"""Enumerates every interleaving of some operations on one thread, with what servers and workers may do in between.

The operations are the package's own plans, and each of their steps runs on the real servers. What is enumerated is a
graph: a node is what both servers hold, and how far each plan has come; an edge is one step of one plan, or one
mishap. A plan is brought to where it was by playing back the replies that it has had, so nothing is paraphrased.

Two things make that graph small enough to see all of it. Plans that have heard different things, and would do the same
from now on, have come equally far (see `Moments`). And a step is performed once for all nodes where its plan has come
equally far and the server that it is for holds the same, whatever the other server and the other plans have come to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from key_rules import broken_rules
from model.facts import Facts, Item, latest
from model.moments import Actor, Heard, Ids, Moment, Moments, Note, Playback
from model.worlds import NOTHING_COLD, ColdState, HotState, World

from langgraph_tiered_checkpoint.errors import ColdTierError, HotTierError, TieredCheckpointError
from langgraph_tiered_checkpoint.steps import Plan


@dataclass(frozen=True)
class Budget:
    """How many mishaps a path may have."""

    lapses: int = 0
    """The thread's key reaches the end of its TTL, if it has one."""
    crashes: int = 0
    """A worker is gone before its next step."""
    repeats: int = 0
    """The connection is cut after a step, and the runner does it again."""
    losses: int = 0
    """The connection is cut after a step, and the plan hears of an error."""
    failovers: int = 0
    """Redis goes back to what it held at any time before."""


class Path(NamedTuple):
    """How a node was reached."""

    before: Path | None
    what: str

    def lines(self) -> list[str]:
        at: Path | None = self
        lines = []
        while at:
            lines.append(at.what)
            at = at.before
        return lines[::-1]


@dataclass(frozen=True, eq=False)
class Node:
    hot: HotState
    cold: ColdState
    at: tuple[Moment | None, ...]
    """By actor; None when it has ended or died."""
    facts: Facts
    left: Budget
    clock: int = 0
    run: int = 1
    saved: HotState | None = None
    """What Redis may fall back to."""
    path: Path | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """The same for nodes from which the same can happen."""
        moments = tuple(moment and moment.number for moment in self.at)
        saved = self.saved and self.saved.kind
        return self.hot.kind, self.cold, moments, self.facts, self.left, self.clock, self.run, saved

    def after(self, what: str, **changes: Any) -> Node:
        """Where that leads to."""
        return replace(self, path=Path(self.path, what), **changes)


class BrokenPromiseError(AssertionError):
    """A promise was not kept on some path."""

    def __init__(self, why: str, node: Node) -> None:
        super().__init__("\n  ".join([why, "on this path:", *(node.path.lines() if node.path else ())]))


class Exploration:
    """All that can happen.

    Args:
        world: the servers, holding what the thread starts with.
        ids: what the plans draw their ids from.
        actors: who works on the thread.
        stored: what the application was told is stored, to begin with.
        delete: what a caller whose delete has failed does.
        last_check: looks at the thread after everybody has ended, through plans that it is given to run; returns the
            ids and writes that it finds, newest first.
        by_history: see `Moments`.
    """

    def __init__(
        self,
        world: World,
        ids: Ids,
        actors: Sequence[Actor],
        stored: frozenset[Item],
        delete: Callable[[], Plan[None]],
        last_check: Callable[[Callable[[Plan[Any]], Any]], list[tuple[str, frozenset[str]]]],
        *,
        by_history: bool = False,
    ) -> None:
        self.world, self.ids, self.actors = world, ids, actors
        self.stored, self._delete, self._last_check = stored, delete, last_check
        self.nodes = self.edges = self.ends = 0
        self._moments = Moments(actors, ids, by_history=by_history)
        self._outcomes: dict[tuple[object, ...], tuple[Moment, HotState | ColdState, str]] = {}
        self._last_found: dict[tuple[object, ...], list[tuple[str, frozenset[str]]] | Exception] = {}
        self._sound: set[int] = set()

    def explore(self, budget: Budget, clock_ms: int) -> None:
        """Go everywhere.

        Raises:
            BrokenPromiseError: one was not kept.
        """
        self._clock_ms = clock_ms
        moments = tuple(self._moments.after(i, ()) for i in range(len(self.actors)))
        begun = Node(self.world.hot(), self.world.cold(), moments, Facts(self.stored), budget)
        if budget.failovers:
            begun = replace(begun, saved=begun.hot)
        seen, todo = {begun.key}, [begun]
        while todo:
            node = todo.pop()
            self.nodes += 1
            self._check(node)
            following = 0
            for following, reached in enumerate(self._edges(node), 1):  # noqa: B007 - counted
                self.edges += 1
                key = reached.key
                if key not in seen:
                    seen.add(key)
                    todo.append(reached)
            if all(moment is None for moment in node.at):
                self._check_end(node)
            elif not following:
                raise BrokenPromiseError("nothing can happen any more", node)

    def _edges(self, node: Node) -> Iterator[Node]:
        left = node.left
        if left.lapses and node.hot.mortal:
            yield self._lapsed(node, replace(left, lapses=left.lapses - 1))
        if left.failovers and node.saved is not None and node.saved.kind != node.hot.kind:
            yield self._failed_over(node, node.saved, replace(left, failovers=left.failovers - 1))
            yield node.after("Redis saves", saved=node.hot)
        for i, moment in enumerate(node.at):
            if moment is None:
                continue
            yield self._stepped(node, i, moment, "", left)
            if left.repeats:
                yield self._stepped(node, i, moment, "twice", replace(left, repeats=left.repeats - 1))
            if left.losses:
                yield self._stepped(node, i, moment, "lost", replace(left, losses=left.losses - 1))
            if left.crashes and moment.heard:
                fewer = replace(left, crashes=left.crashes - 1)
                yield node.after(f"{self.actors[i].name} dies", left=fewer, at=_with(node.at, i, None))

    @property
    def reached(self) -> tuple[AbstractSet[str], AbstractSet[str]]:
        """All that either server has held on the way."""
        return self.world.hot_kinds, self.world.cold_kinds

    def _stepped(self, node: Node, i: int, moment: Moment, fault: str, left: Budget) -> Node:
        facts = node.facts
        for note in () if moment.heard else moment.notes:  # what it said before its first step
            facts = self._noted(node, facts, i, moment, note)
        where = (node.cold,) if moment.cold else (node.hot, node.run, node.clock)
        key = (moment.number, fault, *where)
        outcome = self._outcomes.get(key)
        if outcome is None:
            outcome = self._outcomes[key] = self._perform(node, i, moment, fault)
        reached, state, reply = outcome
        following = node.after(
            f"{self.actors[i].name}: {moment.name} {fault} -> {reply}",
            at=_with(node.at, i, None if reached.ended else reached),
            clock=node.clock + moment.ticks,
            left=left,
            **{"cold" if moment.cold else "hot": state},
        )
        for note in reached.notes:
            facts = self._noted(following, facts, i, reached, note)
        return following if facts is node.facts else replace(following, facts=facts)

    def _perform(self, node: Node, i: int, moment: Moment, fault: str) -> tuple[Moment, HotState | ColdState, str]:
        """How far the next step brings the actor, what its server holds then, and the reply."""
        playback = Playback(self.actors[i], self.ids, moment.heard)
        assert playback.step is not None
        if moment.cold:
            self.world.put_cold(node.cold)
        else:
            self.world.put_hot(node.hot)
        run_id, now_ms = f"run {node.run}", self._clock_ms + node.clock
        if fault == "twice":
            self.world.perform(playback.step, run_id, now_ms)
        reply = self.world.perform(playback.step, run_id, now_ms)
        heard = Heard(reply) if fault != "lost" else Heard(None, "cold" if moment.cold else "hot")
        state = self.world.cold() if moment.cold else self.world.hot()
        return self._moments.after(i, (*moment.heard, heard)), state, _short(reply)

    def _noted(self, node: Node, facts: Facts, i: int, moment: Moment, note: Note) -> Facts:  # noqa: C901 - a table
        match note.kind:
            case "stored":
                if note.what.incarnation in facts.dead:
                    raise BrokenPromiseError(f"{note.what} was acknowledged after the thread was deleted", node)
                facts = replace(facts, stored=facts.stored | {note.what})
                return facts.beside_a_delete(note.what.incarnation) if facts.deleting else facts
            case "reading":
                return replace(facts, floors=(*facts.floors, (i, facts.head)))
            case "read":
                floor = dict(facts.floors)[i]
                withdrawn = facts.head < floor
                if (note.what or "") < floor and not withdrawn:
                    raise BrokenPromiseError(
                        f"a read gave {note.what!r} although {floor!r} had been stored before", node
                    )
            case "deleting":
                doomed = frozenset(item.incarnation for item in facts.stored)
                facts = replace(facts, condemned=facts.condemned | doomed, excused=facts.excused | doomed)
                return replace(facts, deleting=True)
            case "deleted":
                return facts.deleted(node.hot.held | node.cold.held)
            case "pruning":
                return replace(facts, pruned=True)
            case "ended":
                faulted = any(one.error for one in moment.heard)
                allowed = (*self.actors[i].may_raise, *((HotTierError, ColdTierError) if faulted else ()))
                if note.what is not None and not isinstance(note.what, allowed):
                    raise BrokenPromiseError(f"{self.actors[i].name} raised {note.what!r}", node)
        return facts

    def _lapsed(self, node: Node, left: Budget) -> Node:
        self.world.lapse(node.hot)
        hot = self.world.hot()
        facts = node.facts
        if (meta := node.hot.meta) and meta["state"] == "e":
            facts = replace(facts, excused=facts.excused | {meta["incarnation"]})
        return node.after("the key lapses", hot=hot, facts=facts, left=left)

    def _failed_over(self, node: Node, saved: HotState, left: Budget) -> Node:
        facts = node.facts
        here = saved.held | (node.cold if node.cold.flushed else NOTHING_COLD).held
        gone = frozenset(item for item in facts.stored if not item.is_in(here))
        back = frozenset[str]()
        if saved.meta and not saved.meta["flushed"]:
            back = frozenset({saved.meta["incarnation"]})  # Postgres cannot know that it was deleted
        facts = replace(facts, lost=facts.lost | gone, dead=facts.dead - back)
        return node.after("Redis falls back", hot=saved, run=node.run + 1, left=left, saved=None, facts=facts)

    # What must hold

    def _check(self, node: Node) -> None:
        held = node.hot.held | node.cold.held
        owed = node.facts.owed(latest(held))
        missing = [i for i in owed if not i.is_in(held)]
        if missing:
            raise BrokenPromiseError(f"neither tier holds {sorted(missing)}", node)
        meta = node.hot.meta
        vouched = meta is not None and meta["run"] == f"run {node.run}"
        if node.hot.mortal and meta and meta["state"] != "e":
            self._check_mortal(node, meta, held, vouched=vouched)
        lives = node.cold.flushed | ({meta["incarnation"]} if meta and vouched else set())
        if lives & node.facts.dead:
            raise BrokenPromiseError("a deleted thread is back", node)
        if node.hot.kind not in self._sound:
            self.world.put_hot(node.hot)
            wrong = broken_rules(self.world.client)
            if wrong:
                raise BrokenPromiseError("; ".join(wrong), node)
            self._sound.add(node.hot.kind)

    def _check_mortal(
        self, node: Node, meta: Mapping[str, Any], held: AbstractSet[tuple[str, str]], *, vouched: bool
    ) -> None:
        """No sole copy has a TTL: Postgres holds all of a promoted thread that may expire.

        It need hold only what is owed while the hot copy may have more than there is: when a fall-back has brought
        it back, from then until it is compared (not vouched for) or dropped (`rebase`), and when a delete is under way.
        """
        only_here = held - node.cold.held
        facts = node.facts
        if not vouched or meta["rebase"] or facts.deleting or meta["incarnation"] in facts.condemned:
            only_here &= {(i.checkpoint_id, i.task_id) for i in node.facts.owed(latest(held))}
        if only_here:
            raise BrokenPromiseError(f"the only copy of {sorted(only_here)} has a TTL", node)

    def _check_end(self, node: Node) -> None:
        """After everybody has ended or died, another worker finds and finishes all."""
        self.ends += 1
        facts = node.facts
        failed = bool(facts.condemned - facts.dead)
        if failed:
            facts = replace(facts, dead=facts.dead | facts.condemned)
        key = (node.hot, node.cold, node.run, node.clock, failed)
        found = self._last_found.get(key)
        if found is None:
            found = self._last_found[key] = self._finish(node, delete=failed)
        if isinstance(found, Exception):
            raise BrokenPromiseError(f"afterwards: {type(found).__name__}: {found}", node) from found
        shown = {(id_, task) for id_, tasks in found for task in ("", *tasks)}
        missing = [i for i in facts.owed(found[0][0] if found else "") if not i.is_in(shown)]
        if missing and not failed:
            raise BrokenPromiseError(f"afterwards {sorted(missing)} cannot be read, only {sorted(shown)}", node)
        undead = [i for i in facts.stored if i.incarnation in facts.dead and i.checkpoint_id in dict(found)]
        if undead:
            raise BrokenPromiseError(f"afterwards {sorted(undead)} of a deleted thread can be read", node)

    def _finish(self, node: Node, *, delete: bool) -> list[tuple[str, frozenset[str]]] | Exception:
        """What the last check finds; if a delete has failed, who called it does so again."""
        self.world.put_hot(node.hot)
        self.world.put_cold(node.cold)
        if b"x" in node.hot.fields:
            self.world.lapse(node.hot)

        def run(plan: Plan[Any]) -> Any:
            self.ids.owner, self.ids.made = "last", 0
            return self.world.run(plan, f"run {node.run}", self._clock_ms + node.clock + 60_000)

        try:
            if delete:
                run(self._delete())
            return self._last_check(run)
        except (TieredCheckpointError, AssertionError) as exc:
            return exc


def _with(values: tuple[Any, ...], i: int, value: Any) -> tuple[Any, ...]:
    return (*values[:i], value, *values[i + 1 :])


def _short(reply: Any) -> str:
    text = repr(reply)
    return text if len(text) < 100 else text[:100] + "..."
