"""What is written while a flush is under way is neither lost nor acknowledged with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from homes import at, make_checkpoint, put, values_of
from stepping import Stepped

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


def test_a_write_through_takes_along_what_was_not_flushed_before_it(
    saver: TieredSaver, redis_url: str, postgres_url: str
) -> None:
    stored = [put(saver, at("t"), {"a": 1})]
    saver.promote("t")
    stored.append(put(saver, stored[-1], {"a": 2}, 2))
    saver.put_writes(stored[0], [("a", "early")], "task")
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", cold_writes="through") as through:
        stored.append(put(through, stored[-1], {"a": 3}, 3))
        assert through.explain("t").state == "clean"
        through.put_writes(stored[0], [("a", "late")], "other task")
        assert through.explain("t").state == "clean"
    saver.evict("t")
    listed = list(saver.list(at("t")))
    assert [t.config for t in listed] == stored[::-1]
    assert [t.checkpoint["channel_values"]["a"] for t in listed] == [3, 2, 1]
    assert sorted(value for _, _, value in listed[-1].pending_writes or ()) == ["early", "late"]


def test_a_write_through_that_another_one_overtakes_is_in_postgres_when_it_returns(
    redis_url: str, postgres_url: str
) -> None:
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", cold_writes="through", promotion=Promotion.never()
    ) as saver:
        config = put(saver, at("t"), {"a": 1})
        saver.promote("t")
        made = make_checkpoint({"a": 2}, 2)
        slow = Stepped(saver, saver._requests.put(config, made, {"step": 2}, made["channel_versions"]))
        slow.stop_before("commit")
        late = put(saver, config, {"a": 3}, 3)
        slow.finish()
        assert saver.explain("t").state == "clean"
        saver.evict("t")
        assert [t.checkpoint["channel_values"]["a"] for t in saver.list(at("t"))] == [3, 2, 1]
        assert values_of(saver, late) == {"a": 3}
