"""Runs independent plans at once, for both runners, as twins; and what blocks, beside an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from langgraph_tiered_checkpoint.steps import Plan

T = TypeVar("T")


def run_at_once(run: Callable[[Plan[Any]], object], plans: Sequence[Plan[Any]]) -> None:
    """One in the calling thread, each of the others in one of its own, if there can be one.

    Raises:
        BaseException: the first error of any, when all have ended.
    """
    ended: list[BaseException] = []

    def attempt(plan: Plan[Any]) -> None:
        try:
            run(plan)
        except BaseException as exc:  # noqa: BLE001 - raised in the calling thread
            ended.append(exc)

    others, here = [], [plans[0]]
    for plan in plans[1:]:
        other = threading.Thread(target=attempt, args=(plan,), name="lgt-lane", daemon=True)
        try:
            other.start()
            others.append(other)
        except RuntimeError:  # the interpreter is shutting down, or there are too many
            here.append(plan)
    for plan in here:
        attempt(plan)
    for other in others:
        other.join()
    if ended:
        raise ended[0]


async def arun_at_once(run: Callable[[Plan[Any]], Awaitable[object]], plans: Sequence[Plan[Any]]) -> None:
    """Each in a task of its own. A cancellation reaches all of them.

    Raises:
        BaseException: the first error of any, when all have ended.
    """
    for outcome in await asyncio.gather(*(run(plan) for plan in plans), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def aside(work: Callable[[], T]) -> T:
    """Do what reads files in a thread of its own: the loop's may all be taken by the application, for long."""
    thread = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
    finally:
        thread.shutdown(wait=False)
