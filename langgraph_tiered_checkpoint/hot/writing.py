"""Calls of the scripts that write.

What each replies, as records, and how it is parsed, stands before the calls. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.hot import fields
from langgraph_tiered_checkpoint.hot.frames import pack_frame, pack_list, pack_writes
from langgraph_tiered_checkpoint.hot.keys import Keys
from langgraph_tiered_checkpoint.hot.recipes import Packed
from langgraph_tiered_checkpoint.hot.replies import Guarded, Moved, State, parse_moved, unknown
from langgraph_tiered_checkpoint.records import CheckpointRow, WriteRow

MOST_ARGUMENTS = 3_000
"""Of one call, about: managed services refuse commands of 4,000."""


OF_WRITER: Final = (
    *("thread_id", "op", "incarnation", "confirmed", "cold", "since", "origin", "token", "flushed", "pinned"),
    *("ttl", "hot_ttl", "after", "checkpoints", "bytes", "on_interrupt", "before_expiry", "reason", "interval"),
)
"""What the scripts that write call the arguments that every write carries."""


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
    """By position in the refs of the checkpoint: what was expected to be here."""


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
        case [b"missing", expected]:
            return Missing(expected)
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
        policy = (
            -1 if after is None else int(after.total_seconds() * 1000),
            promotion.checkpoints or 0,
            promotion.bytes or 0,
            int(promotion.on_interrupt),
            int(promotion.before_expiry),
        )
        self._policy = (self._ttl_ms, self._hot_ttl_ms, *map(str, policy))  # each call would turn numbers into text

    def put(
        self,
        writer: Writer,
        row: CheckpointRow,
        values: Packed,
        expected: Sequence[int],
        origin: FoundOrigin = UNKNOWN_ORIGIN,
        *,
        taken_over: bool,
        note_run: bool,
    ) -> Guarded[WriteReply]:
        """Store a checkpoint and values. One round trip.

        `expected` are positions in `row.refs` of values that have to be stored already; `taken_over`: with the parent.
        """
        ns, place, frame = row.ns, fields.place(row.ns, row.checkpoint_id), pack_frame(row)
        looked_at = ["s", f"h{ns}", f"y{place}", *[field for field, _ in values.conditions]]
        wanted = [has_to_be for _, has_to_be in values.conditions]
        rest: list[bytes | str] = [*looked_at, *wanted, f"c{place}", frame]
        for pair in values.pairs:
            rest += pair
        many = len(rest) > MOST_ARGUMENTS
        on_top = row.parent_id != "" and row.checkpoint_id.encode() > row.parent_id.encode()
        log = [writer.op, "c", place, *[fields.value(ns, blob.channel, blob.version) for blob in values.stored]]
        head = (
            *self._of_writer(writer, origin),
            ns,
            row.checkpoint_id,
            row.parent_id,
            ("1" if note_run else "2") if taken_over and on_top and not many else "0",
            str(len(frame) + values.bytes),
            row.root_id,
            row.run_id,
            pack_list(log),
            pack_list(list(expected)),
            pack_list(rest) if many else b"",
            str(len(looked_at)),
        )
        return self._by_position("put", writer.thread_id, parse_write, head, () if many else rest)

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
        head = (
            *self._of_writer(writer, origin),
            ns,
            checkpoint_id,
            "1" if alone and not interrupt else "0",
            "1" if interrupt else "0",
            special,
            str(3 + len(packed)),
        )
        rest: list[bytes | str] = ["s", f"h{ns}", f"y{place}", *names]
        rest += [frame for _, frame in packed]
        return self._by_position("put_writes", writer.thread_id, parse_write, head, rest)

    def _of_writer(self, writer: Writer, origin: FoundOrigin) -> tuple[str, ...]:
        """What every write carries: see `OF_WRITER`."""
        return (
            writer.thread_id,
            writer.op,
            writer.incarnation,
            "1" if writer.confirmed else "0",
            self._cold,
            "0" if writer.confirmed else f"{writer.since_ms:.3f}",
            origin.kind,
            origin.token,
            origin.flushed,
            "1" if origin.pinned else "0",
            *self._policy,
            writer.promote,
            self._interval_ms,
        )
