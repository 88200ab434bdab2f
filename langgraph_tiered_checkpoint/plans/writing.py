"""Plans that write: a checkpoint, pending writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from typing_extensions import assert_never

from langgraph_tiered_checkpoint.errors import HotFullError, ThreadBusyError, ThreadDeletedError
from langgraph_tiered_checkpoint.hot.difference import Item
from langgraph_tiered_checkpoint.hot.recipes import pack_values
from langgraph_tiered_checkpoint.hot.replies import Guarded, State
from langgraph_tiered_checkpoint.hot.writing import (
    UNKNOWN_ORIGIN,
    FoundOrigin,
    Missing,
    OriginWanted,
    Refusal,
    Stored,
    Writer,
    WriteReply,
)
from langgraph_tiered_checkpoint.ids import uuid6_time_ms
from langgraph_tiered_checkpoint.incarnations import KnownIncarnation, new_id
from langgraph_tiered_checkpoint.plans.erasing import erase
from langgraph_tiered_checkpoint.plans.flushing import ask
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, ThreadBatch, WriteRow
from langgraph_tiered_checkpoint.steps import Pause, Plan

_DIFFERENCES = 200
"""Values of one put that may travel as differences, the largest: each costs the script some steps to make sure of."""

_PAUSE_S = 0.02
"""How long a write waits before it tries again, if others were faster. For how long it does, `timeouts.busy` says."""


class Written(NamedTuple):
    """What a write has made of the thread."""

    state: State
    unflushed: ThreadBatch | None
    """All that Postgres lacks of the thread, where that is this very write."""
    server_run: str
    """The run id of the Redis that says so."""


def put(
    store: Store,
    known: KnownIncarnation,
    thread_id: str,
    row: CheckpointRow,
    blobs: Sequence[BlobRow],
    expected: Sequence[int],
    *,
    named: str,
    promote: str,
    supply: Callable[[Sequence[tuple[str, str]]], Sequence[BlobRow]],
) -> Plan[Written]:
    """Store a checkpoint. Resident: one round trip.

    `named` is the oldest checkpoint that the call names: if the thread was deleted after it was made, the call comes
    from a run of before. `expected` are positions in `row.refs` of values stored with earlier checkpoints; `supply`
    serializes those of them that turn out not to be resident, and the call is then sent again with them. Values travel
    as differences where the predecessor is known.

    Raises:
        ThreadDeletedError: the incarnation that the run has read is gone.
        ThreadBusyError: a structural operation held the thread for too long.
        HotFullError: Redis is full, or almost full of what Postgres does not take.
    """
    op = new_id()
    given = list(blobs)
    awaited = list(expected)
    parent = store.known_checkpoints.find((thread_id, row.ns, row.parent_id)) if row.parent_id else None
    packed = pack_values(op, _with_differences(store, thread_id, given))

    def build(writer: Writer, origin: FoundOrigin) -> Guarded[WriteReply]:
        taken_over = parent is not None and parent.stored.issuperset([row.refs[i] for i in awaited])
        note_run = parent is None or parent.run_id != row.run_id
        return store.hot.put(writer, row, packed, awaited, origin, taken_over=taken_over, note_run=note_run)

    def resend(missing: Missing) -> None:
        nonlocal packed
        awaited[:] = [i for i in awaited if i not in missing.expected]
        given.extend(supply([row.refs[i] for i in missing.expected]))
        packed = pack_values(op, [(blob, None, None) for blob in given])

    reply = yield from _write(store, known, thread_id, op, named, promote, build, resend)
    store.known_values.remember(thread_id, row.ns, packed.stored)
    if reply.left:
        with suppress(ThreadBusyError):  # who is faster is told the same
            yield from erase(store, thread_id, known.incarnation)
    return _written(thread_id, reply, [row], given, [])


def _with_differences(
    store: Store, thread_id: str, blobs: Sequence[BlobRow]
) -> Iterator[tuple[BlobRow, BlobRow | None, Sequence[Item] | None]]:
    """The values, the largest first, with what they differ in from their predecessors."""
    largest = sorted(blobs, key=lambda blob: len(blob.data), reverse=True)
    for i, blob in enumerate(largest):
        base, items = (store.known_values.difference(thread_id, blob) if i < _DIFFERENCES else None) or (None, None)
        yield blob, base, items


def put_writes(
    store: Store,
    known: KnownIncarnation,
    thread_id: str,
    ns: str,
    checkpoint_id: str,
    task_id: str,
    writes: Sequence[WriteRow],
    *,
    interrupt: bool,
    named: str,
) -> Plan[Written]:
    """Store pending writes of one task. Resident: one round trip.

    Raises:
        ThreadDeletedError, ThreadBusyError: as for `put`.
    """

    def build(writer: Writer, origin: FoundOrigin) -> Guarded[WriteReply]:
        return store.hot.put_writes(writer, ns, checkpoint_id, task_id, writes, interrupt=interrupt, origin=origin)

    reply = yield from _write(store, known, thread_id, new_id(), named, "", build, lambda _: None)
    return _written(thread_id, reply, [], [], list(writes))


def _written(
    thread_id: str,
    stored: Stored,
    checkpoints: list[CheckpointRow],
    blobs: list[BlobRow],
    writes: list[WriteRow],
) -> Written:
    change, batch = stored.change, None
    if change is not None:
        rows = (checkpoints, blobs, writes)
        fence = (stored.incarnation, change.expected, change.flushed)
        batch = ThreadBatch(thread_id, *fence, *rows, change.last_write_ms, change.reason)
    return Written(stored.state, batch, stored.server_run)


def _write(
    store: Store,
    known: KnownIncarnation,
    thread_id: str,
    op: str,
    named: str,
    promote: str,
    build: Callable[[Writer, FoundOrigin], Guarded[WriteReply]],
    resend: Callable[[Missing], None],
) -> Plan[Stored]:
    """Send the call until it is stored."""
    origin, incarnation = UNKNOWN_ORIGIN, ""
    waited_s, asked = 0.0, False
    while True:
        writer = Writer(
            thread_id, op, incarnation or known.incarnation, known.confirmed, _since_ms(known, named), promote
        )
        reply = yield from ask(store, thread_id, build(writer, origin))
        match reply:
            case Stored():
                known.confirm(reply.incarnation)
                return reply
            case Missing():
                resend(reply)
            case OriginWanted():
                if asked:  # it was filled in while Postgres was asked, and is evicted again
                    waited_s = yield from _wait(store, waited_s, _lost_races(thread_id))
                asked = True
                origin, incarnation = yield from _find_origin(store, known, thread_id, reply.token)
            case Refusal.CLOSED:
                waited_s = yield from _wait(store, waited_s, _busy(thread_id))
                origin, incarnation = UNKNOWN_ORIGIN, ""
            case Refusal.PRESSED:
                raise _pressed(thread_id)
            case Refusal.DELETED:
                raise _deleted(thread_id)
            case _:
                assert_never(reply)


def _since_ms(known: KnownIncarnation, named: str) -> float:
    """A thread that was deleted since then is not to be brought back by a write that names this checkpoint."""
    if known.absent_ms is None:  # where no read has told, the time inside the id tells a late write from a new one
        return 0 if known.confirmed else uuid6_time_ms(named)
    return max(known.absent_ms, uuid6_time_ms(named)) if known.by_delete else known.absent_ms


def _wait(store: Store, waited_s: float, error: ThreadBusyError) -> Plan[float]:
    """Wait a little. The reply is how long that comes to in all; if it is too long, the error is raised."""
    if waited_s >= store.settings.timeouts.busy.total_seconds():
        raise error
    yield from Pause(_PAUSE_S)
    return waited_s + _PAUSE_S


def _find_origin(store: Store, known: KnownIncarnation, thread_id: str, token: str) -> Plan[tuple[FoundOrigin, str]]:
    """Where a thread that is not resident comes from, and its incarnation."""
    cold = store.need_cold("looked up", thread_id)
    confirmed = known.confirmed  # another write of the run may create the thread, and confirm it, before the answer
    origin = yield from cold.adopt(thread_id, new_id())
    if confirmed and (origin is None or origin.incarnation != known.incarnation):
        yield from store.hot.reopen(thread_id, token)
        raise _deleted(thread_id)
    if origin is None:
        return FoundOrigin("new", token), ""
    return FoundOrigin("cold", token, origin.flushed, origin.pinned), origin.incarnation


def _busy(thread_id: str) -> ThreadBusyError:
    return ThreadBusyError(
        f"thread {thread_id!r}: a prune, copy or delete held it for too long; nothing was stored, try again"
    )


def _lost_races(thread_id: str) -> ThreadBusyError:
    return ThreadBusyError(
        f"thread {thread_id!r}: each time that Postgres was asked for it, others read it back into Redis and evicted "
        "it again before the write came; nothing was stored, try again. If nobody calls `evict`, Redis evicts what has "
        "just been read: give it more memory, or the saver a longer hot_ttl"
    )


def _pressed(thread_id: str) -> HotFullError:
    return HotFullError(
        f"thread {thread_id!r}: Redis is almost full of changes that Postgres has not taken for a long time; nothing "
        "was stored. Bring Postgres back, or raise maxmemory; `stats` shows what waits"
    )


def _deleted(thread_id: str) -> ThreadDeletedError:
    return ThreadDeletedError(
        f"thread {thread_id!r} was deleted, or has expired, after this run read it; nothing was stored. "
        "Start a new run: it begins with an empty thread"
    )
