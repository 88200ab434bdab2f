"""Which servers to talk to, and through whose clients. Validates; opens nothing."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import cached_property
from socket import gethostname
from typing import TYPE_CHECKING, Any, Final

import psycopg
import redis
from psycopg import conninfo
from redis.asyncio import ConnectionPool as AsyncRedisPool
from redis.asyncio import Redis as AsyncRedisClient
from redis.asyncio import RedisCluster as AsyncRedisCluster

from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.io.addresses import (
    Address,
    postgres_address,
    postgres_address_of,
    redis_address,
    redis_address_of,
)

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

CLIENT_NAME: Final = "langgraph-tiered-checkpoint"
"""What servers list our connections as, unless the URL, the given client or the environment has another name."""

MOST_CONNECTIONS: Final = 64
"""Sync connections to Redis that a process has at once, unless the URL or the given client says otherwise."""

_UNBOUNDED: Final = 2**31
"""What redis-py takes for no limit."""

_TELLING = ("host", "hostaddr", "port", "dbname", "user", "service", "options")
"""The parameters of libpq that tell one database, or search path, from another."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _only_here(host: str) -> str:
    """What tells an address of this machine from the same one of another."""
    return f" on {gethostname()}" if host in _LOOPBACK or host.startswith("/") else ""


@dataclass(frozen=True, kw_only=True)
class HotTarget:
    """A Redis: a URL, or ready clients.

    Args:
        url: single server; for Sentinel or Cluster pass clients.
        sync_client: a `redis.Redis` (its connection settings are used, not its connections), or a `RedisCluster`.
        async_client: the same of `redis.asyncio`.
        key_prefix: what all keys begin with.
        timeout_s: how long one request may take, and how long connecting.

    Raises:
        ConfigurationError: not a usable URL, or not the right kind of client.
    """

    url: str | None = field(default=None, repr=False)
    sync_client: redis.Redis | redis.RedisCluster | None = field(default=None, repr=False)
    async_client: AsyncRedisClient | AsyncRedisCluster | None = field(default=None, repr=False)
    key_prefix: str = "lgt"
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if self.url is None and self.sync_client is None and self.async_client is None:
            raise ConfigurationError("redis: pass a URL or a client")
        if not isinstance(self.sync_client, redis.Redis | redis.RedisCluster | None):
            raise ConfigurationError(
                f"redis: {type(self.sync_client).__qualname__} is not a redis.Redis or RedisCluster, nor a URL (a str)"
            )
        if not isinstance(self.async_client, AsyncRedisClient | AsyncRedisCluster | None):
            raise ConfigurationError(
                f"redis: {type(self.async_client).__qualname__} is not a redis.asyncio.Redis or RedisCluster"
            )
        if self.url is not None:
            redis_address(self.url)

    @cached_property
    def address(self) -> Address:
        """Where the server is."""
        if self.url is not None:
            return redis_address(self.url)
        client = self.sync_client or self.async_client
        if isinstance(client, redis.RedisCluster | AsyncRedisCluster):
            return Address("the given cluster")
        settings: dict[str, Any] = client.connection_pool.connection_kwargs if client is not None else {}
        return (
            redis_address_of(settings) if settings.keys() & {"path", "host"} else Address("the given client's server")
        )

    @property
    def display_url(self) -> str:
        """Where the server is, for messages; no password in it."""
        return self.address.display_url

    @property
    def is_cluster(self) -> bool:
        """Whether a client of a cluster was given."""
        return isinstance(self.sync_client or self.async_client, redis.RedisCluster | AsyncRedisCluster)

    @property
    def is_here(self) -> bool:
        """Whether it is this machine's own, as a developer's is."""
        hosts = {host for host, _ in self.address.endpoints}
        return self.identity.startswith("unix://") or (bool(hosts) and hosts <= set(_LOOPBACK))

    @cached_property
    def identity(self) -> str:
        """Tells this Redis apart from others, the same in every process that uses it; empty if nothing does."""
        client = self.sync_client or self.async_client
        if isinstance(client, redis.RedisCluster | AsyncRedisCluster):
            return ""
        pool: Any = (
            redis.ConnectionPool.from_url(self.url) if self.url is not None else client and client.connection_pool
        )
        settings: dict[str, Any] = pool.connection_kwargs
        db = settings.get("db") or 0
        if "path" in settings:
            return f"unix://{settings['path']}?db={db} on {gethostname()}"
        if hasattr(pool, "service_name"):
            watched_by = [client.connection_pool.connection_kwargs for client in pool.sentinel_manager.sentinels]
            addresses = sorted(f"{at.get('host')}:{at.get('port')}" for at in watched_by)
            return f"sentinel://{','.join(addresses)}/{pool.service_name}/{db}"
        host = settings.get("host", "localhost")
        return f"redis://{host}:{settings.get('port', 6379)}/{db}{_only_here(host)}"

    @property
    def client_name(self) -> str:
        """The name that the URL or the given client gives to connections; empty if none."""
        client = self.sync_client or self.async_client
        if self.url is not None:
            pool: Any = redis.ConnectionPool.from_url(self.url)
        else:
            pool = getattr(client, "connection_pool", None)
        return str(pool.connection_kwargs.get("client_name") or "") if pool is not None else ""

    @cached_property
    def sync_pool(self) -> redis.ConnectionPool:
        """How to make sync connections; none of this pool's own are used.

        Raises:
            ConfigurationError: only an async client was given.
        """
        if isinstance(self.sync_client, redis.Redis):
            return self.sync_client.connection_pool
        if self.url is None:
            raise ConfigurationError(
                "redis: only an async client was given, so the sync methods cannot be used; pass a URL, or a pair "
                "of a sync and an async client"
            )
        return redis.ConnectionPool.from_url(self.url, protocol=2, max_connections=MOST_CONNECTIONS)

    @cached_property
    def max_connections(self) -> int:
        """How many sync connections there may be at once: as the URL or the given pool says, or `MOST_CONNECTIONS`."""
        given: int = self.sync_pool.max_connections
        return MOST_CONNECTIONS if given >= _UNBOUNDED else given

    @cached_property
    def async_pool(self) -> AsyncRedisPool:
        """How to make async connections; none of this pool's own are used.

        Raises:
            ConfigurationError: only a sync client was given.
        """
        if isinstance(self.async_client, AsyncRedisClient):
            pool: AsyncRedisPool = self.async_client.connection_pool
            return pool
        if self.url is None:
            raise ConfigurationError(
                "redis: only a sync client was given, so the async methods cannot be used; pass a URL, or a pair "
                "of a sync and an async client"
            )
        return AsyncRedisPool.from_url(self.url, protocol=2)


