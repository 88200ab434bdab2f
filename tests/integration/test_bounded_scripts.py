"""Scripts that hold Redis up for no longer than what they were given is worth, whatever the thread holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from homes import at, make_checkpoint, put
from stepping import Stepped
from turns import Counted, count_turns

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.steps import Lua


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        yield made


def next_script(stepped: Stepped) -> Lua:
    assert isinstance(stepped._step, Lua)
    return stepped._step


@pytest.mark.parametrize("held", ["whole", "lost"])
def test_put_of_many_differences_costs_as_many_steps_as_channels(
    saver: TieredSaver, redis_client: redis.Redis, held: str
) -> None:
    """Also where their predecessors are lost, and all has to be sent again."""

    def turns(channels: int) -> Counted:
        thread_id = f"{channels}"
        values = {f"channel {n}": "x" * 3_000 + str(n) for n in range(channels)}
        config = put(saver, at(thread_id), values)
        if held == "lost":
            saver.promote(thread_id)
            saver.evict(thread_id)
        made = make_checkpoint({name: value + "!" for name, value in values.items()}, 2)
        metadata: Any = {"source": "loop", "step": 2, "parents": {}}
        plan = saver._requests.put(config, made, metadata, made["channel_versions"])
        stepped = Stepped(saver, plan).stop_before("put")
        if held == "lost":
            stepped.take(1).stop_before("put")
        return count_turns(redis_client, next_script(stepped))

    few, many = turns(50), turns(500)
    assert few.reply[0] == many.reply[0] == (b"missing" if held == "lost" else b"ok")
    assert many.turns < 12 * few.turns
