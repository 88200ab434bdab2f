"""The named queries in sql/, and the tables themselves: DDL, setup and the check of what is there. No I/O.

Files are procrastinate's kind: `-- name: x`, a description in comments, one statement. `$schema.` stands for the
qualification of a table, `$order` for the collation that ids need. A line that ends in `-- if x` is left out where the
parameter `x` is None; if that is all of it, so are the lines up to `-- end`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.resources import files
from typing import Any

from langgraph_tiered_checkpoint.errors import ConfigurationError, SchemaError, StoreChangedError
from langgraph_tiered_checkpoint.records import Tables
from langgraph_tiered_checkpoint.steps import Alone, Sql, Statements, Tx

TABLES = (
    "checkpoint_migrations",
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
    "tiered_migrations",
    "tiered_threads",
    "tiered_segments",
)
OFFICIAL_VERSION = 9
TIERED_VERSION = 2

_INDEXES = {
    # name: (table, the official migration that makes it, or 0 for ours)
    "checkpoints_thread_id_idx": ("checkpoints", 6),
    "checkpoint_blobs_thread_id_idx": ("checkpoint_blobs", 7),
    "checkpoint_writes_thread_id_idx": ("checkpoint_writes", 8),
    "tiered_run_id_idx": ("checkpoints", 0),
    "tiered_order_idx": ("checkpoints", 0),
    "tiered_idle_idx": ("tiered_threads", 0),
    "tiered_long_idx": ("tiered_threads", 0),
    "tiered_segments_order_idx": ("tiered_segments", 0),
    "tiered_segments_runs_idx": ("tiered_segments", 0),
}
_ADDED_COLUMNS = {
    # The last column that each ALTER TABLE adds
    "writes_task_path": ("checkpoint_writes", "task_path"),
    "checkpoints_metadata": ("checkpoints", "tiered_metadata_sha256"),
    "threads_claim": ("tiered_threads", "claim"),
    "threads_copied": ("tiered_threads", "copied"),
    "threads_unarchived": ("tiered_threads", "archive_due"),
    "migrations_store": ("tiered_migrations", "redis"),
}
_COMPRESSED = {"checkpoint_blobs": "blobs_lz4", "checkpoint_writes": "writes_lz4"}
"""What makes a table's values compressed with lz4. Those of tables that were there before are their owner's choice."""

_FILES = ("schema.sql", "read.sql", "write.sql", "archive.sql")
_BOUND = "EXISTS (SELECT 1 FROM $schema.tiered_migrations WHERE v = 1 AND store = %(store)s)"
"""That the tables are of a store."""

_SETUP_KEY = 0x4C47_5449_4552_01
_INDEX_KEY = 0x4C47_5449_4552_02
_COMMENT = re.compile(r"--(?! if \w+$| end$)")
_CONDITION = re.compile(r"^(.*?)\s*-- if (\w+)$")
_PLACEHOLDER = re.compile(r"%\((\w+)\)s((?=::\w+\[\]))?")

_Built = tuple[str, list[str]]
"""The text of a query, and the names of its parameters in order."""


def load() -> None:
    """Read the files, which happens with the first statement otherwise."""
    for file in (*_FILES, "doctor.sql"):
        _read(file)


@cache
def _read(file: str) -> Mapping[str, str]:
    source = (files(__package__) / "sql" / file).read_text(encoding="utf-8")
    queries = {}
    for part in re.split(r"^-- name: ", source, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        queries[name.strip()] = "\n".join(line for line in body.splitlines() if not _COMMENT.match(line)).strip()
    return queries


class Queries:
    """The named queries of some files, for one schema."""

    def __init__(self, schema: str | None, *names: str, order: str = "") -> None:
        self.prefix = "" if schema is None else f"{_quoted(schema)}."
        self._files = names
        self._order = order
        self._built: dict[tuple[str, frozenset[str]], _Built] = {}

    @cached_property
    def _texts(self) -> Mapping[str, str]:
        return {
            name: text.replace("$bound", _BOUND).replace("$schema.", self.prefix).replace(" $order", self._order)
            for file in self._files
            for name, text in _read(file).items()
        }

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
        return Sql(text, tuple(params[param] for param in order))

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
        order = [name for name, _ in _PLACEHOLDER.findall(text)]
        # Arrays travel in binary: as text, each value is searched for what to quote, and bytes are spelled in hex.
        return _PLACEHOLDER.sub(lambda found: "%s" if found[2] is None else "%b", text), order


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is there of the tables."""

    tables: Mapping[str, bool]
    """By name, whether it is partitioned."""
    columns: frozenset[tuple[str, str]]
    indexes: Mapping[str, bool]
    """By name, whether it is usable: an index that is being built, or whose build was interrupted, is not."""
    official: int
    """The last official migration, -1 without any."""
    tiered: int
    """Our last migration, 0 without any."""

    @property
    def lacks(self) -> list[str]:
        """What no statement of ours can do without, to be shown to people."""
        missing = [table for table in TABLES if table not in self.tables]
        absent = [
            ".".join(column)
            for column in _ADDED_COLUMNS.values()
            if column[0] in self.tables and column not in self.columns
        ]
        if "tiered_migrations" in self.tables and self.tiered < TIERED_VERSION:
            absent.append(f"tiered_migrations.v = {TIERED_VERSION}")
        return missing + absent

    @property
    def unindexed(self) -> list[str]:
        """The indexes without which statements are slower, in tables that are ours to index.

        An official one that is recorded but gone was dropped by somebody, who had a reason. Those of partitioned tables
        are left to who partitioned them: no index of such a table can be built concurrently.
        """
        return [
            name
            for name, (table, migration) in _INDEXES.items()
            if self.tables.get(table) is False
            and not (self.indexes.get(name, False) or (name not in self.indexes and self.official >= migration > 0))
        ]


