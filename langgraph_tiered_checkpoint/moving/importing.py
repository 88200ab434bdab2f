"""Importing threads: one after the other, each checked, put oldest checkpoint first, and read back.

What is there already is compared, not written again, so that an import which ended half-way is simply repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from langgraph_tiered_checkpoint import incarnations
from langgraph_tiered_checkpoint.arguments import wrong
from langgraph_tiered_checkpoint.calls import Requests
from langgraph_tiered_checkpoint.errors import (
    DEFECTS,
    ColdRefusedError,
    ConfigurationError,
    DamagedThreadError,
    ThreadBusyError,
    ThreadDeletedError,
    TieredCheckpointError,
    UnreadableValueError,
)
from langgraph_tiered_checkpoint.moving.arrivals import Target
from langgraph_tiered_checkpoint.moving.sources import PAGE, Place, Source
from langgraph_tiered_checkpoint.moving.work import Run, Work
from langgraph_tiered_checkpoint.plans import flushing
from langgraph_tiered_checkpoint.records import Sheet
from langgraph_tiered_checkpoint.steps import Plan

_OF_ONE_THREAD = (
    ConfigurationError,
    ColdRefusedError,
    DamagedThreadError,
    ThreadBusyError,
    UnreadableValueError,
)
"""What is wrong with a thread, and not with a server: the others are imported all the same."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ImportedThread(Sheet):
    """What an import has done with one thread."""

    thread_id: str
    outcome: Literal["imported", "already there", "refused"]
    checkpoints: int = 0
    """How many were stored; in a dry run, how many would be."""
    pending_writes: int = 0
    why: str = ""
    """Why it was refused. What was stored of it before stays, and is looked at again by the next import."""

    def __str__(self) -> str:
        return f"{self.thread_id}: {self.why or self.outcome}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ImportReport(Sheet):
    """What an import has done; in a dry run, what it would do."""

    dry_run: bool
    imported: int
    already_there: int
    checkpoints: int
    pending_writes: int
    refused: tuple[ImportedThread, ...]


OnThread = Callable[[ImportedThread], object]


class Tally:
    """An import as far as it has got."""

    def __init__(self, on_thread: OnThread | None, *, dry_run: bool) -> None:
        if on_thread is not None and not callable(on_thread):
            raise wrong("on_thread", on_thread, "a callable that takes an ImportedThread; None tells nobody")
        self._on_thread = on_thread
        self._dry_run = dry_run
        self._counts = {"imported": 0, "already there": 0, "refused": 0}
        self._checkpoints = self._writes = 0
        self._refused: list[ImportedThread] = []

    def add(self, done: ImportedThread) -> None:
        """One more thread is done."""
        self._counts[done.outcome] += 1
        self._checkpoints += done.checkpoints
        self._writes += done.pending_writes
        if done.outcome == "refused":
            self._refused.append(done)
        if self._on_thread is not None:
            self._on_thread(done)

    def report(self) -> ImportReport:
        """All of it."""
        return ImportReport(
            dry_run=self._dry_run,
            imported=self._counts["imported"],
            already_there=self._counts["already there"],
            checkpoints=self._checkpoints,
            pending_writes=self._writes,
            refused=tuple(self._refused),
        )


def import_threads(
    requests: Requests, source: Source, thread_ids: Iterable[str] | None, tally: Tally, *, promote: bool, dry_run: bool
) -> Work[ImportReport]:
    """Import threads of a source, all or some; see `TieredSaver.import_threads`."""
    if isinstance(thread_ids, str):
        raise ConfigurationError("thread_ids takes the ids of several threads, not one string")
    chosen = None if thread_ids is None else iter(thread_ids)
    while (page := (yield from _next_ids(source, chosen))) is not None:
        for thread_id in page:
            thread = _Thread(requests, source, thread_id, promote=promote, dry_run=dry_run)
            tally.add((yield from guarded(thread_id, thread.bring())))
    return tally.report()


def _next_ids(source: Source, chosen: Iterator[str] | None) -> Work[list[str] | None]:
    if chosen is None:
        return (yield from source.next_threads())
    return list(islice(chosen, PAGE)) or None


def guarded(thread_id: str, work: Work[ImportedThread]) -> Work[ImportedThread]:
    """Do it; what is wrong with this thread alone is told of it."""
    try:
        return (yield from work)
    except ThreadDeletedError:
        why = f"thread {thread_id!r} was deleted here, or has expired, while it was imported. Import it again"
    except _OF_ONE_THREAD as exc:
        why = str(exc)
    except TieredCheckpointError:
        raise
    except DEFECTS as exc:  # what other savers raise of what they cannot read
        why = f"it cannot be read where it comes from: {type(exc).__name__}: {exc}"
    return ImportedThread(thread_id=str(thread_id), outcome="refused", why=why)


