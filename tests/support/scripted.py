"""Drives a plan with scripted replies: what a unit test of a plan needs instead of servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from langgraph_tiered_checkpoint.steps import (
    Alone,
    Ask,
    AskPooling,
    Behind,
    Lanes,
    Lua,
    LuaBatch,
    Pause,
    Plan,
    Step,
    Tx,
)

T = TypeVar("T")


def as_it_is(reply: Any) -> Any:
    """In place of a parser."""
    return reply


class Played(NamedTuple):
    """What a plan did and returned."""

    steps: list[Step]
    result: Any


def name_of(step: Step) -> str:  # noqa: PLR0911 - one for each kind
    """The script's name, the transaction's name, `name*count` for a batch, or "pause"."""
    match step:
        case Lua():
            return step.script
        case LuaBatch():
            return f"{step.calls[0].script}*{len(step.calls)}"
        case Ask():
            return " ".join(step.commands[0])
        case AskPooling():
            return "pooling"
        case Tx() | Alone():
            return step.name
        case Pause():
            return "pause"
        case Lanes():
            return f"lanes*{len(step.plans)}"
        case Behind():
            return "behind"


def waited_for(plan: Plan[T]) -> Plan[T]:
    """The plan, with what it leaves behind done where it is left, as the sync runner does."""
    reply, error = None, None
    while True:
        try:
            step = plan.throw(error) if error else plan.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result
        reply, error = None, None
        try:
            if isinstance(step, Behind):
                yield from waited_for(step.plan())
            else:
                reply = yield step
        except Exception as exc:  # noqa: BLE001 - the plan decides
            error = exc


def left_behind(plan: Plan[T]) -> Plan[T]:
    """The plan, with what it leaves behind done as late as by the async runner: when it has ended, or asks for more.

    The reply to a `Behind` is whether it is left; if not, it is waited for.
    """
    left: list[Plan[None]] = []
    reply, error = None, None
    while True:
        try:
            step = plan.throw(error) if error else plan.send(reply)
        except StopIteration as done:
            yield from _all(left)
            result: T = done.value
            return result
        reply, error = None, None
        try:
            if not isinstance(step, Behind):
                yield from _all(left)
                reply = yield step
            elif (yield step):
                left.append(step.plan())
            else:
                yield from _all(left)
                yield from waited_for(step.plan())
        except Exception as exc:  # noqa: BLE001 - the plan decides
            error = exc


def _all(left: list[Plan[None]]) -> Plan[None]:
    while left:
        yield from left.pop(0)


def play(plan: Plan[Any], script: Sequence[tuple[str, Any]]) -> Played:
    """Run `plan`, expecting exactly the named steps in order. A reply that is an exception is thrown into the plan."""
    steps: list[Step] = []
    plan = waited_for(plan)
    replies = iter(script)
    reply: Any = None
    while True:
        try:
            step = plan.throw(reply) if isinstance(reply, BaseException) else plan.send(reply)
        except StopIteration as stop:
            left = [name for name, _ in replies]
            assert not left, f"the plan ended before {left}"
            return Played(steps, stop.value)
        steps.append(step)
        expected, reply = next(replies, ("the end", None))
        assert name_of(step) == expected, f"step {len(steps)} is {name_of(step)}, not {expected}"
