"""Databases of tests: one per process, brought into order for each test; and what tests of statements have in it.

Creating and dropping a database costs a server some hundred times what deleting some rows does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver

from langgraph_tiered_checkpoint import EmbeddedServers
from langgraph_tiered_checkpoint.cold.schema import ColdSchema
from langgraph_tiered_checkpoint.cold.writes import Cold

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_SHAPE = r"""
SELECT md5(string_agg(fact, '; ' ORDER BY fact)) FROM (
    SELECT concat_ws(' ', 'schema', nspname, nspowner, nspacl)
    FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    UNION ALL SELECT concat_ws(' ', 'relation', oid::regclass, relkind, relowner, relacl, reloptions, relrowsecurity)
    FROM pg_class WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)')
    UNION ALL SELECT concat_ws(' ', 'column', a.attrelid::regclass, a.attname, a.atttypid, a.attnotnull, a.attcollation,
        a.attstorage, a.attcompression, a.attacl, pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p') AND a.attnum > 0
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)')
    UNION ALL SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid), i.indisvalid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)')
    UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE connamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)')
    UNION ALL SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT concat_ws(' ', 'policy', polrelid::regclass, polname) FROM pg_policy
    UNION ALL SELECT concat_ws(' ', 'function', oid::regprocedure) FROM pg_proc
    WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)')
    UNION ALL SELECT concat_ws(' ', 'setting', setrole, setconfig) FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL SELECT concat_ws(' ', 'database', datdba, datacl) FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT concat_ws(' ', 'large', oid::regclass) FROM pg_class WHERE relkind = 'r'
    AND relpages > 50 AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)')
) AS facts (fact)
"""
"""Everything that tells a database from one that `setup()` has just made its tables in, but for their rows."""


class Database:
    """A database that tests use one after the other."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._shape = ""
        self._rows: dict[str, list[tuple[object, ...]]] = {}

    def begin(self, *, bare: bool) -> None:
        """Give a test an empty database: without tables, or with those that `setup()` makes."""
        with psycopg.connect(self.url, autocommit=True, options="-c default_transaction_read_only=off") as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            if not bare and self._shape and self._shape == _one(conn, _SHAPE):
                self._forget_rows(conn)
                return
            self._make_anew(conn)
            if not bare:
                conn.execute(ColdSchema(None).ddl().encode())
                self._shape = str(_one(conn, _SHAPE))
                for table in _tables(conn):
                    self._rows[table] = conn.execute(f"SELECT * FROM {table}".encode()).fetchall()

    def _forget_rows(self, conn: Connection) -> None:
        for table, rows in self._rows.items():
            conn.execute(f"DELETE FROM {table}".encode())
            for row in rows:
                conn.execute(f"INSERT INTO {table} VALUES ({','.join(['%s'] * len(row))})".encode(), row)

    def _make_anew(self, conn: Connection) -> None:
        self._shape, self._rows = "", {}
        name = conn.info.dbname
        for (schema,) in conn.execute(
            "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"
        ).fetchall():
            conn.execute(f"DROP SCHEMA {schema} CASCADE".encode())
        conn.execute(f"ALTER DATABASE {name} RESET ALL".encode())
        conn.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")  # as in a new database
        conn.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")


def _one(conn: Connection, query: str) -> object:
    [(value,)] = conn.execute(query.encode()).fetchall()
    return value


def _tables(conn: Connection) -> list[str]:
    return [name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()]


@pytest.fixture(scope="session")
def shared_database(shared_servers: EmbeddedServers) -> Database:
    """The session's database."""
    with psycopg.connect(shared_servers.postgres_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE tests")
    return Database(shared_servers.postgres_url.replace("/app?", "/tests?"))


@pytest.fixture
def cold() -> Cold:
    return Cold(None)


@pytest.fixture
def conn(postgres_url: str) -> Iterator[Connection]:
    """A connection to a database with tables."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def plain(postgres_url: str) -> Iterator[Connection]:
    """A connection to a database whose tables are the test's business: it is marked `bare`."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def official(postgres_url: str) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(postgres_url) as saver:
        saver.setup()
        yield saver
