"""docs/design.md shows a small thread field by field: a real one has these fields, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import redis
from homes import at, put

from langgraph_tiered_checkpoint import TieredSaver

DESIGN = Path(__file__).parents[2] / "docs" / "design.md"
NAME = re.compile(r"`(\w)`((?:NUL\*\w+\*)*)")


def documented() -> dict[str, re.Pattern[bytes]]:
    """The fields of the table, as patterns: a letter, and ids between NULs."""
    table = DESIGN.read_text(encoding="utf-8").partition("as `HGETALL` shows it:")[2].partition("\n\nA checkpoint")[0]
    return {
        letter: re.compile(rb"%b(\0[^\0]+){%d}" % (letter.encode(), parts.count("NUL")))
        for row in table.splitlines()
        if row.startswith("| `")
        for letter, parts in NAME.findall(row)
    }


def test_small_thread_has_the_fields_that_the_design_shows(redis_url: str, redis_client: redis.Redis) -> None:
    with TieredSaver.from_urls(redis_url) as saver:
        first = put(saver, at("t"), {"messages": ["hello"]})
        second = put(saver, first, {"messages": ["hello", "good day"]}, 2)
        saver.put_writes(second, [("messages", ["and now?"])], "task")
        fields: list[Any] = redis_client.hkeys(saver._store.hot.thread_key("t"))
    shown = documented()
    assert len(shown) > 5
    unknown = [name for name in fields if not any(pattern.fullmatch(name) for pattern in shown.values())]
    missing = [letter for letter, pattern in shown.items() if not any(map(pattern.fullmatch, fields))]
    assert (unknown, missing) == ([], [])
