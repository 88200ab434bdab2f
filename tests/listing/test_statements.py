"""Pages of checkpoints and of threads: complete, in order, filtered, and by index."""

from __future__ import annotations

import pytest
from statements import Connection, Key, blob, checkpoint_row, claim, execute, keys, page, run, store, stored, write

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.steps import Sql

THREADS = ("a", "B", "b", "é", "a%", "a_", "aX", "a\U0010ffff", "ab")


@pytest.fixture
def many(conn: Connection, cold: Cold) -> list[Key]:
    """Threads whose order depends on the collation, with ids and namespaces that do; the keys of each, in our order."""
    rows = [checkpoint_row(id_, ns=ns) for id_ in ("1", "2", "A", "b") for ns in ("", "n", "N:1", "é")]
    for thread in THREADS:
        store(conn, cold, thread, checkpoints=rows)
    everything = [(row.checkpoint_id, row.ns) for row in rows]
    return sorted(everything, key=lambda k: (k[0].encode(), k[1].encode()), reverse=True)


@pytest.mark.parametrize("limit", [1, 3, 1000])
@pytest.mark.parametrize("ns", [None, "", "N:1"])
def test_pages_of_a_thread_are_complete_and_in_order(
    conn: Connection, cold: Cold, many: list[Key], ns: str | None, limit: int
) -> None:
    found: list[Key] = []
    while more := keys(page(conn, cold, "b", ns, before=found[-1] if found else None, limit=limit)):
        found += more
    assert found == [key for key in many if ns in {None, key[1]}]


@pytest.mark.parametrize("ns", [None, ""])
def test_pages_are_filtered(conn: Connection, cold: Cold, many: list[Key], ns: str | None) -> None:
    mine = [key for key in many if ns in {None, key[1]}]
    assert keys(page(conn, cold, "a", ns, checkpoint_id="2", limit=1000)) == [k for k in mine if k[0] == "2"]
    assert keys(page(conn, cold, "a", ns, before_id="A", limit=1000)) == [k for k in mine if k[0] < "A"]
    last = mine[len(mine) // 2]
    rest = page(conn, cold, "a", ns, before=last, before_id="b", limit=1000)
    assert keys(rest) == [k for k in mine[mine.index(last) + 1 :] if k[0] < "b"]


def test_pages_carry_blobs_and_writes_of_their_own_checkpoints(conn: Connection, cold: Cold) -> None:
    for thread in ("t", "u"):
        rows = [
            checkpoint_row("1", versions={"c": "1"}),
            checkpoint_row("2", versions={"c": "1", "d": "1"}),
            checkpoint_row("2", ns="n", versions={"c": "1"}),
        ]
        blobs = [blob("c", "1", thread.encode()), blob("d", "1"), blob("c", "1", b"n", ns="n"), blob("c", "2")]
        writes = [write("1"), write("2", data=thread.encode()), write("2", ns="n", data=b"n")]
        store(conn, cold, thread, checkpoints=rows, blobs=blobs, writes=writes)
    for thread in ("t", "u"):
        listed = page(conn, cold, thread)
        for got, _ in listed:
            assert got == stored(conn, cold, thread, got.row.checkpoint_id, got.row.ns)
        assert len(listed) == 3


def test_lists_use_indexes(conn: Connection, cold: Cold) -> None:
    store(conn, cold, "t", checkpoints=[checkpoint_row(f"{n:03}", metadata={"run_id": "r"}) for n in range(300)])
    conn.execute("SET enable_seqscan = off")
    conn.execute("SET enable_sort = off")
    filters = {"ns": None, "id": None, "before_id": None, "path": '$."step" == 1', "limit": 10}
    after = {"after_id": "5", "after_ns": ""}
    for step, index in (
        (cold._q("page_of_thread", thread="t", **filters, **after), "tiered_order_idx"),
        (cold._q("page_of_namespace", thread="t", **filters | {"ns": ""}, **after), "checkpoints_pkey"),
        (cold._q("thread_ids", after="s", prefix="t", upto="t", limit=10), "tiered_order_idx"),
        (cold._q("threads_of_runs", cut=["r"], runs=["r"], prefix=None), "tiered_run_id_idx"),
    ):
        plan = str(execute(conn, Sql("EXPLAIN " + step.text, step.params)))
        assert index in plan
        if step.text.count("LIMIT") and "RECURSIVE" not in step.text:
            assert "Sort" not in plan


def test_thread_ids_pages_through_all_threads_with_checkpoints(conn: Connection, cold: Cold, many: list[Key]) -> None:
    claim(conn, cold, "claimed only")
    official_only = f"INSERT INTO {cold._q.prefix}checkpoints (thread_id, checkpoint_id, checkpoint)"
    conn.execute(f"{official_only} VALUES ('Z', '1', '{{}}')".encode())
    expected = sorted([*THREADS, "Z"])
    found: list[str] = []
    while more := run(conn, cold.thread_ids(found[-1] if found else "", "", 2)):
        found += more
    assert found == expected
    for prefix in ("a", "a%", "a_", "q"):
        assert run(conn, cold.thread_ids("", prefix, 100)) == [t for t in expected if t.startswith(prefix)]
    assert run(conn, cold.thread_ids("aX", "a", 100)) == ["a_", "ab", "a\U0010ffff"]
    assert run(conn, cold.thread_ids("b", "a", 100)) == []
    assert run(conn, cold.thread_ids("", "", 100, upto="a_")) == [t for t in expected if t <= "a_"]
    assert run(conn, cold.thread_ids("a", "a", 100, upto="a%")) == ["a%"]
    assert run(conn, cold.thread_ids("a", "a", 100, upto="a")) == []
    assert run(conn, cold.figures())[0] == 10


def test_threads_of_runs_compares_whole_run_ids(conn: Connection, cold: Cold) -> None:
    long = "r" * 10_000
    for thread, run_id in (("t", "r1"), ("%t", "r2"), ("u", "r1"), ("v", long + "1"), ("w", long + "2")):
        store(conn, cold, thread, checkpoints=[checkpoint_row("1", metadata={"run_id": run_id}), checkpoint_row("2")])
    assert run(conn, cold.threads_of_runs(["r1", "r2"], "")) == ["%t", "t", "u"]
    assert run(conn, cold.threads_of_runs(["r1", "r2"], "%")) == ["%t"]
    assert run(conn, cold.threads_of_runs([long + "1"], "")) == ["v"]
    assert run(conn, cold.threads_of_runs([], "")) == []
