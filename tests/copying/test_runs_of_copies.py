"""A copy keeps what it was copied with when the runs that wrote it are deleted, and loses what its own runs wrote."""

from __future__ import annotations

import pytest
from homes import HOMES, at, put, settle, values_of

from langgraph_tiered_checkpoint import TieredSaver


# The copy of a promoted thread is promoted.
@pytest.mark.parametrize(("home", "then"), [("ephemeral", then) for then in HOMES] + [
    (home, then) for home in HOMES[1:] for then in HOMES[1:]
])  # fmt: skip
def test_deleting_the_runs_of_a_thread_leaves_its_copies(
    redis_url: str, postgres_url: str, home: str, then: str
) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as saver:
        config = at("t")
        for n, run in enumerate(["one", "one", "two"]):
            config = put(saver, config, {"a": n}, n + 1, run_id=run)
        settle(saver, "t", home)
        saver.copy_thread("t", "copy")
        saver.copy_thread("copy", "copy of it")
        put(saver, saver.get_tuple(at("copy")).config, {"a": 9}, 9, run_id="two")  # type: ignore[union-attr]
        if then != "ephemeral":
            settle(saver, "copy", then)
        saver.delete_for_runs(["one", "two"])
        assert saver.get_tuple(at("t")) is None
        for copy in ("copy", "copy of it"):
            assert [item.checkpoint["channel_values"]["a"] for item in saver.list(at(copy))] == [2, 1, 0]
            assert [item.metadata["run_id"] for item in saver.list(at(copy))] == ["two", "one", "one"]
            assert values_of(saver, at(copy)) == {"a": 2}
