"""What is removed from the lists when threads have lapsed: by one process, without a look at threads that have not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from buckets import BUCKET, in_one_bucket
from homes import at, put
from waiting import wait_until

from langgraph_tiered_checkpoint import Promotion, TieredSaver, promoter
from langgraph_tiered_checkpoint.hot.keys import bucket_of
from langgraph_tiered_checkpoint.plans.promoting import sweep, sweep_in_turn
from langgraph_tiered_checkpoint.steps import Lua, LuaBatch

SHORT = timedelta(milliseconds=500)
NO_BOOKKEEPING = {b"lgt:layout", b"lgt:turn", b"lgt:workers"}


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion.never(), promoter="external") as made:
        yield made


@pytest.fixture
def calls(saver: TieredSaver, monkeypatch: pytest.MonkeyPatch) -> list[list[Lua[Any]]]:
    """The requests to Redis that the saver makes from now on."""
    made: list[list[Lua[Any]]] = []
    perform = saver._sync._perform

    def noted(step: Any) -> Any:
        if isinstance(step, LuaBatch | Lua):
            made.append(list(step.calls) if isinstance(step, LuaBatch) else [step])
        return perform(step)

    monkeypatch.setattr(saver._sync, "_perform", noted)
    return made


def lapses_of(saver: TieredSaver, thread_id: str) -> str:
    return saver._store.hot.bucket_key(bucket_of(thread_id), "lapses")


def test_idle_threads_are_not_looked_at(saver: TieredSaver, calls: list[list[Lua[Any]]]) -> None:
    for n in range(50):
        put(saver, at(f"t{n}"), {"n": 1})
    calls.clear()
    saver._sync.run(sweep(saver._store))
    assert {call.script for request in calls for call in request} == {"lapses"}


def test_thread_that_was_kept_alive_is_looked_at_once_and_then_when_it_may_lapse(
    saver: TieredSaver, calls: list[list[Lua[Any]]], redis_client: redis.Redis
) -> None:
    put(saver, at("t"), {"n": 1})
    redis_client.zadd(lapses_of(saver, "t"), {"t": 1})
    key = saver._store.hot.thread_key("t")
    redis_client.pexpire(key, 1_800_000)
    for _ in range(2):
        saver._sync.run(sweep(saver._store))
    assert [call.script for request in calls for call in request].count("sweep") == 1
    now_s, _ = redis_client.time()
    next_look = redis_client.zscore(lapses_of(saver, "t"), "t")
    assert next_look is not None
    assert 1_700_000 < next_look - now_s * 1_000 < 1_810_000
    assert list(saver.thread_ids()) == ["t"]


def test_dirty_thread_that_has_fallen_out_of_the_schedule_is_due_again(
    saver: TieredSaver, redis_client: redis.Redis
) -> None:
    stored = put(saver, at("t"), {"n": 1})
    saver.promote("t")
    put(saver, stored, {"n": 2}, 2)
    redis_client.zrem(saver._store.hot.bucket_key(bucket_of("t"), "due"), "t")
    redis_client.zadd(lapses_of(saver, "t"), {"t": 1})
    saver._sync.run(sweep(saver._store))
    assert saver.stats().due_threads == 1
    saver.flush()
    assert saver.explain("t").state == "clean"


def test_slices_are_bounded_and_each_is_a_request(
    saver: TieredSaver, calls: list[list[Lua[Any]]], redis_client: redis.Redis
) -> None:
    lists = {name: saver._store.hot.bucket_key(BUCKET, name) for name in ("lapses", "threads", "runs")}
    names = in_one_bucket(320)
    for name in ("lapses", "threads"):
        redis_client.zadd(lists[name], dict.fromkeys(names, 0))
    many = names[3]
    runs = [f"{n}" for n in range(3_000)]
    redis_client.zadd(lists["runs"], {f"{run}\0{many}": 0 for run in runs} | {f"\0{many}\0{run}": 0 for run in runs})
    redis_client.zadd(
        lists["runs"], {f"run\0{names[0]}": 0, f"\0{names[0]}\0run": 0, "run\0other": 0, "\0other\0run": 0}
    )
    redis_client.config_resetstat()
    saver._sync.run(sweep(saver._store))
    sweeps = [request for request in calls if request[0].script == "sweep"]
    assert [len(request) for request in sweeps] == [1] * len(sweeps)
    assert max(len(request[0].keys) for request in sweeps) <= 55
    assert len(sweeps) >= len(runs) / 500
    assert redis_client.zrange(lists["runs"], 0, -1) == [b"\0other\0run", b"run\0other"]
    assert not redis_client.exists(lists["lapses"], lists["threads"])


def test_key_that_is_no_thread_keeps_nothing_else_from_being_swept(
    saver: TieredSaver, redis_client: redis.Redis
) -> None:
    planted, damaged, *gone = names = in_one_bucket(10)
    key = saver._store.hot.thread_key
    redis_client.set(key(planted), "text", px=60_000)
    redis_client.hset(key(damaged), "m", b"\xc1")
    lapses = lapses_of(saver, planted)
    redis_client.zadd(lapses, dict.fromkeys(names, 1))
    saver._sync.run(sweep(saver._store))
    assert set(redis_client.zrange(lapses, 0, -1)) == {planted.encode(), damaged.encode()}
    redis_client.delete(key(planted), key(damaged))
    assert len(gone) == 8


def test_one_of_a_fleet_sweeps(saver: TieredSaver, redis_client: redis.Redis) -> None:
    redis_client.config_resetstat()

    def scripts() -> int:
        stats: Any = redis_client.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("eval", "evalsha"))

    for _ in range(5):
        saver._sync.run(sweep_in_turn(saver._store, 60_000))
    assert scripts() < 2 * 256
    assert redis_client.pttl("lgt:turn") > 0
    redis_client.delete("lgt:turn")
    saver._sync.run(sweep_in_turn(saver._store, 60_000))
    assert scripts() >= 2 * 256


@pytest.mark.parametrize("opened", ["with", "by a write"])
@pytest.mark.parametrize("tiers", ["both", "hot only"])
def test_nothing_is_left_of_threads_that_have_expired(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    tiers: str,
    opened: str,
) -> None:
    monkeypatch.setattr(promoter, "SWEEP_S", 0.1)
    saver = TieredSaver.from_urls(redis_url, postgres_url if tiers == "both" else None, ttl=SHORT)
    if opened == "with":
        saver.__enter__()
    for n in range(5):
        put(saver, at(f"{n}@example.com"), {"n": n}, run_id=f"run {n}")
    assert redis_client.keys("*:runs")
    wait_until(lambda: set(redis_client.keys()) <= NO_BOOKKEEPING, "a sweep after the threads have expired")
    saver.close()


def test_external_promoter_means_that_a_saver_sweeps_nothing(
    redis_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoter, "SWEEP_S", 0.01)
    with TieredSaver.from_urls(redis_url, None, promoter="external") as saver:
        put(saver, at("t"), {"n": 1})
        assert saver._promoter._thread is None
    assert not redis_client.exists("lgt:turn")