@dataclass(frozen=True, kw_only=True)
class ColdTarget:
    """A Postgres: a URL (or libpq connection string), or ready pools.

    Args:
        url: connections are ours: up to `max_size` per process, and per event loop.
        sync_pool: an open psycopg_pool; it stays the caller's to close.
        async_pool: the same, for the event loop that it was opened in.
        prepare_threshold: psycopg's; None where a transaction pooler forbids prepared statements. For a URL.
        max_size: connections at most. For a URL.
        timeout_s: how long connecting, waiting for a free connection, and (for a URL) each statement may take.
        schema: where the tables are; None for the search path's first.

    Raises:
        ConfigurationError: not a usable URL, or not the right kind of pool.
    """

    url: str | None = field(default=None, repr=False)
    sync_pool: ConnectionPool[Any] | None = field(default=None, repr=False)
    async_pool: AsyncConnectionPool[Any] | None = field(default=None, repr=False)
    prepare_threshold: int | None = 1
    max_size: int = 10
    timeout_s: float = 10.0
    schema: str | None = None

    def __post_init__(self) -> None:
        if self.url is None and self.sync_pool is None and self.async_pool is None:
            raise ConfigurationError("postgres: pass a URL or a pool")
        if self.sync_pool is not None or self.async_pool is not None:
            self._check_pools()
        if self.url is not None:
            postgres_address(self.url)

    def _check_pools(self) -> None:
        from psycopg_pool import AsyncConnectionPool, ConnectionPool  # who gives a URL needs none of it

        if not isinstance(self.sync_pool, ConnectionPool | None):
            raise ConfigurationError(
                f"postgres: {type(self.sync_pool).__qualname__} is not a psycopg_pool.ConnectionPool, nor a URL (a str)"
            )
        if not isinstance(self.async_pool, AsyncConnectionPool | None):
            raise ConfigurationError(
                f"postgres: {type(self.async_pool).__qualname__} is not a psycopg_pool.AsyncConnectionPool"
            )

    @cached_property
    def address(self) -> Address:
        """Where the server is."""
        if self.url is not None:
            return postgres_address(self.url)
        pool = self.sync_pool or self.async_pool
        given, more = (pool.conninfo, pool.kwargs) if pool is not None else (None, None)
        with contextlib.suppress(psycopg.Error, ValueError):
            if isinstance(given, str) and isinstance(more, dict | None):
                return postgres_address_of({**conninfo.conninfo_to_dict(given), **(more or {})})
        return Address("the given pool's server")

    @property
    def display_url(self) -> str:
        """Where the server is, for messages; no password in it."""
        return self.address.display_url

    @cached_property
    def identity(self) -> str:
        """Tells this Postgres and schema apart from others, the same in every process; empty if nothing does."""
        pool = self.sync_pool or self.async_pool
        given, more = (self.url, None) if pool is None else (pool.conninfo, pool.kwargs)
        if not isinstance(given, str) or not isinstance(more, dict | None):
            return ""
        try:
            known = {**conninfo.conninfo_to_dict(given), **(more or {})}
        except (psycopg.Error, ValueError):
            return ""
        if not set(known) & {"host", "hostaddr", "service"}:
            return ""
        told = [f"{name}={known[name]}" for name in _TELLING if name in known]
        return " ".join([*told, f"schema={self.schema or '(search path)'}"]) + _only_here(str(known.get("host")))

    @cached_property
    def connection_settings(self) -> dict[str, Any]:
        """Keyword arguments of `connect` for our own connections."""
        settings: dict[str, Any] = {
            "autocommit": True,
            "prepare_threshold": self.prepare_threshold,
            "client_encoding": "utf8",
        }
        given = conninfo.conninfo_to_dict(self.url or "")
        if "connect_timeout" not in given:
            settings["connect_timeout"] = max(2, round(self.timeout_s))
        if "fallback_application_name" not in given:
            settings["fallback_application_name"] = CLIENT_NAME
        return settings