class _Thread:
    """One thread of another saver on its way."""

    def __init__(self, requests: Requests, source: Source, thread_id: str, *, promote: bool, dry_run: bool) -> None:
        self._requests = requests
        self._source = source
        self._thread_id = thread_id
        self._promote = promote
        self._dry_run = dry_run
        self._expected: dict[Place, str] = {}
        self._checkpoints = self._writes = 0

    def bring(self) -> Work[ImportedThread]:
        """Import it.

        Raises:
            ConfigurationError: it cannot be imported, or there is another one of this id.
        """
        target = Target(self._requests, self._thread_id)
        places = sorted((yield from self._source.places(self._thread_id)))
        if not places:
            raise ConfigurationError(f"thread {self._thread_id!r} is not there where it should come from")
        ttl_ms = yield from self._source.ttl_ms(self._thread_id, places)
        if ttl_ms is None and self._promote:
            check_lasting(self._requests, self._thread_id)
        there: set[Place] = yield Run(target.look())
        if own := there.difference(places):
            raise not_the_same(self._thread_id, own)
        known = self._source.content_in_ids and there.issuperset(places)
        for place in () if known else places:
            yield from self._bring_one(target, place, there)
        if not self._dry_run:
            yield Run(compare(target, self._expected))
            if self._checkpoints or ttl_ms is None:  # one that was used here since keeps the TTL that it has
                yield Run(settle_down(self._requests, target, ttl_ms, promote=self._promote))
        return self._done()

    def _bring_one(self, target: Target, place: Place, there: set[Place]) -> Work[None]:
        found = yield from self._source.checkpoint(self._thread_id, place)
        if found is None:
            raise ConfigurationError(
                f"thread {self._thread_id!r}: checkpoint {place[0]!r} went away while it was imported. Import it again"
            )
        arrival = target.encode(found)
        self._expected[place] = target.values.summary(arrival.row, arrival.writes)
        self._checkpoints += place not in there
        self._writes += 0 if place in there else len(arrival.writes)
        if not self._dry_run:
            yield Run(target.take(arrival, there))

    def _done(self) -> ImportedThread:
        return ImportedThread(
            thread_id=self._thread_id,
            outcome="imported" if self._checkpoints else "already there",
            checkpoints=self._checkpoints,
            pending_writes=self._writes,
        )


def check_lasting(requests: Requests, thread_id: str) -> None:
    """Make sure that what is to last for ever does not expire here.

    Raises:
        ConfigurationError: it would.
    """
    settings = requests.store.settings
    if requests.store.cold is None and settings.ttl is not None:
        raise ConfigurationError(
            f"thread {thread_id!r} lives for ever where it comes from, and would expire here: this saver has no cold "
            "tier. Give it a postgres_url or ttl=None, or pass promote=False to have it expire"
        )


def not_the_same(thread_id: str, own: Collection[Place]) -> ConfigurationError:
    """There is a thread of this id already, with checkpoints of its own."""
    return ConfigurationError(
        f"thread {thread_id!r} exists, with {len(own)} checkpoints that what is imported does not have, such as "
        f"{min(own)[0]!r}. It was left as it is; if it is not needed, delete it and import again"
    )


def compare(target: Target, expected: dict[Place, str]) -> Plan[None]:
    """Read a thread back; nothing if nothing is expected.

    Raises:
        ConfigurationError: something in it is not what was to be imported.
    """
    found = (yield from target.summaries()) if expected else {}
    for place, summary in expected.items():
        if found.get(place) != summary:
            raise ConfigurationError(
                f"thread {target.thread_id!r}: checkpoint {place[0]!r} "
                + ("is not as it is where it comes from" if place in found else "is gone")
                + ". Somebody else has written, deleted or pruned the thread here, or it has changed there. Delete it "
                "here if it is not needed, and import it again"
            )


def settle_down(
    requests: Requests, target: Target, ttl_ms: int | None, *, promote: bool, pin: bool = False
) -> Plan[None]:
    """Promote an imported thread, or let it live as long as it would have where it comes from."""
    store = requests.store
    if ttl_ms is not None:
        incarnation = incarnations.recall(store.number, target.stored_id).incarnation
        yield from store.hot.shorten(target.stored_id, incarnation, ttl_ms)
    elif promote and store.cold is not None:
        yield from flushing.promote(store, target.stored_id, "import", pin=pin or None)
