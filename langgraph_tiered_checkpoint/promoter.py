"""The upkeep: a daemon thread that brings Postgres up to date, for this process first and then for all, and sweeps."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import logging
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from langgraph_tiered_checkpoint.config import Archive
from langgraph_tiered_checkpoint.errors import TieredCheckpointError
from langgraph_tiered_checkpoint.hot.keys import BUCKETS
from langgraph_tiered_checkpoint.hot.workers import said_by
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.plans.archiving import Due, archive_leased, lease_to_archive
from langgraph_tiered_checkpoint.plans.promoting import AT_ONCE, beat, flush_many, lease_due, sweep_in_turn
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import Health
from langgraph_tiered_checkpoint.steps import Plan

logger = logging.getLogger(__name__)

SWEEP_S = 30.0
_TURN = 0.9
"""Of that time, what nobody else sweeps in after one has: whoever comes next is not to come too early."""
_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 10.0
_INDEXING_S = 600.0
_BUCKETS_AT_ONCE = 64

_LEASED = 2
"""Threads of each bucket that a sweep leases at once. More would leave nothing of a backlog to other workers."""

_UNINDEXED = "indexes are not built yet; everything works without them, slower"
_UNARCHIVED = "archiving postponed, nothing is lost"

Run = Callable[[Plan[object]], object]


class Indexes(Protocol):
    """What may have to be built beside the flushing."""

    @property
    def unindexed(self) -> bool:
        """Whether the tables are known to lack an index."""

    def build_indexes(self) -> None:
        """Build the indexes that are missing, unless another process does."""


class _Pulse:
    """How a promoter says that it is alive: what it has said last, and what it would say now."""

    def __init__(self) -> None:
        self.flushed = 0
        """Threads, so far."""
        self._identity = new_id()
        self._started_ms = time.time() * 1000
        self._said = ""
        self._said_at = time.monotonic()
        self._flushed_then = 0

    def next(self) -> tuple[str, str]:
        """What was said last, and what is to be said now."""
        now = time.monotonic()
        per_s = (self.flushed - self._flushed_then) / max(now - self._said_at, 1.0)
        said = said_by(
            self._identity,
            socket.gethostname(),
            os.getpid(),
            _program(),
            version("langgraph-tiered-checkpoint"),
            self._started_ms,
            per_s,
        )
        before, self._said = self._said, said
        self._said_at, self._flushed_then = now, self.flushed
        return before, said

    def last(self) -> str:
        """What was said last; from now on, nothing was."""
        said, self._said = self._said, ""
        return said


def _program() -> str:
    """What people know the process by."""
    path = Path(sys.argv[0]) if sys.argv else Path()
    return (path.parent.name if path.name == "__main__.py" else path.name) or "python"


class _Beside:
    """Work that the flushing must not wait for: in a thread of its own, and at most so often."""

    def __init__(self, name: str, every_s: float, work: Callable[[], None], complaint: str) -> None:
        self._name, self._every_s, self._work, self._complaint = name, every_s, work, complaint
        self._thread: threading.Thread | None = None
        self._next = 0.0
        self.stopping = False

    def begin(self) -> None:
        """Do it, unless it is being done, or it is too early."""
        if time.monotonic() >= self._next and (self._thread is None or not self._thread.is_alive()):
            self._next = time.monotonic() + self._every_s
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as exc:  # noqa: BLE001 - nobody needs it at once
            if not self.stopping:
                logger.warning("%s: %s", self._complaint, exc)

    def finish(self, patience_s: float) -> None:
        """Wait until it has come to a good end, if it is being done."""
        if self._thread is not None:
            self._thread.join(patience_s)


class Promoter:
    """Flushes what its process dirtied `flush_interval` after the write, and every 30 s what others left behind.

    Every 30 s, too, one of all that serve a store removes from its lists what has lapsed, and goes on to archive what
    the policy says; without a cold tier there is nothing else to do. Starts with the first write, or with `start`. Any
    number of promoters may serve one store: a lease spreads the work, and the fence in Postgres keeps it right. After
    `fork` the child starts one of its own.

    What callers wait for here is entered and left in one step of the interpreter, so an exception out of a signal
    handler leaves nothing locked.
    """

    def __init__(self, store: Store, run: Run, indexes: Indexes, *, embedded: bool) -> None:
        self._store = store
        self._run = run
        self._indexes = indexes
        self._interval_s = store.settings.flush_interval.total_seconds()
        self._enabled = embedded
        self.start_afresh()
        _all.add(self)

    def start_afresh(self) -> None:
        """Come to rest: nothing noticed, no thread running. What a forked child has of the others is left alone."""
        self._lock = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._noticed: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._next_sweep = 0.0
        self._next_beat = 0.0
        self._trouble: str | None = None
        self._pulse = _Pulse()
        self._stopping = False
        self._drain_until = 0.0
        self._backoff_s = 0.0
        self._indexing = _Beside("lgt-indexes", _INDEXING_S, self._indexes.build_indexes, _UNINDEXED)
        self._archiving = _Beside("lgt-archive", 0.0, self._archive_due, _UNARCHIVED)

    @property
    def health(self) -> Health:
        """Whether it runs, and what is in its way."""
        return Health(alive=self._runs(), trouble=self._trouble)

    def notice(self, thread_id: str, *, due: bool) -> None:
        """This process has written to the thread. If it is not due soon, a sweep will find it when it is, or lapses."""
        if not self._enabled or ((thread_id in self._noticed or not due) and self._runs()):
            return
        with self._lock:
            if due:
                self._noticed[thread_id] = time.monotonic() + self._interval_s
            if not self._runs():
                self._start(0.0 if due else SWEEP_S)
            elif len(self._noticed) == 1:
                self._wake.put(None)

    def start(self) -> None:
        """Begin to sweep for what other processes left, without waiting for a write."""
        if not self._enabled:
            return
        with self._lock:
            if not self._runs():
                self._start(0.0)

    def _start(self, first_sweep_s: float) -> None:
        self._stopping = self._indexing.stopping = self._archiving.stopping = False
        self._next_sweep = time.monotonic() + first_sweep_s
        # Before everything else that is to happen at exit so far: servers may be stopped there.
        atexit.unregister(_drain_at_exit)
        atexit.register(_drain_at_exit)
        _thread.start_new_thread(self._begin, ())

    def _begin(self) -> None:
        """Start the loop. Where no signal handler runs: an exception out of one would leave `threading` in disorder."""
        with self._lock, contextlib.suppress(RuntimeError):  # at the end of the interpreter
            if not self._stopping and not self._runs():
                self._thread = threading.Thread(target=self._loop, name="lgt-promoter", daemon=True)
                self._thread.start()

    def _runs(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def close(self, drain_s: float) -> None:
        """Stop, flushing what was noticed for at most `drain_s`. What is left stays dirty, for anyone to take up."""
        thread = self.stop(drain_s)
        if thread is not threading.current_thread():
            self.finish(thread)

    def finish(self, thread: threading.Thread | None) -> None:
        """Wait for what was stopped; flush what it was not there for, as long as a tier may take to answer that."""
        if thread is None or not thread.is_alive():
            thread = threading.Thread(target=self._drain, name="lgt-drain", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down
                return self._drain()
        thread.join(self.drain_left_s)
        return self._archiving.finish(self.drain_left_s)

    def stop(self, drain_s: float) -> threading.Thread | None:
        """Have the thread, if there is one, flush for at most `drain_s` and end."""
        with self._lock:
            thread, self._thread, self._stopping = self._thread, None, True
            self._drain_until = time.monotonic() + drain_s
            self._indexing.stopping = self._archiving.stopping = True
            self._wake.put(None)
        return thread

    def stop_at_exit(self) -> threading.Thread | None:
        """`stop`, of a saver that was not closed."""
        return self.stop(self._store.settings.timeouts.drain.total_seconds())

    @property
    def drain_left_s(self) -> float:
        """What is left of the time since `stop`."""
        return max(0.0, self._drain_until - time.monotonic())

    def _drain(self) -> None:
        while self._noticed and time.monotonic() < self._drain_until:
            with self._lock:
                some = list(islice(self._noticed, AT_ONCE))
                for thread_id in some:
                    del self._noticed[thread_id]
            if not self._flush(some):
                return

    def _loop(self) -> None:
        while not self._stopping:
            self._beat()
            now = time.monotonic()
            with self._lock:
                ready = list(islice((t for t, due in self._noticed.items() if due <= now), AT_ONCE))
                for thread_id in ready:
                    del self._noticed[thread_id]
                first = self._next_sweep if ready else min(self._noticed.values(), default=self._next_sweep)
            if not ready and now < self._next_sweep:
                self._nap(min(first, self._next_sweep) - now)
                continue
            well = not ready or self._flush(ready)
            if self._indexes.unindexed:
                self._indexing.begin()
            if well and time.monotonic() >= self._next_sweep:
                self._next_sweep = time.monotonic() + SWEEP_S
                well = self._attempt("sweep", self._sweep)
            if not well:
                self._back_off(ready)
        self._drain()
        self._beat(last=True)

    def _beat(self, *, last: bool = False) -> None:
        """Say that this promoter is alive, every 30 s, or no more. Whether it could be said makes no difference."""
        if not last and time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + SWEEP_S
        before, now = (self._pulse.last(), "") if last else self._pulse.next()
        try:
            if before or now:
                self._run(beat(self._store, before, now))
        except Exception as exc:  # noqa: BLE001 - what has to be done says so where it fails
            self._trouble = str(exc)
            logger.debug("not said that this promoter is alive: %s", exc)

    def _nap(self, seconds: float) -> None:
        """Sleep until something was noticed, or `close` was called."""
        with contextlib.suppress(Empty):
            self._wake.get(timeout=max(0.0, seconds))

    def _back_off(self, ready: Iterable[str]) -> None:
        """Leave a tier that is out alone for a while; what other processes have left comes first afterwards."""
        with self._lock:
            for thread_id in ready:
                self._noticed.setdefault(thread_id, 0.0)
        until = time.monotonic() + self._backoff_s
        while not self._stopping and (left_s := until - time.monotonic()) > 0:
            self._nap(left_s)
        self._next_sweep = min(self._next_sweep, time.monotonic())

    def _flush(self, thread_ids: Sequence[str]) -> bool:
        """Whether the tiers were there; a thread that failed for its own reason counts as done."""
        return self._attempt("flush", lambda: self._flush_many(thread_ids))

    def _flush_many(self, thread_ids: Sequence[str]) -> None:
        failed = self._run(flush_many(self._store, thread_ids))
        self._pulse.flushed += len(thread_ids) - (len(failed) if isinstance(failed, dict) else 0)
        if failed:
            logger.error("threads that could not be flushed, see explain(): %s", failed)

    def _attempt(self, what: str, work: Callable[[], None]) -> bool:
        try:
            work()
        except TieredCheckpointError as exc:
            self._trouble = str(exc)
            logger.warning("%s postponed, nothing is lost: %s", what, exc)
        except Exception as exc:  # the loop must outlive a defect, or nothing would be flushed any more
            self._trouble = f"{type(exc).__name__}: {exc}"
            logger.exception("%s failed; nothing is lost, it will be tried again", what)
        else:
            self._backoff_s = 0.0
            self._trouble = None
            return True
        self._backoff_s = min(self._backoff_s * 2 or _BACKOFF_S, _LONGEST_BACKOFF_S)
        return False

    def _archive_due(self) -> None:
        """Archive what is due, some threads at a time, until there is nothing more."""
        more = True
        while more and not self._stopping:
            due = self._run(lease_to_archive(self._store))
            threads = due if isinstance(due, list) else []
            for thread in threads:
                self._archive(thread)
            more = bool(threads)

    def _archive(self, thread: Due) -> None:
        if not self._stopping and (failed := self._run(archive_leased(self._store, thread))):
            logger.warning("thread %r could not be archived, nothing is lost: %s", thread.thread_id, failed)

    def _sweep(self) -> None:
        if self._store.cold is not None:
            self._take_up()
        if not self._stopping:
            our_turn = self._run(sweep_in_turn(self._store, int(_TURN * SWEEP_S * 1000)))
            if our_turn and self._store.cold is not None and self._store.settings.archive != Archive.never():
                self._archiving.begin()

    def _take_up(self) -> None:
        """Flush what is due, whoever left it."""
        for start in range(0, BUCKETS, _BUCKETS_AT_ONCE):
            buckets = range(start, start + _BUCKETS_AT_ONCE)
            while not self._stopping:
                due = self._run(lease_due(self._store, buckets, _LEASED))
                names = list(due) if isinstance(due, list) else []
                if not names:
                    break
                self._flush_many(names)


_all: weakref.WeakSet[Promoter] = weakref.WeakSet()


def _drain_at_exit() -> None:
    """Give the savers that nobody has closed, all at once, the time that `close` would have given them."""
    stopping = [(promoter, promoter.stop_at_exit()) for promoter in list(_all)]
    for promoter, thread in stopping:
        promoter.finish(thread)


def _after_fork_in_child() -> None:
    for promoter in list(_all):
        promoter.start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
