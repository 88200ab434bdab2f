"""Servers that tests may kill, fill and freeze: mended and emptied after each test.

The fixtures `servers`, `redis_url` and `postgres_url` are those of this file for the tests in folders called `faults`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import redis
from databases import Database
from faults.ledger import Caller
from faults.outages import MakeSaver, postgres_socket, redis_port
from faults.proxy import Proxy
from key_rules import broken_rules
from waiting import wait_until

from langgraph_tiered_checkpoint import EmbeddedServers, Promotion, TieredSaver, Timeouts

LONG_LOG_BYTES = 1_000_000


@pytest.fixture(scope="session")
def servers_to_break() -> Iterator[EmbeddedServers]:
    """A pair for all these tests."""
    with EmbeddedServers() as running:
        yield running


@pytest.fixture
def redis_to_break(servers_to_break: EmbeddedServers) -> Iterator[str]:
    """The URL of an empty Redis. Whatever was done to it, what is left in it must keep the rules for keys."""
    with redis.Redis.from_url(servers_to_break.redis_url) as client:
        client.flushall()
        client.script_flush()
        _shorten_log(client)
        _save_again(client)
        before = client.config_get("*")
        yield servers_to_break.redis_url
        _revive_redis(servers_to_break)
        client.replicaof("NO", "ONE")
        for name, value in client.config_get("*").items():
            if before[name] != value:
                client.config_set(name, before[name])
        assert broken_rules(client) == []


def _shorten_log(client: redis.Redis) -> None:
    """A restart replays all that earlier tests have written, unless the log is written anew."""
    if client.info("persistence")["aof_current_size"] > LONG_LOG_BYTES:
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the log to be rewritten")


def _save_again(client: redis.Redis) -> None:
    """A child that was saving, and was killed or had no room for it, is remembered until the next one succeeds."""
    if client.info("persistence")["rdb_last_bgsave_status"] != "ok":
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok", "the next save")


def _revive_redis(servers: EmbeddedServers) -> None:
    if servers.redis_pid is None:
        servers.restart_redis()
    else:
        os.kill(servers.redis_pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def _database_to_break(servers_to_break: EmbeddedServers) -> Database:
    return Database(servers_to_break.postgres_url)


@pytest.fixture
def database_to_break(servers_to_break: EmbeddedServers, _database_to_break: Database) -> Iterator[Database]:
    """The database `app`, whose server is mended after the test."""
    yield _database_to_break
    if servers_to_break.postgres_pid is None:
        servers_to_break.restart_postgres()


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
