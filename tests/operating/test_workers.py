"""A promoter says in Redis that it is alive, for as long as it is; `stats` tells of it, and counts the threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone

import pytest
import redis
from homes import at, put
from waiting import wait_until

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.hot.upkeep import ALIVE_MS
from langgraph_tiered_checkpoint.plans.promoting import beat
from langgraph_tiered_checkpoint.records import HotCount

Open = Callable[..., TieredSaver]


@pytest.fixture
def open_saver(redis_url: str, postgres_url: str) -> Open:
    def opened(**settings: object) -> TieredSaver:
        return TieredSaver.from_urls(redis_url, postgres_url, **settings)  # type: ignore[arg-type]

    return opened


def test_promoter_is_listed_from_its_start_to_its_end(open_saver: Open) -> None:
    with open_saver(promoter="external") as looking:
        assert looking.stats().workers == ()
        with open_saver():
            wait_until(lambda: looking.stats().workers != (), "the promoter to say that it is alive")
            [worker] = looking.stats().workers
            assert worker.pid == os.getpid()
            assert abs((datetime.now(timezone.utc) - worker.seen_at).total_seconds()) < 60
        assert looking.stats().workers == ()


def test_worker_that_has_died_is_forgotten(open_saver: Open, redis_client: redis.Redis) -> None:
    with open_saver(promoter="external") as saver:
        saver._sync.run(beat(saver._store, "", '["dead", "h", 1, "lgt", "1", 0, 0]'))
        assert len(saver.stats().workers) == 1
        assert 0 < redis_client.pttl("lgt:workers") <= ALIVE_MS
        redis_client.zincrby("lgt:workers", -ALIVE_MS - 1, '["dead", "h", 1, "lgt", "1", 0, 0]')
        assert saver.stats().workers == ()
        saver._sync.run(beat(saver._store, "", '["alive", "h", 2, "lgt", "1", 0, 0.5]'))
        saver._sync.run(
            beat(saver._store, '["alive", "h", 2, "lgt", "1", 0, 0.5]', '["alive", "h", 2, "lgt", "1", 0, 2]')
        )
        assert redis_client.zcard("lgt:workers") == 1
        assert saver.stats().flushed_per_s == 2


def test_what_a_stranger_has_put_among_the_workers_is_passed_over(open_saver: Open, redis_client: redis.Redis) -> None:
    with open_saver(promoter="external") as saver:
        saver.stats()
        redis_client.zadd("lgt:workers", {"{": 9e15, '["x"]': 9e15, '["i", "h", 1, "p", "1", "later", 0]': 9e15})
        assert saver.stats().workers == ()
        redis_client.expire("lgt:workers", 60)


def test_threads_are_counted_by_state_with_their_memory(open_saver: Open) -> None:
    with open_saver(promoter="external", promotion=Promotion.never()) as saver:
        for name in ("a", "b", "c", "d", "e", "f"):
            put(saver, at(name), {"text": "x" * 10_000})
        for name in ("d", "e", "f"):
            saver.promote(name)
        put(saver, at("f"), {"text": "y"}, 2)
        told = saver.stats()
        counted = [count for count in (told.ephemeral, told.clean, told.dirty) if count is not None]
        assert [count.threads for count in counted] == [3, 2, 1]
        assert counted[0].bytes > 30_000
        assert told.oldest_unflushed_age is not None
        assert told.hot_bytes is not None
        assert told.cold_bytes
        saver.flush()
        assert saver.stats().oldest_unflushed_age is None
        assert saver.stats().dirty == HotCount(threads=0, bytes=0)
