"""The journal of a saver: what its process has done to threads, counted, and said to the log by their ids.

Never a value. Who shows the counts reads them from here.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Collection
from dataclasses import dataclass

from langgraph_tiered_checkpoint.hot.flushing import size_of
from langgraph_tiered_checkpoint.records import ThreadBatch

logger = logging.getLogger("langgraph_tiered_checkpoint.threads")


@dataclass(slots=True)
class Counts:
    """How often, since the process began."""

    promoted: int = 0
    """Threads of which Postgres has taken a first copy."""
    commits: int = 0
    """Transactions that flushed something."""
    flushed: int = 0
    """Copies of threads' changes that Postgres has taken."""
    flushed_bytes: int = 0
    fenced: int = 0
    """Copies that were discarded, because Postgres held something else by then."""
    parked: int = 0
    """Flushes that failed for a reason of their thread."""
    evicted: int = 0
    """On request. What lapses by itself is Redis's doing."""
    deleted: int = 0
    restructured: int = 0
    """By `prune` and `delete_for_runs`."""


class Journal:
    """What one saver of this process has done to threads."""

    def __init__(self, key_prefix: str) -> None:
        self.key_prefix = key_prefix
        self.start_afresh()
        _all.add(self)

    def start_afresh(self) -> None:
        """Nothing has happened yet, as in a forked child: there, another thread's lock would stay held for ever."""
        self.counts = Counts()
        self._lock = threading.Lock()

    def committed(self, batches: Collection[ThreadBatch], held: Collection[str]) -> None:
        """Postgres was given these copies, and has taken those of the threads whose fence held."""
        taken = [batch for batch in batches if batch.thread_id in held]
        firsts = [batch for batch in taken if _completes_a_first_copy(batch)]
        self._count(
            promoted=len(firsts),
            commits=int(bool(taken)),
            flushed=len(taken),
            flushed_bytes=sum(size_of(batch) for batch in taken),
            fenced=len(batches) - len(taken),
        )
        for batch in firsts:
            logger.info("thread %r was promoted (%s)", batch.thread_id, batch.reason)
        for batch in batches:
            if batch.thread_id not in held:
                logger.info("thread %r: a copy of it was fenced, others were faster", batch.thread_id)

    def parked(self, thread_id: str, error: Exception) -> None:
        """A flush has failed for a reason of its own thread. The reason stays with the thread: it may quote a value."""
        self._count(parked=1)
        logger.info("thread %r was parked (%s), see explain()", thread_id, type(error).__name__)

    def evicted(self, thread_id: str) -> None:
        """A thread was taken out of the hot tier, on request."""
        self._count(evicted=1)
        logger.info("thread %r was evicted", thread_id)

    def deleted(self, thread_id: str) -> None:
        """A thread was deleted from both tiers."""
        self._count(deleted=1)
        logger.info("thread %r was deleted", thread_id)

    def restructured(self, thread_id: str) -> None:
        """Checkpoints of a thread were removed."""
        self._count(restructured=1)
        logger.info("checkpoints of thread %r were deleted", thread_id)

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                setattr(self.counts, name, getattr(self.counts, name) + number)


def _completes_a_first_copy(batch: ThreadBatch) -> bool:
    """The fence of a first copy is a claim, which has no dot; it is moved by the last batch alone."""
    return bool(batch.flushed) and "." not in batch.expected


_all: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for journal in journals():
        journal.start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def journals() -> list[Journal]:
    """Those of the process's savers."""
    return list(_all)
