"""Threads and backlogs far larger than usual: nothing is lost, no script holds Redis up for long, memory is bounded."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from faults.outages import MakeSaver
from faults.writers import drain
from homes import at, put, settle
from stepping import Stepped

from langgraph_tiered_checkpoint import Promotion, TieredSaver, Timeouts

SLOW_US = 1_000_000
"""What no script may take but those that move one large value: generous, for a busy machine. In microseconds."""

DUE = 100_000
NIGHTLY = pytest.mark.nightly


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


@pytest.mark.parametrize(
    "home", ["evicted", *(pytest.param(home, marks=NIGHTLY) for home in ("ephemeral", "promoted"))]
)
@pytest.mark.parametrize("cold_writes", ["behind", pytest.param("through", marks=NIGHTLY)])
def test_no_reader_sees_a_part_of_twenty_thousand_writes(
    saver: TieredSaver, make_saver: MakeSaver, redis_url: str, postgres_url: str, home: str, cold_writes: str
) -> None:
    writer = make_saver(redis_url, postgres_url, cold_writes=cold_writes, timeouts=Timeouts())
    config = put(saver, at("t"), {"n": 1})
    settle(saver, "t", home)
    writes = [(f"c{number}", number) for number in range(20_000)]
    seen = []
    for plan in (writer._requests.put_writes(config, writes, "task", ""), writer._requests.promote("t")):
        stepped = Stepped(writer, plan)
        while not stepped.done:
            stepped.take(1)
            found = saver.get_tuple(config)
            assert found is not None
            seen.append(len(found.pending_writes or ()))
    assert seen[-1] == 20_000
    assert set(seen) <= {0, 20_000}
    assert seen == sorted(seen)


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
    """In a process of its own, whose memory nothing else has raised, or freed for it to use."""
    saver: TieredSaver = make_saver(
        redis_url, postgres_url, promoter="external", promotion=Promotion(checkpoints=1), timeouts=Timeouts()
    )
    for number in range(DUE):
        put(saver, at(f"t{number}"), {"n": [number]})
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    worker = context.Process(target=drain, args=((redis_url, postgres_url), results))
    worker.start()
    grown_kib = results.get(timeout=1_500)
    worker.join(30)
    assert worker.exitcode == 0
    assert grown_kib < 60_000
    told = saver.stats()
    assert (told.due_threads, told.cold_threads) == (0, DUE)
