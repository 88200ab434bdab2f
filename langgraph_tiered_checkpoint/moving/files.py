"""Importing the lines of an export, as they come: no thread is in memory as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langgraph_tiered_checkpoint.calls import Requests
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.ids import CheckpointKey, ListedId
from langgraph_tiered_checkpoint.moving.arrivals import Arrival, Target
from langgraph_tiered_checkpoint.moving.exporting import arrival_of, check_opening, parsed
from langgraph_tiered_checkpoint.moving.importing import (
    ImportedThread,
    ImportReport,
    Tally,
    check_lasting,
    compare,
    guarded,
    not_the_same,
    settle_down,
)
from langgraph_tiered_checkpoint.moving.sources import Place
from langgraph_tiered_checkpoint.moving.work import Run, Take, Work

Lines = Iterator[str | bytes] | AsyncIterator[str | bytes]


def import_lines(
    requests: Requests, lines: Lines, chosen: frozenset[str] | None, tally: Tally, *, promote: bool, dry_run: bool
) -> Work[ImportReport]:
    """Import an export; see `TieredSaver.import_threads`."""
    file = _File(lines)
    yield from file.advance()
    check_opening(file.line)
    # Whoever exports without a scope sees the threads of tenants by their stored ids; within one, ids are anything.
    stored_ids = (file.line or {}).get("scoped") is False and not requests.scope.prefix
    yield from file.advance()
    while file.line is not None:
        head = file.line
        yield from file.advance()
        if "thread" in head and (chosen is None or head["thread"] in chosen):
            thread_id = ListedId(head["thread"]) if stored_ids else str(head["thread"])
            thread = _Thread(requests, file, head, thread_id, promote=promote, dry_run=dry_run)
            tally.add((yield from guarded(head["thread"], thread.bring())))
    return tally.report()


class _File:
    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.number = 0
        self.line: dict[str, Any] | None = None

    def advance(self) -> Work[None]:
        """Go to the next line; to None at the end."""
        text = yield Take(self._lines)
        self.number += 1
        self.line = parsed(text[0], self.number) if text else None


class _Thread:
    """One thread of a file on its way. The file has its checkpoints oldest first, and is at the first of them."""

    def __init__(
        self,
        requests: Requests,
        file: _File,
        head: Mapping[str, Any],
        thread_id: str,
        *,
        promote: bool,
        dry_run: bool,
    ) -> None:
        self._requests = requests
        self._file = file
        self._thread_id = thread_id
        self._lasts = promote and bool(head.get("promoted"))
        self._pin = bool(head.get("pinned"))
        self._dry_run = dry_run
        self._expected: dict[Place, str] = {}
        self._checkpoints = self._writes = 0

    def bring(self) -> Work[ImportedThread]:
        """Import it.

        Raises:
            ConfigurationError: it cannot be imported, or there is another one of this id.
        """
        target = Target(self._requests, self._thread_id)
        if self._lasts:
            check_lasting(self._requests, self._thread_id)
        there: set[Place] = yield Run(target.look())
        seen = 0
        while (line := self._file.line) is not None and "checkpoint" in line:
            arrival = arrival_of(line, target.values, self._file.number)
            place = arrival.row.checkpoint_id, arrival.row.ns
            if place not in there and seen < len(there):  # what an import has begun has the oldest ones
                raise not_the_same(self._thread_id, there - self._expected.keys())
            seen += place in there
            yield from self._bring_one(target, arrival, place, there)
            yield from self._file.advance()
        if seen < len(there):
            raise not_the_same(self._thread_id, there - self._expected.keys())
        if line is None or line.get("end") != self._thread_id or _count(line) != len(self._expected):
            raise ConfigurationError(
                f"thread {self._thread_id!r}: line {self._file.number} of the export should end it, and does not: "
                "the file is damaged, or cut off. Export it again; what came before it stays, and counts as begun"
            )
        if not self._dry_run:
            yield Run(compare(target, self._expected))
            yield Run(settle_down(self._requests, target, None, promote=self._lasts, pin=self._pin))
        return ImportedThread(
            thread_id=self._thread_id,
            outcome="imported" if self._checkpoints else "already there",
            checkpoints=self._checkpoints,
            pending_writes=self._writes,
        )

    def _bring_one(self, target: Target, arrival: Arrival, place: Place, there: set[Place]) -> Work[None]:
        row = arrival.row
        key = CheckpointKey.of(target.stored_id, row.ns, row.checkpoint_id, row.parent_id)
        key.check_all(
            [*row.refs, *((w.task_id, "") for w in arrival.writes), *((w.channel, "") for w in arrival.writes)]
        )
        self._expected[place] = target.values.summary(row, arrival.writes)
        self._checkpoints += place not in there
        self._writes += 0 if place in there else len(arrival.writes)
        if not self._dry_run:
            yield Run(target.take(arrival, there))


def _count(line: Mapping[str, Any]) -> object:
    counts = line.get("counts")
    return counts.get("checkpoints") if isinstance(counts, Mapping) else None
