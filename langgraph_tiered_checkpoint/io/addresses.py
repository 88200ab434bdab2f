"""Where servers are: read as their drivers read it, and shown without secrets. Opens nothing.

What is shown is put together from a host, a port and a database, and never cut out of a URL: where a password holds
characters that have a meaning in a URL, one cuts at the wrong place. For the same reason a URL is refused that can be
read in two ways; connecting to the wrong half of it would show the other one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import psycopg
import redis
from psycopg import conninfo

from langgraph_tiered_checkpoint.errors import ConfigurationError

REDIS_FORM: Final = "redis://user:password@host:6379/0 (rediss:// for TLS)"
POSTGRES_FORM: Final = "postgresql://user:password@host:5432/database"

_ENCODE: Final = "In a user or password, write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25"
_SCHEME: Final = re.compile(r"([a-z][a-z0-9]*)(\+[a-z0-9]+)?://", re.IGNORECASE)
_HOST_AND_PORT: Final = re.compile(r"[\w.-]+:\d{1,5}(/\d{0,5})?")

UNNAMED: Final[dict[str, Any]] = {"driver_info": None} if hasattr(redis.connection, "DriverInfo") else {}
"""Keeps a connection of redis-py from looking its own version up, in a file, to tell the server."""


class Address(NamedTuple):
    """Where a server is."""

    display_url: str
    """For people."""
    endpoints: frozenset[tuple[str, int]] = frozenset()
    """Hosts and ports, where they are known."""


def redis_address(url: str) -> Address:
    """Read a URL of Redis.

    Raises:
        ConfigurationError: redis-py does not understand it, or it can be read in two ways.
    """
    if not url:
        raise ConfigurationError(f"redis: the URL is empty; it looks like {REDIS_FORM}")
    scheme, rest = _split(url)
    if scheme.startswith("postgres"):
        raise ConfigurationError("redis: a URL of Postgres was passed; the URL of Redis comes first, then Postgres's")
    after_host = rest[min((rest.find(end) for end in "/?#" if end in rest), default=len(rest)) :]
    if "@" in after_host or "#" in after_host:
        raise _unreadable("redis", "redis-py", url, REDIS_FORM)
    try:
        pool = redis.ConnectionPool.from_url(url, protocol=2)
        pool.connection_class(**UNNAMED, **pool.connection_kwargs)  # refuses what it does not know; does not connect
    except Exception:  # noqa: BLE001 - without the cause: its text may contain the password
        raise _unreadable("redis", "redis-py", url, REDIS_FORM) from None
    tls = issubclass(pool.connection_class, redis.SSLConnection)
    return redis_address_of(pool.connection_kwargs, "rediss" if tls else "redis")


def redis_address_of(settings: Mapping[str, Any], scheme: str = "redis") -> Address:
    """Where a client of redis-py with these connection settings goes to."""
    if "path" in settings:
        return Address(f"unix://{settings['path']}")
    host, port = settings.get("host", "localhost"), int(settings.get("port", 6379))
    return Address(f"{scheme}://{host}:{port}/{settings.get('db') or 0}", frozenset([(_name(host), port)]))


def postgres_address(given: str) -> Address:
    """Read a URL of Postgres, or a connection string of libpq.

    Raises:
        ConfigurationError: libpq does not understand it, or it can be read in two ways.
    """
    if not given:
        raise ConfigurationError(
            f"postgres: the URL is empty; it looks like {POSTGRES_FORM}. None does without a cold tier"
        )
    if dialect := re.match(r"postgres(ql)?\+\w+://", given, re.IGNORECASE):
        raise ConfigurationError(
            f"postgres: {dialect[0]} is how SQLAlchemy names a driver; write postgresql:// in its place"
        )
    scheme, rest = _split(given)
    if scheme in ("redis", "rediss", "unix"):
        raise ConfigurationError("postgres: a URL of Redis was passed; the URL of Redis comes first, then Postgres's")
    account = re.match(r"[^@/]*@", rest)
    after_account = rest[account.end() if account else 0 :].partition("?")[0]
    try:
        parts = conninfo.conninfo_to_dict(given)
    except (psycopg.Error, ValueError):
        # Without the cause: its text may contain the password.
        raise _unreadable("postgres", "libpq", given, POSTGRES_FORM) from None
    if "@" in after_account or not _are_ports(str(parts.get("port") or "")):
        raise _unreadable("postgres", "libpq", given, POSTGRES_FORM)
    return postgres_address_of(parts)


def postgres_address_of(parts: Mapping[str, Any]) -> Address:
    """Where a connection of libpq with these parameters goes to."""
    hosts = str(parts.get("host") or parts.get("hostaddr") or "").split(",")
    ports = str(parts.get("port") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    sockets = [host for host in hosts if host.startswith("/")]
    where = [(host, port) for host, port in zip(hosts, ports, strict=False) if host and host not in sockets]
    shown = ",".join(f"{host}:{port}" if port else host for host, port in where)
    url = f"postgresql://{shown}/{parts.get('dbname') or ''}"
    return Address(
        url + "".join(f"?host={socket}" for socket in sockets),
        frozenset((_name(host), int(port or 5432)) for host, port in where),
    )


def _split(url: str) -> tuple[str, str]:
    """The scheme in small letters, and what follows it; no scheme, and nothing, if there is none."""
    found = _SCHEME.match(url)
    return (found[1].lower(), url[found.end() :]) if found else ("", "")


def _are_ports(text: str) -> bool:
    return all(not port or (port.isascii() and port.isdigit()) for port in text.split(","))


def _name(host: str) -> str:
    return "localhost" if host in ("127.0.0.1", "::1") else host.lower()


def _unreadable(what: str, driver: str, url: str, form: str) -> ConfigurationError:
    if _HOST_AND_PORT.fullmatch(url):
        shown = repr(url)
    elif found := _SCHEME.match(url):
        shown = f"what was passed, {found[0]}..."
    else:
        shown = "what was passed"
    return ConfigurationError(f"{what}: {shown} is no URL that {driver} understands; it looks like {form}. {_ENCODE}")
