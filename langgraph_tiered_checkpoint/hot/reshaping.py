"""Calls of the scripts that change what a thread consists of.

What each replies, as records, and how it is parsed, stands before the calls. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from langgraph_tiered_checkpoint.hot import fields
from langgraph_tiered_checkpoint.hot.frames import Parts, pack_list, renamed
from langgraph_tiered_checkpoint.hot.keys import PAGE_BYTES, Keys
from langgraph_tiered_checkpoint.hot.replies import (
    Guarded,
    Moved,
    State,
    one_of,
    parse_moved,
    texts,
    unknown,
    whether,
    word,
)
from langgraph_tiered_checkpoint.records import Outline, Renaming
from langgraph_tiered_checkpoint.steps import Lua

OUTLINE_PAGE: Final = 500
COPIED_FIELDS: Final = 5_000
"""How many fields of a thread are copied at once, at most."""
VALUES_LOOKED_AT: Final = 2_000
"""How many values one script looks at, about, to see what is still needed of an arena."""


class Evicted(Enum):
    """What came of an eviction."""

    DONE = "ok"
    DIRTY = "dirty"
    """Nothing: the thread is not as the caller saw it."""
    ABSENT = "absent"


class Outlined(NamedTuple):
    """Where the checkpoints of a thread stand: one page, or all."""

    incarnation: str
    state: State
    change: int
    """Number of the last change."""
    forks: int
    """How often a write took over values from elsewhere than the head."""
    outlines: list[Outline]
    """Newest first."""
    cursor: str
    """Of the next page; "" at the end."""
    unflushed: list[tuple[str, str]] | None
    """(namespace, checkpoint id) of what was written to and Postgres does not hold; None if that is too much."""


class Drop(NamedTuple):
    """A checkpoint that is to go, and what it stands between when those before it are gone."""

    place: tuple[str, str]
    """Namespace and id."""
    newer: str
    """The id of the next newer one in its namespace; empty if it is the head."""
    above: tuple[str, str] | None
    """Likewise, in the thread."""
    values: Sequence[tuple[str, str]]
    """(channel, version) of what goes with it."""

    def packed(self) -> bytes:
        """As drop.lua has it."""
        ns = self.place[0]
        above = fields.place(*self.above) if self.above else ""
        return pack_list([*self.place, self.newer, above, *[fields.value(ns, *ref) for ref in self.values]])


class Dropped(Enum):
    """What came of a drop."""

    DONE = "ok"
    CHANGED = "changed"
    """Nothing: the thread is not as the outline had it."""
    GONE = "gone"


class DroppedInPart(NamedTuple):
    """The others have to be named again."""

    number: int
    """How many are done, of those that were named first."""


class MadeOf(NamedTuple):
    """A page of what is still needed of what may have to be erased."""

    change: int
    """Number of the last change."""
    cursor: str
    arenas: list[tuple[str, int, int]]
    """Name, bytes, piece size."""
    stretches: list[tuple[str, int, int]]
    """Name of the arena, offset, length."""
    values: list[str]
    """Fields of values that may have to go."""
    kept: list[str]
    """Those that may not."""


class Left(Enum):
    """There is no page of that."""

    NOTHING = "none"
    """Nothing may have to be erased."""
    CHANGED = "changed"
    """The thread was written meanwhile."""
    GONE = "gone"


class Erased(Enum):
    """What came of overwriting."""

    DONE = "ok"
    CHANGED = "changed"
    """Nothing: the thread was written meanwhile."""
    GONE = "gone"


class Deleted(NamedTuple):
    """A thread is gone from the hot tier."""

    maybe_cold: bool
    """Whether Postgres may hold some of it."""
    incarnation: str
    """Which was removed; "" if none was here, or is known."""
    server_run: str
    gone_ms: float
    """As of when, by Redis's clock."""


class Buried(NamedTuple):
    """Some incarnations of a thread are not to come back."""

    was_here: bool
    """Whether one of them was in the hot tier."""
    server_run: str


