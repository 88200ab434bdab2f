"""The lists of a bucket: nothing that is there all the time is passed over, and nobody pays for others' threads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from buckets import BUCKET, in_one_bucket
from homes import at, put
from stepping import Stepped

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.hot.keys import BUCKETS, bucket_of
from langgraph_tiered_checkpoint.plans.promoting import due_threads


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion.never(), promoter="external") as made:
        yield made


@pytest.mark.parametrize("seed", range(5))
def test_every_due_thread_is_found_however_due_times_change_between_pages(
    saver: TieredSaver, redis_client: redis.Redis, seed: int
) -> None:
    due, names = saver._store.hot.bucket_key(BUCKET, "due"), in_one_bucket(1_500)
    redis_client.zadd(due, {name: n for n, name in enumerate(names)})
    plan, dice = Stepped(saver, due_threads(saver._store)), random.Random(seed)
    while not plan.done:
        plan.take(1)
        redis_client.zadd(due, {name: dice.randrange(3_000) for name in names})
        redis_client.zadd(due, {f"came later {dice.random()}": 0})
    assert set(names) <= set(plan.result)


def test_flush_is_a_barrier_while_another_worker_flushes_too(redis_url: str, postgres_url: str) -> None:
    settings: dict[str, Any] = {"promoter": "external", "promotion": Promotion(checkpoints=1)}
    with (
        TieredSaver.from_urls(redis_url, postgres_url, **settings) as saver,
        TieredSaver.from_urls(redis_url, postgres_url, **settings) as other,
    ):
        names = in_one_bucket(520)
        for name in names:
            put(saver, at(name), {"n": 1})
        plan = Stepped(saver, saver._requests.flush(None)).take(1)
        for name in names[:40]:
            other.flush(name)
        plan.finish()
        assert saver.stats().due_threads == 0


def thread_ids(saver: TieredSaver, between: Callable[[int], object]) -> list[str]:
    """`thread_ids()`, with something done between any two steps."""
    pages, found, n = saver._requests.thread_ids(""), [], 0
    while not pages.done:
        plan = Stepped(saver, pages.next_page())
        while not plan.done:
            plan.take(1)
            between(n)
            n += 1
        found += plan.result
    return found


def test_thread_ids_that_are_there_all_the_time_are_listed_while_others_come_and_go(saver: TieredSaver) -> None:
    names = in_one_bucket(120)
    going, moving = names[::3], names[1::3]
    for name in names:
        put(saver, at(name), {"n": 1})
    left = iter(going)

    def between(n: int) -> None:
        for name in (next(left, None), next(left, None)):
            if name:
                saver.delete_thread(name)
        put(saver, at(f"new {n}"), {"n": 1})
        put(saver, at(names[2]), {"n": n}, n + 2)
        if n < 2 * len(moving):
            moved = moving[-1 - n // 2]  # from the end, to where the listing has not been
            saver.promote(moved)
            saver.evict(moved)

    found = thread_ids(saver, between)
    assert found == sorted(set(found))
    assert set(names) - set(going) <= set(found)


def test_thread_ids_of_both_tiers_are_merged_in_order_over_many_pages(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph_tiered_checkpoint.plans.listing.THREAD_PAGE", 10)
    monkeypatch.setattr("langgraph_tiered_checkpoint.plans.listing.BUCKET_PAGE", 3)
    names = [*in_one_bucket(30, "hot"), *in_one_bucket(30, "é"), *(f"{n:02}\U0001f600" for n in range(30))]
    for n, name in enumerate(names):
        put(saver, at(name), {"n": 1})
        if n % 3:
            saver.promote(name)
        if n % 3 == 1:
            saver.evict(name)
    assert list(saver.thread_ids()) == sorted(names)
    assert list(saver.thread_ids("hot")) == sorted(name for name in names if name.startswith("hot"))
    assert [t.config["configurable"]["thread_id"] for t in saver.list(None)] == sorted(names)


def test_a_listing_does_not_cost_more_the_more_threads_others_have(
    saver: TieredSaver, redis_client: redis.Redis
) -> None:
    mine = saver.scoped("me")
    put(mine, at("t"), {"n": 1})
    operations: list[Callable[[], object]] = [
        lambda: list(mine.thread_ids()),
        lambda: list(mine.list(None)),
        lambda: list(mine.list(None, limit=1)),
        lambda: list(saver.thread_ids("nobody")),
    ]

    def costs() -> list[tuple[int, int, int]]:
        """Commands, in scripts too; bytes of requests; bytes of replies."""
        found = []
        for operation in operations:
            redis_client.config_resetstat()
            operation()
            commands: Any = redis_client.info("commandstats")
            stats: Any = redis_client.info("stats")
            sent = stats["total_net_input_bytes"] // 100
            found.append((sum(of["calls"] for of in commands.values()), sent, stats["total_net_output_bytes"] // 100))
        return found

    costs()  # with all the scripts
    before = costs()
    others: dict[int, dict[str, float]] = {bucket: {} for bucket in range(BUCKETS)}
    for tenant in ("a", "me!", "z"):
        for n in range(3_000):
            name = saver.scoped(tenant)._scope.stored(f"{n}")
            others[bucket_of(name)][name] = 0
    for bucket, names in others.items():
        redis_client.zadd(saver._store.hot.bucket_key(bucket, "threads"), names)
    assert costs() == before
