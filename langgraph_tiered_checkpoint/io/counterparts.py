"""The sync side where only an async client or pool was given: from its settings, for the promoter. Opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import psycopg
import redis
import redis.asyncio as aio
from psycopg import conninfo

from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.io.targets import ColdTarget, HotTarget

_CONNECTIONS: Final[dict[type, Callable[..., redis.connection.AbstractConnection]]] = {
    aio.Connection: redis.Connection,
    aio.SSLConnection: redis.SSLConnection,
    aio.UnixDomainSocketConnection: redis.UnixDomainSocketConnection,
}

_NOT_SHARED: Final = frozenset({
    "encoder_class", "event_dispatcher", "himport_registry", "maint_notifications_config",
    "maint_notifications_pool_handler", "parser_class", "retry", "retry_on_error", "retry_on_timeout",
})  # fmt: skip
"""Settings of an async connection that say nothing about the server, and whose objects a sync one cannot use."""

_OF_PSYCOPG: Final = frozenset({"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"})
"""Arguments of psycopg's `connect`; the others are libpq's."""


def sync_hot(target: HotTarget) -> HotTarget:
    """`target`, with a sync client.

    Raises:
        ConfigurationError: none can be made from the settings of the async one.
    """
    if target.url is not None or target.sync_client is not None:
        return target
    pool: Any = getattr(target.async_client, "connection_pool", None)
    if pool is None:
        raise _cannot("redis", "a RedisCluster", "client")
    connection_class = _CONNECTIONS.get(pool.connection_class)
    if connection_class is None:
        raise _cannot("redis", f"connections of {pool.connection_class.__qualname__}", "client")
    settings = {name: value for name, value in pool.connection_kwargs.items() if name not in _NOT_SHARED}
    if settings.get("redis_connect_func") is not None:
        raise _cannot("redis", "a redis_connect_func", "client")
    settings["protocol"] = 2
    try:
        connection_class(**settings)
    except TypeError as exc:
        raise _cannot("redis", f"a setting that sync connections do not know ({exc})", "client") from None
    made = redis.ConnectionPool(connection_class, max_connections=pool.max_connections, **settings)
    return replace(target, sync_client=redis.Redis(connection_pool=made))


def sync_cold(target: ColdTarget) -> ColdTarget:
    """`target`, or one by which sync connections can be made.

    Raises:
        ConfigurationError: the settings of the async pool do not suffice for that.
    """
    pool: Any = target.async_pool
    if target.url is not None or target.sync_pool is not None:
        return target
    if callable(pool.conninfo) or callable(pool.kwargs):
        raise _cannot("postgres", "settings that a function gives", "pool")
    if pool.connection_class is not psycopg.AsyncConnection:
        raise _cannot("postgres", f"connections of {pool.connection_class.__qualname__}", "pool")
    if getattr(pool, "_configure", None) is not None:
        raise _cannot("postgres", "a configure function", "pool")
    settings = dict(pool.kwargs or {})
    own = {name: settings.pop(name) for name in _OF_PSYCOPG & settings.keys()}
    return ColdTarget(
        url=conninfo.make_conninfo(pool.conninfo, **settings),
        prepare_threshold=own.get("prepare_threshold", target.prepare_threshold),
        max_size=min(target.max_size, pool.max_size),
        timeout_s=target.timeout_s,
    )


def _cannot(what: str, has: str, noun: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what}: only an async {noun} was given, and the promoter, which is sync, cannot use its settings ({has}). "
        f"Pass a pair, {what}=(the sync {noun}, the async {noun}), or a URL; or, if other processes flush, "
        'promoter="external"'
    )
