"""What transactions in Postgres have in common, whichever way they are carried out: deadlines, openings, repeats."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncClientCursor, ClientCursor, errors
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import tuple_row

from langgraph_tiered_checkpoint.errors import ConfigurationError, TieredCheckpointError
from langgraph_tiered_checkpoint.io.faults import StatementTimeoutError, is_transient, may_repeat
from langgraph_tiered_checkpoint.io.targets import ColdTarget
from langgraph_tiered_checkpoint.steps import Sql, Statements, Tx

T = TypeVar("T")


IDLE_S: Final = 600.0
"""Connections unused for so long are closed: something on the way may have forgotten them."""


_POLL_S: Final = 0.05


HOLDING_OPENS: Final = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


HOLDING_IDLES: Final = "SET LOCAL idle_in_transaction_session_timeout = 0"
"""How a transaction comes to hold a lock and nothing else: `CREATE INDEX CONCURRENTLY` would wait for a snapshot,
which lasts until another statement follows the last that needs one."""


CANCEL_S: Final = 0.5
"""How long the server has to hear that a statement is given up; it would go on there otherwise, and keep its locks."""


def within(gen: PQGen[T], patience_s: float | None) -> PQGen[T]:
    """`gen`, ended by an error when the server has sent nothing for too long."""
    if patience_s is None:
        return (yield from gen)
    deadline = time.monotonic() + patience_s
    try:
        ready = yield next(gen)
        while True:
            if ready:
                deadline = time.monotonic() + patience_s
            elif time.monotonic() > deadline:
                raise StatementTimeoutError(f"nothing received for {patience_s} s")
            ready = yield gen.send(ready)
    except StopIteration as done:
        result: T = done.value
        return result


class Repeat(Exception):  # noqa: N818 - a signal, not an error
    """The transaction is worth a second run."""

    def __init__(self, error: psycopg.Error) -> None:
        self.error = error
        self.transient = is_transient(error)


Action = Callable[[], Any]
"""Something to do with a connection. Of an async one, what it returns is awaited."""


def transaction(
    connection: Any, step: Tx[T], first: Callable[[Any, list[str], Any, Sql], Any]
) -> Generator[Action, Any, T]:
    """Run `step` on a connection that is in no transaction: yields what to do, is sent or thrown what comes of it.

    What is neither Postgres's error nor ours leaves the connection closed: it can come from anywhere, half-way.

    Args:
        connection: of psycopg, sync or async.
        step: the transaction.
        first: executes the first statement, and what goes before it, in one round trip if libpq can.

    Raises:
        Repeat: it failed, and is worth a second run.
        psycopg.Error: it failed.
    """
    body = step.body()
    try:
        return (yield from _statements(connection, step, body, first))
    except (psycopg.Error, TieredCheckpointError) as exc:
        late = isinstance(exc, StatementTimeoutError)
        if not (connection.closed or late):  # it still listens
            with contextlib.suppress(psycopg.Error):
                yield connection.rollback
        if connection.info.transaction_status != TransactionStatus.IDLE:
            yield connection.close
        if not late and isinstance(exc, psycopg.Error) and may_repeat(exc, closed=connection.closed):
            if not is_transient(exc):
                yield connection.close
            raise Repeat(exc) from exc
        raise
    except GeneratorExit:
        raise
    except BaseException:
        yield connection.close
        raise
    finally:
        body.close()


def _statements(
    connection: Any, step: Tx[T], body: Statements[T], first: Callable[[Any, list[str], Any, Sql], Any]
) -> Generator[Action, Any, T]:
    statement, result = _next(body, None)
    if statement is not None:
        check_encodings(connection)
        cursor = connection.cursor(row_factory=tuple_row, binary=speaks_binary(connection))
        yield partial(first, connection, _opening(step, begin=connection.autocommit), cursor, statement)
        while True:
            statement, result = _next(body, [] if cursor.rownumber is None else (yield cursor.fetchall))
            if statement is None:
                break
            yield partial(cursor.execute, *statement)
        if connection.info.transaction_status != TransactionStatus.IDLE:
            yield connection.commit
    return result  # type: ignore[no-any-return]


def _opening(step: Tx[Any], *, begin: bool) -> list[str]:
    """What goes before the first statement. `begin`: nobody else sends a BEGIN."""
    statements = ["BEGIN"] if begin and (step.together or step.timeout_ms is not None) else []
    if step.timeout_ms is not None:
        statements.append(f"SET LOCAL statement_timeout = {int(step.timeout_ms)}")
    return statements


def _next(body: Statements[T], rows: list[tuple[Any, ...]] | None) -> tuple[Sql | None, Any]:
    """The next statement, or None and the result."""
    try:
        return (next(body) if rows is None else body.send(rows)), None
    except StopIteration as done:
        return None, done.value


def speaks_binary(connection: Any) -> bool:
    """Whether results can come in binary, which spares both sides to spell bytes in hex. Client-side cursors cannot."""
    return not issubclass(connection.cursor_factory, ClientCursor | AsyncClientCursor)


def check_encodings(connection: Any) -> None:
    """Make sure that all texts can be sent and stored. Asks nobody: the server has told when the connection was made.

    Raises:
        ConfigurationError: they can't.
    """
    stored = connection.info.parameter_status("server_encoding")
    if stored not in (None, "UTF8", "SQL_ASCII"):
        raise ConfigurationError(
            f"the database {connection.info.dbname!r} in Postgres is encoded in {stored}, which cannot hold every "
            "text. Use one in UTF8: CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'"
        )
    if connection.info.encoding != "utf-8":
        raise ConfigurationError(
            f"the given pool's connections have the client_encoding {connection.info.encoding}, which cannot carry "
            "every text. Give the pool kwargs={'client_encoding': 'utf8'}"
        )


def outside_transactions(pgconn: PGconn, statement: str, patience_s: float) -> Iterator[float]:
    """Run a statement whatever class the connection is of; yields for how many seconds to pause.

    Raises:
        psycopg.Error: it failed.
        StatementTimeoutError: it takes too long. The server goes on with it.
    """
    pgconn.send_query(statement.encode())
    waited_s = 0.0
    while pgconn.flush() or pgconn.is_busy():
        if waited_s >= patience_s:
            raise StatementTimeoutError(f"not done after {patience_s:g} s")
        yield _POLL_S
        waited_s += _POLL_S
        pgconn.consume_input()
    while (result := pgconn.get_result()) is not None:
        if result.status == ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result)


def took_too_long(target: ColdTarget) -> psycopg.OperationalError:
    """No connection became free, in the words of psycopg_pool."""
    from psycopg_pool import PoolTimeout  # our own connections need nothing else of it

    return PoolTimeout(f"all {target.max_size} were in use for {target.timeout_s} s")


def wrong_pool(given: str, methods: str) -> ConfigurationError:
    """Only the `given` kind of pool is there."""
    return ConfigurationError(
        f"postgres: only {given} pool was given, so the {methods} methods cannot be used; pass a URL, or a pair of "
        "a ConnectionPool and an AsyncConnectionPool"
    )


def dedicated_settings(settings: dict[str, Any] | None) -> dict[str, Any]:
    """A pool's settings, for a connection of our own outside of it."""
    return {**(settings or {}), "autocommit": True, "row_factory": tuple_row}
