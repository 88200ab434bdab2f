"""Calls of the scripts that write.

What each replies, as records, and how it is parsed, stands before the calls. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.hot import fields
from langgraph_tiered_checkpoint.hot.frames import pack_frame, pack_list, pack_writes
from langgraph_tiered_checkpoint.hot.keys import Keys
from langgraph_tiered_checkpoint.hot.recipes import Packed
from langgraph_tiered_checkpoint.hot.replies import Guarded, Moved, State, parse_moved, unknown
from langgraph_tiered_checkpoint.records import CheckpointRow, WriteRow

MOST_ARGUMENTS = 3_000
"""Of one call, about: managed services refuse commands of 4,000."""


class Writer(NamedTuple):
    """Who writes: what every mutation of a thread carries."""

    thread_id: str
    op: str
    """Random, and the same when the call is repeated."""
    incarnation: str
    confirmed: bool
    """Whether the thread is known to have existed in this incarnation."""
    since_ms: float
    """When the run began, or what it names was made: a thread deleted since is not to be brought back."""
    promote: str = ""
    """A reason to promote the thread with this write."""


class FoundOrigin(NamedTuple):
    """What Postgres said of a thread that was not resident, for the script that asked."""

    kind: str
    """ "new" or "cold"."""
    token: str
    flushed: str = ""
    pinned: bool = False


UNKNOWN_ORIGIN = FoundOrigin("", "")


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


class WritingCalls(Keys):
    """Calls that write."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        promotion = settings.promotion
        after = promotion.after
        policy = {  # numbers would be turned into text on each call
            "ttl": self._ttl_ms,
            "hot_ttl": self._hot_ttl_ms,
            "after": -1 if after is None else int(after.total_seconds() * 1000),
            "checkpoints": promotion.checkpoints or 0,
            "bytes": promotion.bytes or 0,
            "on_interrupt": int(promotion.on_interrupt),
            "before_expiry": int(promotion.before_expiry),
        }
        self._policy = {name: str(value) for name, value in policy.items()}

    def put(
        self,
        writer: Writer,
        row: CheckpointRow,
        values: Packed,
        expected: Sequence[tuple[str, str]],
        origin: FoundOrigin = UNKNOWN_ORIGIN,
        *,
        taken_over: bool,
        note_run: bool,
    ) -> Guarded[WriteReply]:
        """Store a checkpoint and values. One round trip.

        `expected` are (channel, version) of the values that have to be stored already; `taken_over`: with the parent.
        """
        ns, place, frame = row.ns, fields.place(row.ns, row.checkpoint_id), pack_frame(row)
        looked_at: list[bytes | str] = ["s", f"h{ns}", f"y{place}"]
        wanted: list[bytes | str] = []
        for field, has_to_be in values.conditions:
            looked_at.append(field)
            wanted.append(has_to_be)
        rest: list[bytes | str] = [*looked_at, *wanted, f"c{place}", frame]
        for pair in values.pairs:
            rest += pair
        many = len(rest) > MOST_ARGUMENTS
        on_top = row.parent_id != "" and row.checkpoint_id.encode() > row.parent_id.encode()
        log = [writer.op, "c", place, *[fields.value(ns, blob.channel, blob.version) for blob in values.stored]]
        return self._guarded(
            "put",
            writer.thread_id,
            parse_write,
            **self._of_writer(writer, origin),
            ns=ns,
            id=row.checkpoint_id,
            parent=row.parent_id,
            quick="1" if taken_over and on_top and not many else "0",
            size=str(len(frame) + values.bytes),
            root=row.root_id,
            run_id=row.run_id if note_run else "",
            log=pack_list(log),
            expected=pack_list([fields.value(ns, *ref) for ref in expected]),
            packed=pack_list(rest) if many else b"",
            looked_at=str(len(looked_at)),
            rest=() if many else rest,
        )

    def put_writes(
        self,
        writer: Writer,
        ns: str,
        checkpoint_id: str,
        task_id: str,
        writes: Sequence[WriteRow],
        *,
        interrupt: bool,
        origin: FoundOrigin = UNKNOWN_ORIGIN,
    ) -> Guarded[WriteReply]:
        """Store pending writes of one task, any number of them. One round trip."""
        place = fields.place(ns, checkpoint_id)
        packed = pack_writes(writes)
        names = [fields.ordinal(place, idx, task_id) for idx, _ in packed]
        alone = len(set(names)) == len(names)
        special = "".join("1" if isinstance(idx, int) and idx < 0 else "0" for idx, _ in packed)
        return self._guarded(
            "put_writes",
            writer.thread_id,
            parse_write,
            **self._of_writer(writer, origin),
            ns=ns,
            id=checkpoint_id,
            quick="1" if alone and not interrupt else "0",
            interrupt="1" if interrupt else "0",
            special=special,
            looked_at=str(3 + len(packed)),
            rest=("s", f"h{ns}", f"y{place}", *names, *[frame for _, frame in packed]),
        )

    def _of_writer(self, writer: Writer, origin: FoundOrigin) -> dict[str, str]:
        """What every write carries."""
        return {
            "thread_id": writer.thread_id,
            "op": writer.op,
            "incarnation": writer.incarnation,
            "confirmed": "1" if writer.confirmed else "0",
            "cold": self._cold,
            "since": f"{writer.since_ms:.3f}",
            "origin": origin.kind,
            "token": origin.token,
            "flushed": origin.flushed,
            "pinned": "1" if origin.pinned else "0",
            **self._policy,
            "reason": writer.promote,
            "interval": self._interval_ms,
        }
