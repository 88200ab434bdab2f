"""The statements over the cold tables, run as they are against Postgres, beside the official saver."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.types import TASKS, _DeltaSnapshot
from statements import Connection, batch, blob, checkpoint_row, connect, execute, run, set_up, write

from langgraph_tiered_checkpoint.cold import Cold
from langgraph_tiered_checkpoint.errors import ConfigurationError, SchemaError
from langgraph_tiered_checkpoint.records import (
    BlobRow,
    Origin,
    Outline,
    StoredCheckpoint,
    Typed,
)
from langgraph_tiered_checkpoint.steps import Sql, Tx


@pytest.fixture(params=[None, 'Odd "schema".x'], ids=["search path", "schema"])
def cold(request: pytest.FixtureRequest) -> Cold:
    return Cold(request.param)


@pytest.fixture
def conn(postgres_url: str, cold: Cold) -> Iterator[Connection]:
    with connect(postgres_url) as connection:
        set_up(connection, cold)
        yield connection


@pytest.fixture
def plain(postgres_url: str) -> Iterator[Connection]:
    """A connection to an empty database."""
    with connect(postgres_url) as connection:
        yield connection


@pytest.fixture
def official(postgres_url: str) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(postgres_url) as saver:
        saver.setup()
        yield saver


def store(conn: Connection, cold: Cold, thread: str, **rows: Any) -> None:
    run(conn, cold.claim(thread, "i", "age", "claim"))
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


# --- schema


def test_setup_is_idempotent_and_satisfies_the_check(conn: Connection, cold: Cold) -> None:
    assert run(conn, cold.setup_tx()) == []
    run(conn, cold.check_schema())


def test_setup_leaves_the_official_setup_nothing_to_do(plain: Connection, postgres_url: str) -> None:
    set_up(plain, Cold(None))
    before = plain.execute("SELECT relname FROM pg_class WHERE relkind = 'i' ORDER BY 1").fetchall()
    with PostgresSaver.from_conn_string(postgres_url) as saver:
        saver.setup()
    assert plain.execute("SELECT relname FROM pg_class WHERE relkind = 'i' ORDER BY 1").fetchall() == before
    assert plain.execute("SELECT array_agg(v ORDER BY v) FROM checkpoint_migrations").fetchone() == ([*range(10)],)


def test_our_official_tables_have_the_columns_of_the_official_ones(official: PostgresSaver, plain: Connection) -> None:
    ours = Cold("ours")
    set_up(plain, ours)
    query = b"""
        SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
        WHERE table_schema = %s AND table_name LIKE 'checkpoint%%' AND column_name NOT LIKE 'tiered%%'
        ORDER BY table_name, ordinal_position
    """
    assert plain.execute(query, ["ours"]).fetchall() == plain.execute(query, ["public"]).fetchall()


def test_setup_on_tables_of_the_official_saver_builds_indexes_concurrently(
    official: PostgresSaver, plain: Connection
) -> None:
    cold = Cold(None)
    pending = run(plain, cold.setup_tx())
    assert len(pending) == 2
    assert all(statement.startswith("CREATE INDEX CONCURRENTLY") for statement in pending)
    run(plain, cold.check_schema())
    for statement in pending:
        plain.execute(statement.encode())
    assert run(plain, cold.setup_tx()) == []


COMPRESSION = b"""
    SELECT DISTINCT a.attcompression::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relname IN ('checkpoint_blobs', 'checkpoint_writes') AND a.attname = 'blob'
