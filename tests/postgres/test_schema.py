"""What setup makes of a database, whatever is in it; and what the check says of one that it does not fit."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from statements import Connection, blob, carry_out, checkpoint_row, connect, execute, is_complete, run, set_up, store

from langgraph_tiered_checkpoint.cold.preparing import prepare
from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import ConfigurationError, SchemaError

pytestmark = pytest.mark.bare


@pytest.fixture(params=[None, 'Odd "schema".x'], ids=["search path", "schema"])
def cold(request: pytest.FixtureRequest) -> Cold:
    return Cold(request.param)


@pytest.fixture
def conn(plain: Connection, cold: Cold) -> Connection:
    set_up(plain, cold)
    return plain


def test_setup_is_idempotent_and_satisfies_the_check(conn: Connection, cold: Cold) -> None:
    assert is_complete(conn, cold)
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
    found = carry_out(plain, prepare(cold, 10))
    run(plain, cold.check_schema())
    pending = run(plain, cold.build(10).work)
    assert len(pending) == len(found.unindexed) == 2
    assert all(statement.startswith("CREATE INDEX CONCURRENTLY") for statement in pending)
    for statement in pending:
        plain.execute(statement.encode())
    assert is_complete(plain, cold)


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
    statements, told = Cold(None).make(10).body(), []
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
    carry_out(plain, prepare(Cold(None), 10))
    pending = run(plain, Cold(None).build(10).work)
    assert len([s for s in pending if s.startswith("CREATE INDEX CONCURRENTLY")]) == 5
    assert plain.execute("SELECT max(v) FROM checkpoint_migrations").fetchone() == (3,)  # until the indexes are there
    for statement in pending:
        plain.execute(statement.encode())
    assert plain.execute("SELECT max(v) FROM checkpoint_migrations").fetchone() == (9,)
    assert is_complete(plain, Cold(None))
    plain.execute("INSERT INTO checkpoint_blobs VALUES ('t', '', 'c', '1', 'empty', NULL)")
    plain.execute("SELECT task_path FROM checkpoint_writes")


def test_setup_does_not_bring_back_an_official_index_that_a_dba_dropped(conn: Connection, cold: Cold) -> None:
    conn.execute(f"DROP INDEX {cold._q.prefix}checkpoints_thread_id_idx".encode())
    assert is_complete(conn, cold)


def test_setup_rebuilds_an_index_whose_build_was_interrupted(conn: Connection, cold: Cold) -> None:
    conn.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text LIKE '%tiered_run_id_idx%'")
    pending = run(conn, cold.build(10).work)
    assert [statement.split()[0] for statement in pending] == ["DROP", "CREATE"]
    for statement in pending:
        conn.execute(statement.encode())
    assert is_complete(conn, cold)


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
        assert is_complete(connection, cold)


@pytest.mark.parametrize("mode", ["serializable", r"repeatable\ read"])
def test_setup_works_whatever_the_default_transaction_mode(postgres_url: str, mode: str) -> None:
    options = f"-c default_transaction_isolation={mode} -c default_transaction_read_only=on"
    joiner = "&" if "?" in postgres_url else "?"
    with psycopg.connect(f"{postgres_url}{joiner}options={quote(options)}") as connection:
        assert carry_out(connection, prepare(Cold(None), 10)).lacks == []
        run(connection, Cold(None).check_schema())


def test_the_printed_ddl_can_be_run_twice_and_is_all_there_is(plain: Connection, cold: Cold) -> None:
    plain.execute(cold.ddl().encode())
    plain.execute(cold.ddl().encode())
    assert is_complete(plain, cold)
    run(plain, cold.check_schema())


def test_the_printed_ddl_applies_to_official_tables(official: PostgresSaver, plain: Connection) -> None:
    plain.execute(Cold(None).ddl().encode())
    assert is_complete(plain, Cold(None))


def test_a_role_that_may_only_read_and_write_passes_the_check_and_setup(conn: Connection, cold: Cold) -> None:
    schema = cold._q.prefix.removesuffix(".") or "public"
    conn.execute("DROP ROLE IF EXISTS dml")
    conn.execute("CREATE ROLE dml")
    conn.execute(f"GRANT USAGE ON SCHEMA {schema} TO dml".encode())
    conn.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO dml".encode())
    conn.execute("SET ROLE dml")
    run(conn, cold.check_schema())
    assert is_complete(conn, cold)
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
        run(conn, cold.look())


def test_a_newer_official_version_is_accepted(conn: Connection, cold: Cold) -> None:
    conn.execute(f"INSERT INTO {cold._q.prefix}checkpoint_migrations VALUES (10)".encode())
    assert is_complete(conn, cold)
    run(conn, cold.check_schema())


@pytest.mark.parametrize("schema", ["", "a%b", "a\0b", "x" * 64])
def test_names_that_cannot_be_a_schema_are_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError):
        Cold(schema)
