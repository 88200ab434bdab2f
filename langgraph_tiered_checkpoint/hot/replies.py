"""What the scripts of the hot tier reply, parsed. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.hot.frames import Parts
from langgraph_tiered_checkpoint.records import (
    BlobRow,
    CheckpointRow,
    DeltaAncestor,
    Outline,
    StoredCheckpoint,
    Typed,
    WriteRow,
)

_KINDS = {
    script: frozenset(kinds.encode().split())
    for script, kinds in {
        "ack": "clean dirty diverged stale gone",
        "changes": "changes gone",
        "copy_out": "thread absent moved",
        "delete": "ok more",
        "delta": "walk none miss absent unsure moved",
        "drop": "ok more changed gone",
        "erase": "ok changed gone",
        "evict": "ok dirty absent",
        "fill": "ok skip",
        "forget": "ok gone changed dirty",
        "get": "hit unsure none miss absent busy moved",
        "land": "ok taken",
        "stage": "ok taken",
        "list": "page none absent moved",
        "made_of": "made_of none changed gone",
        "orphan": "ok gone",
        "outline": "outline absent",
        "park": "parked gone",
        "peek": "thread absent",
        "promote": "ok absent",
        "put": "ok left missing origin closed pressed moved deleted",
        "put_writes": "ok origin closed pressed moved deleted",
        "rebase": "ok gone changed",
        "reopen": "ok",
        "scan": "scan gone",
        "status": "thread damaged marker absent",
        "trim": "ok",
        "vouch": "ok gone changed",
    }.items()
}
"""How the replies of each script may begin. Scripts that reply otherwise are not among them."""


class Found(NamedTuple):
    """What the hot tier knows of one checkpoint."""

    kind: str
    """hit, unsure, none, miss, absent or busy: see get.lua."""
    incarnation: str
    stored: StoredCheckpoint | None
    writes: list[WriteRow]
    """On a miss: pending writes of the checkpoint that only this tier has."""
    flushed: str
    token: str
    absent_ms: float
    """When the thread was found not to be in the hot tier, by Redis's clock; 0 if it is there."""
    oldest: str | None = None
    """If unsure, the oldest checkpoint of the namespace that is in the hot tier."""


class Page(NamedTuple):
    """One page of a list."""

    kind: str
    """page, none or absent: see list.lua."""
    incarnation: str
    whole: bool
    floor: str
    records: list[StoredCheckpoint]
    unsure: set[tuple[str, str]]
    """(checkpoint id, namespace) of the records of which Postgres may hold more pending writes, or sends."""
    bare: set[tuple[str, str]]
    """Likewise, of those that come without their values and writes."""
    cursor: tuple[str, str] | None
    """To go on with, if there is more."""


class Walk(NamedTuple):
    """A stretch of a parent chain."""

    kind: str
    """walk, none, miss, unsure or absent: see delta.lua."""
    incarnation: str
    ancestors: list[DeltaAncestor]
    cursor: str
    cursor_writes: list[WriteRow]
    open_channels: list[str]
    more: bool = False
    """Whether it goes on in the hot tier, after the last ancestor."""


class Peek(NamedTuple):
    """A thread as a promoter sees it before a flush."""

    incarnation: str
    state: str
    flushed: str
    flushed_number: int
    last_number: int
    last_write_ms: int
    reason: str
    rebase: int
    """1: everything is to be uploaded again; 2: what was never acknowledged; then the hot copy is dropped."""
    pinned: bool
    moved: bool
    """Whether it may be older than what Postgres holds: see lua/run.lua."""
    copied: str
    """Of a copy, its last checkpoint that no run of its own wrote, if the hot tier knows."""

    @property
    def needs_base(self) -> bool:
        """Whether the log does not name all that Postgres may lack: it begins with the change that made it due."""
        return self.rebase == 1 or (not self.flushed and self.flushed_number > 0)


class Rows(NamedTuple):
    """Rows on their way to Postgres."""

    checkpoints: list[CheckpointRow]
    blobs: list[BlobRow]
    writes: list[WriteRow]


