"""What each format of the tables looks like, kept as a file: the DDL of then, and rows that the library of then wrote.

`python -m formats NAME` in this folder writes one with the library of now, and as what its threads should be read.
"""

from __future__ import annotations

import base64
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
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
    kept = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
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
    (FOLDER / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


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


def _write(name: str) -> None:
    from homes import at, put
    from scenarios.asking import converse

    from langgraph_tiered_checkpoint import Promotion, TieredSaver

    with TieredSaver.embedded(promoter="external", promotion=Promotion.never(), ttl=None) as saver:
        converse(saver)
        put(saver, at("odd"), {"nul": "a\0b", "nan": float("nan"), "short": 1}, note="a\0b", score=float("inf"))
        threads = ["odd", "t"]
        for thread in threads:
            saver.promote(thread)
        saver.pin("odd")
        exported = [line for thread in threads for line in saver.export(thread)]
        assert saver._servers is not None
        with psycopg.connect(saver._servers.postgres_url) as conn:
            keep(conn, name, saver.ddl(), exported)


if __name__ == "__main__":
    _write(sys.argv[1])
