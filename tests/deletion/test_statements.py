"""What a delete, a drop and a copy take, and what they leave alone."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from statements import (
    Connection,
    batch,
    blob,
    checkpoint_row,
    claim,
    connect,
    counts,
    execute,
    keys,
    page,
    run,
    set_up,
    store,
    stored,
    wait_until_blocked,
    write,
)
from waiting import HANGS_S

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.records import Origin, Outline


def test_delete_leaves_other_threads_alone(conn: Connection, cold: Cold) -> None:
    for thread in ("t", "T", "t%"):
        store(
            conn,
            cold,
            thread,
            checkpoints=[checkpoint_row("1")],
            blobs=[blob("c", "1")],
            writes=[write("1"), write("9")],
        )
    run(conn, cold.delete("t", ["i"]))
    assert counts(conn, cold, "t") == (0, 0, 0, 0)
    assert counts(conn, cold, "T") == counts(conn, cold, "t%") == (1, 1, 2, 1)


def test_delete_leaves_an_incarnation_alone_that_it_does_not_know(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")], blobs=[blob("c", "1")], writes=[write("1")])
    run(conn, cold.delete("t", ["j"]))
    assert counts(conn, cold, "t") == (1, 1, 1, 1)
    run(conn, cold.delete("t", ["i", "j"]))
    assert counts(conn, cold, "t") == (0, 0, 0, 0)


def test_delete_takes_a_claim_and_what_was_copied_under_it_whosesoever_it_is(conn: Connection, cold: Cold) -> None:
    claim(conn, cold, "t")
    rows: dict[str, Any] = {"checkpoints": [checkpoint_row("1")], "blobs": [blob("c", "1")], "writes": [write("1")]}
    assert run(conn, cold.commit([batch("t", expected="claim", flushed="", **rows)])) == {"t"}
    run(conn, cold.delete("t", []))
    assert counts(conn, cold, "t") == (0, 0, 0, 0)
    assert run(conn, cold.commit([batch("t", expected="claim", **rows)])) == frozenset()


def test_life_that_begins_beside_a_delete_is_stored_whole(cold: Cold, postgres_url: str) -> None:
    """Nothing of it comes between two statements of the delete, which has found no row to lock."""
    with connect(postgres_url) as one, connect(postgres_url) as two, connect(postgres_url) as watch:
        set_up(one, cold)
        rows = {"checkpoints": [checkpoint_row("1")], "blobs": [blob("c", "1")], "writes": [write("1")]}
        one.execute("BEGIN")
        statements = cold.delete("t", ["before"]).body()
        reply = execute(one, next(statements))
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(store, two, cold, "t", **rows)
            with contextlib.suppress(StopIteration):
                while True:
                    wait_until_blocked(watch, two)
                    reply = execute(one, statements.send(reply))
            one.execute("COMMIT")
            late.result(HANGS_S)
        assert counts(one, cold, "t") == (1, 1, 1, 1)


def build(conn: Connection, cold: Cold, thread: str) -> None:
    """Root 1 <- 2 <- 3, a subgraph call of 1 and one of 3, a write ahead of its checkpoint in each namespace."""
    rows = [
        checkpoint_row("1", versions={"c": "1", "d": "1"}, metadata={"run_id": "r1"}),
        checkpoint_row("2", parent="1", versions={"c": "2", "d": "1"}, metadata={"run_id": "r2"}),
        checkpoint_row("3", parent="2", versions={"c": "2", "d": "3"}),
        checkpoint_row("1a", ns="n:1", metadata={"parents": {"": "1"}}, versions={"c": "1"}),
        checkpoint_row(
            "3a",
            ns="n:3",
            parent="0",
            metadata={"parents": {"": "3"}, "counters_since_delta_snapshot": {"x": [1, 9], "y": [5, 2]}},
        ),
    ]
    blobs = [blob("c", "1"), blob("c", "2"), blob("d", "1"), blob("d", "3"), blob("c", "9"), blob("c", "1", ns="n:1")]
    writes = [write("1"), write("2"), write("3"), write("8"), write("1a", ns="n:1"), write("8", ns="n:1")]
    store(conn, cold, thread, checkpoints=rows, blobs=blobs, writes=writes)


def test_outline(conn: Connection, cold: Cold) -> None:
    build(conn, cold, "t")
    seen: list[Outline] = []

    def decide(outline: list[Outline]) -> list[tuple[str, str]]:
        seen.extend(outline)
        return []

    assert run(conn, cold.drop("t", "i", "1.a", "2.b", decide, 1000))
    assert sorted(tuple(outline[:6]) for outline in seen) == [
        ("", "1", "", "1", 0, "r1"),
        ("", "2", "1", "2", 0, "r2"),
        ("", "3", "2", "3", 0, ""),
        ("n:1", "1a", "", "1", 0, ""),
        ("n:3", "3a", "0", "3", 9, ""),
    ]
    for line in seen:
        row = stored(conn, cold, "t", line.checkpoint_id, line.ns).row
        assert line[:6] == (row.ns, row.checkpoint_id, row.parent_id, row.root_id, row.depth, row.run_id)


def test_drop_takes_what_only_the_dropped_ones_needed(conn: Connection, cold: Cold) -> None:
    build(conn, cold, "t")
    build(conn, cold, "u")
    assert run(
        conn, cold.drop("t", "i", "1.a", "2.b", lambda _: {("", "1"), ("", "2"), ("n:1", "1a"), ("", "77")}, 1000)
    )
    assert run(conn, cold.fetch("t", "", None)).origin == Origin("i", "2.b", pinned=False)
    assert keys(page(conn, cold, "t")) == [("3a", "n:3"), ("3", "")]
    got = stored(conn, cold, "t", "3")
    assert not got.row.parent_id
    assert sorted(got.blobs) == [blob("c", "2"), blob("d", "3")]
    assert stored(conn, cold, "t", "3a", "n:3").row.parent_id == "0"  # was not there before either
    blobs = conn.execute(
        f"SELECT channel, version FROM {cold._q.prefix}checkpoint_blobs WHERE thread_id = 't'".encode()
    )
    assert sorted(blobs.fetchall()) == [("c", "2"), ("c", "9"), ("d", "3")]
    writes = conn.execute(f"SELECT checkpoint_id FROM {cold._q.prefix}checkpoint_writes WHERE thread_id = 't'".encode())
    assert sorted(writes.fetchall()) == [("3",), ("8",), ("8",)]  # these two wait for their checkpoints
    assert counts(conn, cold, "u") == (5, 6, 6, 1)


def test_drop_behind_a_fence_that_does_not_hold_does_nothing(conn: Connection, cold: Cold) -> None:
    build(conn, cold, "t")
    for incarnation, flushed in (("j", "1.a"), ("i", "0.a")):
        assert not run(conn, cold.drop("t", incarnation, flushed, "2.b", lambda _: pytest.fail("asked"), 1000))
    assert counts(conn, cold, "t") == (5, 6, 6, 1)


def test_dropping_everything_removes_the_thread(conn: Connection, cold: Cold) -> None:
    rows = [checkpoint_row("1", versions={"c": "1"}), checkpoint_row("1a", ns="n:1")]
    store(conn, cold, "t", checkpoints=rows, blobs=[blob("c", "1"), blob("c", "9", ns="n:2")], writes=[write("1")])
    assert run(conn, cold.drop("t", "i", "1.a", "2.b", lambda _: [("", "1"), ("n:1", "1a")], 1000))
    assert counts(conn, cold, "t") == (0, 0, 0, 0)


@pytest.mark.parametrize("ns", ["", "n:9"])
def test_a_thread_with_early_writes_outlives_its_checkpoints(conn: Connection, cold: Cold, ns: str) -> None:
    writes = [write("1"), write("5", ns=ns)]
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")], writes=writes)
    assert run(conn, cold.drop("t", "i", "1.a", "2.b", lambda _: [("", "1")], 1000))
    assert counts(conn, cold, "t") == (0, 0, 1, 1)
    assert run(conn, cold.fetch("t", "", None)).origin == Origin("i", "2.b", pinned=False)


def test_copy_copies_everything_under_a_new_fence(conn: Connection, cold: Cold) -> None:
    exact = checkpoint_row("4", metadata={"a": 1}, exact=("t", b"e"))
    build(conn, cold, "t")
    run(conn, cold.commit([batch("t", checkpoints=[exact], expected="1.a")]))
    assert run(conn, cold.copy("t", "u", "j", "0.j")) == 6
    assert counts(conn, cold, "u") == counts(conn, cold, "t") == (6, 6, 6, 1)
    assert run(conn, cold.fetch("u", "", None)) == run(conn, cold.fetch("t", "", None))._replace(
        origin=Origin("j", "0.j", pinned=False)
    )


def test_copy_refuses_any_existing_target_and_copies_no_absence(conn: Connection, cold: Cold) -> None:
    build(conn, cold, "t")
    claim(conn, cold, "claimed", "x", "claim")
    for target in ("t", "claimed"):
        with pytest.raises(ConfigurationError, match=f"thread '{target}' already exists"):
            run(conn, cold.copy("t", target, "j", "0.j"))
    assert run(conn, cold.copy("nobody", "u", "j", "0.j")) == 0
    assert counts(conn, cold, "u") == (0, 0, 0, 0)
    store(conn, cold, "early", writes=[write("1")])
    assert run(conn, cold.copy("early", "u", "j", "0.j")) == 0
    assert counts(conn, cold, "u") == (0, 0, 1, 1)
