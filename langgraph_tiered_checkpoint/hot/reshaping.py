"""Calls of the scripts that change what a thread consists of.

What each replies, as records, and how it is parsed, stands before the calls. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, NamedTuple

from langgraph_tiered_checkpoint.hot.frames import pack_list, renamed
from langgraph_tiered_checkpoint.hot.keys import PAGE_BYTES, Keys
from langgraph_tiered_checkpoint.hot.replies import Guarded, Moved, State, one_of, parse_moved, unknown, whether, word
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


class OutlinePage(NamedTuple):
    """Where some checkpoints of a thread stand, newest first."""

    incarnation: str
    entries: list[Outline]
    cursor: str
    """Of the next page; "" at the end."""


class Dropped(Enum):
    """What came of a drop."""

    DONE = "ok"
    CHANGED = "changed"
    """Nothing: the thread is not ephemeral any more, or has changed."""
    GONE = "gone"


class DroppedInPart(NamedTuple):
    """The others have to be named again."""

    number: int
    """How many are done, of those that were named first."""


class MadeOf(NamedTuple):
    """A page of what is still needed of the arenas that values have left."""

    change: int
    """Number of the last change."""
    cursor: str
    arenas: list[tuple[int, int, int]]
    """Number, bytes, piece size."""
    stretches: list[tuple[int, int, int]]
    """Number of the arena, offset, length."""


class Left(Enum):
    """There is no page of that."""

    NOTHING = "none"
    """No value has left an arena."""
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


def parse_outline(reply: Any) -> OutlinePage | None:
    """None: the thread is not there, or has been written since the page before."""
    match reply:
        case [b"absent"] | [b"outline", _, _, _, b"!"]:
            return None
        case [b"outline", incarnation, _, entries, cursor]:
            outlines = [
                Outline(ns.decode(), id_.decode(), parent.decode(), root.decode(), depth, run.decode())
                for ns, id_, parent, root, depth, run in entries
            ]
            return OutlinePage(incarnation.decode(), outlines, cursor.decode())
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
        case [b"made_of", change, cursor, arenas, stretches]:
            threes = [list(zip(*[iter(figures)] * 3, strict=True)) for figures in (arenas, stretches)]
            return MadeOf(change, cursor.decode(), *threes)
        case _:
            return Left(word(reply))


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
        lists = ("due", "threads", "lapses")
        return self._call(
            "evict", thread_id, lists, thread_id, incarnation, flushed, token, str(hold_ms), parse=one_of(Evicted)
        )

    def reopen(self, thread_id: str, token: str) -> Lua[None]:
        return self._call("reopen", thread_id, (), token, parse=parse_done)

    def outline(self, thread_id: str, cursor: str) -> Lua[OutlinePage | None]:
        return self._call("outline", thread_id, (), cursor, str(OUTLINE_PAGE), parse=parse_outline)

    def drop(
        self,
        thread_id: str,
        incarnation: str,
        *,
        which: Iterable[tuple[str, str]],
        staying: Iterable[tuple[str, str]],
    ) -> Lua[Dropped | DroppedInPart]:
        """Both are (namespace, checkpoint id)."""
        kept = pack_list([part for pair in staying for part in pair])
        dropped = (part for pair in which for part in pair)
        lists = ("due", "threads", "runs", "lapses")
        return self._call("drop", thread_id, lists, thread_id, incarnation, kept, *dropped, parse=parse_dropped)

    def orphan(self, thread_id: str, incarnation: str, which: Iterable[tuple[str, str]]) -> Lua[None]:
        names = (part for pair in which for part in pair)
        return self._call("orphan", thread_id, (), incarnation, *names, parse=parse_done)

    def made_of(self, thread_id: str, *, incarnation: str, cursor: str) -> Lua[MadeOf | Left]:
        return self._call("made_of", thread_id, (), incarnation, cursor, str(VALUES_LOOKED_AT), parse=parse_made_of)

    def erase(
        self,
        thread_id: str,
        *,
        incarnation: str,
        change: int,
        arena: int,
        first: int,
        last: int,
        needed: Iterable[tuple[int, int]],
        complete: bool,
    ) -> Lua[Erased]:
        figures = map(str, (change, arena, first, last))
        stretches = pack_list([figure for stretch in needed for figure in stretch])
        args = (incarnation, *figures, stretches, "1" if complete else "0")
        return self._call("erase", thread_id, (), *args, parse=one_of(Erased))

    def delete(self, thread_id: str, op: str) -> Lua[Deleted | None]:
        """Remove a thread."""
        return self._call("delete", thread_id, _OF_A_THREAD, thread_id, op, self._run, parse=parse_deleted)

    def bury(self, thread_id: str, *, op: str, incarnations: Iterable[str]) -> Lua[Buried]:
        """Remove a thread, if it is in one of these incarnations; and none of them is to come back."""
        return self._call(
            "delete", thread_id, _OF_A_THREAD, thread_id, op, *incarnations, self._run, parse=parse_buried
        )

    def copy_out(self, thread_id: str, cursor: str, most_bytes: int = PAGE_BYTES) -> Guarded[CopiedPage | None]:
        return self._guarded("copy_out", thread_id, (), cursor, str(COPIED_FIELDS), str(most_bytes), parse=parse_copied)

    def stage(self, thread_id: str, *, token: str, hold_ms: int, fields: Iterable[bytes]) -> Lua[bool]:
        return self._call("stage", thread_id, (), token, str(hold_ms), *fields, parse=whether("ok", "taken"))

    def land(self, thread_id: str, *, token: str, incarnation: str, meta: bytes, fields: Iterable[bytes]) -> Lua[bool]:
        args: list[bytes | str] = [thread_id, token, incarnation, *self._ttls, meta, *fields]
        return self._call("land", thread_id, ("threads", "lapses"), *args, parse=whether("ok", "taken"))

    def shorten(self, thread_id: str, incarnation: str, ttl_ms: int) -> Lua[None]:
        return self._call("shorten", thread_id, ("lapses",), thread_id, incarnation, str(ttl_ms), parse=parse_done)


_OF_A_THREAD: Final = ("due", "threads", "gone", "parked", "runs", "lapses")
