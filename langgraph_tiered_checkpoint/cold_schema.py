"""The named queries in sql/, and the tables themselves: DDL, setup and the check of what is there. No I/O.

Files are procrastinate's kind: `-- name: x`, a description in comments, one statement. `$schema.` stands for the
qualification of a table. A line that ends in `-- if x` is left out where the parameter `x` is None; if that is all
of it, so are the lines up to `-- end`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from langgraph_tiered_checkpoint.arrays import ARRAYS
from langgraph_tiered_checkpoint.errors import ConfigurationError, SchemaError
from langgraph_tiered_checkpoint.steps import Sql, Statements, Tx

TABLES = (
    "checkpoint_migrations",
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
    "tiered_migrations",
    "tiered_threads",
)
OFFICIAL_VERSION = 9
TIERED_VERSION = 1

_INDEXES = {
    # name: (table, the official migration that makes it, or 0 for ours)
    "checkpoints_thread_id_idx": ("checkpoints", 6),
    "checkpoint_blobs_thread_id_idx": ("checkpoint_blobs", 7),
    "checkpoint_writes_thread_id_idx": ("checkpoint_writes", 8),
    "tiered_run_id_idx": ("checkpoints", 0),
    "tiered_order_idx": ("checkpoints", 0),
}
_ADDED_COLUMNS = {
    # The last column that each ALTER TABLE adds
    "writes_task_path": ("checkpoint_writes", "task_path"),
    "checkpoints_metadata": ("checkpoints", "tiered_metadata_sha256"),
    "threads_claim": ("tiered_threads", "claim"),
}
_COMPRESSED = {"checkpoint_blobs": "blobs_lz4", "checkpoint_writes": "writes_lz4"}
"""What makes a table's values compressed with lz4. Those of tables that were there before are their owner's choice."""

_SETUP_KEY = 0x4C47_5449_4552_01
_INDEX_KEY = 0x4C47_5449_4552_02
_COMMENT = re.compile(r"--(?! if \w+$| end$)")
_CONDITION = re.compile(r"^(.*?)\s*-- if (\w+)$")
_PLACEHOLDER = re.compile(r"%\((\w+)\)s(?:(?=::(\w+)\[\]))?")

_Built = tuple[str, list[tuple[str, type[list[Any]] | None]]]
"""The text of a query, and its parameters in order, with what makes an array of a list."""


@cache
def _read(file: str) -> Mapping[str, str]:
    source = (files("langgraph_tiered_checkpoint") / "sql" / file).read_text(encoding="utf-8")
    queries = {}
    for part in re.split(r"^-- name: ", source, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        queries[name.strip()] = "\n".join(line for line in body.splitlines() if not _COMMENT.match(line)).strip()
    return queries


class Queries:
    """The named queries of some files, for one schema."""

    def __init__(self, schema: str | None, *names: str) -> None:
        self.prefix = "" if schema is None else f"{_quoted(schema)}."
        self._texts = {
            name: text.replace("$schema.", self.prefix) for file in names for name, text in _read(file).items()
        }
        self._built: dict[tuple[str, frozenset[str]], _Built] = {}

    def text(self, name: str) -> str:
        """A query that takes no parameters, as it stands in its file."""
        return self._texts[name]

    def __call__(self, name: str, **params: Any) -> Sql:
        """A query with its parameters bound by position."""
        key = name, frozenset(param for param, value in params.items() if value is None)
        built = self._built.get(key)
        if built is None:
            built = self._built[key] = self._build(*key)
        text, order = built
        return Sql(text, tuple(params[param] if array is None else array(params[param]) for param, array in order))

    def _build(self, name: str, absent: frozenset[str]) -> _Built:
        lines = []
        left_out = False
        for line in self._texts[name].splitlines():
            condition = _CONDITION.match(line)
            if line == "-- end":
                left_out = False
            elif condition is None:
                lines += [line] * (not left_out)
            elif not condition[1]:
                left_out = condition[2] in absent
            elif condition[2] not in absent and not left_out:
                lines.append(condition[1])
        text = "\n".join(lines)
        order = [(name, ARRAYS.get(element)) for name, element in _PLACEHOLDER.findall(text)]
        # Arrays travel in binary: as text, each value is searched for what to quote, and bytes are spelled in hex.
        return _PLACEHOLDER.sub(lambda found: "%b" if found[2] else "%s", text), order


class ColdSchema:
    """Makes, upgrades and checks the tables."""

    def __init__(self, schema: str | None) -> None:
        self._schema = schema
        self._q = Queries(schema, "schema.sql", "read.sql", "write.sql")

    def ddl(self) -> str:
        """The whole DDL, for a DBA to run. It can be repeated, and applies to tables of the official saver as well."""
        names = [*TABLES, "blobs_nullable", *_ADDED_COLUMNS, *_INDEXES, "record_official", "record_tiered"]
        created = [] if self._schema is None else [f"CREATE SCHEMA IF NOT EXISTS {_quoted(self._schema)};"]
        note = "-- On tables that are large and in use, build the indexes with CREATE INDEX CONCURRENTLY instead."
        statements = [note + "\n" + self._q.text(n) if n == next(iter(_INDEXES)) else self._q.text(n) for n in names]
        advice = "\n-- ".join(["-- Where the server has lz4:", *map(self._q.text, _COMPRESSED.values())])
        return "\n\n".join([*created, *statements, advice]) + "\n"

    def setup_tx(self) -> Tx[list[str]]:
        """Do what a transaction can; the reply is what it can't, to be run in order, each outside a transaction.

        That is the building of indexes on tables that were there before. Who runs it takes `concurrent_lock` on a
        connection of its own, then asks `setup_tx` again: another process may have built them meanwhile, and
        an index that is being built looks like one whose build was interrupted. The statements must come first in their
        transaction: they set its isolation level.

        Raises:
            SchemaError: the tables are of a newer version of this package.
            ConfigurationError: row-level security is active for this role.
        """
        return Tx("setup", "*", self._setup)

    def concurrent_lock(self) -> Sql:
        """Try to become the one who builds indexes: one row, whether it worked. To be polled on an idle connection.

        Waiting for the lock inside Postgres would be a transaction that `CREATE INDEX CONCURRENTLY` waits for.
        """
        return self._q("concurrent_lock", key=_INDEX_KEY)

    def concurrent_unlock(self) -> Sql:
        """Give up what `concurrent_lock` took, on the same connection."""
        return self._q("concurrent_unlock", key=_INDEX_KEY)

    def check_schema(self) -> Tx[None]:
        """Check that the tables are there, and of a version that this package works with.

        Raises:
            SchemaError: they are missing, older or newer. The message says what to do.
            ConfigurationError: row-level security is active for this role.
        """
        return Tx("check_schema", "*", self._check)

    def _check(self) -> Statements[None]:
        missing = sorted(set(TABLES) - (yield from self._tables()))
        if missing:
            raise SchemaError(
                f"Postgres has no {_listed(missing)}{self._where}. Run setup(), or the DDL it prints, once"
            )
        yield from self._see_all_rows()
        version = yield from self._version()
        columns = yield from self._columns()
        absent = [".".join(column) for column in _ADDED_COLUMNS.values() if column not in columns]
        if version < TIERED_VERSION or absent:
            raise SchemaError(
                f"the tables in Postgres{self._where} are of an older version"
                f"{f' (there is no {_listed(absent)})' if absent else ''}. Run setup(), or the DDL it prints, once"
            )

    def _setup(self) -> Statements[list[str]]:
        q = self._q
        yield q("setup_mode")
        yield q("setup_lock", key=_SETUP_KEY)
        if self._schema is not None and not (yield q("schema_exists", schema=self._schema)):
            yield Sql(f"CREATE SCHEMA {_quoted(self._schema)}")
        before = yield from self._tables()
        yield from self._see_all_rows()
        if "tiered_migrations" in before:
            yield from self._version()
        for table in TABLES:
            if table not in before:
                yield q(table)
        yield from self._compress(set(TABLES) - before)
        [(official,)] = yield q("official_version")
        if official < 4 and "checkpoint_blobs" in before:
            yield q("blobs_nullable")
        columns = yield from self._columns()
        for statement, column in _ADDED_COLUMNS.items():
            if column not in columns:
                yield q(statement)
        pending = yield from self._index(before, official)
        yield q("record_tiered")
        if official < OFFICIAL_VERSION:
            # What is recorded is not done again, so it is recorded when it has been done.
            if pending:
                pending.append(q.text("record_official"))
            else:
                yield q("record_official")
        return pending

    def _see_all_rows(self) -> Statements[None]:
        """A row that is hidden looks like a thread that was deleted, and its hot copy would be dropped."""
        hiding = yield self._q("row_security", names=list(TABLES), qualified=self._qualified(TABLES))
        if hiding:
            tables = _listed([name for name, _ in hiding])
            raise ConfigurationError(
                f"row-level security may hide rows of {tables}{self._where} in Postgres from the role "
                f"{hiding[0][1]!r}, and a thread whose rows are hidden looks deleted. Connect as a role that owns the "
                "tables or has BYPASSRLS, or ALTER TABLE ... DISABLE ROW LEVEL SECURITY; `scoped` keeps tenants apart "
                "without it"
            )

    def _compress(self, made: set[str]) -> Statements[None]:
        chosen = [statement for table, statement in _COMPRESSED.items() if table in made]
        if chosen and (yield self._q("has_lz4")) == [(True,)]:
            for statement in chosen:
                yield self._q(statement)

    def _index(self, before: set[str], official: int) -> Statements[list[str]]:
        found: dict[str, bool] = dict((yield self._q("existing_indexes", qualified=self._qualified(TABLES))))
        pending = []
        for name, (table, migration) in _INDEXES.items():
            create = self._q.text(name)
            concurrently = create.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)
            if found.get(name) is False:
                pending += [f"DROP INDEX CONCURRENTLY IF EXISTS {self._q.prefix}{name}", concurrently]
            elif name not in found and table not in before:
                yield Sql(create)
            elif name not in found and (migration == 0 or official < migration):
                pending.append(concurrently)
        return pending

    def _tables(self) -> Statements[set[str]]:
        rows = yield self._q("existing_tables", names=list(TABLES), qualified=self._qualified(TABLES))
        return {name for (name,) in rows}

    def _columns(self) -> Statements[set[tuple[str, str]]]:
        tables = [table for table, _ in _ADDED_COLUMNS.values()]
        rows = yield self._q("existing_columns", names=tables, qualified=self._qualified(tables))
        return {(table, column) for table, column in rows}

    def _version(self) -> Statements[int]:
        [(version,)] = yield self._q("tiered_version")
        if version > TIERED_VERSION:
            raise SchemaError(
                f"the tables in Postgres{self._where} are of version {version}, and this package knows up to version "
                f"{TIERED_VERSION}. Upgrade langgraph-tiered-checkpoint"
            )
        return int(version)

    def _qualified(self, tables: tuple[str, ...] | list[str]) -> list[str]:
        return [self._q.prefix + table for table in tables]

    @property
    def _where(self) -> str:
        return "" if self._schema is None else f" in schema {self._schema!r}"


def _quoted(schema: str) -> str:
    if not schema or "\0" in schema or "%" in schema or len(schema.encode()) > 63:
        raise ConfigurationError(f"schema {schema!r} cannot be used: it must have 1 to 63 bytes and neither NUL nor %")
    return '"' + schema.replace('"', '""') + '"'


def _listed(names: list[str]) -> str:
    return ", ".join(names)
