"""Threads as lines of JSON, and how such lines are read. The format is described in docs/howto/moving.md; no I/O.

Values travel as the serde wrote them, so that neither side needs the application's classes, and what comes back is what
was there, byte for byte. What is encrypted stays so.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from langgraph_tiered_checkpoint.calls import Requests
from langgraph_tiered_checkpoint.cold.rows import describe
from langgraph_tiered_checkpoint.errors import ConfigurationError, SchemaError
from langgraph_tiered_checkpoint.moving.arrivals import Arrival, Values
from langgraph_tiered_checkpoint.moving.sources import Place
from langgraph_tiered_checkpoint.plans import inspection, reading
from langgraph_tiered_checkpoint.plans.listing import Query, ThreadIds, ThreadListing
from langgraph_tiered_checkpoint.records import BlobRow, StoredCheckpoint, Typed, Unreadable, WriteRow
from langgraph_tiered_checkpoint.steps import Plan

FORMAT: Final = "langgraph-tiered-checkpoint"
VERSION: Final = 1


class Export:
    """One thread, or all of a scope, as lines, some at a time. Holds one checkpoint, and the ids of one thread."""

    def __init__(self, requests: Requests, thread_id: str | None, *, decoded: bool) -> None:
        self._requests = requests
        self._decoded = decoded
        self._ids = ThreadIds(requests.store, requests.scope.prefix) if thread_id is None else None
        self._waiting = deque[str]() if thread_id is None else deque([requests.scope.stored(thread_id)])
        self._thread: _ThreadExport | None = None
        self._begun = False

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self._begun and self._thread is None and not self._waiting and (self._ids is None or self._ids.done)

    def next_page(self) -> Plan[list[str]]:
        """The next lines; possibly none although the export is not `done`."""
        if not self._begun:
            self._begun = True
            scoped = bool(self._requests.scope.prefix)
            return [_line({"format": FORMAT, "version": VERSION, "decoded": self._decoded, "scoped": scoped})]
        if self._thread is not None:
            lines = yield from self._thread.next_page()
            if self._thread.done:
                self._thread = None
            return lines
        if self._waiting:
            self._thread = _ThreadExport(self._requests, self._waiting.popleft(), decoded=self._decoded)
        elif self._ids is not None:
            self._waiting.extend((yield from self._ids.next_page()))
        return []


class _ThreadExport:
    def __init__(self, requests: Requests, stored_id: str, *, decoded: bool) -> None:
        self._requests = requests
        self._stored_id = stored_id
        self._thread_id = str(requests.scope.plain(stored_id))
        self._decoded = decoded
        self._places: deque[Place] | None = None
        self._values = Values()
        self._counts = {"checkpoints": 0, "values": 0, "pending_writes": 0}
        self.done = False

    def next_page(self) -> Plan[list[str]]:
        if self._places is None:
            return (yield from self._begin())
        if not self._places:
            self.done = True
            return [_line({"end": self._thread_id, "counts": self._counts})]
        id_, ns = self._places.popleft()
        answer = yield from reading.get(self._requests.store, self._stored_id, ns, id_)
        if answer.stored is None:  # it went away meanwhile
            return []
        return [_line(self._checkpoint(answer.stored))]

    def _begin(self) -> Plan[list[str]]:
        """What the tiers say of the thread. Its checkpoints are those that there are now."""
        status = yield from inspection.explain(self._requests.store, self._stored_id, self._thread_id)
        places: list[Place] = []
        listing = ThreadListing(self._requests.store, self._stored_id, Query(wanted=lambda _: False))
        while not listing.done:
            places += [item.place for item in (yield from listing.next_page())]
        self._places = deque(sorted(places))
        self.done = not places
        if not places:
            return []
        told = {name: value for name, value in asdict(status).items() if value not in (None, (), "")}
        told.pop("warnings", None)
        return [_line({"thread": told.pop("thread_id"), **told, "promoted": status.state in _PROMOTED})]

    def _checkpoint(self, stored: StoredCheckpoint) -> dict[str, Any]:
        row = stored.row
        fresh = self._values.add(row, stored.blobs)
        self._counts["checkpoints"] += 1
        self._counts["values"] += len(fresh)
        self._counts["pending_writes"] += len(stored.writes)
        line: dict[str, Any] = {
            "checkpoint": row.checkpoint_id,
            "namespace": row.ns,
            "parent": row.parent_id,
            "body": row.checkpoint.decode(),
            "metadata": row.metadata.decode(),
            "values": [{"channel": b.channel, "version": b.version, **_typed(b.type, b.data)} for b in sorted(fresh)],
            "pending_writes": [
                {"task": w.task_id, "path": w.task_path, "index": w.idx, "channel": w.channel, **_typed(w.type, w.data)}
                for w in sorted(stored.writes, key=lambda w: (w.task_path, w.task_id, w.idx))
            ],
        }
        if row.exact_metadata:
            line["exact_metadata"] = _typed(*row.exact_metadata)
        if self._decoded:
            line["decoded"] = self._readable(stored)
        return line

    def _readable(self, stored: StoredCheckpoint) -> dict[str, Any]:
        found = self._requests.codec.decode_tuple(self._thread_id, stored)
        return {
            "checkpoint": found.checkpoint,
            "metadata": found.metadata,
            "pending_writes": [list(write) for write in found.pending_writes or ()],
        }


_PROMOTED = frozenset({"dirty", "clean", "cold"})


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain, separators=(",", ":")) + "\n"


def _plain(value: Any) -> Any:
    """For people: what JSON has no form for."""
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case set() | frozenset() | tuple():
            return list(value)
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else repr(value)


def _typed(type_: str, data: bytes) -> dict[str, str]:
    return {"type": type_, "data": base64.b64encode(data).decode()}


def check_opening(line: Mapping[str, Any] | None) -> None:
    """Check the first line.

    Raises:
        ConfigurationError: it is not the first line of an export.
        SchemaError: a newer version of this package has written it.
    """
    if line is None or line.get("format") != FORMAT or not isinstance(line.get("version"), int):
        raise ConfigurationError("this is no export: its first line says neither format nor version")
    if line["version"] > VERSION:
        raise SchemaError(
            f"this export is of format {line['version']}, and this version of langgraph-tiered-checkpoint reads those "
            f"up to {VERSION}: upgrade it"
        )


def parsed(text: str | bytes, number: int) -> dict[str, Any]:
    """One line.

    Raises:
        ConfigurationError: it is not of an export.
    """
    try:
        line = json.loads(text)
    except ValueError as exc:
        raise ConfigurationError(f"line {number} of the export is damaged, or cut off: {exc}") from exc
    if not isinstance(line, dict):
        raise ConfigurationError(f"line {number} of the export is no JSON object")
    return line


def arrival_of(line: Mapping[str, Any], values: Values, number: int) -> Arrival:
    """A checkpoint from its line.

    Raises:
        ConfigurationError: the line is damaged.
    """
    try:
        ns, id_ = _text(line["namespace"]), _text(line["checkpoint"])
        exact: Typed | None = _bytes(line["exact_metadata"]) if "exact_metadata" in line else None
        row = describe(ns, id_, _text(line["parent"]), _text(line["body"]), _text(line["metadata"]), exact)
        blobs = [BlobRow(ns, _text(v["channel"]), _text(v["version"]), *_bytes(v)) for v in line["values"]]
        writes = [
            WriteRow(ns, id_, _text(w["task"]), int(w["index"]), _text(w["channel"]), *_bytes(w), _text(w["path"]))
            for w in line["pending_writes"]
        ]
    except (Unreadable, KeyError, TypeError, ValueError) as exc:
        raise ConfigurationError(f"line {number} of the export is damaged: {type(exc).__name__}: {exc}") from exc
    return Arrival(row, blobs, writes, values.add(row, blobs))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _bytes(typed: Mapping[str, str]) -> Typed:
    return _text(typed["type"]), base64.b64decode(typed["data"], validate=True)
