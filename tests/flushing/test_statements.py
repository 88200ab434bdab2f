"""What is written to the cold tables: behind a claim and a fence, the same when repeated."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from statements import (
    Connection,
    batch,
    blob,
    checkpoint_row,
    claim,
    connect,
    counts,
    run,
    set_up,
    store,
    stored,
    wait_until_blocked,
    write,
)
from waiting import HANGS_S

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.records import Origin


def test_claim_keeps_the_row_that_is_there_and_unclaim_only_takes_unflushed_ones(conn: Connection, cold: Cold) -> None:
    assert claim(conn, cold, "t") == Origin("i", "", pinned=False, claim="claim")
    assert claim(conn, cold, "t", "j", "later") == Origin("i", "", pinned=False, claim="claim")
    run(conn, cold.unclaim("t", "j"))
    assert claim(conn, cold, "t", "k", "claim").incarnation == "i"
    run(conn, cold.unclaim("t", "i"))
    assert claim(conn, cold, "t", "k", "claim").incarnation == "k"
    run(conn, cold.commit([batch("t", incarnation="k")]))
    run(conn, cold.unclaim("t", "k"))
    assert counts(conn, cold, "t")[3] == 1


def test_claims_of_several_threads_share_those_that_are_there(conn: Connection, cold: Cold) -> None:
    claim(conn, cold, "b")
    threads = [("c", "k", "size"), ("b", "j", "age"), ("a", "l", "age")]
    assert run(conn, cold.claim(threads, "later")) == {
        "a": Origin("l", "", pinned=False, claim="later"),
        "b": Origin("i", "", pinned=False, claim="claim"),
        "c": Origin("k", "", pinned=False, claim="later"),
    }
    assert run(conn, cold.origin("a")) == Origin("l", "", pinned=False, claim="later")


def test_first_copy_is_not_committed_behind_the_claim_of_another(conn: Connection, cold: Cold) -> None:
    claim(conn, cold, "t")
    run(conn, cold.delete("t", ["i"]))
    claim(conn, cold, "t", "i", "later")
    assert run(conn, cold.commit([batch("t", checkpoints=[checkpoint_row("1")])])) == frozenset()
    assert run(conn, cold.commit([batch("t", expected="")])) == frozenset()
    assert run(conn, cold.commit([batch("t", expected="later", flushed="")])) == {"t"}
    assert run(conn, cold.commit([batch("t", expected="later")])) == {"t"}
    assert run(conn, cold.commit([batch("t", expected="later", flushed="2.b")])) == frozenset()


def test_commit_writes_only_threads_whose_fence_holds(conn: Connection, cold: Cold) -> None:
    for thread in ("b", "a", "other life", "ahead"):
        claim(conn, cold, thread)
    run(conn, cold.commit([batch("ahead", flushed="5")]))
    rows: dict[str, Any] = {"checkpoints": [checkpoint_row("1")], "blobs": [blob("c", "1")], "writes": [write("1")]}
    batches = [
        batch("b", **rows),
        batch("a", **rows),
        batch("other life", incarnation="j", **rows),
        batch("ahead", **rows),
        batch("unknown", **rows),
    ]
    assert run(conn, cold.commit(batches)) == {"a", "b"}
    assert run(conn, cold.commit(batches)) == frozenset()
    for thread in ("a", "b"):
        assert counts(conn, cold, thread) == (1, 1, 1, 1)
    for thread in ("other life", "ahead", "unknown"):
        assert counts(conn, cold, thread)[:3] == (0, 0, 0)


def test_commit_can_write_a_page_without_advancing(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")], flushed="")
    store(conn, cold, "t", checkpoints=[checkpoint_row("2")], flushed="7")
    assert run(conn, cold.fetch("t", "", None)).origin == Origin("i", "7", pinned=False)
    assert counts(conn, cold, "t")[0] == 2


def test_commit_repeated_changes_nothing_and_a_changed_row_wins(conn: Connection, cold: Cold) -> None:
    rows = [checkpoint_row("1", values={"n": 1.0})]
    store(conn, cold, "t", checkpoints=rows, blobs=[blob("c", "1")], flushed="")
    query = f"SELECT xmin FROM {cold._q.prefix}checkpoints UNION ALL SELECT xmin FROM {cold._q.prefix}checkpoint_blobs"
    before = conn.execute(query.encode()).fetchall()
    store(conn, cold, "t", checkpoints=rows, blobs=[blob("c", "1")], flushed="")
    assert conn.execute(query.encode()).fetchall() == before
    again = checkpoint_row("1", parent="0", values={"n": 1}, versions={"c": "1"}, metadata={"b": 1})
    store(conn, cold, "t", checkpoints=[again], blobs=[blob("c", "1", b"y")])
    got = stored(conn, cold, "t")
    assert (got.row.parent_id, json.loads(got.row.metadata), got.blobs[0].data) == ("0", {"b": 1}, b"y")
    assert b'"n": 1}' in got.row.checkpoint


def test_the_first_write_of_an_index_wins_and_the_last_of_a_negative_one(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row("1")], flushed="", writes=[write("1"), write("1", idx=-4)])
    late = [write("1", data=b"late"), write("1", idx=-4, data=b"late", path="~z")]
    store(conn, cold, "t", writes=late)
    assert sorted(stored(conn, cold, "t").writes) == sorted([write("1"), late[1]])


def test_of_equal_keys_in_a_batch_the_last_stays_and_of_writes_the_first(conn: Connection, cold: Cold) -> None:
    store(
        conn,
        cold,
        "t",
        checkpoints=[checkpoint_row("1"), checkpoint_row("1", versions={"c": "1"})],
        blobs=[blob("c", "1", b"x"), blob("c", "1", b"y")],
        writes=[write("1", data=b"x"), write("1", data=b"y")],
    )
    got = stored(conn, cold, "t")
    assert (got.blobs[0].data, got.writes[0].data) == (b"y", b"x")


def test_two_commits_of_one_thread_exclude_each_other(postgres_url: str) -> None:
    cold = Cold(None)
    with connect(postgres_url) as one, connect(postgres_url) as two, connect(postgres_url) as watch:
        set_up(one, cold)
        claim(one, cold, "t")
        one.execute("BEGIN")
        assert run(one, cold.commit([batch("t", checkpoints=[checkpoint_row("1")], flushed="1.one")]))
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(run, two, cold.commit([batch("t", checkpoints=[checkpoint_row("2")], flushed="1.two")]))
            wait_until_blocked(watch, two)
            one.execute("COMMIT")
            assert late.result(HANGS_S) == frozenset()
        assert run(one, cold.fetch("t", "", "2")) == (Origin("i", "1.one", pinned=False), None, [], [], True, False)


def test_pin_needs_the_incarnation(conn: Connection, cold: Cold) -> None:
    claim(conn, cold, "t")
    assert not run(conn, cold.pin("t", "j", pinned=True))
    assert run(conn, cold.pin("t", "i", pinned=True))
    assert run(conn, cold.origin("t")) == Origin("i", "", pinned=True, claim="claim")


def test_claim_alone_is_nothing_to_adopt(conn: Connection, cold: Cold) -> None:
    claim(conn, cold, "t")
    assert run(conn, cold.adopt("t", "x")) is None
    assert not run(conn, cold.commit([batch("t", checkpoints=[checkpoint_row("1")], flushed="")]))
    assert claim(conn, cold, "t", "i", "later").claim == "x"
    assert run(conn, cold.commit([batch("t", checkpoints=[checkpoint_row("1")], expected="x", flushed="")]))
    assert run(conn, cold.adopt("t", "y")) == Origin("i", "", pinned=False)
