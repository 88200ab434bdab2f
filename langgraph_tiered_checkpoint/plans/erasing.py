"""Erasing what no value needs any more of the arenas that values have left.

What is needed is found out page by page, and holds as long as nothing is written meanwhile. See hot/lua/values.lua.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypedDict

from langgraph_tiered_checkpoint.errors import ThreadBusyError
from langgraph_tiered_checkpoint.hot.reshaping import Erased, Left, MadeOf
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.steps import Pause, Plan

Stretch = tuple[int, int]
"""Offset and length in an arena."""

PAGE_BYTES = 4_000_000
"""How much one script overwrites, about."""

_ROUNDS = 50
_PAUSE_S = 0.02


class Arena(NamedTuple):
    """An arena that values have left."""

    name: str
    bytes: int
    """0 if it is gone."""
    piece_size: int
    needed: list[Stretch]
    """Ascending and apart."""

    def pages(self) -> Iterator[tuple[int, int, list[Stretch]]]:
        """Its pieces, some at a time, as the first and the last of them, and what is needed of these."""
        count = -(-self.bytes // self.piece_size)
        step = max(1, PAGE_BYTES // self.piece_size)
        for first in range(0, count, step):
            last = min(first + step, count) - 1
            low, high = first * self.piece_size, (last + 1) * self.piece_size
            yield first, last, [(at, n) for at, n in self.needed if at < high and at + n > low]


def erase(store: Store, thread_id: str, incarnation: str) -> Plan[None]:
    """When this returns, the hot tier has nothing any more of values that were removed before.

    Raises:
        ThreadBusyError: the thread is written all the time. Nothing is lost; repeating what has removed them erases it.
    """
    for _ in range(_ROUNDS):
        if (yield from _erase_once(store, thread_id, incarnation)):
            return
        yield from Pause(_PAUSE_S)
    raise ThreadBusyError(
        f"thread {thread_id!r} is being written too fast: what was removed is out of sight, but some of its bytes are "
        "still in Redis. Repeat the call, at best when no run writes the thread"
    )


def _erase_once(store: Store, thread_id: str, incarnation: str) -> Plan[bool]:
    """False: something was written meanwhile, or there is more to do."""
    found = yield from _needed(store, thread_id, incarnation)
    if isinstance(found, Left):
        return found is not Left.CHANGED
    fence: _Fence = {"incarnation": incarnation, "change": found.change}
    calls = []
    for name, size, piece_size in found.arenas:
        arena = Arena(name, size, piece_size, _joined((at, n) for of, at, n in found.stretches if of == name))
        for first, last, needed in arena.pages():
            calls.append(store.hot.erase(thread_id, **fence, arena=name, first=first, last=last, needed=needed))
        calls.append(store.hot.done_with(thread_id, **fence, name=name, remove=False))
    unneeded = set(found.values).difference(found.kept)
    calls += [store.hot.done_with(thread_id, **fence, name=name, remove=name in unneeded) for name in found.values]
    for call in calls:
        erased = yield from call
        if erased is not Erased.DONE:
            return erased is Erased.GONE
    return not unneeded  # those may have left arenas


class _Fence(TypedDict):
    """For what it was found out what is needed."""

    incarnation: str
    change: int


def _needed(store: Store, thread_id: str, incarnation: str) -> Plan[MadeOf | Left]:
    """What is still needed: all pages as one."""
    whole: MadeOf | None = None
    while True:
        page = yield from store.hot.made_of(thread_id, incarnation=incarnation, cursor=whole.cursor if whole else "")
        if isinstance(page, Left):
            return page
        if whole is not None:
            if page.change != whole.change:
                return Left.CHANGED
            page = page._replace(stretches=whole.stretches + page.stretches, kept=whole.kept + page.kept)
        if not page.cursor:
            return page
        whole = page


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for at, length in sorted(stretches):
        if joined and at <= sum(joined[-1]):
            first = joined[-1][0]
            joined[-1] = first, max(sum(joined[-1]), at + length) - first
        else:
            joined.append((at, length))
    return joined
