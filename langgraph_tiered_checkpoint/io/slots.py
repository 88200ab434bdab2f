"""Who may use a connection: a bounded number of callers at once, for threads.

An exception can come out of a signal handler between any two steps of the interpreter, so a slot that code has to give
back is lost sooner or later. Here it is an object: nobody has it any more when it dies, however that comes about.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

_LOOK_AGAIN_S: Final = 0.1
"""A waiting caller looks for itself after so long, should whoever had to wake it have been interrupted."""


class _Slot:
    """A place in the line of those who want in, or are."""

    __slots__ = ("__weakref__", "wake")

    def __init__(self) -> None:
        self.wake: SimpleQueue[None] | None = None


class Slots:
    """So many callers at once, in order of arrival; the others wait.

    Args:
        number: how many.
        patience_s: how long to wait.
        late: what to raise then.
    """

    def __init__(self, number: int, patience_s: float, late: Callable[[], Exception]) -> None:
        self._number = number
        self._patience_s = patience_s
        self._late = late
        self._line: list[weakref.ref[_Slot]] = []

    @property
    def taken(self) -> int:
        """How many are in."""
        return min(len(self._line), self._number)

    def run(self, work: Callable[[], T]) -> T:
        """Do `work` in a slot."""
        held: list[_Slot] = []  # never in a variable of its own, which a traceback would keep
        try:
            held.append(_Slot())
            self._line.append(weakref.ref(held[0], self._line.remove))
            if not self._is_in(held):
                self._wait(held)
            return work()
        finally:
            held.clear()
            if len(self._line) >= self._number:
                self._wake()

    def _is_in(self, held: list[_Slot]) -> bool:
        return self._line.index(weakref.ref(held[0])) < self._number

    def _wait(self, held: list[_Slot]) -> None:
        deadline = time.monotonic() + self._patience_s
        wake: SimpleQueue[None] = SimpleQueue()
        held[0].wake = wake
        while not self._is_in(held):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise self._late()
            with contextlib.suppress(Empty):
                wake.get(timeout=min(left_s, _LOOK_AGAIN_S))

    def _wake(self) -> None:
        """Let those look again who may be in by now."""
        for slot in self._line[: self._number]:
            wake = getattr(slot(), "wake", None)
            if wake is not None:
                wake.put(None)