class CopiedPage(NamedTuple):
    """One page of all that a thread holds, field by field; no fields if it is not ephemeral."""

    state: State
    meta: bytes
    """Pages fit together while it is the same."""
    cursor: str
    """Of the next page; "0" at the end."""
    fields: list[bytes]
    """Each before its value: see lua/common.lua."""

    def renamed(self, renaming: Renaming) -> list[bytes]:
        """The fields as those of the copy."""
        of_copy: list[bytes] = []
        for name, value in zip(self.fields[::2], self.fields[1::2], strict=True):
            of_copy += (name, renamed(value, renaming) if name.startswith(b"c") else value)
        return of_copy


def parse_done(reply: Any) -> None:
    """Whatever it found, it has done what there was to do."""
    if word(reply) not in ("ok", "gone"):
        raise unknown(reply)


def parse_outline(reply: Any) -> Outlined | None:
    """None: the thread is not there, or the cursor is not there any more."""
    match reply:
        case [b"absent"] | [b"outline", _, _, _, _, _, _, b"!", _]:
            return None
        case [b"outline", incarnation, state, change, forks, copied, entries, cursor, unflushed]:
            given, last_copied = Parts(), copied.decode()
            outlines = [given.outline(at, head, links, sends=sends == b"1") for at, head, links, sends in entries]
            own = [o._replace(run_id="") if o.checkpoint_id <= last_copied else o for o in outlines]
            written = None if unflushed is None else [fields.split(place) for place in unflushed if place]
            return Outlined(incarnation.decode(), State(state.decode()), change, forks, own, cursor.decode(), written)
        case _:
            raise unknown(reply)


def parse_dropped(reply: Any) -> Dropped | DroppedInPart:
    match reply:
        case [b"more", number]:
            return DroppedInPart(number)
        case _:
            return Dropped(word(reply))


def parse_made_of(reply: Any) -> MadeOf | Left:
    match reply:
        case [b"made_of", change, cursor, arenas, stretches, values, kept]:
            return MadeOf(change, cursor.decode(), _threes(arenas), _threes(stretches), texts(values), texts(kept))
        case _:
            return Left(word(reply))


def _threes(figures: Sequence[Any]) -> list[tuple[str, int, int]]:
    return [(name.decode(), one, other) for name, one, other in zip(*[iter(figures)] * 3, strict=True)]


def parse_deleted(reply: Any) -> Deleted | None:
    """None: there is so much of it that it has to be asked for again."""
    match reply:
        case [b"ok", maybe_cold, incarnation, server_run, gone_ms]:
            return Deleted(maybe_cold == b"1", incarnation.decode(), server_run.decode(), float(gone_ms))
        case [b"more"]:
            return None
        case _:
            raise unknown(reply)


def parse_buried(reply: Any) -> Buried:
    match reply:
        case [b"ok", was_here, _, server_run]:
            return Buried(was_here == b"1", server_run.decode())
        case _:
            raise unknown(reply)


def parse_copied(reply: Any) -> CopiedPage | Moved | None:
    """None: there is no such thread."""
    match reply:
        case [b"thread", state, meta, cursor, *fields]:
            return CopiedPage(State(state.decode()), meta, cursor.decode(), fields)
        case [b"absent"]:
            return None
        case _:
            return parse_moved(reply)