"""


def test_values_are_compressed_with_lz4_where_the_server_has_it(conn: Connection, cold: Cold) -> None:
    [can] = conn.execute(
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    ).fetchone() or [False]
    assert conn.execute(COMPRESSION).fetchall() == [("l" if can else "",)]
    value = b"abcdefgh" * 4_000
    store(conn, cold, "t", checkpoints=[checkpoint_row("1", versions={"a": "1"})], blobs=[blob("a", "1", value)])
    query = f"SELECT pg_column_compression(blob), blob FROM {cold._q.prefix}checkpoint_blobs"
    assert conn.execute(query.encode()).fetchall() == [("lz4" if can else "pglz", value)]


def test_setup_chooses_lz4_for_tables_that_it_makes(plain: Connection) -> None:
    """Whatever this server can: what it would be told is not run."""
    statements, told = Cold(None).setup_tx().body(), []
    with plain.transaction(), contextlib.suppress(StopIteration):
        step = next(statements)
        while True:
            if "SET COMPRESSION" in step.text:
                told.append(step.text)
                step = statements.send([])
            elif "default_toast_compression" in step.text:
                step = statements.send([(True,)])
            else:
                step = statements.send(execute(plain, step))
    assert told == [
        "ALTER TABLE checkpoint_blobs ALTER COLUMN blob SET COMPRESSION lz4;",
        "ALTER TABLE checkpoint_writes ALTER COLUMN blob SET COMPRESSION lz4;",
    ]


def test_setup_leaves_it_to_the_owner_of_tables_how_they_are_compressed(
    official: PostgresSaver, plain: Connection
) -> None:
    set_up(plain, Cold(None))
    assert plain.execute(COMPRESSION).fetchall() == [("",)]


def test_setup_upgrades_tables_of_an_old_official_version(plain: Connection) -> None:
    for migration in PostgresSaver.MIGRATIONS[:4]:
        plain.execute(migration.encode())
    plain.execute("INSERT INTO checkpoint_migrations SELECT generate_series(0, 3)")
    pending = run(plain, Cold(None).setup_tx())
    assert len([s for s in pending if s.startswith("CREATE INDEX CONCURRENTLY")]) == 5
    assert plain.execute("SELECT max(v) FROM checkpoint_migrations").fetchone() == (3,)  # until the indexes are there
    for statement in pending:
        plain.execute(statement.encode())
    assert plain.execute("SELECT max(v) FROM checkpoint_migrations").fetchone() == (9,)
    assert run(plain, Cold(None).setup_tx()) == []
    plain.execute("INSERT INTO checkpoint_blobs VALUES ('t', '', 'c', '1', 'empty', NULL)")
    plain.execute("SELECT task_path FROM checkpoint_writes")


def test_setup_does_not_bring_back_an_official_index_that_a_dba_dropped(conn: Connection, cold: Cold) -> None:
    conn.execute(f"DROP INDEX {cold._q.prefix}checkpoints_thread_id_idx".encode())
    assert run(conn, cold.setup_tx()) == []


def test_setup_rebuilds_an_index_whose_build_was_interrupted(conn: Connection, cold: Cold) -> None:
    conn.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text LIKE '%tiered_run_id_idx%'")
    pending = run(conn, cold.setup_tx())
    assert [statement.split()[0] for statement in pending] == ["DROP", "CREATE"]
    for statement in pending:
        conn.execute(statement.encode())
    assert run(conn, cold.setup_tx()) == []


@pytest.mark.parametrize("official_first", [False, True])
def test_setup_from_many_connections_at_once(postgres_url: str, cold: Cold, *, official_first: bool) -> None:
    if official_first:
        with PostgresSaver.from_conn_string(postgres_url) as saver:
            saver.setup()
    barrier = threading.Barrier(8)

    def one(_: int) -> None:
        with connect(postgres_url) as connection:
            barrier.wait()
            set_up(connection, cold)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    with connect(postgres_url) as connection:
        assert run(connection, cold.setup_tx()) == []


@pytest.mark.parametrize("mode", ["serializable", r"repeatable\ read"])
def test_setup_works_whatever_the_default_transaction_mode(postgres_url: str, mode: str) -> None:
    options = f"-c default_transaction_isolation={mode} -c default_transaction_read_only=on"
    joiner = "&" if "?" in postgres_url else "?"
    with psycopg.connect(f"{postgres_url}{joiner}options={quote(options)}") as connection:
        assert run(connection, Cold(None).setup_tx()) == []
        run(connection, Cold(None).check_schema())


def test_the_printed_ddl_can_be_run_twice_and_is_all_there_is(plain: Connection, cold: Cold) -> None:
    plain.execute(cold.ddl().encode())
    plain.execute(cold.ddl().encode())
    assert run(plain, cold.setup_tx()) == []
    run(plain, cold.check_schema())


def test_the_printed_ddl_applies_to_official_tables(official: PostgresSaver, plain: Connection) -> None:
    plain.execute(Cold(None).ddl().encode())
    assert run(plain, Cold(None).setup_tx()) == []


def test_a_role_that_may_only_read_and_write_passes_the_check_and_setup(conn: Connection, cold: Cold) -> None:
    schema = cold._q.prefix.removesuffix(".") or "public"
    conn.execute("DROP ROLE IF EXISTS dml")
    conn.execute("CREATE ROLE dml")
    conn.execute(f"GRANT USAGE ON SCHEMA {schema} TO dml".encode())
    conn.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO dml".encode())
    conn.execute("SET ROLE dml")
    run(conn, cold.check_schema())
    assert run(conn, cold.setup_tx()) == []
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")])
    conn.execute("RESET ROLE")
    conn.execute("DROP OWNED BY dml")
    conn.execute("DROP ROLE dml")


def test_check_names_missing_tables_and_the_remedy(plain: Connection, cold: Cold) -> None:
    with pytest.raises(SchemaError, match=r"no checkpoint_blobs, .*Run setup\(\)"):
        run(plain, cold.check_schema())


def test_check_names_missing_columns(conn: Connection, cold: Cold) -> None:
    conn.execute(f"ALTER TABLE {cold._q.prefix}checkpoints DROP COLUMN tiered_metadata_sha256".encode())
    with pytest.raises(SchemaError, match=r"checkpoints\.tiered_metadata_sha256.*Run setup\(\)"):
        run(conn, cold.check_schema())


def test_tables_of_a_newer_version_of_ours_are_refused(conn: Connection, cold: Cold) -> None:
    conn.execute(f"INSERT INTO {cold._q.prefix}tiered_migrations VALUES (99)".encode())
    with pytest.raises(SchemaError, match="Upgrade langgraph-tiered-checkpoint"):
        run(conn, cold.check_schema())
    with pytest.raises(SchemaError, match="Upgrade langgraph-tiered-checkpoint"):
        run(conn, cold.setup_tx())


def test_a_newer_official_version_is_accepted(conn: Connection, cold: Cold) -> None:
    conn.execute(f"INSERT INTO {cold._q.prefix}checkpoint_migrations VALUES (10)".encode())
    assert run(conn, cold.setup_tx()) == []
    run(conn, cold.check_schema())


@pytest.mark.parametrize("schema", ["", "a%b", "a\0b", "x" * 64])
def test_names_that_cannot_be_a_schema_are_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError):
        Cold(schema)


# --- reading


def test_fetch_gives_back_what_was_committed(conn: Connection, cold: Cold) -> None:
    row = checkpoint_row(
        "2",
        parent="1",
        values={"inline": "é", "marker": True},
        versions={"inline": "1.0", "marker": "1.0", "list": "2.0", "empty": "2.0"},
        metadata={"run_id": "r", "counters_since_delta_snapshot": {"a": [3, 4]}},
    )
    blobs = [
        blob("list", "2.0", b"\0\xff\\"),
        blob("marker", "1.0", b"m", type_="odd\\type"),
        blob("empty", "2.0", b"", type_="empty"),
    ]
    writes = [write("2", idx=-3), write("2", idx=1, path="~q")]
    store(conn, cold, "t", checkpoints=[row, checkpoint_row("1")], blobs=[*blobs, blob("list", "9")], writes=writes)
    for id_ in ("2", None):
        answer = run(conn, cold.fetch("t", "", id_))
        assert answer.origin == Origin("i", "1.a", pinned=False)
        assert answer.heads_exist
        assert answer.sends == []
        assert answer.stored is not None
        got = answer.stored
        assert json.loads(got.row.checkpoint) == json.loads(row.checkpoint)
        assert got.row._replace(checkpoint=b"", metadata=b"") == row._replace(
            checkpoint=b"", metadata=b"", refs=got.row.refs, inline=got.row.inline
        )
        assert set(got.row.refs) == set(row.refs) == {("list", "2.0"), ("marker", "1.0"), ("empty", "2.0")}
        assert set(got.row.inline) == {"inline", "marker"}
        assert (got.row.run_id, got.row.root_id, got.row.depth) == ("r", "2", 4)
        assert sorted(got.blobs) == sorted(blobs)
        assert sorted(got.writes) == sorted(writes)


def test_fetch_tells_no_thread_from_no_checkpoint(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")])
    store(conn, cold, "early", writes=[write("1")])
    assert run(conn, cold.fetch("T", "", None)) == (None, None, [], [], False)
    assert run(conn, cold.fetch("t", "ns", None)) == (Origin("i", "1.a", pinned=False), None, [], [], True)
    assert run(conn, cold.fetch("t", "", "2")).stored is None
    assert run(conn, cold.fetch("early", "", None)).heads_exist
    run(conn, cold.claim("claimed", "i", "age", "claim"))
    assert run(conn, cold.fetch("claimed", "", None)) == (Origin("i", "", pinned=False), None, [], [], False)


def test_integer_and_decimal_versions_find_their_blobs(conn: Connection, cold: Cold) -> None:
    row = checkpoint_row("1", versions={"int": 10**40, "dec": 1.5})
    store(conn, cold, "t", checkpoints=[row], blobs=[blob("int", str(10**40)), blob("dec", "1.5")])
    got = stored(conn, cold, "t")
    assert set(got.row.refs) == {("int", str(10**40)), ("dec", "1.5")}
    assert len(got.blobs) == 2
    assert b"1" + b"0" * 40 in got.row.checkpoint
    [(_, listed, _)] = page(conn, cold, "t")
    assert len(listed.blobs) == 2


def test_exact_metadata_is_used_until_the_official_saver_replaces_the_plain_one(conn: Connection, cold: Cold) -> None:
    row = checkpoint_row("1", metadata={"a": "é"}, exact=("msgpack", b"\0exact"))
    store(conn, cold, "t", checkpoints=[row])
    assert stored(conn, cold, "t").row.exact_metadata == ("msgpack", b"\0exact")
    assert page(conn, cold, "t")[0][1].row.exact_metadata == ("msgpack", b"\0exact")
    conn.execute(f"""UPDATE {cold._q.prefix}checkpoints SET metadata = '{{"a": "f"}}'""".encode())
    assert stored(conn, cold, "t").row.exact_metadata is None
    assert page(conn, cold, "t")[0][1].row.exact_metadata is None
    run(conn, cold.commit([batch("t", checkpoints=[row], expected="1.a")]))
    assert stored(conn, cold, "t").row.exact_metadata == ("msgpack", b"\0exact")


def test_sends_of_the_parent_come_with_checkpoints_before_v4(conn: Connection, cold: Cold) -> None:
    rows = [
        checkpoint_row("1", v=3),
        checkpoint_row("2", parent="1", v=3),
        checkpoint_row("3", parent="1"),
        checkpoint_row("4", ns="n", parent="1", v=3),
    ]
    sends = [
        write("1", channel=TASKS, data=b"b", idx=1),
        write("1", channel=TASKS, data=b"a", idx=0),
        write("1", channel=TASKS, data=b"0", idx=7, path="~a"),
        write("1", channel="other", idx=3),
    ]
    store(conn, cold, "t", checkpoints=rows, writes=sends)
    expected = [("msgpack", b"0"), ("msgpack", b"a"), ("msgpack", b"b")]
    assert run(conn, cold.fetch("t", "", "2")).sends == expected
    assert run(conn, cold.fetch("t", "", "3")).sends == []
    assert run(conn, cold.fetch("t", "", "1")).sends == []
    assert {s.row.checkpoint_id: sends for _, s, sends in page(conn, cold, "t")} == {
        "4": [],
        "3": [],
        "2": expected,
        "1": [],
    }


def page(
    conn: Connection,
    cold: Cold,
    thread: str | None,
    ns: str | None = None,
    *,
    before: tuple[str, ...] | None = None,
    checkpoint_id: str | None = None,
    before_id: str | None = None,
    limit: int = 100,
    prefix: str = "",
) -> list[tuple[str, StoredCheckpoint, list[Typed]]]:
    tx = cold.page(
        thread,
        ns,
        before=before,
        checkpoint_id=checkpoint_id,
        before_id=before_id,
        limit=limit,
        thread_prefix=prefix,
    )
    return run(conn, tx)


Key = tuple[str, str, str]


def keys(page_: list[tuple[str, StoredCheckpoint, list[Typed]]]) -> list[Key]:
    return [(thread, s.row.checkpoint_id, s.row.ns) for thread, s, _ in page_]


def all_pages(fetch: Callable[[tuple[str, ...] | None], list[Key]], *, with_thread: bool) -> list[Key]:
    found: list[Key] = []
    while more := fetch(None if not found else found[-1] if with_thread else found[-1][1:]):
        found += more
    return found


@pytest.fixture
def many(conn: Connection, cold: Cold) -> list[Key]:
    """Threads, ids and namespaces whose order depends on the collation, and their keys in our order."""
    everything = []
    for thread in ("a", "B", "b", "é", "a%", "a_", "aX", "a\U0010ffff", "ab"):
        rows = [checkpoint_row(id_, ns=ns) for id_ in ("1", "2", "A", "b") for ns in ("", "n", "N:1", "é")]
        store(conn, cold, thread, checkpoints=rows)
        everything += [(thread, row.checkpoint_id, row.ns) for row in rows]
    newest_first = sorted(everything, key=lambda k: (k[1].encode(), k[2].encode()), reverse=True)
    return sorted(newest_first, key=lambda k: k[0].encode())


@pytest.mark.parametrize("limit", [1, 5, 1000])
def test_pages_of_all_threads_are_complete_and_in_order(
    conn: Connection, cold: Cold, many: list[Key], limit: int
) -> None:
    def fetch(last: tuple[str, ...] | None) -> list[Key]:
        return keys(page(conn, cold, None, before=last, limit=limit))

    assert all_pages(fetch, with_thread=True) == many


def test_pages_of_a_prefix_hold_exactly_the_threads_that_start_with_it(
    conn: Connection, cold: Cold, many: list[Key]
) -> None:
    for prefix in ("a", "a%", "a_", "A", "é", "a\U0010ffff", "b"):
        expected = [key for key in many if key[0].startswith(prefix)]

        def fetch(last: tuple[str, ...] | None, prefix: str = prefix) -> list[Key]:
            return keys(page(conn, cold, None, before=last, limit=7, prefix=prefix))

        assert all_pages(fetch, with_thread=True) == expected


@pytest.mark.parametrize("ns", [None, "", "N:1"])
def test_pages_of_a_thread_are_complete_and_in_order(
    conn: Connection, cold: Cold, many: list[Key], ns: str | None
) -> None:
    expected = [key for key in many if key[0] == "b" and ns in {None, key[2]}]

    def fetch(last: tuple[str, ...] | None) -> list[Key]:
        return keys(page(conn, cold, "b", ns, before=last, limit=3))

    assert all_pages(fetch, with_thread=False) == expected


@pytest.mark.parametrize("thread", [None, "a"])
@pytest.mark.parametrize("ns", [None, ""])
def test_pages_are_filtered(conn: Connection, cold: Cold, many: list[Key], thread: str | None, ns: str | None) -> None:
    mine = [key for key in many if thread in {None, key[0]} and ns in {None, key[2]}]
    assert keys(page(conn, cold, thread, ns, checkpoint_id="2", limit=1000)) == [k for k in mine if k[1] == "2"]
    assert keys(page(conn, cold, thread, ns, before_id="A", limit=1000)) == [k for k in mine if k[1] < "A"]
    last = mine[len(mine) // 2]
    rest = page(conn, cold, thread, ns, before=last[1:] if thread else last, before_id="b", limit=1000)
    assert keys(rest) == [k for k in mine[mine.index(last) + 1 :] if k[1] < "b"]


def test_pages_carry_blobs_and_writes_of_their_own_checkpoints(conn: Connection, cold: Cold) -> None:
    for thread in ("t", "u"):
        rows = [
            checkpoint_row("1", versions={"c": "1"}),
            checkpoint_row("2", versions={"c": "1", "d": "1"}),
            checkpoint_row("2", ns="n", versions={"c": "1"}),
        ]
        blobs = [blob("c", "1", thread.encode()), blob("d", "1"), blob("c", "1", b"n", ns="n"), blob("c", "2")]
        writes = [write("1"), write("2", data=thread.encode()), write("2", ns="n", data=b"n")]
        store(conn, cold, thread, checkpoints=rows, blobs=blobs, writes=writes)
    listed = page(conn, cold, None)
    for thread, got, _ in listed:
        assert got == stored(conn, cold, thread, got.row.checkpoint_id, got.row.ns)
    assert len(listed) == 6


def test_lists_use_indexes(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row(f"{n:03}", metadata={"run_id": "r"}) for n in range(300)])
    conn.execute("SET enable_seqscan = off")
    conn.execute("SET enable_sort = off")
    filters = {"ns": None, "id": None, "before_id": None, "limit": 10}
    after = {"after_id": "5", "after_ns": ""}
    for step, index in (
        (cold._q("page_of_all", after_thread="s", prefix="t", prefix_end="u", **filters), "tiered_order_idx"),
        (cold._q("page_of_thread", thread="t", **filters, **after), "tiered_order_idx"),
        (cold._q("page_of_namespace", thread="t", **filters | {"ns": ""}, **after), "checkpoints_pkey"),
        (cold._q("thread_ids", after="s", prefix="t", limit=10), "tiered_order_idx"),
        (cold._q("threads_of_runs", cut=["r"], runs=["r"], prefix=None), "tiered_run_id_idx"),
    ):
        plan = str(execute(conn, Sql("EXPLAIN " + step.text, step.params)))
        assert index in plan
        if step.text.count("LIMIT") and "RECURSIVE" not in step.text:
            assert "Sort" not in plan


def test_thread_ids_pages_through_all_threads_with_checkpoints(conn: Connection, cold: Cold, many: list[Key]) -> None:
    run(conn, cold.claim("claimed only", "i", "age", "claim"))
    official_only = f"INSERT INTO {cold._q.prefix}checkpoints (thread_id, checkpoint_id, checkpoint)"
    conn.execute(f"{official_only} VALUES ('Z', '1', '{{}}')".encode())
    expected = list(dict.fromkeys(sorted([*(key[0] for key in many), "Z"])))
    found: list[str] = []
    while more := run(conn, cold.thread_ids(found[-1] if found else "", "", 2)):
        found += more
    assert found == expected
    for prefix in ("a", "a%", "a_", "q"):
        assert run(conn, cold.thread_ids("", prefix, 100)) == [t for t in expected if t.startswith(prefix)]
    assert run(conn, cold.thread_ids("aX", "a", 100)) == ["a_", "ab", "a\U0010ffff"]
    assert run(conn, cold.thread_ids("b", "a", 100)) == []
    assert run(conn, cold.count_threads()) == 10


def test_threads_of_runs_compares_whole_run_ids(conn: Connection, cold: Cold) -> None:
    long = "r" * 10_000
    for thread, run_id in (("t", "r1"), ("%t", "r2"), ("u", "r1"), ("v", long + "1"), ("w", long + "2")):
        store(conn, cold, thread, checkpoints=[checkpoint_row("1", metadata={"run_id": run_id}), checkpoint_row("2")])
    assert run(conn, cold.threads_of_runs(["r1", "r2"], "")) == ["%t", "t", "u"]
    assert run(conn, cold.threads_of_runs(["r1", "r2"], "%")) == ["%t"]
    assert run(conn, cold.threads_of_runs([long + "1"], "")) == ["v"]
    assert run(conn, cold.threads_of_runs([], "")) == []


def test_status(conn: Connection, cold: Cold) -> None:
    assert run(conn, cold.status("t")) is None
    store(conn, cold, "t", checkpoints=[checkpoint_row("1"), checkpoint_row("2")])
    status = run(conn, cold.status("t"))
    assert status is not None
    assert status[:2] == (Origin("i", "1.a", pinned=False), 2)
    assert status.promoted_at is not None
    assert status.last_write_at is not None
    assert status.last_write_at.timestamp() == pytest.approx(1_700_000_000.123)
    assert status.reason == "age"
    conn.execute(f"DELETE FROM {cold._q.prefix}tiered_threads".encode())
    assert run(conn, cold.status("t")) == (Origin("", "", pinned=False), 2, None, None, "")


# --- delta history


def delta(conn: Connection, cold: Cold, id_: str, *channels: str) -> list[tuple[str, dict[str, Typed], list[bytes]]]:
    got = run(conn, cold.delta_history("t", "", id_, channels))
    assert not got.cursor
    return [(a.checkpoint_id, a.seeds, sorted(w.data for w in a.writes)) for a in got.ancestors]


def test_delta_history_stops_for_each_channel_at_its_seed(conn: Connection, cold: Cold) -> None:
    rows = [
        checkpoint_row("1", versions={"a": "1", "b": "1"}),
        checkpoint_row("2", parent="1", versions={"a": "1", "b": "1"}),
        checkpoint_row("3", parent="2", versions={"a": "3", "b": "1"}, values={"a": True}),
        checkpoint_row("4", parent="3", versions={"a": "4", "b": "1", "e": "4"}),
        checkpoint_row("5", parent="4", versions={"a": "5"}),
    ]
    blobs = [blob("a", "3", b"A"), blob("b", "0", b"old"), blob("e", "4", b"", type_="empty"), blob("a", "4", ns="n")]
    writes = [write(str(n), channel=c, task=c, data=f"{c}{n}".encode()) for n in range(1, 6) for c in "abz"]
    store(conn, cold, "t", checkpoints=rows, blobs=blobs, writes=writes)
    both = delta(conn, cold, "4", "a", "b")
    assert both == [
        ("4", {}, [b"a4", b"b4"]),
        ("3", {"a": ("msgpack", b"A")}, [b"a3", b"b3"]),
        ("2", {}, [b"b2"]),
        ("1", {}, [b"b1"]),
    ]
    assert [line[0] for line in delta(conn, cold, "4", "a")] == ["4", "3"]
    assert [line[0] for line in delta(conn, cold, "4", "e")] == ["4", "3", "2", "1"]
    assert delta(conn, cold, "9", "a") == []


@pytest.mark.parametrize("value", [None, 0, "text", True, 1.5])
def test_delta_history_takes_inline_values_as_seeds(conn: Connection, cold: Cold, value: Any) -> None:
    rows = [checkpoint_row("1"), checkpoint_row("2", parent="1", values={"a": value}, versions={"a": "2"})]
    store(conn, cold, "t", checkpoints=[*rows, checkpoint_row("3", parent="2")])
    assert delta(conn, cold, "3", "a") == [("3", {}, []), ("2", {"a": ("json", json.dumps(value).encode())}, [])]


def test_delta_history_ends_at_a_missing_parent_or_one_that_is_its_own(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("3", parent="2"), checkpoint_row("5", parent="5")])
    assert [line[0] for line in delta(conn, cold, "3", "a")] == ["3"]
    assert [line[0] for line in delta(conn, cold, "5", "a")] == ["5"]


def test_delta_history_follows_a_long_chain(conn: Connection, cold: Cold) -> None:
    rows = [checkpoint_row(f"{n:05}", parent=f"{n - 1:05}" if n else "") for n in range(3000)]
    store(conn, cold, "t", checkpoints=rows)
    assert len(delta(conn, cold, "02999", "a", "b")) == 3000


# --- the official saver


def official_put(saver: PostgresSaver, thread: str, values: dict[str, Any], parent: str | None = None) -> str:
    checkpoint: Checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = dict.fromkeys(values, "1.0")
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": parent}}
    saver.put(config, checkpoint, {"source": "loop", "step": 1}, checkpoint["channel_versions"])  # type: ignore[arg-type]  # RunnableConfig
    return checkpoint["id"]


def test_official_threads_are_read_adopted_and_deleted(official: PostgresSaver, plain: Connection) -> None:
    cold = Cold(None)
    set_up(plain, cold)
    id_ = official_put(official, "t", {"n": 1, "l": [1], "d": _DeltaSnapshot([2])})
    answer = run(plain, cold.fetch("t", "", None))
    assert answer.origin is None
    assert answer.heads_exist
    assert answer.stored is not None
    assert answer.stored.row.checkpoint_id == id_
    assert {b.channel for b in answer.stored.blobs} == {"l", "d"} == {channel for channel, _ in answer.stored.row.refs}
    assert run(plain, cold.adopt("nobody", "f")) is None
    assert run(plain, cold.adopt("t", "f")) == Origin("f", "0.f", pinned=False)
    assert run(plain, cold.adopt("t", "g")) == Origin("f", "0.f", pinned=False)
    run(plain, cold.delete("t", ["f"]))
    assert counts(plain, cold, "t") == (0, 0, 0, 0)


def test_the_official_saver_reads_and_extends_what_we_wrote(official: PostgresSaver, plain: Connection) -> None:
    cold = Cold(None)
    set_up(plain, cold)
    type_, data = official.serde.dumps_typed([1, 2])
    row = checkpoint_row("1", versions={"l": "1.0", "n": "1.0"}, values={"n": 1}, metadata={"step": 1})
    store(plain, cold, "t", checkpoints=[row], blobs=[BlobRow("", "l", "1.0", type_, data)])
    got = official.get_tuple({"configurable": {"thread_id": "t"}})
    assert got is not None
    assert got.checkpoint["channel_values"] == {"l": [1, 2], "n": 1}
    id_ = official_put(official, "t", {"n": 2}, parent="1")
    assert run(plain, cold.fetch("t", "", "1")).stored is not None
    assert [key[1] for key in keys(page(plain, cold, "t"))] == sorted([id_, "1"], reverse=True)


def wait_until_blocked(conn: Connection, other: Connection) -> None:
    """Wait until `other` waits for a lock; not for long, as it may have finished."""
    query = b"SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    for _ in range(100):
        if conn.execute(query, [other.info.backend_pid]).fetchall():
            return
        threading.Event().wait(0.01)


@pytest.mark.parametrize("first", ["delete", "adopt"])
def test_an_adoption_beside_a_delete_leaves_no_row_behind(
    official: PostgresSaver, postgres_url: str, first: str
) -> None:
    cold = Cold(None)
    with connect(postgres_url) as one, connect(postgres_url) as two, connect(postgres_url) as watch:
        set_up(one, cold)
        official_put(official, "t", {"n": 1})
        txs: list[Tx[Any]] = [cold.delete("t", ["f"]), cold.adopt("t", "f")]
        ahead, behind = txs if first == "delete" else reversed(txs)
        one.execute("BEGIN")
        run(one, ahead)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(run, two, behind)
            wait_until_blocked(watch, two)
            one.execute("COMMIT")
            assert late.result(10) is None
        assert counts(one, cold, "t") == (0, 0, 0, 0)


# --- writing


def test_claim_keeps_the_row_that_is_there_and_unclaim_only_takes_unflushed_ones(conn: Connection, cold: Cold) -> None:
    assert run(conn, cold.claim("t", "i", "age", "claim")) == Origin("i", "", pinned=False, claim="claim")
    assert run(conn, cold.claim("t", "j", "age", "later")) == Origin("i", "", pinned=False, claim="claim")
    run(conn, cold.unclaim("t", "j"))
    assert run(conn, cold.claim("t", "k", "age", "claim")).incarnation == "i"
    run(conn, cold.unclaim("t", "i"))
    assert run(conn, cold.claim("t", "k", "age", "claim")).incarnation == "k"
    run(conn, cold.commit([batch("t", incarnation="k")]))
    run(conn, cold.unclaim("t", "k"))
    assert counts(conn, cold, "t")[3] == 1


def test_claims_of_several_threads_name_those_that_had_no_row(conn: Connection, cold: Cold) -> None:
    run(conn, cold.claim("b", "i", "age", "claim"))
    threads = [("c", "k", "size"), ("b", "j", "age"), ("a", "l", "age")]
    assert run(conn, cold.claim_all(threads, "later")) == ["a", "c"]
    assert run(conn, cold.origin("a")) == Origin("l", "", pinned=False, claim="later")
    assert run(conn, cold.origin("b")) == Origin("i", "", pinned=False, claim="claim")


def test_first_copy_is_not_committed_behind_the_claim_of_another(conn: Connection, cold: Cold) -> None:
    run(conn, cold.claim("t", "i", "age", "claim"))
    run(conn, cold.delete("t", ["i"]))
    run(conn, cold.claim("t", "i", "age", "later"))
    assert run(conn, cold.commit([batch("t", checkpoints=[checkpoint_row("1")])])) == frozenset()
    assert run(conn, cold.commit([batch("t", expected="")])) == frozenset()
    assert run(conn, cold.commit([batch("t", expected="later", flushed="")])) == {"t"}
    assert run(conn, cold.commit([batch("t", expected="later")])) == {"t"}
    assert run(conn, cold.commit([batch("t", expected="later", flushed="2.b")])) == frozenset()


def test_commit_writes_only_threads_whose_fence_holds(conn: Connection, cold: Cold) -> None:
    for thread in ("b", "a", "other life", "ahead"):
        run(conn, cold.claim(thread, "i", "age", "claim"))
    run(conn, cold.commit([batch("ahead", flushed="5")]))
    rows: dict[str, Any] = {"checkpoints": [checkpoint_row("1")], "blobs": [blob("c", "1")], "writes": [write("1")]}
    batches = [
        batch("b", **rows),
        batch("a", **rows),
        batch("other life", incarnation="j", **rows),
        batch("ahead", **rows),
        batch("unknown", **rows),
    ]
    assert run(conn, cold.commit(batches)) == {"a", "b"}
    assert run(conn, cold.commit(batches)) == frozenset()
    for thread in ("a", "b"):
        assert counts(conn, cold, thread) == (1, 1, 1, 1)
    for thread in ("other life", "ahead", "unknown"):
        assert counts(conn, cold, thread)[:3] == (0, 0, 0)


def test_commit_can_write_a_page_without_advancing(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")], flushed="")
    store(conn, cold, "t", checkpoints=[checkpoint_row("2")], flushed="7")
    assert run(conn, cold.fetch("t", "", None)).origin == Origin("i", "7", pinned=False)
    assert counts(conn, cold, "t")[0] == 2


def test_commit_repeated_changes_nothing_and_a_changed_row_wins(conn: Connection, cold: Cold) -> None:
    rows = [checkpoint_row("1", values={"n": 1.0})]
    store(conn, cold, "t", checkpoints=rows, blobs=[blob("c", "1")], flushed="")
    query = f"SELECT xmin FROM {cold._q.prefix}checkpoints UNION ALL SELECT xmin FROM {cold._q.prefix}checkpoint_blobs"
    before = conn.execute(query.encode()).fetchall()
    store(conn, cold, "t", checkpoints=rows, blobs=[blob("c", "1")], flushed="")
    assert conn.execute(query.encode()).fetchall() == before
    again = checkpoint_row("1", parent="0", values={"n": 1}, versions={"c": "1"}, metadata={"b": 1})
    store(conn, cold, "t", checkpoints=[again], blobs=[blob("c", "1", b"y")])
    got = stored(conn, cold, "t")
    assert (got.row.parent_id, json.loads(got.row.metadata), got.blobs[0].data) == ("0", {"b": 1}, b"y")
    assert b'"n": 1}' in got.row.checkpoint


def test_the_first_write_of_an_index_wins_and_the_last_of_a_negative_one(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")], flushed="", writes=[write("1"), write("1", idx=-4)])
    late = [write("1", data=b"late"), write("1", idx=-4, data=b"late", path="~z")]
    store(conn, cold, "t", writes=late)
    assert sorted(stored(conn, cold, "t").writes) == sorted([write("1"), late[1]])


def test_the_last_of_equal_keys_in_a_batch_stays(conn: Connection, cold: Cold) -> None:
    store(
        conn,
        cold,
        "t",
        checkpoints=[checkpoint_row("1"), checkpoint_row("1", versions={"c": "1"})],
        blobs=[blob("c", "1", b"x"), blob("c", "1", b"y")],
        writes=[write("1", data=b"x"), write("1", data=b"y")],
    )
    got = stored(conn, cold, "t")
    assert (got.blobs[0].data, got.writes[0].data) == (b"y", b"y")


def test_two_commits_of_one_thread_exclude_each_other(postgres_url: str) -> None:
    cold = Cold(None)
    with connect(postgres_url) as one, connect(postgres_url) as two, connect(postgres_url) as watch:
        set_up(one, cold)
        run(one, cold.claim("t", "i", "age", "claim"))
        one.execute("BEGIN")
        assert run(one, cold.commit([batch("t", checkpoints=[checkpoint_row("1")], flushed="1.one")]))
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(run, two, cold.commit([batch("t", checkpoints=[checkpoint_row("2")], flushed="1.two")]))
            wait_until_blocked(watch, two)
            one.execute("COMMIT")
            assert late.result(10) == frozenset()
        assert run(one, cold.fetch("t", "", "2")) == (Origin("i", "1.one", pinned=False), None, [], [], True)


def test_pin_needs_the_incarnation(conn: Connection, cold: Cold) -> None:
    run(conn, cold.claim("t", "i", "age", "claim"))
    assert not run(conn, cold.pin("t", "j", pinned=True))
    assert run(conn, cold.pin("t", "i", pinned=True))
    assert run(conn, cold.origin("t")) == Origin("i", "", pinned=True, claim="claim")


def test_claim_alone_is_nothing_to_adopt(conn: Connection, cold: Cold) -> None:
    run(conn, cold.claim("t", "i", "age", "claim"))
    assert run(conn, cold.adopt("t", "x")) is None
    assert not run(conn, cold.commit([batch("t", checkpoints=[checkpoint_row("1")], flushed="")]))
    assert run(conn, cold.claim("t", "i", "age", "later")).claim == "x"
    assert run(conn, cold.commit([batch("t", checkpoints=[checkpoint_row("1")], expected="x", flushed="")]))
    assert run(conn, cold.adopt("t", "y")) == Origin("i", "", pinned=False)


def test_delete_leaves_other_threads_alone(conn: Connection, cold: Cold) -> None:
    for thread in ("t", "T", "t%"):
        store(
            conn,
            cold,
            thread,
            checkpoints=[checkpoint_row("1")],
            blobs=[blob("c", "1")],
            writes=[write("1"), write("9")],
        )
    run(conn, cold.delete("t", ["i"]))
    assert counts(conn, cold, "t") == (0, 0, 0, 0)
    assert counts(conn, cold, "T") == counts(conn, cold, "t%") == (1, 1, 2, 1)


def test_delete_leaves_a_life_alone_that_it_does_not_know(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")], blobs=[blob("c", "1")], writes=[write("1")])
    run(conn, cold.delete("t", ["j"]))
    assert counts(conn, cold, "t") == (1, 1, 1, 1)
    run(conn, cold.delete("t", ["i", "j"]))
    assert counts(conn, cold, "t") == (0, 0, 0, 0)


def test_delete_takes_a_claim_and_what_was_copied_under_it_whosesoever_it_is(conn: Connection, cold: Cold) -> None:
    run(conn, cold.claim("t", "i", "age", "claim"))
    rows: dict[str, Any] = {"checkpoints": [checkpoint_row("1")], "blobs": [blob("c", "1")], "writes": [write("1")]}
    assert run(conn, cold.commit([batch("t", expected="claim", flushed="", **rows)])) == {"t"}
    run(conn, cold.delete("t", []))
    assert counts(conn, cold, "t") == (0, 0, 0, 0)
    assert run(conn, cold.commit([batch("t", expected="claim", **rows)])) == frozenset()


def test_life_that_begins_beside_a_delete_is_stored_whole(cold: Cold, postgres_url: str) -> None:
    """Nothing of it comes between two statements of the delete, which has found no row to lock."""
    with connect(postgres_url) as one, connect(postgres_url) as two, connect(postgres_url) as watch:
        set_up(one, cold)
        rows = {"checkpoints": [checkpoint_row("1")], "blobs": [blob("c", "1")], "writes": [write("1")]}
        one.execute("BEGIN")
        statements = cold.delete("t", ["before"]).body()
        reply = execute(one, next(statements))
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(store, two, cold, "t", **rows)
            with contextlib.suppress(StopIteration):
                while True:
                    wait_until_blocked(watch, two)
                    reply = execute(one, statements.send(reply))
            one.execute("COMMIT")
            late.result(10)
        assert counts(one, cold, "t") == (1, 1, 1, 1)


def build(conn: Connection, cold: Cold, thread: str) -> None:
    """Root 1 <- 2 <- 3, a subgraph call of 1 and one of 3, a write ahead of its checkpoint in each namespace."""
    rows = [
        checkpoint_row("1", versions={"c": "1", "d": "1"}, metadata={"run_id": "r1"}),
        checkpoint_row("2", parent="1", versions={"c": "2", "d": "1"}, metadata={"run_id": "r2"}),
        checkpoint_row("3", parent="2", versions={"c": "2", "d": "3"}),
        checkpoint_row("1a", ns="n:1", metadata={"parents": {"": "1"}}, versions={"c": "1"}),
        checkpoint_row(
            "3a",
            ns="n:3",
            parent="0",
            metadata={"parents": {"": "3"}, "counters_since_delta_snapshot": {"x": [1, 9], "y": [5, 2]}},
        ),
    ]
    blobs = [blob("c", "1"), blob("c", "2"), blob("d", "1"), blob("d", "3"), blob("c", "9"), blob("c", "1", ns="n:1")]
    writes = [write("1"), write("2"), write("3"), write("8"), write("1a", ns="n:1"), write("8", ns="n:1")]
    store(conn, cold, thread, checkpoints=rows, blobs=blobs, writes=writes)


def test_outline(conn: Connection, cold: Cold) -> None:
    build(conn, cold, "t")
    seen: list[Outline] = []

    def decide(outline: list[Outline]) -> list[tuple[str, str]]:
        seen.extend(outline)
        return []

    assert run(conn, cold.drop("t", "i", "1.a", "2.b", decide, 1000))
    assert sorted(seen) == [
        ("", "1", "", "1", 0, "r1"),
        ("", "2", "1", "2", 0, "r2"),
        ("", "3", "2", "3", 0, ""),
        ("n:1", "1a", "", "1", 0, ""),
        ("n:3", "3a", "0", "3", 9, ""),
    ]
    for line in seen:
        row = stored(conn, cold, "t", line.checkpoint_id, line.ns).row
        assert line == (row.ns, row.checkpoint_id, row.parent_id, row.root_id, row.depth, row.run_id)


def test_drop_takes_what_only_the_dropped_ones_needed(conn: Connection, cold: Cold) -> None:
    build(conn, cold, "t")
    build(conn, cold, "u")
    assert run(
        conn, cold.drop("t", "i", "1.a", "2.b", lambda _: {("", "1"), ("", "2"), ("n:1", "1a"), ("", "77")}, 1000)
    )
    assert run(conn, cold.fetch("t", "", None)).origin == Origin("i", "2.b", pinned=False)
    assert keys(page(conn, cold, "t")) == [("t", "3a", "n:3"), ("t", "3", "")]
    got = stored(conn, cold, "t", "3")
    assert not got.row.parent_id
    assert sorted(got.blobs) == [blob("c", "2"), blob("d", "3")]
    assert stored(conn, cold, "t", "3a", "n:3").row.parent_id == "0"  # was not there before either
    blobs = conn.execute(
        f"SELECT channel, version FROM {cold._q.prefix}checkpoint_blobs WHERE thread_id = 't'".encode()
    )
    assert sorted(blobs.fetchall()) == [("c", "2"), ("c", "9"), ("d", "3")]
    writes = conn.execute(f"SELECT checkpoint_id FROM {cold._q.prefix}checkpoint_writes WHERE thread_id = 't'".encode())
    assert sorted(writes.fetchall()) == [("3",), ("8",), ("8",)]  # these two wait for their checkpoints
    assert counts(conn, cold, "u") == (5, 6, 6, 1)


def test_drop_behind_a_fence_that_does_not_hold_does_nothing(conn: Connection, cold: Cold) -> None:
    build(conn, cold, "t")
    for incarnation, flushed in (("j", "1.a"), ("i", "0.a")):
        assert not run(conn, cold.drop("t", incarnation, flushed, "2.b", lambda _: pytest.fail("asked"), 1000))
    assert counts(conn, cold, "t") == (5, 6, 6, 1)


def test_dropping_everything_removes_the_thread(conn: Connection, cold: Cold) -> None:
    rows = [checkpoint_row("1", versions={"c": "1"}), checkpoint_row("1a", ns="n:1")]
    store(conn, cold, "t", checkpoints=rows, blobs=[blob("c", "1"), blob("c", "9", ns="n:2")], writes=[write("1")])
    assert run(conn, cold.drop("t", "i", "1.a", "2.b", lambda _: [("", "1"), ("n:1", "1a")], 1000))
    assert counts(conn, cold, "t") == (0, 0, 0, 0)


@pytest.mark.parametrize("ns", ["", "n:9"])
def test_a_thread_with_early_writes_outlives_its_checkpoints(conn: Connection, cold: Cold, ns: str) -> None:
    writes = [write("1"), write("5", ns=ns)]
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")], writes=writes)
    assert run(conn, cold.drop("t", "i", "1.a", "2.b", lambda _: [("", "1")], 1000))
    assert counts(conn, cold, "t") == (0, 0, 1, 1)
    assert run(conn, cold.fetch("t", "", None)).origin == Origin("i", "2.b", pinned=False)


def test_copy_copies_everything_under_a_new_fence(conn: Connection, cold: Cold) -> None:
    exact = checkpoint_row("4", metadata={"a": 1}, exact=("t", b"e"))
    build(conn, cold, "t")
    run(conn, cold.commit([batch("t", checkpoints=[exact], expected="1.a")]))
    assert run(conn, cold.copy("t", "u", "j", "0.j")) == 6
    assert counts(conn, cold, "u") == counts(conn, cold, "t") == (6, 6, 6, 1)
    assert run(conn, cold.fetch("u", "", None)) == run(conn, cold.fetch("t", "", None))._replace(
        origin=Origin("j", "0.j", pinned=False)
    )


def test_copy_refuses_any_existing_target_and_copies_no_absence(conn: Connection, cold: Cold) -> None:
    build(conn, cold, "t")
    run(conn, cold.claim("claimed", "x", "age", "claim"))
    for target in ("t", "claimed"):
        with pytest.raises(ConfigurationError, match=f"thread '{target}' already exists"):
            run(conn, cold.copy("t", target, "j", "0.j"))
    assert run(conn, cold.copy("nobody", "u", "j", "0.j")) == 0
    assert counts(conn, cold, "u") == (0, 0, 0, 0)
    store(conn, cold, "early", writes=[write("1")])
    assert run(conn, cold.copy("early", "u", "j", "0.j")) == 0
    assert counts(conn, cold, "u") == (0, 0, 1, 1)
