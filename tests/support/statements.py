"""Runs the statements over the cold tables as a runner does, makes rows for them, and looks at what is stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any, TypeVar

import psycopg

from langgraph_tiered_checkpoint.cold import preparing
from langgraph_tiered_checkpoint.cold.writes import Cold, describe
from langgraph_tiered_checkpoint.io.transactions import HOLDING_IDLES, HOLDING_OPENS
from langgraph_tiered_checkpoint.records import (
    BlobRow,
    CheckpointRow,
    Origin,
    StoredCheckpoint,
    ThreadBatch,
    Typed,
    WriteRow,
)
from langgraph_tiered_checkpoint.steps import Alone, Pause, Plan, Sql, Tx

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]
Key = tuple[str, str]


def run(conn: Connection, tx: Tx[T]) -> T:
    """Run a transaction as a runner does."""
    with conn.transaction():
        statements = tx.body()
        try:
            step = next(statements)
            while True:
                step = statements.send(execute(conn, step))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # StopIteration is not generic


def execute(conn: Connection, step: Sql) -> list[tuple[Any, ...]]:
    with conn.cursor(binary=True) as cur:
        cur.execute(step.text.encode(), step.params)
        return cur.fetchall() if cur.description else []


def carry_out(conn: Connection, plan: Plan[T]) -> T:
    """Execute a plan that asks Postgres only, as a runner does; `conn` is in autocommit mode."""
    reply: Any = None
    try:
        while True:
            match plan.send(reply):
                case Tx() as step:
                    reply = run(conn, step)
                case Pause():
                    reply = threading.Event().wait(0.01) and None
                case Alone() as step:
                    reply = alone(conn, step)
                case step:
                    raise AssertionError(f"{step} is not for Postgres")
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # StopIteration is not generic


def alone(conn: Connection, step: Alone) -> bool:
    with connect(conn.info.dsn) as holder, holder.transaction():
        holder.execute(HOLDING_OPENS)
        if execute(holder, step.lock) != [(True,)]:
            return False
        holder.execute(HOLDING_IDLES)
        for statement in run(conn, step.work):
            conn.execute(statement.encode())
    return True


def set_up(conn: Connection, cold: Cold) -> None:
    """Make the tables and their indexes; `conn` is in autocommit mode."""
    carry_out(conn, preparing.set_up(cold, 60, 60))


def is_complete(conn: Connection, cold: Cold) -> bool:
    """Whether setup would find nothing to do."""
    found = run(conn, cold.look())
    return not found.lacks and not found.unindexed


def connect(url: str) -> Connection:
    return psycopg.connect(url, autocommit=True)


def checkpoint_row(
    id_: str,
    *,
    ns: str = "",
    parent: str = "",
    values: dict[str, Any] | None = None,
    versions: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    exact: Typed | None = None,
    v: int = 4,
) -> CheckpointRow:
    body = {"v": v, "id": id_, "channel_values": values or {}, "channel_versions": versions or {}}
    return describe(ns, id_, parent, json.dumps(body), json.dumps(metadata or {}), exact)


def blob(channel: str, version: str, data: bytes = b"x", *, ns: str = "", type_: str = "msgpack") -> BlobRow:
    return BlobRow(ns, channel, version, type_, data)


def write(
    id_: str,
    *,
    idx: int = 0,
    channel: str = "ch",
    data: bytes = b"w",
    task: str = "t1",
    ns: str = "",
    path: str = "~p",
) -> WriteRow:
    return WriteRow(ns, id_, task, idx, channel, "msgpack", data, path)


def batch(
    thread: str,
    *,
    checkpoints: Sequence[CheckpointRow] = (),
    blobs: Sequence[BlobRow] = (),
    writes: Sequence[WriteRow] = (),
    expected: str = "claim",
    flushed: str = "1.a",
    incarnation: str = "i",
) -> ThreadBatch:
    return ThreadBatch(
        thread, incarnation, expected, flushed, list(checkpoints), list(blobs), list(writes), 1_700_000_000_123, "age"
    )


def claim(conn: Connection, cold: Cold, thread: str, incarnation: str = "i", fresh: str = "claim") -> Origin:
    return run(conn, cold.claim([(thread, incarnation, "age")], fresh))[thread]


def store(conn: Connection, cold: Cold, thread: str, **rows: Any) -> None:
    claim(conn, cold, thread)
    assert run(conn, cold.commit([batch(thread, **rows)])) == {thread}


def stored(conn: Connection, cold: Cold, thread: str, id_: str | None = None, ns: str = "") -> StoredCheckpoint:
    answer = run(conn, cold.fetch(thread, ns, id_))
    assert answer.stored is not None
    return answer.stored


def counts(conn: Connection, cold: Cold, thread: str) -> tuple[int, ...]:
    """How many checkpoints, blobs, writes and fences there are of a thread."""
    tables = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads")
    query = "SELECT " + ", ".join(f"(SELECT count(*) FROM {cold._q.prefix}{t} WHERE thread_id = %s)" for t in tables)
    return conn.execute(query.encode(), [thread] * 4).fetchall()[0]


def page(
    conn: Connection,
    cold: Cold,
    thread: str,
    ns: str | None = None,
    *,
    before: tuple[str, str] | None = None,
    checkpoint_id: str | None = None,
    before_id: str | None = None,
    limit: int = 100,
) -> list[tuple[StoredCheckpoint, list[Typed]]]:
    tx = cold.page(
        thread,
        ns,
        before=before,
        checkpoint_id=checkpoint_id,
        before_id=before_id,
        limit=limit,
    )
    return run(conn, tx).listed


def keys(page_: list[tuple[StoredCheckpoint, list[Typed]]]) -> list[Key]:
    return [(s.row.checkpoint_id, s.row.ns) for s, _ in page_]


def wait_until_blocked(conn: Connection, other: Connection) -> None:
    """Wait until `other` waits for a lock; not for long, as it may have finished."""
    query = b"SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    for _ in range(100):
        if conn.execute(query, [other.info.backend_pid]).fetchall():
            return
        threading.Event().wait(0.01)