class ReshapingCalls(Keys):
    """Calls that change what a thread consists of."""

    def evict(
        self, thread_id: str, *, incarnation: str, flushed: str, token: str = "", hold_ms: int = 0
    ) -> Lua[Evicted]:
        return self._call(
            "evict",
            thread_id,
            one_of(Evicted),
            thread_id=thread_id,
            incarnation=incarnation,
            flushed=flushed,
            token=token,
            hold=str(hold_ms),
        )

    def reopen(self, thread_id: str, token: str) -> Lua[None]:
        return self._call("reopen", thread_id, parse_done, token=token)

    def outline(self, thread_id: str, cursor: str) -> Lua[Outlined | None]:
        return self._call("outline", thread_id, parse_outline, cursor=cursor, most=str(OUTLINE_PAGE))

    def drop(
        self, thread_id: str, outlined: Outlined, items: Iterable[Drop], staying: Iterable[tuple[str, str]]
    ) -> Lua[Dropped | DroppedInPart]:
        """Remove checkpoints as they stood in the outline, if others stay: (namespace, checkpoint id)."""
        return self._call(
            "drop",
            thread_id,
            parse_dropped,
            thread_id=thread_id,
            incarnation=outlined.incarnation,
            trim="0" if outlined.state is State.EPHEMERAL else "1",
            change=str(outlined.change),
            forks=str(outlined.forks),
            staying=pack_list([part for place in staying for part in place]),
            rest=[item.packed() for item in items],
        )

    def orphan(self, thread_id: str, incarnation: str, which: Iterable[tuple[str, str]]) -> Lua[None]:
        names = [part for pair in which for part in pair]
        return self._call("orphan", thread_id, parse_done, incarnation=incarnation, rest=names)

    def made_of(self, thread_id: str, *, incarnation: str, cursor: str) -> Lua[MadeOf | Left]:
        most = str(VALUES_LOOKED_AT)
        return self._call("made_of", thread_id, parse_made_of, incarnation=incarnation, cursor=cursor, most=most)

    def erase(
        self,
        thread_id: str,
        *,
        incarnation: str,
        change: int,
        arena: str,
        first: int,
        last: int,
        needed: Iterable[tuple[int, int]],
    ) -> Lua[Erased]:
        """Overwrite what is not needed of some pieces of an arena."""
        return self._call(
            "erase",
            thread_id,
            one_of(Erased),
            incarnation=incarnation,
            change=str(change),
            name=arena,
            first=str(first),
            last=str(last),
            needed=pack_list([figure for stretch in needed for figure in stretch]),
            complete="0",
        )

    def done_with(self, thread_id: str, *, incarnation: str, change: int, name: str, remove: bool) -> Lua[Erased]:
        """Of an arena the rest is erased; or a value has to go, or has not."""
        return self._call(
            "erase",
            thread_id,
            one_of(Erased),
            incarnation=incarnation,
            change=str(change),
            name=name,
            first="0",
            last="-1",
            needed=pack_list([]),
            complete="2" if remove else "1",
        )

    def delete(self, thread_id: str, op: str) -> Lua[Deleted | None]:
        """Remove a thread."""
        return self._call("delete", thread_id, parse_deleted, thread_id=thread_id, op=op)

    def bury(self, thread_id: str, *, op: str, incarnations: Iterable[str]) -> Lua[Buried]:
        """Remove a thread, if it is in one of these incarnations; and none of them is to come back."""
        return self._call("delete", thread_id, parse_buried, thread_id=thread_id, op=op, rest=list(incarnations))

    def copy_out(self, thread_id: str, cursor: str, most_bytes: int = PAGE_BYTES) -> Guarded[CopiedPage | None]:
        return self._guarded(
            "copy_out", thread_id, parse_copied, cursor=cursor, most=str(COPIED_FIELDS), room=str(most_bytes)
        )

    def stage(self, thread_id: str, *, token: str, hold_ms: int, fields: Iterable[bytes]) -> Lua[bool]:
        return self._call("stage", thread_id, whether("ok", "taken"), token=token, hold=str(hold_ms), rest=list(fields))

    def land(self, thread_id: str, *, token: str, incarnation: str, meta: bytes, fields: Iterable[bytes]) -> Lua[bool]:
        return self._call(
            "land",
            thread_id,
            whether("ok", "taken"),
            thread_id=thread_id,
            token=token,
            incarnation=incarnation,
            ttl=self._ttl_ms,
            hot_ttl=self._hot_ttl_ms,
            meta=meta,
            rest=list(fields),
        )

    def shorten(self, thread_id: str, incarnation: str, ttl_ms: int) -> Lua[None]:
        return self._call(
            "shorten", thread_id, parse_done, thread_id=thread_id, incarnation=incarnation, ttl=str(ttl_ms)
        )
