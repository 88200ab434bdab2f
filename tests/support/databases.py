"""Databases for the statements over the cold tables: empty, set up by us, or set up by the official saver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from statements import Connection, connect, set_up

from langgraph_tiered_checkpoint.cold.writes import Cold


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
