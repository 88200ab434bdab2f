"""What a fetch gives back of one checkpoint, and what is told of its thread."""

from __future__ import annotations

import json

import pytest
from langgraph.checkpoint.serde.types import TASKS
from statements import Connection, batch, blob, checkpoint_row, claim, page, run, store, stored, write

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.records import Origin


def test_fetch_gives_back_what_was_committed(conn: Connection, cold: Cold) -> None:
    row = checkpoint_row(
        "2",
        parent="1",
        values={"inline": "é", "marker": True},
        versions={"inline": "1.0", "marker": "1.0", "list": "2.0", "empty": "2.0"},
        metadata={"run_id": "r", "counters_since_delta_snapshot": {"a": [3, 4]}},
    )
    blobs = [
        blob("list", "2.0", b"\0\xff\\"),
        blob("marker", "1.0", b"m", type_="odd\\type"),
        blob("empty", "2.0", b"", type_="empty"),
    ]
    writes = [write("2", idx=-3), write("2", idx=1, path="~q")]
    store(conn, cold, "t", checkpoints=[row, checkpoint_row("1")], blobs=[*blobs, blob("list", "9")], writes=writes)
    for id_ in ("2", None):
        answer = run(conn, cold.fetch("t", "", id_))
        assert answer.origin == Origin("i", "1.a", pinned=False)
        assert answer.heads_exist
        assert answer.sends == []
        assert answer.stored is not None
        got = answer.stored
        assert json.loads(got.row.checkpoint) == json.loads(row.checkpoint)
        assert got.row._replace(checkpoint=b"", metadata=b"") == row._replace(
            checkpoint=b"", metadata=b"", refs=got.row.refs, inline=got.row.inline
        )
        assert set(got.row.refs) == set(row.refs) == {("list", "2.0"), ("marker", "1.0"), ("empty", "2.0")}
        assert set(got.row.inline) == {"inline", "marker"}
        assert (got.row.run_id, got.row.root_id, got.row.depth) == ("r", "2", 4)
        assert sorted(got.blobs) == sorted(blobs)
        assert sorted(got.writes) == sorted(writes)


def test_fetch_tells_no_thread_from_no_checkpoint(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")])
    store(conn, cold, "early", writes=[write("1")])
    assert run(conn, cold.fetch("T", "", None)) == (None, None, [], [], False, False)
    assert run(conn, cold.fetch("t", "ns", None)) == (Origin("i", "1.a", pinned=False), None, [], [], True, False)
    assert run(conn, cold.fetch("t", "", "2")).stored is None
    assert run(conn, cold.fetch("early", "", None)).heads_exist
    claim(conn, cold, "claimed")
    assert run(conn, cold.fetch("claimed", "", None)) == (Origin("i", "", pinned=False), None, [], [], False, False)


def test_integer_and_decimal_versions_find_their_blobs(conn: Connection, cold: Cold) -> None:
    row = checkpoint_row("1", versions={"int": 10**40, "dec": 1.5})
    store(conn, cold, "t", checkpoints=[row], blobs=[blob("int", str(10**40)), blob("dec", "1.5")])
    got = stored(conn, cold, "t")
    assert set(got.row.refs) == {("int", str(10**40)), ("dec", "1.5")}
    assert len(got.blobs) == 2
    assert b"1" + b"0" * 40 in got.row.checkpoint
    [(listed, _)] = page(conn, cold, "t")
    assert len(listed.blobs) == 2


def test_exact_metadata_is_used_until_the_official_saver_replaces_the_plain_one(conn: Connection, cold: Cold) -> None:
    row = checkpoint_row("1", metadata={"a": "é"}, exact=("msgpack", b"\0exact"))
    store(conn, cold, "t", checkpoints=[row])
    assert stored(conn, cold, "t").row.exact_metadata == ("msgpack", b"\0exact")
    assert page(conn, cold, "t")[0][0].row.exact_metadata == ("msgpack", b"\0exact")
    conn.execute(f"""UPDATE {cold._q.prefix}checkpoints SET metadata = '{{"a": "f"}}'""".encode())
    assert stored(conn, cold, "t").row.exact_metadata is None
    assert page(conn, cold, "t")[0][0].row.exact_metadata is None
    run(conn, cold.commit([batch("t", checkpoints=[row], expected="1.a")]))
    assert stored(conn, cold, "t").row.exact_metadata == ("msgpack", b"\0exact")


def test_sends_of_the_parent_come_with_checkpoints_before_v4(conn: Connection, cold: Cold) -> None:
    rows = [
        checkpoint_row("1", v=3),
        checkpoint_row("2", parent="1", v=3),
        checkpoint_row("3", parent="1"),
        checkpoint_row("4", ns="n", parent="1", v=3),
    ]
    sends = [
        write("1", channel=TASKS, data=b"b", idx=1),
        write("1", channel=TASKS, data=b"a", idx=0),
        write("1", channel=TASKS, data=b"0", idx=7, path="~a"),
        write("1", channel="other", idx=3),
    ]
    store(conn, cold, "t", checkpoints=rows, writes=sends)
    expected = [("msgpack", b"0"), ("msgpack", b"a"), ("msgpack", b"b")]
    assert run(conn, cold.fetch("t", "", "2")).sends == expected
    assert run(conn, cold.fetch("t", "", "3")).sends == []
    assert run(conn, cold.fetch("t", "", "1")).sends == []
    assert {s.row.checkpoint_id: sends for s, sends in page(conn, cold, "t")} == {
        "4": [],
        "3": [],
        "2": expected,
        "1": [],
    }


def test_status(conn: Connection, cold: Cold) -> None:
    assert run(conn, cold.status("t")) is None
    store(conn, cold, "t", checkpoints=[checkpoint_row("1"), checkpoint_row("2")])
    status = run(conn, cold.status("t"))
    assert status is not None
    assert status[:2] == (Origin("i", "1.a", pinned=False), 2)
    assert status.last_write_at is not None
    assert status.last_write_at.timestamp() == pytest.approx(1_700_000_000.123)
    assert status.reason == "age"
    conn.execute(f"DELETE FROM {cold._q.prefix}tiered_threads".encode())
    assert run(conn, cold.status("t")) == (Origin("", "", pinned=False), 2, None, None, "", 0)