class ColdSchema:
    """Makes, upgrades and checks the tables. The plans that do so are in preparing.py."""

    def __init__(self, schema: str | None) -> None:
        self.store: str | None = None
        """The store that the tables have to be of, or statements refuse to work; None asks for nothing."""
        self._schema = schema
        self._q = Queries(schema, *_FILES)

    def ddl(self) -> str:
        """The whole DDL, for a DBA to run. It can be repeated, and applies to tables of the official saver as well."""
        names = [*TABLES, "blobs_nullable", *_ADDED_COLUMNS, *_INDEXES, "record_official", "record_tiered"]
        created = [] if self._schema is None else [f"CREATE SCHEMA IF NOT EXISTS {_quoted(self._schema)};"]
        note = "-- On tables that are large and in use, build the indexes with CREATE INDEX CONCURRENTLY instead."
        statements = [note + "\n" + self._q.text(n) if n == next(iter(_INDEXES)) else self._q.text(n) for n in names]
        advice = "\n-- ".join(["-- Where the server has lz4:", *map(self._q.text, _COMPRESSED.values())])
        return "\n\n".join([*created, *statements, advice]) + "\n"

    def look(self) -> Tx[Inventory]:
        """What is there. Only reads, so that it works on a standby, and for a role that may do no more.

        Raises:
            SchemaError: the tables are of a newer version of this package.
            ConfigurationError: row-level security is active for this role.
        """
        return Tx("setup", "*", self._look)

    def make(self, lock_timeout_s: float) -> Tx[Inventory | None]:
        """Make the tables and columns that are missing; None if another process is doing so.

        A table that is in use is changed when nobody holds it: whoever waits for that longer than `lock_timeout_s`
        keeps all others waiting who come after it. The statements must come first in their transaction: they set
        its mode.

        Raises:
            ColdLockedError: somebody held a table for too long.
            SchemaError: it cannot be done here; the message says what to do.
        """
        return Tx("setup", "*", partial(self._make, round(lock_timeout_s * 1000)))

    def build(self, patience_s: float) -> Alone:
        """Build the missing indexes, each for at most `patience_s`, unless another process is doing so.

        What is unusable in a table that somebody builds an index of already (or vacuums) may be in the making: that
        table is passed over.
        """
        return Alone("setup", self._try_lock(_INDEX_KEY), Tx("setup", "*", self._indexing), patience_s)

    def in_the_way(self) -> Tx[list[str]]:
        """Who holds the tables, or keeps those waiting who do: the oldest transactions, without texts of queries."""
        return Tx("setup", "*", self._in_the_way)

    def check_schema(self) -> Tx[None]:
        """Check that the tables are there, and of a version that this package works with.

        Raises:
            SchemaError: they are missing, older or newer. The message says what to do.
            ConfigurationError: row-level security is active for this role.
        """
        return Tx("check_schema", "*", self._check)

    def belonging(self) -> Tx[Tables]:
        """Which store the tables are of."""
        return Tx("belonging", "*", self._belonging, together=False)

    def _belonging(self) -> Statements[Tables]:
        for row in (yield self._q("belonging")):
            return Tables(*row)
        return Tables("", "")

    def belong(self, expected: str, store: str, redis: str) -> Tx[bool]:
        """From now on the tables are of a store. The reply is whether they were of the `expected` one till then."""
        return Tx("belong", "*", partial(self._belong, expected, store, redis), together=False)

    def _belong(self, expected: str, store: str, redis: str) -> Statements[bool]:
        return bool((yield self._q("belong", expected=expected, store=store, redis=redis)))

    def _in_store(self, name: str, **params: Any) -> Statements[list[tuple[Any, ...]]]:
        """The rows of a query that makes sure of the store.

        Raises:
            StoreChangedError: the tables are not of our store.
        """
        rows = yield self._q(name, store=self.store, **params)
        if any(row[0] is None for row in rows):
            raise StoreChangedError(
                f"the tables in Postgres{self.where} are of another store by now than the Redis in use: one of them "
                "was replaced, or setup(take_over=True) was called. Nothing was changed; repeat the call"
            )
        return rows

    @property
    def where(self) -> str:
        """Where the tables are, to be put after what is said of them."""
        return "" if self._schema is None else f" in schema {self._schema!r}"

    def _check(self) -> Statements[None]:
        found = yield from self._look()
        missing = sorted(set(TABLES) - found.tables.keys())
        if missing:
            raise SchemaError(
                f"Postgres has no {_listed(missing)}{self.where}. Run setup(), or the DDL it prints, once"
            )
        if found.lacks:
            raise SchemaError(
                f"the tables in Postgres{self.where} are of an older version (there is no {_listed(found.lacks)}). "
                "Run setup(), or the DDL it prints, once"
            )

    def inventory(self) -> Tx[Inventory]:
        """What is there, whatever it is: only row-level security may make it look like less."""
        return Tx("inventory", "*", self._inventory)

    def _inventory(self) -> Statements[Inventory]:
        q, qualified = self._q, self._qualified(TABLES)
        tables: dict[str, bool] = dict((yield q("existing_tables", names=list(TABLES), qualified=qualified)))
        of_columns = [table for table, _ in _ADDED_COLUMNS.values()]
        columns = yield q("existing_columns", names=of_columns, qualified=self._qualified(of_columns))
        indexes: dict[str, bool] = dict((yield q("existing_indexes", qualified=qualified)))
        [(official,)] = (yield q("official_version")) if "checkpoint_migrations" in tables else [(-1,)]
        [(tiered,)] = (yield q("tiered_version")) if "tiered_migrations" in tables else [(0,)]
        return Inventory(tables, frozenset((table, column) for table, column in columns), indexes, official, tiered)

    def _look(self) -> Statements[Inventory]:
        found = yield from self._inventory()
        yield from self._see_all_rows()
        if (yield self._q("orders_ids", qualified=self._qualified(TABLES))) == [(False,)]:
            self._q = Queries(self._schema, *_FILES, order=' COLLATE "C"')
        if found.tiered > TIERED_VERSION:
            raise SchemaError(
                f"the tables in Postgres{self.where} are of version {found.tiered}, and this package knows up to "
                f"version {TIERED_VERSION}. Upgrade langgraph-tiered-checkpoint"
            )
        return found

    def _make(self, lock_timeout_ms: int) -> Statements[Inventory | None]:
        q = self._q
        yield q("setup_mode")
        yield Sql(f"SET LOCAL lock_timeout = {max(lock_timeout_ms, 1)}")
        if (yield self._try_lock(_SETUP_KEY)) != [(True,)]:
            return None
        yield from self._make_room()
        before = yield from self._look()
        made = [table for table in TABLES if table not in before.tables]
        for table in made:
            yield q(table)
        yield from self._compress(made)
        if before.official < 4 and "checkpoint_blobs" in before.tables:
            yield q("blobs_nullable")
        for statement, column in _ADDED_COLUMNS.items():
            if column[0] in before.tables and column not in before.columns:
                yield q(statement)
        for name, (table, _) in _INDEXES.items():
            if table in made:
                yield Sql(q.text(name))
        yield q("record_tiered")
        # What is recorded is not done again, so it is recorded when it has been done.
        if before.official < OFFICIAL_VERSION and not before.unindexed:
            yield q("record_official")
        return (yield from self._look())

    def _see_all_rows(self) -> Statements[None]:
        """A row that is hidden looks like a thread that was deleted, and its hot copy would be dropped."""
        hiding = yield self._q("row_security", names=list(TABLES), qualified=self._qualified(TABLES))
        if hiding:
            tables = _listed([name for name, _ in hiding])
            raise ConfigurationError(
                f"row-level security may hide rows of {tables}{self.where} in Postgres from the role "
                f"{hiding[0][1]!r}, and a thread whose rows are hidden looks deleted. Connect as a role that owns the "
                "tables or has BYPASSRLS, or ALTER TABLE ... DISABLE ROW LEVEL SECURITY; `scoped` keeps tenants apart "
                "without it"
            )

    def _make_room(self) -> Statements[None]:
        if self._schema is not None:
            if not (yield self._q("schema_exists", schema=self._schema)):
                yield Sql(f"CREATE SCHEMA {_quoted(self._schema)}")
        elif (yield self._q("first_schema")) == [(None,)]:
            raise ConfigurationError(
                "setup: the search_path of this role names no schema that exists, so the tables have no place in "
                "Postgres. Pass schema=..., or set a search_path for the role (ALTER ROLE ... SET search_path)"
            )

    def _compress(self, made: Sequence[str]) -> Statements[None]:
        chosen = [statement for table, statement in _COMPRESSED.items() if table in made]
        if chosen and (yield self._q("has_lz4")) == [(True,)]:
            for statement in chosen:
                yield self._q(statement)

    def _indexing(self) -> Statements[list[str]]:
        found = yield from self._look()
        busy = {table for (table,) in (yield self._q("held", names=list(TABLES), qualified=self._qualified(TABLES)))}
        statements = []
        for name in found.unindexed:
            if _INDEXES[name][0] not in busy:
                if name in found.indexes:
                    statements.append(f"DROP INDEX CONCURRENTLY IF EXISTS {self._q.prefix}{name}")
                statements.append(self._q.text(name).replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1))
        if found.official < OFFICIAL_VERSION and not busy:
            statements.append(self._q.text("record_official"))
        return statements

    def _in_the_way(self) -> Statements[list[str]]:
        rows = yield self._q("in_the_way", qualified=self._qualified(TABLES))
        return [
            f"session {pid} (role {role!r}, application {application!r}{f', {state}' if state else ''}"
            f"{'' if age is None else f', in a transaction for {age} s'})"
            for pid, role, application, state, age in rows
        ]

    def _try_lock(self, key: int) -> Sql:
        return self._q("try_lock", schema=self._schema, key=key)

    def _qualified(self, tables: Sequence[str]) -> list[str]:
        return [self._q.prefix + table for table in tables]


def _quoted(schema: str) -> str:
    if not schema or "\0" in schema or "%" in schema or len(schema.encode()) > 63:
        raise ConfigurationError(f"schema {schema!r} cannot be used: it must have 1 to 63 bytes and neither NUL nor %")
    return '"' + schema.replace('"', '""') + '"'


def _listed(names: list[str]) -> str:
    return ", ".join(names)
