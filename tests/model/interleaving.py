"""Enumerates every interleaving of some operations on one thread, with what servers and workers may do in between.

The operations are the package's own plans, and each of their steps runs on the real servers. What is enumerated is a
graph: a node is what both servers hold, and how far each plan has come; an edge is one step of one plan, or one
mishap. A plan is brought to where it was by playing back the replies that it has had, so nothing is paraphrased.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgpack
from key_rules import broken_rules
from model.worlds import TABLES, ColdState, HotState, World
from scripted import name_of

from langgraph_tiered_checkpoint.errors import ColdTierError, HotTierError, TieredCheckpointError
from langgraph_tiered_checkpoint.steps import Lua, LuaBatch, Plan, Step


class Item(NamedTuple):
    """Something that the application was told is stored."""

    checkpoint_id: str
    task_id: str
    """Empty for the checkpoint itself."""
    incarnation: str


class Note(NamedTuple):
    """What a program says has just happened."""

    kind: str
    """ "stored", with an Item; "reading"; "read", with the id that a read gave; "deleting", "deleted", "pruning";
    "ended", with the error."""
    what: Any


Program = Callable[[Callable[[str, Any], None]], Plan[Any]]
"""An operation, or several in a row, of one worker; says what happened through the function that it is given."""


class Actor(NamedTuple):
    name: str
    program: Program
    may_raise: tuple[type[Exception], ...] = ()


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


class Heard(NamedTuple):
    """A reply, or an error in place of it."""

    reply: Any
    error: str = ""


@dataclass(frozen=True)
class Facts:
    """What has been promised so far, and what has been withdrawn."""

    stored: frozenset[Item] = frozenset()
    excused: frozenset[str] = frozenset()
    """Incarnations that may be gone, whole or in part."""
    lost: frozenset[Item] = frozenset()
    """What a failover has lost, which nobody can help."""
    condemned: frozenset[str] = frozenset()
    """Incarnations that a delete which has not returned yet is to remove."""
    dead: frozenset[str] = frozenset()
    """Incarnations that must be gone."""
    pruned: bool = False
    floors: tuple[tuple[int, str], ...] = ()
    """By actor, the latest checkpoint when it began to read."""

    def owed(self, latest: str = "") -> frozenset[Item]:
        """What must be there, if that is the latest checkpoint that is."""
        lost = {i.checkpoint_id for i in self.lost if not i.task_id}
        alive = [
            i
            for i in self.stored - self.lost
            if i.incarnation not in self.excused | self.dead and i.checkpoint_id not in lost
        ]
        if self.pruned and alive:
            head = max(latest, *(i.checkpoint_id for i in alive))
            alive = [i for i in alive if i.checkpoint_id == head]
        return frozenset(alive)

    @property
    def head(self) -> str:
        """The latest checkpoint that must be there."""
        return max((i.checkpoint_id for i in self.owed() if not i.task_id), default="")


@dataclass(frozen=True)
class Node:
    hot: HotState
    cold: ColdState
    heard: tuple[tuple[Heard, ...] | None, ...]
    """By actor, the replies it has had; None when it has ended or died."""
    facts: Facts
    left: Budget
    clock: int = 0
    run: int = 1
    saved: HotState | None = None
    """What Redis may fall back to."""
    path: tuple[str, ...] = field(default=(), compare=False)

    @property
    def key(self) -> bytes:
        """The same for nodes from which the same can happen."""
        parts = (
            self.hot.canon,
            self.cold.canon,
            repr(self.heard),
            repr([sorted(v) if isinstance(v, frozenset) else v for v in vars(self.facts).values()]),
            repr(self.left),
            repr((self.clock, self.run)),
            self.saved.canon if self.saved else "",
        )
        return hashlib.sha256("\0".join(parts).encode()).digest()


NOTHING = ColdState(("[]",) * len(TABLES), "")


class BrokenPromiseError(AssertionError):
    """A promise was not kept on some path."""

    def __init__(self, why: str, node: Node) -> None:
        super().__init__("\n  ".join([why, "on this path:", *node.path]))


class Ids:
    """In place of random ids: the n-th of an actor is the same on every path."""

    def __init__(self) -> None:
        self.owner, self.made = "", 0

    def __call__(self) -> str:
        self.made += 1
        return hashlib.sha256(f"{self.owner} {self.made}".encode()).hexdigest()[:16]


class _Playback:
    """An actor, brought to where it was."""

    def __init__(self, actor: Actor, ids: Ids, heard: Sequence[Heard]) -> None:
        self.notes: list[Note] = []
        self.step: Step | None = None
        self._actor, self._ids = actor, ids
        self._made = 0
        self._context = contextvars.Context()
        self._plan: Generator[Step, Any, Any] = actor.program(lambda kind, what: self.notes.append(Note(kind, what)))
        self._advance(Heard(None))
        for one in heard:
            self.notes.clear()
            self._advance(one)

    def hear(self, heard: Heard) -> None:
        self.notes.clear()
        self._advance(heard)

    def _advance(self, heard: Heard) -> None:
        self._ids.owner, self._ids.made = self._actor.name, self._made
        try:
            if heard.error:
                error = HotTierError if heard.error == "hot" else ColdTierError
                self.step = self._context.run(self._plan.throw, error("the connection was cut"))
            else:
                self.step = self._context.run(self._plan.send, heard.reply)
        except StopIteration:
            self.step = None
            self.notes.append(Note("ended", None))
        except (TieredCheckpointError, AssertionError) as exc:
            self.step = None
            self.notes.append(Note("ended", exc))
        self._made = self._ids.made


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
    """

    def __init__(
        self,
        world: World,
        ids: Ids,
        actors: Sequence[Actor],
        stored: frozenset[Item],
        delete: Callable[[], Plan[None]],
        last_check: Callable[[Callable[[Plan[Any]], Any]], list[tuple[str, frozenset[str]]]],
    ) -> None:
        self.world, self.ids, self.actors = world, ids, actors
        self.stored, self._delete, self._last_check = stored, delete, last_check
        self.nodes = self.edges = self.ends = 0
        self.complete = True
        self._sound: set[str] = set()

    def explore(self, budget: Budget, clock_ms: int, most: int = 10**9) -> None:
        """Go everywhere; or to so many nodes, from time to time starting from any that has been seen.

        Raises:
            BrokenPromiseError: one was not kept.
        """
        hot, cold = self.world.take()
        self._clock_ms = clock_ms
        begun = Node(hot, cold, tuple(() for _ in self.actors), Facts(self.stored), budget)
        if budget.failovers:
            begun = replace(begun, saved=hot)
        seen, todo = {begun.key}, [begun]
        draw = random.Random(0)  # the same on every run
        while todo:
            if self.nodes >= most:
                self.complete = False
                return
            if most < 10**9 and self.nodes % 40 == 0:
                at = draw.randrange(len(todo))
                todo[at], todo[-1] = todo[-1], todo[at]
            node = todo.pop()
            self.nodes += 1
            self._check(node)
            following = 0
            for following, reached in enumerate(self._edges(node), 1):  # noqa: B007 - counted
                self.edges += 1
                if reached.key not in seen:
                    seen.add(reached.key)
                    todo.append(reached)
            if all(one is None for one in node.heard):
                self._check_end(node)
            elif not following:
                raise BrokenPromiseError("nothing can happen any more", node)

    def _edges(self, node: Node) -> Iterator[Node]:
        left = node.left
        fields, mortal = node.hot.thread(self.world.key)
        if left.lapses and mortal:
            yield self._lapsed(node, fields, replace(left, lapses=left.lapses - 1))
        if left.failovers and node.saved is not None and node.saved.canon != node.hot.canon:
            yield self._failed_over(node, node.saved, replace(left, failovers=left.failovers - 1))
            yield replace(node, saved=node.hot, path=(*node.path, "Redis saves"))
        for i, heard in enumerate(node.heard):
            if heard is None:
                continue
            yield self._stepped(node, i, "")
            if left.repeats:
                yield self._stepped(replace(node, left=replace(left, repeats=left.repeats - 1)), i, "twice")
            if left.losses:
                yield self._stepped(replace(node, left=replace(left, losses=left.losses - 1)), i, "lost")
            if left.crashes and heard:
                path = (*node.path, f"{self.actors[i].name} dies")
                crashed = replace(node, left=replace(left, crashes=left.crashes - 1), path=path)
                yield replace(crashed, heard=_with(node.heard, i, None))

    def _stepped(self, node: Node, i: int, fault: str) -> Node:
        actor = self.actors[i]
        playback = _Playback(actor, self.ids, node.heard[i] or ())
        step = playback.step
        assert step is not None
        facts = node.facts
        for note in playback.notes if not node.heard[i] else ():  # what it said before its first step
            facts = self._noted(node, facts, i, note)
        self.world.put_back(node.hot, node.cold)
        run_id, now_ms = f"run {node.run}", self._clock_ms + node.clock
        if fault == "twice":
            self.world.perform(step, run_id, now_ms)
        reply = self.world.perform(step, run_id, now_ms)
        heard = Heard(reply) if fault != "lost" else Heard(None, "hot" if isinstance(step, Lua | LuaBatch) else "cold")
        playback.hear(heard)
        hot, cold = self.world.take()
        ticks = isinstance(step, Lua) and step.script in ("get", "delete")
        node = replace(
            node,
            hot=hot,
            cold=cold,
            clock=node.clock + ticks,
            path=(*node.path, f"{actor.name}: {name_of(step)} {fault} -> {_short(reply)}"),
        )
        so_far = (*(node.heard[i] or ()), heard)
        node = replace(node, heard=_with(node.heard, i, so_far))
        for note in playback.notes:
            facts = self._noted(node, facts, i, note)
        return replace(node, facts=facts, heard=node.heard if playback.step else _with(node.heard, i, None))

    def _noted(self, node: Node, facts: Facts, i: int, note: Note) -> Facts:  # noqa: C901 - a table
        match note.kind:
            case "stored":
                if note.what.incarnation in facts.dead:
                    raise BrokenPromiseError(f"{note.what} was acknowledged after the thread was deleted", node)
                return replace(facts, stored=facts.stored | {note.what})
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
                return replace(facts, condemned=facts.condemned | doomed, excused=facts.excused | doomed)
            case "deleted":
                return replace(facts, dead=facts.dead | facts.condemned)
            case "pruning":
                return replace(facts, pruned=True)
            case "ended":
                faulted = any(one.error for one in node.heard[i] or ())
                allowed = (*self.actors[i].may_raise, *((HotTierError, ColdTierError) if faulted else ()))
                if note.what is not None and not isinstance(note.what, allowed):
                    raise BrokenPromiseError(f"{self.actors[i].name} raised {note.what!r}", node)
        return facts

    def _lapsed(self, node: Node, fields: dict[bytes, bytes], left: Budget) -> Node:
        self.world.put_back(node.hot, node.cold)
        self.world.lapse(node.hot)
        hot, cold = self.world.take()
        facts = node.facts
        if b"m" in fields and (meta := msgpack.unpackb(fields[b"m"]))["s"] == "e":
            facts = replace(facts, excused=facts.excused | {meta["i"]})
        return replace(node, hot=hot, cold=cold, facts=facts, left=left, path=(*node.path, "the key lapses"))

    def _failed_over(self, node: Node, saved: HotState, left: Budget) -> Node:
        facts = node.facts
        reached = replace(node, hot=saved, run=node.run + 1, left=left, path=(*node.path, "Redis falls back"))
        committed = any(row["flushed"] for row in json.loads(node.cold.rows[-1]))
        here = self._held(reached if committed else replace(reached, cold=NOTHING))
        gone = frozenset(item for item in facts.stored if (item.checkpoint_id, item.task_id) not in here)
        fields, _ = saved.thread(self.world.key)
        back = frozenset[str]()
        if b"m" in fields and not (meta := msgpack.unpackb(fields[b"m"]))["fl"]:
            back = frozenset({meta["i"]})  # Postgres cannot know that it was deleted
        return replace(
            reached,
            saved=None,
            facts=replace(facts, lost=facts.lost | gone, dead=facts.dead - back),
        )

    # What must hold

    def _held(self, node: Node) -> set[tuple[str, str]]:
        """Checkpoints and writes that either tier holds: ids with task ids, "" for the checkpoint itself."""
        found: set[tuple[str, str]] = set()
        fields, _ = node.hot.thread(self.world.key)
        for name in fields:
            if name[:1] == b"c":
                found.add((name.partition(b":")[2].decode(), ""))
            elif name[:1] == b"k":
                k, _, task = name[1:].split(b"\0")
                found.add((k.partition(b":")[2].decode(), task.decode()))
        checkpoints, _, writes, _ = (json.loads(rows) for rows in node.cold.rows)
        found |= {(row["checkpoint_id"], "") for row in checkpoints}
        found |= {(row["checkpoint_id"], row["task_id"]) for row in writes}
        return found

    def _check(self, node: Node) -> None:
        held = self._held(node)
        owed = node.facts.owed(_latest(held))
        missing = [i for i in owed if (i.checkpoint_id, i.task_id) not in held]
        if missing:
            raise BrokenPromiseError(f"neither tier holds {sorted(missing)}", node)
        fields, mortal = node.hot.thread(self.world.key)
        meta = msgpack.unpackb(fields[b"m"]) if b"m" in fields else None
        vouched = meta is not None and meta["rn"] == f"run {node.run}"
        if mortal and meta and meta["s"] != "e":
            self._check_mortal(node, meta, held, vouched=vouched)
        *_, threads = (json.loads(rows) for rows in node.cold.rows)
        lives = {row["incarnation"] for row in threads if row["flushed"]} | ({meta["i"]} if meta and vouched else set())
        if lives & node.facts.dead:
            raise BrokenPromiseError("a deleted thread is back", node)
        if node.hot.canon not in self._sound:
            self.world.put_back(node.hot, node.cold)
            wrong = broken_rules(self.world.client)
            if wrong:
                raise BrokenPromiseError("; ".join(wrong), node)
            self._sound.add(node.hot.canon)

    def _check_mortal(self, node: Node, meta: Mapping[str, Any], held: set[tuple[str, str]], *, vouched: bool) -> None:
        """No sole copy has a TTL: Postgres holds all of a promoted thread that may expire.

        It need hold only what is owed while the hot copy may have more than there is: when a fall-back has brought
        it back, from then until it is compared (not vouched for) or dropped (`rb`), and when a delete is under way.
        """
        only_here = held - self._held(replace(node, hot=HotState((), "")))
        if not vouched or meta["rb"] or meta["i"] in node.facts.condemned:
            only_here &= {(i.checkpoint_id, i.task_id) for i in node.facts.owed(_latest(held))}
        if only_here:
            raise BrokenPromiseError(f"the only copy of {sorted(only_here)} has a TTL", node)

    def _check_end(self, node: Node) -> None:
        """After everybody has ended or died, another worker finds and finishes all."""
        self.ends += 1
        self.world.put_back(node.hot, node.cold)
        fields, _ = node.hot.thread(self.world.key)
        if b"x" in fields:
            self.world.lapse(node.hot)

        def run(plan: Plan[Any]) -> Any:
            self.ids.owner, self.ids.made = "last", 0
            return self.world.run(plan, f"run {node.run}", self._clock_ms + node.clock + 60_000)

        facts = node.facts
        if facts.condemned - facts.dead:  # the delete failed; who called it will do so again
            run(self._delete())
            facts = replace(facts, dead=facts.dead | facts.condemned)
        try:
            found = self._last_check(run)
        except (TieredCheckpointError, AssertionError) as exc:
            raise BrokenPromiseError(f"afterwards: {type(exc).__name__}: {exc}", node) from exc
        shown = {(id_, task) for id_, tasks in found for task in ("", *tasks)}
        missing = [i for i in facts.owed(found[0][0] if found else "") if (i.checkpoint_id, i.task_id) not in shown]
        if missing and facts is node.facts:
            raise BrokenPromiseError(f"afterwards {sorted(missing)} cannot be read, only {sorted(shown)}", node)
        undead = [i for i in facts.stored if i.incarnation in facts.dead and i.checkpoint_id in dict(found)]
        if undead:
            raise BrokenPromiseError(f"afterwards {sorted(undead)} of a deleted thread can be read", node)


def _latest(held: set[tuple[str, str]]) -> str:
    return max(held, default=("", ""))[0]


def _with(values: tuple[Any, ...], i: int, value: Any) -> tuple[Any, ...]:
    return (*values[:i], value, *values[i + 1 :])


def _short(reply: Any) -> str:
    text = repr(reply)
    return text if len(text) < 100 else text[:100] + "..."
