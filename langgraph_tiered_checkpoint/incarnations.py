"""Which incarnation of a thread the current run is talking to. No I/O.

A root read leaves the incarnation here; from the calling context it reaches every write of the run, whichever
task or OS thread LangGraph makes it from, since both copy the context. That is how a write that comes after a
delete is told from the first write of a new run on the same thread id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

REMEMBERED = 64
"""Threads remembered per context; a program that reads many in one context forgets the ones read longest ago."""


@dataclass(slots=True)
class KnownIncarnation:
    """One incarnation, shared by all writes of a run.

    Unconfirmed, it is what the thread will be called if the next write creates it; a write that joins a thread
    which somebody else created meanwhile takes over that one's incarnation.
    """

    incarnation: str
    confirmed: bool
    absent_ms: float | None = None
    """When a root read found no thread, by Redis's clock: what was deleted since then, the run must not bring back."""

    by_delete: bool = False
    """Whether that was the caller's own delete, not a read: what it names may then be newer than that."""

    def confirm(self, incarnation: str) -> None:
        """A write has been stored in this incarnation."""
        self.incarnation = incarnation
        self.confirmed = True


_known_incarnations: ContextVar[Mapping[tuple[int, str], KnownIncarnation] | None] = ContextVar(
    "langgraph_tiered_checkpoint_incarnations", default=None
)


def new_id() -> str:
    """A fresh random id of 64 bits, in hex; safe after fork."""
    return os.urandom(8).hex()


def remember(
    store: int, thread_id: str, incarnation: str, absent_ms: float, *, by_delete: bool = False
) -> KnownIncarnation:
    """Note what a root read saw: an incarnation, or at what time there was no thread; as a delete has seen to it."""
    known = KnownIncarnation(
        incarnation or new_id(), confirmed=bool(incarnation), absent_ms=None if incarnation else absent_ms
    )
    known.by_delete = by_delete
    remembered = _known_incarnations.get() or {}
    key = (store, thread_id)
    kept = {k: v for k, v in remembered.items() if k != key}
    while len(kept) >= REMEMBERED:
        del kept[next(iter(kept))]
    kept[key] = known
    _known_incarnations.set(kept)
    return known


def recall(store: int, thread_id: str) -> KnownIncarnation:
    """What this context has read, or a fresh unconfirmed one that is not remembered."""
    remembered = _known_incarnations.get()
    known = remembered.get((store, thread_id)) if remembered else None
    return known or KnownIncarnation(new_id(), confirmed=False)
