"""Plans that also ask somebody else's store: generators that yield `Call`, `Take` and `Run`, and what carries them out.

So what is asked of a saver and of its async twin is written once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from inspect import isawaitable, iscoroutinefunction
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.steps import Plan

T = TypeVar("T")


class Call(NamedTuple):
    """A function, or coroutine function, of somebody else; the reply is what it returns."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


class Take(NamedTuple):
    """The next of what somebody else iterates over; the reply is a list of at most so many, empty at the end."""

    items: Iterator[Any] | AsyncIterator[Any]
    most: int = 1


class Run(NamedTuple):
    """A plan for our own tiers; the reply is what it returns."""

    plan: Plan[Any]


Step = Call | Take | Run
Work = Generator[Step, Any, T]


def carry_out(work: Work[T], run: Callable[[Plan[Any]], Any]) -> T:
    """Do the work; `run` executes a plan."""
    reply: Any = None
    error: Exception | None = None
    while True:
        try:
            step = work.send(reply) if error is None else work.throw(error)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        reply = error = None
        try:
            match step:
                case Call(function, args):
                    reply = function(*args)
                case Take(items, most):
                    reply = list(islice(_sync(items), most))
                case Run(plan):
                    reply = run(plan)
        except Exception as exc:  # noqa: BLE001 - the work knows what it means
            error = exc


async def acarry_out(work: Work[T], run: Callable[[Plan[Any]], Awaitable[Any]]) -> T:
    """`carry_out`. What others have that is not async runs in another OS thread."""
    reply: Any = None
    error: Exception | None = None
    while True:
        try:
            step = work.send(reply) if error is None else work.throw(error)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        reply = error = None
        try:
            match step:
                case Call(function, args) if iscoroutinefunction(function):
                    reply = await function(*args)
                case Call(function, args):
                    reply = await asyncio.to_thread(function, *args)
                    reply = await reply if isawaitable(reply) else reply
                case Take(items, most) if isinstance(items, AsyncIterator):
                    reply = await _first(items, most)
                case Take(items, most):
                    reply = await asyncio.to_thread(lambda: list(islice(_sync(items), most)))
                case Run(plan):
                    reply = await run(plan)
        except Exception as exc:  # noqa: BLE001 - the work knows what it means
            error = exc


async def _first(items: AsyncIterator[Any], most: int) -> list[Any]:
    taken: list[Any] = []
    while len(taken) < most:
        try:
            taken.append(await anext(items))
        except StopAsyncIteration:
            break
    return taken


def _sync(items: Iterator[Any] | AsyncIterator[Any]) -> Iterator[Any]:
    if not isinstance(items, Iterator):
        raise ConfigurationError("what is to be imported can only be iterated over asynchronously: use aimport_threads")
    return items
