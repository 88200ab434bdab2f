"""Pools and databases that are not as ours would be: everything still goes in and comes out."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from homes import at, put
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from langgraph_tiered_checkpoint import TieredSaver

VALUES = {"bytes": b"\x00\xff", "quoted": ['"{}\\,', "", "NULL"], "text": "na\u00efve"}


def goes_in_and_comes_out(redis_url: str, postgres: Any) -> None:
    with TieredSaver(redis=redis_url, postgres=postgres, promoter="external", cold_writes="through") as saver:
        config = put(saver, at("t\u00e9"), VALUES)
        saver.promote("t\u00e9")
        config = put(saver, config, VALUES, 2)
        saver.put_writes(config, [("bytes", b"\x00\xff"), ("text", "\u00e9")], "task")
        saver.evict("t\u00e9")
        found = saver.get_tuple(at("t\u00e9"))
        assert found is not None
        assert found.checkpoint["channel_values"] == VALUES
        assert found.pending_writes == [("task", "bytes", b"\x00\xff"), ("task", "text", "\u00e9")]
        assert len(list(saver.list(at("t\u00e9")))) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"cursor_factory": psycopg.ClientCursor},
        {"cursor_factory": psycopg.ClientCursor, "autocommit": True},
        {"autocommit": True, "prepare_threshold": None},
        {"row_factory": dict_row},
    ],
    ids=["client-side cursors", "client-side cursors in autocommit", "autocommit, never prepared", "rows as dicts"],
)
def test_a_pool_is_used_as_it_is(redis_url: str, postgres_url: str, settings: dict[str, Any]) -> None:
    with ConnectionPool(postgres_url, kwargs=settings, min_size=1, max_size=2, open=True) as pool:
        goes_in_and_comes_out(redis_url, pool)


def test_text_is_sent_in_the_encoding_of_the_connection(redis_url: str, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE in_latin1 ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        try:
            goes_in_and_comes_out(redis_url, postgres_url.replace(f"/{admin.info.dbname}?", "/in_latin1?"))
        finally:
            admin.execute("DROP DATABASE in_latin1 WITH (FORCE)")
