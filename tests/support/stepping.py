"""Drives a plan step by step on real servers, so that a test decides what happens between two of its steps."""

from __future__ import annotations

from typing import Any, TypeVar

from scripted import name_of, waited_for

from langgraph_tiered_checkpoint import TieredSaver
from langgraph_tiered_checkpoint.hot.flushing import Lease
from langgraph_tiered_checkpoint.steps import Lua, Plan, Step

R = TypeVar("R")


def reply_to(saver: TieredSaver, call: Lua[R]) -> R:
    """What the script says."""
    return saver._sync.run(iter(call))


def lease_of(saver: TieredSaver, thread_id: str) -> Lease:
    """A lease on a thread that is resident."""
    lease = reply_to(saver, saver._store.hot.lease(thread_id))
    assert isinstance(lease, Lease)
    return lease


class Stepped:
    """A plan that stops where it is told to. `result` is there once it has finished."""

    def __init__(self, saver: TieredSaver, plan: Plan[Any]) -> None:
        self._saver = saver
        self._plan = waited_for(plan)
        self._step: Step | None = next(self._plan)
        self.result: Any = None

    def stop_before(self, name: str, nth: int = 1) -> Stepped:
        """Run until the step of that name is the next one; the n-th time, if it comes several times."""
        while self._step is not None:
            nth -= name_of(self._step) == name
            if nth == 0:
                return self
            self._perform()
        raise AssertionError(f"the plan ended before {name}")

    def repeat(self) -> None:
        """Perform the next step without its reply, as when the connection is cut and the runner sends it again."""
        assert self._step is not None
        self._saver._sync._perform(self._step)

    def finish(self) -> Any:
        """Run to the end; what the plan returned."""
        while self._step is not None:
            self._perform()
        return self.result

    def _perform(self) -> None:
        assert self._step is not None
        reply = self._saver._sync._perform(self._step)
        self._step = None
        try:
            self._step = self._plan.send(reply)
        except StopIteration as done:
            self.result = done.value

    @property
    def next_step(self) -> str:
        """The name of the step that would be performed next; empty if the plan has ended."""
        return name_of(self._step) if self._step is not None else ""

    @property
    def done(self) -> bool:
        """Whether the plan has ended."""
        return self._step is None

    def take(self, steps: int) -> Stepped:
        """Perform that many steps, or fewer if the plan ends before."""
        for _ in range(steps):
            if self._step is not None:
                self._perform()
        return self
