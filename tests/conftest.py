"""Real servers for every test: one Redis and one Postgres per session (per xdist worker), empty for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest
import redis
from psycopg import sql

from langgraph_tiered_checkpoint.embedded import EmbeddedServers

_database_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """The session's servers. A test that kills or fills servers starts its own."""
    with EmbeddedServers() as running:
        yield running


@pytest.fixture
def redis_url(servers: EmbeddedServers) -> str:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
        client.script_flush()
    return servers.redis_url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the Redis behind `redis_url`; replies are bytes."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def postgres_url(servers: EmbeddedServers) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    database = f"t_{next(_database_numbers)}"
    with psycopg.connect(servers.postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    yield servers.postgres_url.replace("/app?", f"/{database}?")
    with psycopg.connect(servers.postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
