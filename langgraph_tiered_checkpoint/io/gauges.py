"""What metrics say of the process and of the store when they are asked: the journals' counts, and what `stats` says.

The counts cost a look at some numbers. What `stats` says is asked of the servers, in a thread of its own: whoever
collects the metrics waits for it for a moment, and an event loop does not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langgraph_tiered_checkpoint.errors import HotTierError
from langgraph_tiered_checkpoint.plans.journal import Counts, journals
from langgraph_tiered_checkpoint.records import HotCount, TierStats

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

logger = logging.getLogger(__name__)

SPACING_S: Final = 5.0
"""What was read that lately is not read again: all gauges of one scrape say the same."""

_PATIENCE_S: Final = 3.0
"""How long a scrape waits, which has a limit of its own. Then the next one has the figures."""


class _Counter(NamedTuple):
    name: str
    unit: str
    description: str
    read: Callable[[Counts], int]


_COUNTERS: Final = (
    _Counter("lgt.promotions", "{thread}", "Threads of which Postgres took a first copy", lambda c: c.promoted),
    _Counter("lgt.flush.commits", "{transaction}", "Transactions that flushed something", lambda c: c.commits),
    _Counter("lgt.flush.copies", "{copy}", "Copies of threads' changes that Postgres took", lambda c: c.flushed),
    _Counter("lgt.flush.size", "By", "Values and checkpoints that Postgres took", lambda c: c.flushed_bytes),
    _Counter("lgt.flush.fenced", "{copy}", "Copies that were discarded: others were faster", lambda c: c.fenced),
    _Counter("lgt.flush.parked", "{copy}", "Flushes that failed for a reason of their thread", lambda c: c.parked),
    _Counter("lgt.evictions", "{thread}", "Threads evicted on request", lambda c: c.evicted),
    _Counter("lgt.deletions", "{thread}", "Threads deleted", lambda c: c.deleted),
    _Counter("lgt.prunings", "{thread}", "Threads of which checkpoints were removed", lambda c: c.restructured),
)


class _Gauge(NamedTuple):
    name: str
    unit: str
    description: str
    read: Callable[[TierStats], float | None]
    """None where it is not known."""


_GAUGES: Final = (
    _Gauge("lgt.workers", "{worker}", "Promoters that are alive", lambda s: len(s.workers)),
    _Gauge("lgt.threads.hot", "{thread}", "Threads in Redis", lambda s: s.hot_threads),
    _Gauge("lgt.threads.ephemeral", "{thread}", "Of these, ephemeral ones", lambda s: _count(s.ephemeral)),
    _Gauge("lgt.threads.dirty", "{thread}", "Of these, with changes that Postgres lacks", lambda s: _count(s.dirty)),
    _Gauge("lgt.threads.clean", "{thread}", "Of these, ones that Postgres has, too", lambda s: _count(s.clean)),
    _Gauge("lgt.threads.cold", "{thread}", "Threads in Postgres", lambda s: s.cold_threads),
    _Gauge("lgt.threads.due", "{thread}", "Threads to be flushed: the backlog", lambda s: s.due_threads),
    _Gauge("lgt.threads.overdue", "{thread}", "Of the backlog, those whose time has come", lambda s: s.overdue_threads),
    _Gauge("lgt.threads.parked", "{thread}", "Threads whose last flush failed", lambda s: len(s.parked_threads)),
    _Gauge("lgt.backlog.age", "s", "How long the first of the backlog is overdue", lambda s: _age(s.oldest_due_age)),
    _Gauge("lgt.unflushed.age", "s", "Of the first change that Postgres lacks", lambda s: _age(s.oldest_unflushed_age)),
    _Gauge("lgt.redis.memory", "By", "Redis's memory, for whatever is in it", lambda s: s.hot_bytes),
    _Gauge("lgt.redis.memory.limit", "By", "Redis's maxmemory; 0 if it has none", lambda s: s.hot_limit_bytes),
    _Gauge("lgt.postgres.size", "By", "The tables with their indexes", lambda s: s.cold_bytes),
    _Gauge("lgt.warnings", "{warning}", "What will lose data, see stats()", lambda s: len(s.warnings)),
)


def _count(of_state: HotCount | None) -> int | None:
    return None if of_state is None else of_state.threads


def _age(oldest: timedelta | None) -> float:
    """Nothing waits: that is an age of 0, so that a graph falls to it."""
    return 0.0 if oldest is None else oldest.total_seconds()


class _Reading(NamedTuple):
    """What was found last: figures, unless Redis did not answer."""

    at: float = float("-inf")
    stats: TierStats | None = None


class StoreGauges:
    """What `stats` says of a store, for whoever collects metrics."""

    def __init__(self, key_prefix: str, read: Callable[[], TierStats]) -> None:
        self.attributes: Final = {"lgt.key_prefix": key_prefix}
        self._read = read
        self.start_afresh()

    def start_afresh(self) -> None:
        """Nothing was found yet, as in a forked child: there, another thread's lock would stay held for ever."""
        self._lock = threading.Lock()
        self._reading = _Reading()
        self._refreshing: threading.Thread | None = None
        self._slow: threading.Thread | None = None

    def report(self) -> None:
        """From now on, what collects the metrics of this process has those of the store with them."""
        _reported.add(self)

    def latest(self) -> _Reading | None:
        """What was found a moment ago; None if nothing has been yet."""
        with self._lock:
            thread = self._refreshing
            if (thread is None or not thread.is_alive()) and time.monotonic() - self._reading.at >= SPACING_S:
                thread = self._refreshing = threading.Thread(target=self._refresh, name="lgt-gauges", daemon=True)
                thread.start()
        if thread is not None and thread is not self._slow and not _in_event_loop():
            thread.join(_PATIENCE_S)
            self._slow = thread if thread.is_alive() else None  # the other gauges of the scrape do not wait again
        return self._reading if self._reading.at > 0 else None

    def _refresh(self) -> None:
        try:
            stats = self._read()
        except HotTierError:
            self._reading = _Reading(time.monotonic())
        except Exception as exc:  # noqa: BLE001 - whoever collects metrics would only find a traceback in a thread
            logger.warning("metrics say nothing of the store: %s", exc)
        else:
            self._reading = _Reading(time.monotonic(), stats)


