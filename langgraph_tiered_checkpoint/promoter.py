"""The flush loop: a daemon thread that brings Postgres up to date, for this process first and then for all."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from langgraph_tiered_checkpoint.errors import TieredCheckpointError
from langgraph_tiered_checkpoint.hot import BUCKETS
from langgraph_tiered_checkpoint.plans.batches import AT_ONCE, claim_due, flush_many, sweep
from langgraph_tiered_checkpoint.plans.store import Store
from langgraph_tiered_checkpoint.steps import Plan

logger = logging.getLogger(__name__)

SWEEP_S = 30.0
_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 10.0
_BUCKETS_AT_ONCE = 64

_CLAIMED = 2
"""Threads of each bucket that a sweep leases at once. More would leave nothing of a backlog to other workers."""

Run = Callable[[Plan[object]], object]


class Promoter:
    """Flushes what its process dirtied `flush_interval` after the write, and every 30 s what others left behind.

    Starts with the first dirty thread, or with `start`. Any number of promoters may serve one store: a lease
    spreads the work, and the fence in Postgres keeps it right. After `fork` the child starts one of its own.
    """

    def __init__(self, store: Store, run: Callable[[Plan[object]], object], *, embedded: bool) -> None:
        self._store = store
        self._run = run
        self._interval_s = store.settings.flush_interval.total_seconds()
        self._enabled = embedded and store.cold is not None
        self._forget()

    def _forget(self) -> None:
        """A state of rest: nothing noticed, no thread running."""
        self._pid = os.getpid()
        self._wake = threading.Condition()
        self._noticed: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._backoff_s = 0.0

    def notice(self, thread_id: str, *, due: bool) -> None:
        """A write of this process has left the thread dirty; if it is not due soon, a sweep will find it when it is."""
        if not self._enabled:
            return
        if self._pid != os.getpid():
            self._forget()
        if thread_id in self._noticed or (self._thread is not None and not due):
            return
        with self._wake:
            if due:
                self._noticed[thread_id] = time.monotonic() + self._interval_s
            if self._thread is None:
                self._start()
            elif len(self._noticed) == 1:
                self._wake.notify()

    def start(self) -> None:
        """Begin to sweep for what other processes left, without waiting for a write."""
        if self._enabled:
            with self._wake:
                if self._thread is None:
                    self._start()

    def _start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="lgt-promoter", daemon=True)
        self._thread.start()

    def close(self, drain_s: float) -> None:
        """Stop, flushing what was noticed for at most `drain_s`. What is left stays dirty, for anyone to take up."""
        if self._pid != os.getpid():
            return
        with self._wake:
            thread, self._thread, self._stopping = self._thread, None, True
            self._wake.notify()
        if thread is None or thread is threading.current_thread():
            return
        deadline = time.monotonic() + drain_s
        thread.join(drain_s)
        left = list(self._noticed)
        for start in range(0, len(left), AT_ONCE):
            if time.monotonic() >= deadline or not self._flush(left[start : start + AT_ONCE]):
                break

    def _loop(self) -> None:
        next_sweep = time.monotonic()
        while True:
            with self._wake:
                if self._stopping:
                    return
                now = time.monotonic()
                ready = list(islice((t for t, due in self._noticed.items() if due <= now), AT_ONCE))
                if not ready and now < next_sweep:
                    first = min(self._noticed.values(), default=next_sweep)
                    self._wake.wait(max(0.0, min(first, next_sweep) - now))
                    continue
                for thread_id in ready:
                    del self._noticed[thread_id]
            well = not ready or self._flush(ready)
            if well and time.monotonic() >= next_sweep:
                next_sweep = time.monotonic() + SWEEP_S
                well = self._attempt("sweep", self._sweep)
            if not well:
                next_sweep = self._back_off(ready, next_sweep)

    def _back_off(self, ready: Iterable[str], next_sweep: float) -> float:
        """Leave a tier that is out alone for a while; what other processes have left comes first afterwards."""
        with self._wake:
            for thread_id in ready:
                self._noticed.setdefault(thread_id, 0.0)
            self._wake.wait_for(lambda: self._stopping, self._backoff_s)
        return min(next_sweep, time.monotonic())

    def _flush(self, thread_ids: Sequence[str]) -> bool:
        """Whether the tiers were there; a thread that failed for its own reason counts as done."""
        return self._attempt("flush", lambda: self._flush_many(thread_ids))

    def _flush_many(self, thread_ids: Sequence[str]) -> None:
        failed = self._run(flush_many(self._store, thread_ids))
        if failed:
            logger.error("threads that could not be flushed, see explain(): %s", failed)

    def _attempt(self, what: str, work: Callable[[], None]) -> bool:
        try:
            work()
        except TieredCheckpointError as exc:
            logger.warning("%s postponed, nothing is lost: %s", what, exc)
        except Exception:  # the loop must outlive a defect, or nothing would be flushed any more
            logger.exception("%s failed; nothing is lost, it will be tried again", what)
        else:
            self._backoff_s = 0.0
            return True
        self._backoff_s = min(self._backoff_s * 2 or _BACKOFF_S, _LONGEST_BACKOFF_S)
        return False

    def _sweep(self) -> None:
        for start in range(0, BUCKETS, _BUCKETS_AT_ONCE):
            buckets = range(start, start + _BUCKETS_AT_ONCE)
            while not self._stopping:
                due = self._run(claim_due(self._store, buckets, _CLAIMED))
                names = list(due) if isinstance(due, list) else []
                if not names:
                    break
                self._flush_many(names)
        if not self._stopping:
            self._run(sweep(self._store))