class Changes(NamedTuple):
    """What a stretch of changes touched."""

    through: str
    number: int
    rows: Rows
    more: bool
    run: str
    """Of the server that said so."""


class Base(NamedTuple):
    """All that a thread holds, or a part of it, read while it changes: torn, until the log is replayed on top of it."""

    rows: Rows
    number: int
    """Of the last change when it was read: the log has to be replayed to there at least."""
    runs: frozenset[str]
    """Of the servers that it was read from."""

    def is_mended_by(self, changes: Changes) -> bool:
        """Whether with these changes, the last of several pages perhaps, it is what the thread held at one time."""
        return changes.number >= self.number and self.is_of_the_time_of(changes)

    def is_of_the_time_of(self, changes: Changes) -> bool:
        """Whether Redis has not gone back in time since it was read, as far as can be told."""
        return self.runs == {changes.run} and (changes.more or changes.number >= self.number)


def check(script: str, reply: Any) -> None:
    """Make sure that the plans know what a script has replied: each takes what it does not look for for the rest.

    Raises:
        LookupError: they do not.
    """
    known = _KINDS.get(script)
    if known and not (isinstance(reply, list) and reply and reply[0] in known):
        raise LookupError(f"{script} replied {reply[0] if isinstance(reply, list) and reply else reply!r}")


class MadeOf(NamedTuple):
    """A page of what is still needed of the arenas that values have left."""

    kind: str
    """made_of or changed: see made_of.lua."""
    change: int
    """Number of the last change."""
    cursor: str
    arenas: list[tuple[int, int, int]]
    """Number, bytes, piece size."""
    stretches: list[tuple[int, int, int]]
    """Number of the arena, offset, length."""


def _record(reply: Sequence[Any], given: Parts) -> StoredCheckpoint:
    ns, checkpoint_id, parent, frame, values, writes, sends = reply
    row = given.checkpoint(ns, checkpoint_id, parent, frame)
    blobs = [
        given.blob(row.ns, channel, version, value)
        for (channel, version), value in zip(row.refs, values, strict=False)
        if value is not None
    ]
    of_parent = given.writes(row.ns, row.parent_id, sends) if sends else ()
    return StoredCheckpoint(row, blobs, given.writes(row.ns, row.checkpoint_id, writes), of_parent)


def parse_get(ns: str, checkpoint_id: str, reply: Sequence[Any], known: Mapping[str, BlobRow] | None = None) -> Found:
    kind = reply[0].decode()
    match kind:
        case "hit" | "unsure":
            oldest = reply[3].decode() if kind == "unsure" else None
            return Found(kind, reply[1].decode(), _record(reply[2], Parts(known)), [], "", "", 0, oldest)
        case "miss":
            given = Parts()
            writes = given.writes(ns, checkpoint_id, reply[2])
            return Found(kind, reply[1].decode(), None, writes, reply[3].decode(), "", 0)
        case "none":
            return Found(kind, reply[1].decode(), None, [], "", "", float(reply[2]) if len(reply) > 2 else 0)
        case _:
            return Found(kind, "", None, [], "", reply[1].decode(), float(reply[2]))


def parse_list(reply: Sequence[Any]) -> Page:
    kind = reply[0].decode()
    if kind != "page":
        return Page(kind, "", kind == "none", "", [], set(), set(), None)
    _, incarnation, whole, floor, records, *cursor = reply
    given = Parts()
    found = [_record(r[:7], given) for r in records]
    places = [(stored.row.checkpoint_id, stored.row.ns) for stored in found]
    unsure = {place for place, r in zip(places, records, strict=True) if r[7] != b"1"}
    bare = {place for place, r in zip(places, records, strict=True) if r[8] != b"1"}
    at = (cursor[0].decode(), cursor[1].decode()) if cursor else None
    return Page(kind, incarnation.decode(), whole == b"1", floor.decode(), found, unsure, bare, at)


