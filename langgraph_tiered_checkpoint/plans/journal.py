"""The journal of a saver: what its process has done to threads, counted, and said to the log by their ids.

Never a value. Who shows the counts reads them from here.
"""

from __future__ import annotations

import logging
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
        self.counts = Counts()
        self._lock = threading.Lock()
        _all.add(self)

    def committed(self, batches: Collection[ThreadBatch], held: Collection[str]) -> None:
        """Postgres was given these copies, and has taken those of the threads whose fence held."""
        with self._lock:
            counts = self.counts
            counts.commits += bool(held)
            for batch in batches:
                if batch.thread_id not in held:
                    counts.fenced += 1
                    logger.info("thread %r: a copy of it was fenced, others were faster", batch.thread_id)
                    continue
                counts.flushed += 1
                counts.flushed_bytes += size_of(batch)
                if _completes_a_first_copy(batch):
                    counts.promoted += 1
                    logger.info("thread %r was promoted (%s)", batch.thread_id, batch.reason)

    def parked(self, thread_id: str, error: Exception) -> None:
        """A flush has failed for a reason of its own thread. The reason stays with the thread: it may quote a value."""
        with self._lock:
            self.counts.parked += 1
        logger.info("thread %r was parked (%s), see explain()", thread_id, type(error).__name__)

    def evicted(self, thread_id: str) -> None:
        """A thread was taken out of the hot tier, on request."""
        with self._lock:
            self.counts.evicted += 1
        logger.info("thread %r was evicted", thread_id)

    def deleted(self, thread_id: str) -> None:
        """A thread was deleted from both tiers."""
        with self._lock:
            self.counts.deleted += 1
        logger.info("thread %r was deleted", thread_id)

    def restructured(self, thread_id: str) -> None:
        """Checkpoints of a thread were removed."""
        with self._lock:
            self.counts.restructured += 1
        logger.info("checkpoints of thread %r were deleted", thread_id)


def _completes_a_first_copy(batch: ThreadBatch) -> bool:
    """The fence of a first copy is a claim, which has no dot; it is moved by the last batch alone."""
    return bool(batch.flushed) and "." not in batch.expected


_all: weakref.WeakSet[Journal] = weakref.WeakSet()


def journals() -> list[Journal]:
    """Those of the process's savers."""
    return list(_all)
