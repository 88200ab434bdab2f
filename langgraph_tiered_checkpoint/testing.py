"""Fixtures for the tests of programs that use this package. pytest finds them by itself; the extra is `[testing]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:  # this is loaded with every run of pytest, whether or not it needs a saver
    from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers
    from langgraph_tiered_checkpoint.saver import TieredSaver


@pytest.fixture(scope="session")
def tiered_servers() -> Iterator[EmbeddedServers]:
    """A real Redis and a real Postgres, once a session; with pytest-xdist, once a worker.

    They have `redis_url` and `postgres_url`, for tests that make savers of their own.
    """
    from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers

    with EmbeddedServers() as servers:
        yield servers


@pytest.fixture(scope="session")
def _tiered_saver_of_all(tiered_servers: EmbeddedServers) -> Iterator[TieredSaver]:
    from langgraph_tiered_checkpoint.saver import TieredSaver

    with TieredSaver.from_urls(tiered_servers.redis_url, tiered_servers.postgres_url) as saver:
        yield saver


@pytest.fixture
def tiered_saver(_tiered_saver_of_all: TieredSaver) -> TieredSaver:
    """A saver for one test, sync or async: confined to a scope of its own, so that no test sees another's threads."""
    return _tiered_saver_of_all.scoped(uuid4().hex)
