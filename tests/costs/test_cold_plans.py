"""How Postgres executes the reads of a long thread: by index, and touching no more of it than of a short one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

import psycopg
import pytest
from statements import Connection, batch, blob, checkpoint_row, connect, execute, set_up, write

from langgraph_tiered_checkpoint import EmbeddedServers
from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.steps import Sql, Statements, Tx

CHECKPOINTS = 10_000
MOST_BLOCKS = 150
"""What a read may touch: some index look-ups of three or four blocks each. The thread has thousands."""

LONG = b"""
    WITH made AS (
        SELECT n, lpad(n::text, 8, '0') AS id, lpad((n - 1)::text, 8, '0') AS parent FROM generate_series(1, %(n)s) AS n
    ), checkpoints_ AS (
        INSERT INTO checkpoints (thread_id, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
        SELECT 'long', id, parent, jsonb_build_object(
                'v', 4, 'id', id, 'channel_values', '{}'::jsonb,
                'channel_versions', jsonb_build_object('own', id, 'shared', left(id, 6))
            ), jsonb_build_object('step', n)
        FROM made
    ), own AS (
        INSERT INTO checkpoint_blobs (thread_id, channel, version, type, blob)
        SELECT 'long', 'own', id, 'bytes', convert_to(repeat(id, 40), 'UTF8') FROM made
    ), shared AS (
        INSERT INTO checkpoint_blobs (thread_id, channel, version, type, blob)
        SELECT DISTINCT 'long', 'shared', left(id, 6), 'bytes', ''::bytea FROM made
    )
    INSERT INTO checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, type, blob)
    SELECT 'long', id, task, 0, 'own', 'bytes', ''::bytea FROM made CROSS JOIN unnest(ARRAY['a', 'b']) AS task
"""
OTHERS = b"""
    WITH threads AS (
        INSERT INTO tiered_threads (thread_id, incarnation) SELECT n::text, n::text FROM generate_series(1, 2000) AS n
        RETURNING thread_id
    )
    INSERT INTO tiered_segments
    SELECT thread_id, 1, '1', '2', '{}', '{}', '{}', '{1,2}', '{r}', 1, 1, repeat('x', 500)::bytea, ''::bytea
    FROM threads
"""


@pytest.fixture(scope="module", params=["analyzed", "never analyzed"])
def database(servers: EmbeddedServers, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database in which one thread is nearly all there is."""
    with connect(servers.postgres_url) as admin:
        admin.execute("CREATE DATABASE long")
    url = servers.postgres_url.replace("/app?", "/long?")
    with connect(url) as connection:
        connection.execute("SET synchronous_commit = off")
        set_up(connection, Cold(None))
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads", "tiered_segments"):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
        connection.execute(LONG, {"n": CHECKPOINTS})
        connection.execute(OTHERS)
        if request.param == "analyzed":
            connection.execute("ANALYZE")  # as autovacuum does within a minute
    yield url
    with connect(servers.postgres_url) as admin:
        admin.execute("DROP DATABASE long WITH (FORCE)")


@pytest.fixture
def conn(database: str) -> Iterator[Connection]:
    """A connection to it, in a transaction that is undone."""
    with psycopg.connect(database) as connection:
        yield connection
        connection.rollback()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def explained(conn: Connection, step: Sql) -> dict[str, Any]:
    """The plan of a statement that is prepared, since EXPLAIN plans what is not for the parameters that it is given."""
    numbers = count(1)
    text = re.sub("%[sb]", lambda _: f"${next(numbers)}", step.text)
    params = [list(param) if isinstance(param, list) else param for param in step.params]
    arguments = f"({', '.join(['%s'] * len(params))})" if params else ""
    conn.execute(f"PREPARE explained AS {text}".encode())
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE explained {arguments}"
    row = psycopg.ClientCursor(conn).execute(explain.encode(), params).fetchone()
    conn.execute("DEALLOCATE explained")
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def check(conn: Connection, tx: Tx[Any]) -> None:
    """Run a transaction, and look at the plan of each of its statements.

    The generic one too, which Postgres may choose from the sixth time on.
    """
    for mode in ("force_custom_plan", "force_generic_plan"):
        conn.execute(f"SET plan_cache_mode = {mode}".encode())
        body = tx.body()
        rows = None
        while True:
            try:
                step = next(body) if rows is None else body.send(rows)
            except StopIteration:
                break
            plan = explained(conn, step)
            scanned = [node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
            assert scanned == [], step.text
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= MOST_BLOCKS, step.text
            rows = execute(conn, step)


MIDDLE = f"{CHECKPOINTS // 2:08}"
READS: dict[str, Tx[Any]] = {
    "latest": Cold(None).fetch("long", "", None),
    "latest, with what waits since": Cold(None).fetch("long", "", None, f"{CHECKPOINTS - 2:08}"),
    "by id": Cold(None).fetch("long", "", MIDDLE),
    "origin": Cold(None).origin("long"),
    "adoption": Cold(None).adopt("1", "fresh"),
    "no thread": Cold(None).adopt("nobody", "fresh"),
    "writes": Cold(None).writes_of("long", [("", MIDDLE)]),
    "delta history": Cold(None).delta_history("long", "", MIDDLE, ["own"]),
    "thread ids": Cold(None).thread_ids("", "", 10),
}


@pytest.mark.parametrize("read", READS)
def test_a_read_of_a_long_thread_is_some_index_lookups(conn: Connection, read: str) -> None:
    check(conn, READS[read])


@pytest.mark.parametrize("ns", ["", None], ids=["one namespace", "all namespaces"])
@pytest.mark.parametrize(
    "start",
    [
        {},
        {"before_id": MIDDLE},
        {"before": (MIDDLE, "")},
        {"checkpoint_id": MIDDLE},
        {"before": (MIDDLE, ""), "before_id": f"{CHECKPOINTS - 5:08}"},
    ],
    ids=["head", "before", "next page", "one checkpoint", "next page before"],
)
def test_a_page_of_a_long_thread_is_some_index_lookups(conn: Connection, ns: str | None, start: dict[str, Any]) -> None:
    where: dict[str, Any] = {"before": None, "checkpoint_id": None, "before_id": None, **start}
    check(conn, Cold(None).page("long", ns, limit=10, **where))


def test_a_commit_to_a_long_thread_is_some_index_lookups(conn: Connection) -> None:
    conn.execute("INSERT INTO tiered_threads (thread_id, incarnation, claim) VALUES ('long', 'i', 'claim')")
    rows: dict[str, Any] = {"checkpoints": [checkpoint_row("9")], "blobs": [blob("own", "9")], "writes": [write("9")]}
    check(conn, Cold(None).commit([batch("long", **rows)]))
    several = Cold(None).commit([batch("long", expected="1.a", flushed="2.b"), batch("1", **rows)])
    conn.execute("SET plan_cache_mode = force_custom_plan")
    plan = explained(conn, next(several.body()))
    scanned = [node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
    assert scanned == []
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= MOST_BLOCKS


def unbounded() -> Statements[None]:
    yield Sql("SELECT blob FROM checkpoint_writes WHERE thread_id = %s AND checkpoint_id > %s", ("long", "0"))


def test_a_read_that_grows_with_the_thread_is_found(conn: Connection) -> None:
    with pytest.raises(AssertionError):
        check(conn, Tx("unbounded", "long", unbounded))
