"""What the scripts that read and write reply, parsed, and what replies have in common. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from langgraph_tiered_checkpoint.hot.frames import Parts
from langgraph_tiered_checkpoint.records import (
    BlobRow,
    DeltaAncestor,
    StoredCheckpoint,
    Typed,
    WriteRow,
)
from langgraph_tiered_checkpoint.steps import Lua

R_co = TypeVar("R_co", covariant=True)
E = TypeVar("E", bound=Enum)
Records = list[StoredCheckpoint | None]
"""None for each that is not in the hot tier (any more)."""


class State(Enum):
    """Of a thread in the hot tier."""

    EPHEMERAL = "e"
    DIRTY = "d"
    CLEAN = "c"
    WAITING = "w"
    """Dirty, to be flushed when it would expire: what a write says of it."""


class Moved(NamedTuple):
    """Of scripts that read or write a thread: Postgres has to be asked first. See lua/run.lua."""

    incarnation: str
    flushed: str
    upload: bool
    """Whether it was compared already, and is to be uploaded."""


@dataclass(frozen=True, slots=True)
class Guarded(Lua[R_co | Moved]):
    """A script that does not trust what an older Redis may have brought back. See `ask` in plans/flushing.py."""


class Unflushed(NamedTuple):
    """A write that is all that Postgres lacks of the thread."""

    expected: str
    """The change id that Postgres has."""
    flushed: str
    """The id of this change."""
    last_write_ms: int
    reason: str


class Stored(NamedTuple):
    """A write has been stored."""

    incarnation: str
    state: State
    server_run: str
    change: Unflushed | None
    left: bool
    """Whether some arenas hold what is to be erased."""


class Missing(NamedTuple):
    """Nothing was stored: some values are not here, or what others are made of is not."""

    expected: list[int]
    """By position among what was expected to be here."""
    differences: bool
    """Whether no value may travel as a difference."""


class OriginWanted(NamedTuple):
    """Nothing was stored: Postgres has to be asked for the thread."""

    token: str
    """For the write that has asked."""


class Refusal(Enum):
    """Nothing was stored."""

    CLOSED = "closed"
    """A structural operation holds the thread."""
    PRESSED = "pressed"
    """Redis is almost full of what Postgres does not take."""
    DELETED = "deleted"
    """The incarnation that the caller knows is over."""


WriteReply = Stored | Missing | OriginWanted | Refusal


class Known(Enum):
    """Whether the hot tier has the answer to a question. See the scripts for when it says what."""

    HIT = "hit"
    """It has, here: one checkpoint, a page, a walk."""
    UNSURE = "unsure"
    """Here is what it has, and Postgres may have more."""
    NONE = "none"
    """There is nothing in either tier."""
    MISS = "miss"
    """The thread is here, but not what was asked for: Postgres may have that."""
    ABSENT = "absent"
    """The thread is not here, and nothing is known of it."""
    BUSY = "busy"
    """Likewise, and others are at it: Postgres is to be read, and nothing to be filled."""


class Found(NamedTuple):
    """What the hot tier knows of one checkpoint."""

    kind: Known
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

    kind: Known
    """HIT, NONE or ABSENT."""
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

    kind: Known
    """All but BUSY."""
    incarnation: str
    ancestors: list[DeltaAncestor]
    cursor: str
    cursor_writes: list[WriteRow]
    open_channels: list[str]
    more: bool = False
    """Whether it goes on in the hot tier, after the last ancestor."""


def parse_moved(reply: Sequence[Any]) -> Moved:
    """The reply of last resort.

    Raises:
        LookupError: it is another one, which nobody knows.
    """
    match reply:
        case [b"moved", incarnation, flushed, upload]:
            return Moved(incarnation.decode(), flushed.decode(), bool(upload))
        case _:
            raise unknown(reply)


def word(reply: Any) -> str:
    """The word that a reply begins with."""
    found = reply[0]
    if not isinstance(found, bytes):
        raise unknown(reply)
    return found.decode()


def texts(reply: Iterable[bytes]) -> list[str]:
    """Of bytes, as Redis has them."""
    return [text.decode() for text in reply]


def one_of(kind: type[E]) -> Callable[[Any], E]:
    """Parses replies that are one word: the value of a member."""
    return lambda reply: kind(word(reply))


def whether(yes: str, no: str) -> Callable[[Any], bool]:
    """Parses replies that begin with one of two words."""
    words = {yes: True, no: False}
    return lambda reply: words[word(reply)]


def unknown(reply: Any) -> LookupError:
    """No script is known to reply so."""
    return LookupError(f"it replied {reply[0] if isinstance(reply, list) and reply else reply!r}")


def parse_write(reply: Sequence[Any]) -> WriteReply | Moved:
    match reply:
        case [b"ok" | b"left" as kind, incarnation, state, server_run, *change]:
            left = kind == b"left"
            return Stored(incarnation.decode(), State(state.decode()), server_run.decode(), _unflushed(change), left)
        case [b"missing", expected, differences]:
            return Missing(expected, differences == b"1")
        case [b"origin", token]:
            return OriginWanted(token.decode())
        case [b"closed" | b"pressed" | b"deleted" as kind, *_]:
            return Refusal(kind.decode())
        case _:
            return parse_moved(reply)


def _unflushed(change: Sequence[Any]) -> Unflushed | None:
    match change:
        case []:
            return None
        case [expected, flushed, last_write_ms, reason]:
            return Unflushed(expected.decode(), flushed.decode(), last_write_ms, reason.decode())
        case _:
            raise unknown(change)


def _record(reply: Sequence[Any], given: Parts) -> StoredCheckpoint:
    ns, checkpoint_id, frame, links, values, writes, sends = reply
    row = given.checkpoint(ns.decode(), checkpoint_id.decode(), frame, links)
    blobs = [
        given.blob(row.ns, channel, version, value)
        for (channel, version), value in zip(row.refs, values, strict=False)
        if value is not None
    ]
    of_parent = given.writes(row.ns, row.parent_id, sends) if sends else ()
    return StoredCheckpoint(row, blobs, given.writes(row.ns, row.checkpoint_id, writes), of_parent)


def parse_get(ns: str, checkpoint_id: str, known: Mapping[str, BlobRow], reply: Sequence[Any]) -> Found | Moved:
    """What get.lua replies, when it was told of the values that are `known`, by channel."""
    match reply:
        case [b"hit" | b"unsure" as kind, incarnation, record, *more]:
            oldest = more[0].decode() if kind == b"unsure" else None
            found = _record(record, Parts(known))
            return Found(Known(kind.decode()), incarnation.decode(), found, [], "", "", 0, oldest)
        case [b"miss", incarnation, writes, flushed]:
            early = Parts().writes(ns, checkpoint_id, writes)
            return Found(Known.MISS, incarnation.decode(), None, early, flushed.decode(), "", 0)
        case [b"none", incarnation, *ms]:
            return Found(Known.NONE, incarnation.decode(), None, [], "", "", float(ms[0]) if ms else 0)
        case [b"absent" | b"busy" as kind, token, ms]:
            return Found(Known(kind.decode()), "", None, [], "", token.decode(), float(ms))
        case _:
            return parse_moved(reply)


def parse_list(reply: Sequence[Any]) -> Page | Moved:
    match reply:
        case [b"page", incarnation, whole, floor, records, *cursor]:
            given = Parts()
            found = [_record(r[:7], given) for r in records]
            places = [(stored.row.checkpoint_id, stored.row.ns) for stored in found]
            unsure = {place for place, r in zip(places, records, strict=True) if r[7] != b"1"}
            bare = {place for place, r in zip(places, records, strict=True) if r[8] != b"1"}
            at = (cursor[0].decode(), cursor[1].decode()) if cursor else None
            return Page(Known.HIT, incarnation.decode(), whole == b"1", floor.decode(), found, unsure, bare, at)
        case [b"none" | b"absent" as kind, *_]:
            return Page(Known(kind.decode()), "", kind == b"none", "", [], set(), set(), None)
        case _:
            return parse_moved(reply)


def parse_records(reply: Sequence[Any]) -> Records | Moved:
    match reply:
        case [b"records", records]:
            given = Parts()
            return [None if r is None else _record(r, given) for r in records]
        case _:
            return parse_moved(reply)


def parse_delta(ns: str, reply: Sequence[Any]) -> Walk | Moved:
    match reply:
        case [b"walk", *walk]:
            return _walk(ns, walk)
        case [b"none" | b"miss" | b"unsure" | b"absent" as kind, *more]:
            return Walk(Known(kind.decode()), more[0].decode() if more else "", [], "", [], [])
        case _:
            return parse_moved(reply)


def _walk(ns: str, walk: Sequence[Any]) -> Walk:
    incarnation, ancestors, cursor, cursor_writes, still, more = walk
    found = []
    given = Parts()
    for checkpoint_id, seeds, writes, frame in ancestors:
        name = checkpoint_id.decode()
        values: dict[str, Typed] = {}
        for channel, value in zip(seeds[::2], seeds[1::2], strict=True):
            channel_name = channel.decode()
            if value is None:
                values[channel_name] = inline_value(given.checkpoint(ns, name, frame, b"").checkpoint, channel_name)
            else:
                blob = given.blob(ns, channel_name, "", value)
                values[channel_name] = blob.type, blob.data
        found.append(DeltaAncestor(name, values, given.writes(ns, name, writes)))
    at = cursor.decode()
    return Walk(
        Known.HIT,
        incarnation.decode(),
        found,
        at,
        given.writes(ns, at, cursor_writes),
        [c.decode() for c in still],
        more == b"1",
    )


def inline_value(checkpoint: bytes, channel: str) -> Typed:
    """The value of a channel that is inline in a checkpoint's JSON, as JSON."""
    return "json", json.dumps(json.loads(checkpoint)["channel_values"][channel]).encode()
