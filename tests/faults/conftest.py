"""Servers that tests may kill, fill and freeze: a pair per module, mended and emptied after each test."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from faults.ledger import Caller
from faults.outages import MakeSaver, postgres_socket, redis_port
from faults.proxy import Proxy
from key_rules import broken_rules

from langgraph_tiered_checkpoint import EmbeddedServers, Promotion, TieredSaver, Timeouts


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """Where the servers keep their data; pytest's own directories are out of reach for those that are not root."""
    with tempfile.TemporaryDirectory(prefix="lgt-faults-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def servers(path: Path) -> Iterator[EmbeddedServers]:
    """In place of the session's."""
    with EmbeddedServers(path / "state") as running:
        yield running


@pytest.fixture
def redis_url(servers: EmbeddedServers) -> Iterator[str]:
    """The URL of an empty Redis. Whatever was done to it, what is left in it must keep the rules for keys."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
        client.script_flush()
        before = {
            name: client.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy", "min-replicas-to-write")
        }
        yield servers.redis_url
        _revive_redis(servers)
        client.replicaof("NO", "ONE")
        for name, value in before.items():
            client.config_set(name, value)
        assert broken_rules(client) == []


def _revive_redis(servers: EmbeddedServers) -> None:
    if servers.redis_pid is None:
        servers.restart_redis()
    else:
        os.kill(servers.redis_pid, signal.SIGCONT)


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def postgres_url(servers: EmbeddedServers) -> Iterator[str]:
    """The URL of an empty database."""
    yield servers.postgres_url
    if servers.postgres_pid is None:
        servers.restart_postgres()
    with psycopg.connect(
        servers.postgres_url, autocommit=True, options="-c default_transaction_read_only=off"
    ) as admin:
        admin.execute("ALTER DATABASE app RESET ALL")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        admin.execute("DROP SCHEMA public CASCADE")
        admin.execute("CREATE SCHEMA public")


@pytest.fixture
def redis_proxy(servers: EmbeddedServers) -> Iterator[Proxy]:
    with Proxy(redis_port(servers)) as proxy:
        yield proxy


@pytest.fixture
def postgres_proxy(servers: EmbeddedServers) -> Iterator[Proxy]:
    with Proxy(postgres_socket(servers)) as proxy:
        yield proxy


@pytest.fixture
def proxied_redis_url(redis_url: str, redis_proxy: Proxy, servers: EmbeddedServers) -> str:
    return redis_url.replace(f":{redis_port(servers)}/", f":{redis_proxy.port}/")


@pytest.fixture
def proxied_postgres_url(postgres_url: str, postgres_proxy: Proxy) -> str:
    database = psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"]
    return f"postgresql://postgres@127.0.0.1:{postgres_proxy.port}/{database}?sslmode=disable&gssencmode=disable"


@pytest.fixture
def make_saver() -> Iterator[MakeSaver]:
    """Makes savers that are impatient, promote nothing by themselves, and are closed after the test."""
    made: list[TieredSaver] = []

    def make(redis_url: str, postgres_url: str | None, **settings: Any) -> TieredSaver:
        limit = timedelta(seconds=0.5)
        defaults: dict[str, Any] = {
            "promoter": "external",
            "promotion": Promotion.never(),
            "flush_interval": timedelta(seconds=0.1),
            "timeouts": Timeouts(hot=limit, cold=limit, busy=limit, drain=limit),
        }
        made.append(TieredSaver.from_urls(redis_url, postgres_url, **(defaults | settings)))
        return made[-1]

    yield make
    for saver in made:
        saver.close()


@pytest.fixture
def saver(redis_url: str, postgres_url: str, make_saver: MakeSaver) -> TieredSaver:
    return make_saver(redis_url, postgres_url)


@pytest.fixture
def call(saver: TieredSaver, loop: asyncio.AbstractEventLoop | None) -> Caller:
    return Caller(saver, loop)


@pytest.fixture
def proxied(
    proxied_redis_url: str,
    proxied_postgres_url: str,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
) -> Caller:
    """A saver that reaches both servers through proxies."""
    return Caller(make_saver(proxied_redis_url, proxied_postgres_url), loop)
