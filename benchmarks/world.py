"""The servers that all peers share, and what they tell of themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import redis
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from benchmarks.wire import Wire
from langgraph_tiered_checkpoint import EmbeddedServers

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class World:
    """A Redis and a Postgres of the benchmark's own."""

    redis_url: str
    postgres_url: str
    postgres_pid: int
    stack_url: str | None
    """A Redis with the modules for search and JSON, if one was given."""
    admin: redis.Redis
    stack_admin: redis.Redis | None

    def _redises(self) -> list[redis.Redis]:
        return [self.admin] if self.stack_admin is None else [self.admin, self.stack_admin]

    @property
    def redis_door(self) -> tuple[str, int, str]:
        """Host, port and password, for who does without redis-py."""
        place = urlsplit(self.redis_url)
        return str(place.hostname), place.port or 6379, unquote(place.password or "")

    def versions(self) -> str:
        """Of the servers, in words."""
        with psycopg.connect(self.postgres_url) as admin:
            postgres = f"Postgres {admin.info.server_version // 10_000}"
        found = [f"Redis {_info(client, 'server')['redis_version']}" for client in self._redises()]
        return ", ".join([found[0], postgres, *(f"{one} with modules for AsyncRedisSaver" for one in found[1:])])

    def database(self) -> str:
        """The URL of an empty database."""
        name = f"bench_{next(_numbers)}"
        with psycopg.connect(self.postgres_url, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return urlsplit(self.postgres_url)._replace(path=f"/{name}").geturl()

    def clear(self) -> None:
        """Empty Redis, and drop the databases that were handed out."""
        for client in self._redises():
            client.flushall()
        with psycopg.connect(self.postgres_url, autocommit=True) as admin:
            names = admin.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench_%'").fetchall()
            for (name,) in names:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            admin.execute("CHECKPOINT")  # so that what one workload wrote does not slow the next one

    def through(self, proxy: Wire) -> World:
        """The same servers, behind a proxy."""
        place = conninfo_to_dict(self.postgres_url)
        host, port = str(place["host"]), int(place.get("port") or 5432)
        postgres = proxy.listen(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
        postgres_url = _moved(self.postgres_url, postgres, query="connect_timeout=10")

        def moved(url: str) -> str:
            place = urlsplit(url)
            return _moved(url, proxy.listen((str(place.hostname), place.port or 6379)))

        redis_url = moved(self.redis_url)
        stack_url = self.stack_url and moved(self.stack_url)
        return replace(self, redis_url=redis_url, postgres_url=postgres_url, stack_url=stack_url)

    def redis_bytes_in(self) -> int:
        """Bytes that Redis has received."""
        return sum(int(_info(client, "stats")["total_net_input_bytes"]) for client in self._redises())

    def redis_memory_bytes(self) -> int:
        """What all keys in Redis take."""
        found = 0
        for client in self._redises():
            for key in client.scan_iter(count=1_000):
                usage: Any = client.memory_usage(key, samples=0)
                found += int(usage or 0)
        return found

    def postgres_bytes(self) -> int:
        """The size of the databases that were handed out."""
        with psycopg.connect(self.postgres_url, autocommit=True) as admin:
            query = "SELECT coalesce(sum(pg_database_size(datname)), 0) FROM pg_database WHERE datname LIKE 'bench_%'"
            row = admin.execute(query).fetchone()
        return 0 if row is None else int(row[0])

    def analyze(self, url: str) -> None:
        """What autovacuum would do in time."""
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("VACUUM ANALYZE")

    def redis_commands(self) -> int:
        """Commands that Redis has run, those of scripts included."""
        found = [_info(client, "commandstats") for client in self._redises()]
        return sum(int(of["calls"]) for stats in found for name, of in stats.items() if name != "cmdstat_info")

    def redis_cpu_s(self) -> float:
        """CPU seconds that Redis has used."""
        used = [_info(client, "cpu") for client in self._redises()]
        return sum(float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]) for cpu in used)

    def postgres_cpu_s(self) -> float:
        """CPU seconds that the processes of Postgres have used which are there now."""
        return sum(map(_cpu_s, [self.postgres_pid, *_children(self.postgres_pid)]))


def _moved(url: str, port: int, **parts: str) -> str:
    """The URL with the same login at another port of this machine."""
    was = urlsplit(url)
    login, at, _ = was.netloc.rpartition("@")
    return was._replace(netloc=f"{login}{at}127.0.0.1:{port}", **parts).geturl()


@contextmanager
def world(stack_url: str | None, postgres_url: str | None) -> Iterator[World]:
    """Start the servers. A given Postgres is used in place of theirs."""
    with ExitStack() as stack:
        servers = stack.enter_context(EmbeddedServers())
        admin = stack.enter_context(redis.Redis.from_url(servers.redis_url))
        postgres_url = postgres_url or servers.postgres_url
        stack_admin = stack.enter_context(redis.Redis.from_url(stack_url)) if stack_url else None
        yield World(servers.redis_url, postgres_url, _postmaster(postgres_url), stack_url, admin, stack_admin)


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    found: Any = client.info(section)
    return dict(found)


def _postmaster(url: str) -> int:
    """The parent of a process that serves a connection, from Linux's /proc; none (0) elsewhere."""
    with psycopg.connect(url) as connection, suppress(OSError):
        return int(Path(f"/proc/{connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _children(pid: int) -> list[int]:
    """Direct children, from Linux's /proc; none elsewhere."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _cpu_s(pid: int) -> float:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    return 0.0
