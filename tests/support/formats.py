"""What each format of the tables and each layout of the keys looks like, kept as a file.

The DDL of then, rows or keys that the library of then wrote, and as what its threads should be read. In this folder
`python -m formats tables NAME` and `python -m formats keys LAYOUT` write one with the library of now.
"""

from __future__ import annotations

import base64
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql

FOLDER = Path(__file__).parent.parent / "upgrades" / "formats"
TABLES = (
    "checkpoint_migrations",
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
    "tiered_migrations",
    "tiered_threads",
)


def load(conn: psycopg.Connection[Any], name: str) -> list[str]:
    """Make the tables and rows of a format. The reply is what its threads are exported as."""
    kept = json.loads((FOLDER / f"tables-{name}.json").read_text(encoding="utf-8"))
    conn.execute(kept["ddl"])
    for table, rows in kept["rows"].items():
        conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        for row in rows:
            names, values = (
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join(sql.Placeholder() * len(row)),
            )
            insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), names, values)
            conn.execute(insert, [base64.b64decode(v["bytes"]) if isinstance(v, dict) else v for v in row.values()])
    return list(kept["exported"])


def keep(conn: psycopg.Connection[Any], name: str, ddl: str, exported: list[str]) -> None:
    """Write the tables as a format. Of no store, so that any Redis can be bound to them."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for table in TABLES:
        cursor = conn.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
        names = [column.name for column in cursor.description or ()]
        rows[table] = [dict(zip(names, map(_plain, row), strict=True)) for row in cursor]
    for row in rows["tiered_migrations"]:
        row["store"] = row["redis"] = None
    kept = {"ddl": ddl, "rows": rows, "exported": exported}
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"tables-{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def load_keys(client: redis.Redis, layout: str) -> list[str]:
    """Make the keys of a layout. The reply is what its threads are exported as."""
    kept = json.loads((FOLDER / f"keys-{layout}.json").read_text(encoding="utf-8"))
    client.flushdb()
    for key, value in kept["keys"].items():
        match value:
            case {"hash": fields}:
                client.hset(key, mapping={base64.b64decode(f): base64.b64decode(v) for f, v in fields.items()})
            case {"zset": members}:
                client.zadd(key, {base64.b64decode(member): score for member, score in members.items()})
            case text:
                client.set(key, text)
    return list(kept["exported"])


def keep_keys(client: redis.Redis, layout: str, exported: list[str]) -> None:
    """Write the keys of a store without Postgres as a layout."""
    keys: dict[str, Any] = {}
    for key in sorted(client.scan_iter()):
        match client.type(key):
            case b"hash":
                fields: Any = client.hgetall(key)
                keys[key.decode()] = {"hash": {_encoded(f): _encoded(fields[f]) for f in sorted(fields)}}
            case b"zset":
                members: Any = client.zrange(key, 0, -1, withscores=True)
                keys[key.decode()] = {"zset": {_encoded(member): score for member, score in members}}
            case _ if not key.endswith(b":turn"):
                text: Any = client.get(key)
                keys[key.decode()] = text.decode()
    kept = {"keys": keys, "exported": exported}
    (FOLDER / f"keys-{layout}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return {"bytes": base64.b64encode(value).decode()}
        case datetime():
            return value.isoformat()
        case dict() | list():
            return json.dumps(value)
        case _:
            return value


def _write(kind: str, name: str) -> None:
    from homes import at, put
    from scenarios.asking import converse

    from langgraph_tiered_checkpoint import EmbeddedServers, Promotion, TieredSaver

    servers = EmbeddedServers()
    with (
        servers,
        TieredSaver.from_urls(
            servers.redis_url,
            servers.postgres_url if kind == "tables" else None,
            promoter="external",
            promotion=Promotion.never(),
            ttl=None,
        ) as saver,
    ):
        converse(saver)
        put(saver, at("odd"), {"nul": "a\0b", "nan": float("nan"), "short": 1}, note="a\0b", score=float("inf"))
        threads = ["odd", "t"]
        for thread in threads if kind == "tables" else ():
            saver.pin(thread)
        exported = [line for thread in threads for line in saver.export(thread)]
        if kind == "tables":
            with psycopg.connect(servers.postgres_url) as conn:
                keep(conn, name, saver.ddl(), exported)
        else:
            with redis.Redis.from_url(servers.redis_url) as client:
                keep_keys(client, name, exported)


if __name__ == "__main__":
    _write(*sys.argv[1:])
