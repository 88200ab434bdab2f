"""How far back the history of a delta channel is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from statements import Connection, blob, checkpoint_row, run, store, write

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.records import Typed


def delta(conn: Connection, cold: Cold, id_: str, *channels: str) -> list[tuple[str, dict[str, Typed], list[bytes]]]:
    got = run(conn, cold.delta_history("t", "", id_, channels))
    assert not got.cursor
    return [(a.checkpoint_id, a.seeds, sorted(w.data for w in a.writes)) for a in got.ancestors]


def test_delta_history_stops_for_each_channel_at_its_seed(conn: Connection, cold: Cold) -> None:
    rows = [
        checkpoint_row("1", versions={"a": "1", "b": "1"}),
        checkpoint_row("2", parent="1", versions={"a": "1", "b": "1"}),
        checkpoint_row("3", parent="2", versions={"a": "3", "b": "1"}, values={"a": True}),
        checkpoint_row("4", parent="3", versions={"a": "4", "b": "1", "e": "4"}),
        checkpoint_row("5", parent="4", versions={"a": "5"}),
    ]
    blobs = [blob("a", "3", b"A"), blob("b", "0", b"old"), blob("e", "4", b"", type_="empty"), blob("a", "4", ns="n")]
    writes = [write(str(n), channel=c, task=c, data=f"{c}{n}".encode()) for n in range(1, 6) for c in "abz"]
    store(conn, cold, "t", checkpoints=rows, blobs=blobs, writes=writes)
    both = delta(conn, cold, "4", "a", "b")
    assert both == [
        ("4", {}, [b"a4", b"b4"]),
        ("3", {"a": ("msgpack", b"A")}, [b"a3", b"b3"]),
        ("2", {}, [b"b2"]),
        ("1", {}, [b"b1"]),
    ]
    assert [line[0] for line in delta(conn, cold, "4", "a")] == ["4", "3"]
    assert [line[0] for line in delta(conn, cold, "4", "e")] == ["4", "3", "2", "1"]
    assert delta(conn, cold, "9", "a") == []


@pytest.mark.parametrize("value", [None, 0, "text", True, 1.5])
def test_delta_history_takes_inline_values_as_seeds(conn: Connection, cold: Cold, value: Any) -> None:
    rows = [checkpoint_row("1"), checkpoint_row("2", parent="1", values={"a": value}, versions={"a": "2"})]
    store(conn, cold, "t", checkpoints=[*rows, checkpoint_row("3", parent="2")])
    assert delta(conn, cold, "3", "a") == [("3", {}, []), ("2", {"a": ("json", json.dumps(value).encode())}, [])]


def test_delta_history_ends_at_a_missing_parent_or_one_that_is_its_own(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("3", parent="2"), checkpoint_row("5", parent="5")])
    assert [line[0] for line in delta(conn, cold, "3", "a")] == ["3"]
    assert [line[0] for line in delta(conn, cold, "5", "a")] == ["5"]


def test_delta_history_follows_a_long_chain(conn: Connection, cold: Cold) -> None:
    rows = [checkpoint_row(f"{n:05}", parent=f"{n - 1:05}" if n else "") for n in range(3000)]
    store(conn, cold, "t", checkpoints=rows)
    assert len(delta(conn, cold, "02999", "a", "b")) == 3000
