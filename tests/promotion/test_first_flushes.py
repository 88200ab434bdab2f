"""What a first flush reads: the log alone, where that goes back to the first change, or all of the thread before it."""

from __future__ import annotations

from typing import Any

import pytest
from homes import at, put

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.plans import copying
from langgraph_tiered_checkpoint.steps import Lua, LuaBatch

THREADS = ["one", "two", "three"]
CHECKPOINTS = 6


def saved(saver: TieredSaver, thread_id: str) -> list[Any]:
    return [(t.config, t.checkpoint, t.metadata, t.parent_config, t.pending_writes) for t in saver.list(at(thread_id))]


@pytest.mark.parametrize("promoted_with", [1, 4])
def test_threads_with_more_than_a_page_each_are_in_postgres_as_they_were(
    redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch, promoted_with: int
) -> None:
    """Together, and in pages of the log that hold a checkpoint or two of each thread."""
    monkeypatch.setattr(copying, "PAGE_BYTES", 30_000)
    promotion = Promotion(checkpoints=promoted_with)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=promotion) as saver:
        for thread_id in THREADS:
            config = at(thread_id)
            for n in range(1, CHECKPOINTS + 1):
                config = put(saver, config, {"text": f"{thread_id} {n} " * 800, "number": n}, n)
                saver.put_writes(config, [("text", f"{thread_id} writes {n}")], f"task {n}")
        before = {thread_id: saved(saver, thread_id) for thread_id in THREADS}
        scripts: list[str] = []
        perform = saver._sync._perform

        def noted(step: Any) -> Any:
            calls = step.calls if isinstance(step, LuaBatch) else [step] if isinstance(step, Lua) else []
            scripts.extend(call.script for call in calls)
            return perform(step)

        monkeypatch.setattr(saver._sync, "_perform", noted)
        saver.flush()
        assert ("scan" in scripts) == (promoted_with > 1)
        assert scripts.count("changes") > len(THREADS)
        assert {saver.explain(thread_id).state for thread_id in THREADS} == {"clean"}
        for thread_id in THREADS:
            saver.evict(thread_id)
        assert {thread_id: saved(saver, thread_id) for thread_id in THREADS} == before
