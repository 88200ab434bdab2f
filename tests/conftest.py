"""Real servers for every test: one Redis and one Postgres per session (per xdist worker), empty for each test.

Tests in folders called `faults` get a pair per module instead, which they may break: `support/faults/fixtures.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import redis
from hypothesis import HealthCheck, settings
from key_rules import broken_rules
from own_redis import binaries

from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers

if TYPE_CHECKING:
    from databases import Database

pytest_plugins = ["databases", "faults.fixtures"]

# What their asserts compared is worth seeing, as in the tests themselves.
pytest.register_assert_rewrite("model.pair", "model.usage", "statements")

# Tests run on the oldest Redis that will do. The one that users get with the extra is in test_embedded.py.
if "redis 6.2" in binaries():
    os.environ.setdefault("LGT_REDIS_SERVER", str(binaries()["redis 6.2"]))

# Each example uses a thread of its own, so the fixtures need not be made anew for each.
_FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile("ci", max_examples=60, deadline=None, suppress_health_check=_FIXTURES)
settings.register_profile("nightly", max_examples=2_000, deadline=None, suppress_health_check=_FIXTURES)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def _breaks_servers(request: pytest.FixtureRequest) -> bool:
    return request.path.parent.name == "faults"


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[EmbeddedServers]:
    """The session's servers."""
    with EmbeddedServers() as running:
        yield running


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> EmbeddedServers:
    """The servers that the module's tests run on."""
    made: EmbeddedServers = request.getfixturevalue(
        "servers_to_break" if _breaks_servers(request) else "shared_servers"
    )
    return made


@pytest.fixture
def shared_redis(servers: EmbeddedServers) -> Iterator[str]:
    """The URL of an empty Redis. What the test leaves in it must keep the rules for keys."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
        client.script_flush()
        yield servers.redis_url
        assert broken_rules(client) == []


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty Redis."""
    url: str = request.getfixturevalue("redis_to_break" if _breaks_servers(request) else "shared_redis")
    return url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the Redis behind `redis_url`; replies are bytes."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: with our tables, or without them where a test is marked `bare`."""
    database: Database = request.getfixturevalue("database_to_break" if _breaks_servers(request) else "shared_database")
    database.begin(bare=request.node.get_closest_marker("bare") is not None)
    return database.url


@pytest.fixture(params=["sync", "async"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop | None]:
    """The loop to call async methods in, or None to call the sync ones. Idle while no call is under way."""
    if request.param == "sync":
        yield None
        return
    made = asyncio.new_event_loop()
    yield made
    made.run_until_complete(made.shutdown_asyncgens())
    made.close()
