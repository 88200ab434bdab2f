"""Ids are ordered by their bytes, also where the collation of the tables orders them otherwise."""

from __future__ import annotations

import pytest
from statements import Connection, checkpoint_row, keys, page, run, store, stored, write

from langgraph_tiered_checkpoint.cold.writes import Cold

IDS = ["9a", "10", "1f", "0b"]


@pytest.fixture
def foreign(conn: Connection, cold: Cold) -> Cold:
    """Tables whose ids are of a collation that is not the database's own, which are not trusted to order bytewise."""
    conn.execute('CREATE COLLATION foreign_one (provider = libc, locale = "C")')
    for table in ("checkpoints", "checkpoint_writes"):
        alter = f"ALTER TABLE {cold._q.prefix}{table} ALTER COLUMN checkpoint_id TYPE text COLLATE foreign_one"
        conn.execute(alter.encode())
    return cold


def test_the_collation_of_the_database_is_used_where_it_orders_ids_by_their_bytes(conn: Connection, cold: Cold) -> None:
    run(conn, cold.look())
    assert "ORDER BY checkpoint_id DESC" in cold._q.text("fetch")


def test_the_collation_is_named_where_it_may_order_ids_otherwise(conn: Connection, foreign: Cold) -> None:
    run(conn, foreign.look())
    assert 'ORDER BY checkpoint_id COLLATE "C" DESC' in foreign._q.text("fetch")
    assert "$order" not in "".join(foreign._q.text(name) for name in ("fetch", "page_of_namespace", "lock"))
    rows = [checkpoint_row(id_) for id_ in IDS]
    store(conn, foreign, "t", checkpoints=rows, writes=[write(id_, data=id_.encode()) for id_ in [*IDS, "b"]])
    newest = sorted(IDS, reverse=True)
    assert keys(page(conn, foreign, "t", "")) == [(id_, "") for id_ in newest]
    assert keys(page(conn, foreign, "t", "", before=("1f", ""))) == [("10", ""), ("0b", "")]
    assert stored(conn, foreign, "t").row.checkpoint_id == newest[0]
    assert [w.data for w in run(conn, foreign.fetch("t", "", None)).early] == [b"b"]
