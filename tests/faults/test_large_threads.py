"""Threads and backlogs far larger than usual: nothing is lost, no script holds Redis up for long, memory is bounded."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from faults.outages import MakeSaver
from homes import at, put

from langgraph_tiered_checkpoint import Promotion, TieredSaver, Timeouts

SLOW_US = 250_000
"""What no script may take but those that move one large value: generous, for a busy machine. In microseconds."""


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", promotion=Promotion.never(), timeouts=Timeouts()
    ) as made:
        yield made


@pytest.fixture
def slow_scripts(redis_client: redis.Redis) -> Iterator[None]:
    """Fails if a script has held Redis up."""
    redis_client.config_set("slowlog-log-slower-than", SLOW_US)
    redis_client.slowlog_reset()
    yield
    slow: Any = redis_client.slowlog_get()
    assert [(entry["duration"], entry["command"][:60]) for entry in slow] == []


@pytest.mark.usefixtures("slow_scripts")
def test_twenty_thousand_writes_of_one_superstep(saver: TieredSaver) -> None:
    """Beyond the number of arguments that Lua's `unpack` takes."""
    config = put(saver, at("t"), {"n": 1})
    writes = [(f"c{number}", number) for number in range(20_000)]
    saver.put_writes(config, writes, "task")
    for move in ("explain", "promote", "evict"):
        getattr(saver, move)("t")
        found = saver.get_tuple(at("t"))
        assert found is not None
        assert [(channel, value) for _, channel, value in found.pending_writes or ()] == writes


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("slow_scripts")
def test_ten_thousand_checkpoints_in_one_thread(saver: TieredSaver) -> None:
    config = at("t")
    ids = []
    for number in range(10_000):
        config = put(saver, config, {"n": [number]}, number + 1, run_id=f"run {number // 100}")
        ids.append(config["configurable"]["checkpoint_id"])
    assert [one.checkpoint["id"] for one in saver.list(at("t"), limit=3)] == ids[:-4:-1]
    saver.promote("t")
    assert saver.explain("t").hot_checkpoints == 50
    assert [one.checkpoint["id"] for one in saver.list(at("t"))] == ids[::-1]
    saver.delete_for_runs(["run 7"])
    assert len(list(saver.list(at("t")))) == 9_900
    saver.prune(["t"])
    assert [one.checkpoint["id"] for one in saver.list(at("t"))] == ids[-1:]


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_hundred_megabytes_in_one_thread(saver: TieredSaver) -> None:
    large = os.urandom(100_000_000)
    put(saver, at("t"), {"n": large})
    for move in ("explain", "promote", "evict"):
        getattr(saver, move)("t")
        found = saver.get_tuple(at("t"))
        assert found is not None
        assert found.checkpoint["channel_values"]["n"] == large
    saver.delete_thread("t")
    assert saver.get_tuple(at("t")) is None


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_hundred_thousand_due_threads_drain_in_bounded_memory(
    make_saver: MakeSaver, redis_url: str, postgres_url: str
) -> None:
    saver: TieredSaver = make_saver(
        redis_url, postgres_url, promoter="external", promotion=Promotion(checkpoints=1), timeouts=Timeouts()
    )
    for number in range(100_000):
        put(saver, at(f"t{number}"), {"n": [number]})
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    saver.flush()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 200_000
    told = saver.stats()
    assert (told.due_threads, told.cold_threads) == (0, 100_000)
