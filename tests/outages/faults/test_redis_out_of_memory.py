"""Redis is full: writes raise with nothing half done, reads go on, dirty threads drain, no sole copy is evicted."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
import redis
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver, noise, poison, refused
from homes import at, put
from langgraph.checkpoint.postgres import PostgresSaver
from waiting import wait_until

from langgraph_tiered_checkpoint import FlushError, HotFullError, HotTierError, Promotion, TieredSaver
from langgraph_tiered_checkpoint.plans.promoting import sweep

FULL = r"is out of memory\. Raise its maxmemory, shorten ttl and hot_ttl, or lower hot_checkpoints"


PATIENT = timedelta(minutes=1)
"""A flush interval that ends after the test: Redis itself is to refuse, not the back-pressure that comes before it."""


@pytest.fixture
def saver(redis_url: str, postgres_url: str, make_saver: MakeSaver) -> TieredSaver:
    return make_saver(redis_url, postgres_url, flush_interval=PATIENT)


def limit_memory(client: redis.Redis, policy: str, spare_bytes: int | None = None) -> None:
    """From now on Redis has room for so much more (or less), and by default for nothing whatever becomes free."""
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory-policy", policy)
    client.config_set("maxmemory", 1 if spare_bytes is None else used + spare_bytes)


def key_of(client: redis.Redis, thread_id: str) -> Any:
    return next(key for key in client.scan_iter("*:t:*") if key.endswith(b":t:" + thread_id.encode()))


def everything_in(client: redis.Redis) -> dict[Any, Any]:
    return {key: client.hgetall(key) for key in client.scan_iter("*:t:*")}


def test_writes_raise_and_reads_go_on(call: Caller, redis_client: redis.Redis, postgres_url: str) -> None:
    ledgers = [Ledger(call, thread_id) for thread_id in ("ephemeral", "dirty", "clean")]
    for ledger in ledgers:
        ledger.put(noise(50_000))
        ledger.put_writes("task", 1)
    call("promote", "dirty")
    call("promote", "clean")
    ledgers[1].put("not flushed")
    limit_memory(redis_client, "noeviction")
    stored = everything_in(redis_client)
    for ledger in ledgers:
        with refused(HotFullError, ledger.thread_id, FULL):
            ledger.put(noise(50_000))
        with refused(HotFullError, ledger.thread_id, FULL):
            ledger.put_writes("other", noise(50_000))
        ledger.check(call)
        assert call("explain", ledger.thread_id).state == ledger.thread_id
    assert everything_in(redis_client) == stored
    assert call("stats").due_threads == 1
    redis_client.config_set("maxmemory", 0)
    for ledger in ledgers:
        ledger.put("afterwards")
        ledger.settle(postgres_url)


def test_new_threads_are_refused_and_leave_nothing(call: Caller, redis_client: redis.Redis) -> None:
    call("stats")
    limit_memory(redis_client, "noeviction")
    with refused(HotFullError, "t", FULL):
        Ledger(call, "t").put()
    assert not everything_in(redis_client)
    assert call("get_tuple", at("t")) is None
    assert call("explain", "t").state == "absent"


def test_savers_that_find_redis_full_say_so(saver: TieredSaver, redis_client: redis.Redis) -> None:
    limit_memory(redis_client, "noeviction")
    with refused(HotFullError, "t", FULL):
        saver.get_tuple(at("t"))


def test_full_of_dirty_threads_drains_and_has_room_again(
    call: Caller, redis_client: redis.Redis, postgres_url: str
) -> None:
    ledgers = [Ledger(call, f"t{n}") for n in range(40)]
    for n, ledger in enumerate(ledgers):
        ledger.put(noise(50_000))
        if n % 2:
            call("promote", ledger.thread_id)
            ledger.put(noise(50_000))
    limit_memory(redis_client, "noeviction", spare_bytes=-1_000_000)  # far more than buffers of clients come and go
    assert call("stats").due_threads == 20
    with refused(HotFullError, "t1", FULL):
        ledgers[1].put(noise(50_000))
    call("flush")
    assert call("stats").due_threads == 0
    for ledger in ledgers[1::2]:
        call("evict", ledger.thread_id)
    ledgers[1].put(noise(50_000))
    redis_client.config_set("maxmemory", 0)  # to settle, threads are read back
    for ledger in ledgers[1::2]:
        ledger.settle(postgres_url)


def test_first_promotions_drain_a_full_redis(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    call = Caller(make_saver(redis_url, postgres_url, promotion=Promotion(checkpoints=1)), loop)
    ledgers = [Ledger(call, f"t{n}") for n in range(20)]
    for ledger in ledgers:
        ledger.put(noise(50_000))
        ledger.put_writes("task", noise(50_000))
    limit_memory(redis_client, "noeviction")
    assert call("stats").due_threads == 20
    call("flush")
    assert call("stats").due_threads == 0
    for ledger in ledgers:
        call("evict", ledger.thread_id)
    redis_client.config_set("maxmemory", 0)
    for ledger in ledgers:
        ledger.settle(postgres_url)


def test_trimming_frees_a_full_redis(
    redis_url: str, postgres_url: str, redis_client: redis.Redis, make_saver: MakeSaver
) -> None:
    saver = make_saver(
        redis_url, postgres_url, promotion=Promotion(checkpoints=1), hot_checkpoints=1, flush_interval=PATIENT
    )
    ledger = Ledger(Caller(saver, None), "t")
    for _ in range(200):  # more than twice a page of a flush, which Redis 8 counts until Lua has collected it
        ledger.put(noise(50_000))
    limit_memory(redis_client, "noeviction", spare_bytes=-500_000)
    with refused(HotFullError, "t", FULL):
        ledger.put(noise(50_000))
    saver.flush()
    assert saver.explain("t").hot_checkpoints == 1
    for _ in range(10):
        ledger.put(noise(50_000))
    ledger.settle(postgres_url)


def test_the_embedded_promoter_drains_a_full_redis_by_itself(
    redis_url: str, postgres_url: str, redis_client: redis.Redis, make_saver: MakeSaver
) -> None:
    saver = make_saver(
        redis_url, postgres_url, promotion=Promotion(checkpoints=1), promoter="embedded", hot_checkpoints=1
    )
    saver.setup()
    limit_memory(redis_client, "noeviction", spare_bytes=3_000_000)
    ledgers = [Ledger(Caller(saver, None), f"t{n}") for n in range(3)]
    refusals = 0
    for number in range(90):
        try:
            ledgers[number % 3].put(noise(50_000))
        except HotTierError:
            refusals += 1
            wait_until(lambda: saver.stats().due_threads == 0, "the promoter to make room")
    assert len(ledgers[0].acknowledged) >= 20
    wait_until(lambda: saver.stats().due_threads == 0, "the backlog to drain")
    redis_client.config_set("maxmemory", 0)
    for ledger in ledgers:
        ledger.settle(postgres_url)


def test_threads_are_deleted_from_a_full_redis(call: Caller, redis_client: redis.Redis) -> None:
    for thread_id in ("ephemeral", "dirty", "clean"):
        Ledger(call, thread_id).put(noise(50_000))
    call("promote", "dirty")
    call("promote", "clean")
    put(call.saver, at("dirty"), {"a": noise(50_000)}, 2)
    limit_memory(redis_client, "noeviction")
    for thread_id in ("ephemeral", "dirty", "clean"):
        call("delete_thread", thread_id)
        assert call("get_tuple", at(thread_id)) is None
        assert call("explain", thread_id).state == "absent"


def test_threads_in_postgres_are_read_past_a_full_redis(call: Caller, redis_client: redis.Redis) -> None:
    ledger = Ledger(call, "t")
    for _ in range(3):
        ledger.put(noise(50_000))
    ledger.put_writes("task", 1)
    call("promote", "t")
    call("evict", "t")
    limit_memory(redis_client, "noeviction")
    for _ in range(2):
        ledger.check(call)
    assert call("explain", "t").tier == "cold"
    with refused(HotFullError, "t", FULL):
        ledger.put(noise(50_000))
    ledger.check(call)


def test_threads_that_are_partly_in_postgres_are_read_past_a_full_redis(
    call: Caller, redis_client: redis.Redis, postgres_url: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put(noise(50_000))
    call("promote", "t")
    call("evict", "t")
    ledger.put(noise(50_000))
    limit_memory(redis_client, "noeviction")
    ledger.check(call)
    redis_client.config_set("maxmemory", 0)
    ledger.settle(postgres_url)


@pytest.mark.parametrize(
    "full",
    [False, True],
)
def test_a_thread_that_postgres_refuses_does_not_keep_the_others_from_draining(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
    *,
    full: bool,
) -> None:
    call = Caller(make_saver(redis_url, postgres_url, promotion=Promotion(checkpoints=1)), loop)
    ledgers = [Ledger(call, f"t{n}") for n in range(8)]
    for ledger in ledgers:
        ledger.put(noise(50_000))
    call.saver.setup()
    poison(postgres_url, "t3")
    if full:
        limit_memory(redis_client, "noeviction")
    with refused(FlushError, "t3", "stay in Redis"):
        call("flush")
    told = call("stats")
    assert (told.due_threads, told.parked_threads) == (1, ("t3",))
    assert "raised in refuse" in call("explain", "t3").last_error
    for ledger in ledgers:
        ledger.check(call)


def test_volatile_eviction_takes_no_sole_copy_of_what_is_promoted(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    call = Caller(make_saver(redis_url, postgres_url), loop)
    dirty, clean = ([Ledger(call, f"{kind}{n}") for n in range(10)] for kind in ("dirty", "clean"))
    for ledger in dirty + clean:
        ledger.put(noise(50_000))
        call("promote", ledger.thread_id)
    for ledger in dirty:
        ledger.put(noise(50_000))
    for n in range(10):
        Ledger(call, f"ephemeral{n}").put(noise(50_000))
    limit_memory(redis_client, "volatile-lru", spare_bytes=100_000)
    overdue = timedelta(seconds=0.3)  # three flush intervals: back-pressure must not come before eviction
    wait_until(lambda: call("explain", "dirty9").unflushed_age > overdue, "the backlog to grow old")
    refusals = 0
    for number in range(60):
        try:
            dirty[number % 10].put(noise(50_000))
        except HotTierError:
            refusals += 1
    assert refusals > 0, "there was room for everything"
    assert redis_client.info("stats")["evicted_keys"] >= 20
    assert [call("explain", ledger.thread_id).state for ledger in dirty] == ["dirty"] * 10
    assert [call("explain", ledger.thread_id).state for ledger in clean] == ["cold"] * 10
    assert call("stats").due_threads == 10
    call("flush")
    for ledger in dirty + clean:
        ledger.check(call)
    redis_client.config_set("maxmemory", 0)
    for ledger in dirty + clean:
        ledger.settle(postgres_url)


def test_allkeys_eviction_takes_nothing_that_postgres_has_acknowledged(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    call = Caller(make_saver(redis_url, postgres_url), loop)
    ledgers = [Ledger(call, f"promoted{n}") for n in range(10)]
    for ledger in ledgers:
        ledger.put(noise(50_000))
        ledger.put_writes("task", 1)
        call("promote", ledger.thread_id)
    limit_memory(redis_client, "allkeys-lru", spare_bytes=100_000)
    for n in range(40):
        Ledger(call, f"ephemeral{n}").put(noise(50_000))
    assert redis_client.info("stats")["evicted_keys"] >= 10
    for ledger in ledgers:
        ledger.check(call)
    redis_client.config_set("maxmemory", 0)
    for ledger in ledgers:
        ledger.put("afterwards")
        ledger.settle(postgres_url)


def test_eviction_of_an_unflushed_thread_falls_back_to_what_postgres_has(
    call: Caller, redis_client: redis.Redis, postgres_url: str
) -> None:
    """Which is why `allkeys-*` is advised against: what was not flushed goes with the key."""
    ledger = Ledger(call, "t")
    ledger.put("flushed")
    call("promote", "t")
    flushed = ledger.head
    lost = ledger.put("not flushed")
    redis_client.unlink(key_of(redis_client, "t"))
    ledger.acknowledged.remove(lost)
    del ledger.made[lost]
    ledger.head = flushed
    ledger.check(call)
    call("flush")
    assert call("stats").due_threads == 0
    ledger.put("again")
    ledger.settle(postgres_url)


def test_schedule_that_was_evicted_is_repaired(
    saver: TieredSaver, redis_client: redis.Redis, postgres_url: str
) -> None:
    ledger = Ledger(Caller(saver, None), "t")
    ledger.put("first")
    saver.promote("t")
    ledger.put("second")
    head, _, _ = key_of(redis_client, "t").partition(b":t:")
    assert redis_client.unlink(head + b":due") == 1
    next_look = redis_client.zscore(head + b":lapses", "t")
    assert next_look is not None
    assert next_look <= (time.time() + 3_601) * 1_000
    redis_client.zadd(head + b":lapses", {"t": 0})
    saver._sync.run(sweep(saver._store))
    try:
        assert saver.stats().due_threads == 1
        saver.flush()
        with PostgresSaver.from_conn_string(postgres_url) as official:
            ledger.check(official)
    finally:
        saver.flush("t")


def test_upload_after_a_lost_acknowledgement_drains_a_full_redis(
    call: Caller, redis_client: redis.Redis, postgres_url: str
) -> None:
    """Postgres holds a change that this Redis never had, and Redis is full."""
    ledger = Ledger(call, "t")
    ledger.put(noise(50_000))
    call("promote", "t")
    key = key_of(redis_client, "t")
    older: Any = redis_client.dump(key)
    ledger.put("flushed, then lost")
    call("flush")
    redis_client.restore(key, 0, older, replace=True)
    ledger.head = min(ledger.made)
    ledger.put(noise(50_000))
    limit_memory(redis_client, "noeviction")
    call("flush")
    assert call("stats").due_threads == 0
    ledger.settle(postgres_url)
