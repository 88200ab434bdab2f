"""What the tasks of one event loop have asked for and do not wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from langgraph_tiered_checkpoint.steps import Behind, Lua, Plan


class Port(Protocol):
    """What can send without waiting."""

    def send(self, call: Lua[Any], run_id: str | None) -> asyncio.Future[list[Any]] | None:
        """The reply to come, or None if nothing was sent."""


class Unanswered:
    """Plans that are left to go on by themselves.

    No task waits for a reply: one that never comes, in a loop that is closed meanwhile, leaves nothing behind.
    """

    def __init__(self) -> None:
        self._open: set[asyncio.Future[Any]] = set()

    def leave(self, step: Behind, port: Port, run: Callable[[Plan[None]], Awaitable[None]]) -> bool:
        """Whether the plan could be left to itself. If not, nothing was sent: it has to be run and waited for."""
        plan = step.plan()
        sent = port.send(next(plan), step.server_run)
        if sent is None:
            return False
        self._watch(sent)
        sent.add_done_callback(partial(self._go_on, plan, lambda: run(step.plan())))
        return True

    async def settle(self, patience_s: float) -> None:
        """Wait for what is open, for that long at most, and give up what is open then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        try:
            while self._open and loop.time() < deadline:
                await asyncio.wait(self._open, timeout=deadline - loop.time())
        finally:
            for one in self._open:
                one.cancel()

    def _watch(self, future: asyncio.Future[Any]) -> None:
        self._open.add(future)
        future.add_done_callback(self._open.discard)

    def _go_on(self, plan: Plan[None], again: Callable[[], Awaitable[None]], sent: asyncio.Future[list[Any]]) -> None:
        """The reply has come. Unless that was all, the plan is begun again, as any other, by a task."""
        if not sent.cancelled() and not _ends(plan, sent):
            self._watch(asyncio.ensure_future(again()))


def _ends(plan: Plan[None], sent: asyncio.Future[list[Any]]) -> bool:
    """Whether a plan ends with this reply."""
    if sent.exception() is not None or isinstance(reply := sent.result()[0], Exception):
        return False
    try:
        plan.send(reply)
    except StopIteration:
        return True
    return False
