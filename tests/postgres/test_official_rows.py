"""Beside the official saver: we read, adopt and delete what it wrote, and it reads and extends what we wrote."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from statements import Connection, checkpoint_row, connect, counts, keys, page, run, set_up, store, wait_until_blocked
from waiting import HANGS_S

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.records import BlobRow, Origin
from langgraph_tiered_checkpoint.steps import Tx

pytestmark = pytest.mark.bare


def official_put(saver: PostgresSaver, thread: str, values: dict[str, Any], parent: str | None = None) -> str:
    checkpoint: Checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = dict.fromkeys(values, "1.0")
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": parent}}
    saver.put(config, checkpoint, {"source": "loop", "step": 1}, checkpoint["channel_versions"])  # type: ignore[arg-type]  # RunnableConfig
    return checkpoint["id"]


def test_official_threads_are_read_adopted_and_deleted(official: PostgresSaver, plain: Connection) -> None:
    cold = Cold(None)
    set_up(plain, cold)
    id_ = official_put(official, "t", {"n": 1, "l": [1], "d": _DeltaSnapshot([2])})
    answer = run(plain, cold.fetch("t", "", None))
    assert answer.origin is None
    assert answer.heads_exist
    assert answer.stored is not None
    assert answer.stored.row.checkpoint_id == id_
    assert {b.channel for b in answer.stored.blobs} == {"l", "d"} == {channel for channel, _ in answer.stored.row.refs}
    assert run(plain, cold.adopt("nobody", "f")) is None
    assert run(plain, cold.adopt("t", "f")) == Origin("f", "0.f", pinned=False)
    assert run(plain, cold.adopt("t", "g")) == Origin("f", "0.f", pinned=False)
    run(plain, cold.delete("t", ["f"]))
    assert counts(plain, cold, "t") == (0, 0, 0, 0)


def test_the_official_saver_reads_and_extends_what_we_wrote(official: PostgresSaver, plain: Connection) -> None:
    cold = Cold(None)
    set_up(plain, cold)
    type_, data = official.serde.dumps_typed([1, 2])
    row = checkpoint_row("1", versions={"l": "1.0", "n": "1.0"}, values={"n": 1}, metadata={"step": 1})
    store(plain, cold, "t", checkpoints=[row], blobs=[BlobRow("", "l", "1.0", type_, data)])
    got = official.get_tuple({"configurable": {"thread_id": "t"}})
    assert got is not None
    assert got.checkpoint["channel_values"] == {"l": [1, 2], "n": 1}
    id_ = official_put(official, "t", {"n": 2}, parent="1")
    assert run(plain, cold.fetch("t", "", "1")).stored is not None
    assert [key[0] for key in keys(page(plain, cold, "t"))] == sorted([id_, "1"], reverse=True)


@pytest.mark.parametrize("first", ["delete", "adopt"])
def test_an_adoption_beside_a_delete_leaves_no_row_behind(
    official: PostgresSaver, postgres_url: str, first: str
) -> None:
    cold = Cold(None)
    with connect(postgres_url) as one, connect(postgres_url) as two, connect(postgres_url) as watch:
        set_up(one, cold)
        official_put(official, "t", {"n": 1})
        txs: list[Tx[Any]] = [cold.delete("t", ["f"]), cold.adopt("t", "f")]
        ahead, behind = txs if first == "delete" else reversed(txs)
        one.execute("BEGIN")
        run(one, ahead)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(run, two, behind)
            wait_until_blocked(watch, two)
            one.execute("COMMIT")
            assert late.result(HANGS_S) is None
        assert counts(one, cold, "t") == (0, 0, 0, 0)