_reported: weakref.WeakSet[StoreGauges] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_reported):
        store.start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def observe(meter: Meter) -> None:
    """Have a meter ask here for counts and figures."""
    for counter in _COUNTERS:
        meter.create_observable_counter(counter.name, [_counts(counter)], counter.unit, counter.description)
    for gauge in _GAUGES:
        meter.create_observable_gauge(gauge.name, [_figures(gauge)], gauge.unit, gauge.description)
    meter.create_observable_gauge("lgt.tier.up", [_up], "1", "Whether a tier answers")


def _counts(counter: _Counter) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def callback(_: CallbackOptions) -> Iterator[Observation]:
        """Of all savers on a key prefix together: who looks has one store in mind."""
        sums: dict[str, int] = {}
        for journal in journals():
            sums[journal.key_prefix] = sums.get(journal.key_prefix, 0) + counter.read(journal.counts)
        for key_prefix, total in sums.items():
            yield _observation(total, {"lgt.key_prefix": key_prefix})

    return callback


def _figures(gauge: _Gauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def callback(_: CallbackOptions) -> Iterator[Observation]:
        for store in list(_reported):
            reading = store.latest()
            figure = gauge.read(reading.stats) if reading is not None and reading.stats is not None else None
            if figure is not None:
                yield _observation(figure, store.attributes)

    return callback


def _up(_: CallbackOptions) -> Iterator[Observation]:
    for store in list(_reported):
        reading = store.latest()
        if reading is None:
            continue
        stats = reading.stats
        yield _observation(int(stats is not None), {**store.attributes, "lgt.tier": "hot"})
        if stats is not None and (stats.cold_threads is not None or stats.cold_error):
            yield _observation(int(not stats.cold_error), {**store.attributes, "lgt.tier": "cold"})


def _observation(value: float, attributes: dict[str, Any]) -> Observation:
    from opentelemetry.metrics import Observation

    return Observation(value, attributes)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
