"""Looking for what is left of something, in everything that both servers hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import psycopg
import redis
from psycopg import sql


def traces(client: redis.Redis, postgres_url: str, *words: str) -> list[str]:
    """Where any of these words is found: keys, fields, values and members in Redis, all columns in Postgres."""
    needles = [word.encode() for word in words]
    return [
        f"{where}: {found[:200]!r}"
        for where, found in (*_in_redis(client), *_in_postgres(postgres_url))
        if any(needle in found for needle in needles)
    ]


def _in_redis(client: redis.Redis) -> Iterator[tuple[str, bytes]]:
    for key in cast("Iterator[bytes]", client.scan_iter("*")):
        yield "the key", key
        match client.type(key):
            case b"hash":
                for field, value in cast("dict[bytes, bytes]", client.hgetall(key)).items():
                    yield f"field {field!r} of {key!r}", field + b"\0" + value
            case b"zset":
                for member in cast("list[bytes]", client.zrange(key, 0, -1)):
                    yield f"a member of {key!r}", member
            case b"none":  # lapsed meanwhile
                pass
            case _:
                yield f"the value of {key!r}", cast("bytes", client.get(key))


def _in_postgres(url: str) -> Iterator[tuple[str, bytes]]:
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) >= 4
        for schema, table in tables:
            cursor = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table)))
            for row in cursor.fetchall():
                for column, value in zip(cursor.description or (), row, strict=True):
                    yield f"{table}.{column.name}", _bytes(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()