def parse_records(reply: Sequence[Any]) -> list[StoredCheckpoint | None]:
    """None of one that is not in the hot tier (any more)."""
    given = Parts()
    return [None if r is None else _record(r, given) for r in reply[1]]


def parse_delta(ns: str, reply: Sequence[Any]) -> Walk:
    kind = reply[0].decode()
    if kind != "walk":
        return Walk(kind, reply[1].decode() if len(reply) > 1 else "", [], "", [], [])
    _, incarnation, ancestors, cursor, cursor_writes, still, more = reply
    found = []
    given = Parts()
    for checkpoint_id, seeds, writes, frame in ancestors:
        name = checkpoint_id.decode()
        values: dict[str, Typed] = {}
        for channel, value in zip(seeds[::2], seeds[1::2], strict=True):
            channel_name = channel.decode()
            if value is None:
                values[channel_name] = inline_value(given.checkpoint(b"", b"", b"", frame).checkpoint, channel_name)
            else:
                blob = given.blob(ns, channel_name, "", value)
                values[channel_name] = blob.type, blob.data
        found.append(DeltaAncestor(name, values, given.writes(ns, name, writes)))
    at = cursor.decode()
    return Walk(
        kind,
        incarnation.decode(),
        found,
        at,
        given.writes(ns, at, cursor_writes),
        [c.decode() for c in still],
        more == b"1",
    )


def parse_peek(reply: Sequence[Any]) -> Peek | None:
    if reply[0] != b"thread":
        return None
    _, incarnation, state, flushed, number, last, last_write_ms, reason, rebase, pinned, moved, copied, _ = reply
    return Peek(
        incarnation.decode(),
        state.decode(),
        flushed.decode(),
        number,
        last,
        last_write_ms,
        reason.decode(),
        rebase,
        bool(pinned),
        bool(moved),
        copied.decode(),
    )


def parse_rows(rows: Iterable[Sequence[Any]]) -> Rows:
    parsed = Rows([], [], [])
    given = Parts()
    for kind, *row in rows:
        match kind:
            case b"c":
                parsed.checkpoints.append(given.checkpoint(*row))
            case b"b":
                ns, channel, version, value = row
                parsed.blobs.append(given.blob(ns.decode(), channel.decode(), version.decode(), value))
            case _:
                ns, checkpoint_id, frame, *_ = row
                parsed.writes.extend(given.writes(ns.decode(), checkpoint_id.decode(), [frame]))
    return parsed


def parse_changes(reply: Sequence[Any]) -> Changes | None:
    if reply[0] != b"changes":
        return None
    _, through, number, rows, more, run = reply
    return Changes(through.decode(), number, parse_rows(rows), more == b"1", run.decode())


def parse_scan(reply: Sequence[Any]) -> tuple[str, Base] | None:
    """The cursor of the next page, and this one."""
    if reply[0] != b"scan":
        return None
    _, cursor, rows, number, _, run = reply
    in_order = sorted(rows, key=lambda row: row[4] if row[0] == b"w" else 0)  # bundles have the first write win
    return cursor.decode(), Base(parse_rows(in_order), number, frozenset([run.decode()]))


def parse_made_of(reply: Sequence[Any]) -> MadeOf | None:
    """None: there is nothing to erase."""
    match reply:
        case [b"made_of", change, cursor, arenas, stretches]:
            threes = [list(zip(*[iter(figures)] * 3, strict=True)) for figures in (arenas, stretches)]
            return MadeOf("made_of", change, cursor.decode(), *threes)
        case [b"changed"]:
            return MadeOf("changed", 0, "", [], [])
        case _:
            return None


def parse_outline(entries: Iterable[Sequence[Any]]) -> list[Outline]:
    return [
        Outline(ns.decode(), id_.decode(), parent.decode(), root.decode(), depth, run.decode())
        for ns, id_, parent, root, depth, run in entries
    ]


def inline_value(checkpoint: bytes, channel: str) -> Typed:
    """The value of a channel that is inline in a checkpoint's JSON, as JSON."""
    return "json", json.dumps(json.loads(checkpoint)["channel_values"][channel]).encode()
