"""Finds out what is between a process and Postgres: nothing, or a pooler, and whether that one shares sessions."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
from psycopg import capabilities, errors

from langgraph_tiered_checkpoint.io.counterparts import sync_cold
from langgraph_tiered_checkpoint.io.postgres_sync import SyncPostgres
from langgraph_tiered_checkpoint.io.targets import ColdTarget
from langgraph_tiered_checkpoint.steps import Pooling

_WHO = "SELECT pg_backend_pid()"


def pooling_of(target: ColdTarget | None) -> Pooling:
    """What is between us and that Postgres. Two connections, five round trips at most.

    Raises:
        psycopg.Error: it does not answer.
        ConfigurationError: no connection can be made from the settings of the pool that was given.
    """
    if target is None:
        return Pooling()
    port = SyncPostgres(sync_cold(target))
    with closing(port.dedicated()) as one:
        serving = _who(one)
        if one.info.backend_pid == serving:
            return Pooling()
        with closing(port.dedicated()) as other:
            if _who(other) != serving:  # while we have the first one open
                return Pooling(between=True)
            forgets, prepares = _forgets(one, other), one.prepare_threshold is not None
            return Pooling(True, True, forgets, prepares, capabilities.has_send_close_prepared())  # noqa: FBT003 - a record


def _who(connection: Any) -> int:
    return int(connection.execute(_WHO, prepare=False).fetchone()[0])


def _forgets(one: Any, other: Any) -> bool | None:
    """Whether a statement that one has prepared is gone when another has taken its session; None if none is free."""
    try:
        one.execute("SELECT 1", prepare=True)
        with other.transaction():
            _who(other)
            one.execute("SELECT 1", prepare=True)
    except (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement):
        return True
    except psycopg.Error:
        return None
    return False
