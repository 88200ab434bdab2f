"""Drives a plan with scripted replies: what a unit test of a plan needs instead of servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from langgraph_tiered_checkpoint.steps import Lanes, Lua, LuaBatch, Pause, Plan, Step, Tx

T = TypeVar("T")


class Played(NamedTuple):
    """What a plan did and returned."""

    steps: list[Step]
    result: Any


def name_of(step: Step) -> str:
    """The script's name, the transaction's name, `name*count` for a batch, or "pause"."""
    match step:
        case Lua():
            return step.script
        case LuaBatch():
            return f"{step.calls[0].script}*{len(step.calls)}" if step.calls else "nothing*0"
        case Tx():
            return step.name
        case Pause():
            return "pause"
        case Lanes():
            return f"lanes*{len(step.plans)}"


def play(plan: Plan[Any], script: Sequence[tuple[str, Any]]) -> Played:
    """Run `plan`, expecting exactly the named steps in order. A reply that is an exception is thrown into the plan."""
    steps: list[Step] = []
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
