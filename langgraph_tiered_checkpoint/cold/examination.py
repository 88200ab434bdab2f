"""What the doctor asks Postgres: of the server, of the role, and of what hides rows. Changes nothing. No I/O."""

from __future__ import annotations

from typing import Final, NamedTuple

from langgraph_tiered_checkpoint.cold.schema import TABLES, Queries
from langgraph_tiered_checkpoint.steps import Statements, Tx

_PRIVILEGES: Final = {"checkpoint_migrations": ("SELECT",), "tiered_migrations": ("SELECT", "UPDATE")}
_OF_ROWS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""On every other table."""


class Server(NamedTuple):
    """What a Postgres says of itself."""

    version: int
    """As `server_version_num`."""
    version_text: str
    is_standby: bool
    is_read_only: bool
    role: str
    time_s: float


class Grants(NamedTuple):
    """What a role may do."""

    schema: str
    """Where the tables are, or would be; empty if there is no such schema."""
    uses: bool
    creates: bool
    """Whether it may make tables there."""
    lacks: list[str]
    """ "PRIVILEGE on table" of what it lacks."""


class Examination:
    """The questions, for the tables in one schema."""

    def __init__(self, schema: str | None) -> None:
        self._schema = schema
        self._q = Queries(schema, "schema.sql", "doctor.sql")

    def server(self) -> Tx[Server]:
        """The server and the role."""
        return Tx("server", "*", self._server, together=False)

    def _server(self) -> Statements[Server]:
        [row] = yield self._q("server")
        return Server(*row)

    def grants(self) -> Tx[Grants]:
        """What the role may do."""
        return Tx("grants", "*", self._grants, together=False)

    def _grants(self) -> Statements[Grants]:
        rows = yield self._q("of_schema", schema=self._schema)
        schema, uses, creates = rows[0] if rows else ("", False, False)
        if not uses:
            return Grants(schema, uses, creates, [])
        wanted = [(table, privilege) for table in TABLES for privilege in _PRIVILEGES.get(table, _OF_ROWS)]
        lacking = yield self._q(
            "lacking",
            names=[table for table, _ in wanted],
            qualified=[self._q.prefix + table for table, _ in wanted],
            privileges=[privilege for _, privilege in wanted],
        )
        return Grants(schema, uses, creates, [f"{privilege} on {table}" for privilege, table in lacking])

    def hiding(self) -> Tx[list[str]]:
        """The tables of which row-level security may hide rows from the role."""
        return Tx("hiding", "*", self._hiding, together=False)

    def _hiding(self) -> Statements[list[str]]:
        qualified = [self._q.prefix + table for table in TABLES]
        rows = yield self._q("row_security", names=list(TABLES), qualified=qualified)
        return [table for table, _ in rows]
