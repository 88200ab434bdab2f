"""How far a plan has come: played back to there, and compared with other ways to get there."""

from __future__ import annotations

import contextvars
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from types import BuiltinMethodType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from scripted import left_behind, name_of

from langgraph_tiered_checkpoint.calls import Requests
from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import ColdTierError, HotTierError, TieredCheckpointError
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.promoter import Promoter
from langgraph_tiered_checkpoint.steps import Lua, Plan, Step, Tx


class Note(NamedTuple):
    """What a program says has just happened."""

    kind: str
    """ "stored", with an Item; "reading"; "read", with the id that a read gave; "deleting", "deleted", "pruning";
    "ended", with the error."""
    what: Any


Program = Callable[[Callable[[str, Any], None]], Plan[Any]]
"""An operation, or several in a row, of one worker; says what happened through the function that it is given."""


class Shared:
    """What all actors use and none changes."""


class Actor(NamedTuple):
    name: str
    program: Program
    may_raise: tuple[type[Exception], ...] = ()


class Heard(NamedTuple):
    """A reply, or an error in place of it."""

    reply: Any
    error: str = ""


class Ids:
    """In place of random ids: the n-th of an actor is the same on every path."""

    def __init__(self) -> None:
        self.owner, self.made = "", 0

    def __call__(self) -> str:
        self.made += 1
        return hashlib.sha256(f"{self.owner} {self.made}".encode()).hexdigest()[:16]


class Moment:
    """How far an actor has come. Where the same can happen next, it is the same object."""

    def __init__(self, number: int, heard: tuple[Heard, ...], notes: tuple[Note, ...], step: Step | None) -> None:
        self.number, self.heard, self.notes = number, heard, notes
        self.ended = step is None
        self.cold = isinstance(step, Tx)
        """Whether the next step is for Postgres."""
        self.ticks = isinstance(step, Lua) and step.script in ("get", "delete")
        """Whether the next step moves the clock."""
        self.name = name_of(step) if step else ""


class Moments:
    """Of some actors.

    Args:
        by_history: tell moments apart by all that was heard, rather than by what a plan has kept of it.
    """

    def __init__(self, actors: Sequence[Actor], ids: Ids, *, by_history: bool = False) -> None:
        self._actors, self._ids = actors, ids
        self._by_history = by_history
        self._known: dict[object, Moment] = {}

    def after(self, i: int, heard: tuple[Heard, ...]) -> Moment:
        """How far the actor of that number is when it has heard this."""
        playback = Playback(self._actors[i], self._ids, heard)
        if self._by_history:
            key: object = (i, repr(heard))
        else:
            faults = heard and heard[-1].error, any(one.error for one in heard)
            key = (i, bool(heard), faults, playback.standing())
        if key not in self._known:
            self._known[key] = Moment(len(self._known), heard, tuple(playback.notes), playback.step)
        return self._known[key]


class Playback:
    """An actor, brought to where it was by what it has heard."""

    def __init__(self, actor: Actor, ids: Ids, heard: Sequence[Heard]) -> None:
        self.notes = notes = list[Note]()
        """What it has said since its last step but one."""
        self.step: Step | None = None
        self._actor, self._ids = actor, ids
        self._made = 0
        self._context = contextvars.Context()
        plan = actor.program(lambda kind, what: notes.append(Note(kind, what)))
        self._plan: Generator[Step, Any, Any] = left_behind(plan)
        self._advance(Heard(None))
        for one in heard:
            self.notes.clear()
            self._advance(one)

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

    def standing(self) -> bytes:
        """The same for playbacks that will do the same: where each generator of the plan stands, all its variables,
        what it has in its context, what it asks for and what it has just said.
        """
        context = tuple(self._context.items())
        compared = _Comparable()
        whole = tuple(compared.of(part) for part in (self._plan, self.step, self.notes, context, self._made))
        return hashlib.sha256(repr(whole).encode()).digest()


_OURS = "langgraph_tiered_checkpoint."


class _Comparable:
    """Values as what is equal, and prints the same, for values that are used in the same way."""

    _SHARED = (Shared, Store, Cold, Requests, Promoter, JsonPlusSerializer, ModuleType, type)
    """There is one of each, and nothing in it that an actor changes."""

    def __init__(self) -> None:
        self._within: list[object] = []

    def of(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if any(value is outer for outer in self._within):
            return next(f"the {n}th around" for n, outer in enumerate(self._within) if outer is value)
        self._within.append(value)
        try:
            return type(value).__qualname__, self._parts(value)
        finally:
            self._within.pop()

    def _parts(self, value: object) -> object:  # noqa: C901, PLR0911, PLR0912 - a table
        match value:
            case GeneratorType():
                frame = value.gi_frame
                if frame is None:
                    return "ended"
                inner = value.gi_yieldfrom
                code = frame.f_code
                where = code.co_filename, code.co_firstlineno, frame.f_lasti
                return where, self._pairs(frame.f_locals), self.of(inner)
            case FunctionType():
                cells = [cell.cell_contents for cell in value.__closure__ or ()]
                return value.__qualname__, self._each(cells)
            case partial():
                return self._each((value.func, value.args, value.keywords))
            case MethodType() | BuiltinMethodType():
                return value.__name__, self.of(value.__self__)
            case datetime():
                return None  # states that differ in times only are the same, too
            case BaseException():
                return str(value)
            case Enum():
                return value.name
            case Mapping():
                return self._pairs(value)
            case AbstractSet():
                return sorted(repr(self.of(one)) for one in value)
            case _ if isinstance(value, self._SHARED):
                return None
            case contextvars.ContextVar():
                return value.name
            case _ if is_dataclass(value):
                return self._each(getattr(value, field.name) for field in fields(value))
            case Iterator():
                return self._each(copy(value))
            case Iterable():
                return self._each(value)
            case _ if type(value).__module__.startswith(_OURS):
                return self._pairs(vars(value))
        raise TypeError(f"moments cannot be compared by {value!r}")

    def _pairs(self, value: Mapping[Any, Any]) -> object:
        return [(self.of(name), self.of(one)) for name, one in value.items()]

    def _each(self, values: Iterable[object]) -> object:
        return [self.of(one) for one in values]
