"""What is written while a flush is under way is neither lost nor acknowledged with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from homes import at, put

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.plans import flushing
from langgraph_tiered_checkpoint.steps import Lua


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", promotion=Promotion.never(), hot_checkpoints=2
    ) as made:
        yield made


def test_checkpoints_and_writes_from_before_the_acknowledgement_are_not_trimmed(saver: TieredSaver) -> None:
    stored = [put(saver, at("t"), {"a": 1})]
    saver.promote("t")
    stored.append(put(saver, stored[-1], {"a": 2}, 2))
    plan = flushing.flush(saver._store, "t")
    step: Any = next(plan)
    while not (isinstance(step, Lua) and step.script == "ack"):
        step = plan.send(saver._sync._perform(step))
    for n in range(3, 12):
        stored.append(put(saver, stored[-1], {"a": n}, n))
        saver.put_writes(stored[0], [("a", n)], f"late {n}")
    reply = saver._sync._perform(step)
    plan.close()
    assert reply[0] == b"dirty"
    saver.flush("t")
    saver.evict("t")
    listed = list(saver.list(at("t")))
    assert [t.config for t in listed] == stored[::-1]
    assert [t.checkpoint["channel_values"]["a"] for t in listed] == list(range(11, 0, -1))
    assert sorted(value for _, _, value in listed[-1].pending_writes or ()) == list(range(3, 12))
