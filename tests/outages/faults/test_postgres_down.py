"""Postgres is killed, frozen or refuses connections: resident threads run on, others raise, the backlog drains."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
import redis
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver, frozen, in_time, noise, postgres_killed, refused
from faults.proxy import Proxy
from homes import at
from stepping import Stepped
from waiting import wait_until

from langgraph_tiered_checkpoint import (
    ColdTierError,
    ColdTimeoutError,
    EmbeddedServers,
    HotFullError,
    Promotion,
    promoter,
)
from langgraph_tiered_checkpoint.hot import flushing as hot_flushing
from langgraph_tiered_checkpoint.hot.keys import bucket_of
from langgraph_tiered_checkpoint.plans import flushing

NO_ANSWER = (ColdTierError, ColdTimeoutError)
REMEDY = r"Check that it runs, and its log|[Ii]t may be overloaded; see timeouts\.cold"
CONNECT_S = 2.0
"""The shortest time that libpq gives a connection."""
NEEDS_POSTGRES: dict[str, tuple[Any, ...]] = {
    "promote": ("t",),
    "pin": ("t",),
    "flush": ("t",),
    "evict": ("t",),
    "prune": (["t"],),
    "delete_thread": ("t",),
    "copy_thread": ("t", "u"),
}


def absent(servers: EmbeddedServers, outage: str) -> AbstractContextManager[None]:
    return postgres_killed(servers) if outage == "killed" else frozen(servers.postgres_pid)


@pytest.fixture
def three(call: Caller) -> list[Ledger]:
    """Threads that are ephemeral, dirty and clean, by these ids."""
    ledgers = [Ledger(call, thread_id) for thread_id in ("ephemeral", "dirty", "clean")]
    for ledger in ledgers:
        ledger.put("first")
        ledger.put_writes("task", 1)
    call("promote", "dirty")
    call("promote", "clean")
    ledgers[1].put("not flushed")
    return ledgers


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_resident_threads_run_on_and_others_raise(
    three: list[Ledger],
    call: Caller,
    servers: EmbeddedServers,
    redis_client: redis.Redis,
    outage: str,
    postgres_url: str,
) -> None:
    evicted = Ledger(call, "evicted")
    evicted.put("first")
    call("promote", "evicted")
    call("evict", "evicted")
    with absent(servers, outage):
        for ledger in three:
            ledger.put("second")
            ledger.put_writes("other", 2, 3)
            ledger.check(call)
        with refused(NO_ANSWER, "evicted", REMEDY, CONNECT_S):
            call("get_tuple", at("evicted"))
        with refused(NO_ANSWER, "evicted", REMEDY, CONNECT_S):
            evicted.put("during the outage")
        with refused(NO_ANSWER, "new", REMEDY, CONNECT_S):
            call("get_tuple", at("new"))
        if outage == "killed":
            for _ in range(3):  # what the first refusal left in Redis must not turn the next one into an answer
                with refused(NO_ANSWER, "new", REMEDY, CONNECT_S):
                    call("get_tuple", at("new"))
                with refused(NO_ANSWER, "new", REMEDY, CONNECT_S):
                    Ledger(call, "new").put()
                with refused(NO_ANSWER, "evicted", REMEDY, CONNECT_S):
                    call("get_tuple", at("evicted", checkpoint_id=evicted.head))
                with refused(NO_ANSWER, "evicted", REMEDY, CONNECT_S):
                    call("list", at("evicted"))
                with refused(NO_ANSWER, "evicted", REMEDY, CONNECT_S):
                    evicted.put_writes("task", 1)
        for ledger in three[1:]:
            ledger.put("third")
    for key in redis_client.scan_iter("*:t:*"):
        assert (redis_client.ttl(key) == -1) == key.endswith((b"dirty", b"clean"))
    assert call("get_tuple", at("new")) is None
    for ledger in [*three, evicted]:
        ledger.settle(postgres_url)


@pytest.mark.parametrize("method", NEEDS_POSTGRES)
def test_operations_on_promoted_threads_raise_and_can_be_repeated(
    call: Caller, servers: EmbeddedServers, method: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    call("promote", "t")
    ledger.put("second")
    servers.kill_postgres()
    with refused(ColdTierError, "u" if method == "copy_thread" else "t", REMEDY):
        call(method, *NEEDS_POSTGRES[method])
    if method != "delete_thread":
        ledger.check(call)
    servers.restart_postgres()
    call(method, *NEEDS_POSTGRES[method])
    match method:
        case "delete_thread":
            assert call("get_tuple", at("t")) is None
            assert call("explain", "t").state == "absent"
        case "prune":
            assert [found.checkpoint["id"] for found in call("list", at("t"))] == [ledger.head]
        case "copy_thread":
            copy = [found.checkpoint["id"] for found in call("list", at("u"))]
            assert copy == sorted(ledger.acknowledged, reverse=True)
        case _:
            ledger.check(call)


def test_promoting_an_ephemeral_thread_raises_and_is_done_later(
    call: Caller, servers: EmbeddedServers, postgres_url: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    servers.kill_postgres()
    with refused(ColdTierError, "t", REMEDY):
        call("promote", "t")
    ledger.put("second")
    servers.restart_postgres()
    told = call("explain", "t")
    assert (told.state, told.expires_at) == ("dirty", None)
    call("flush")
    ledger.settle(postgres_url)


def test_explain_and_stats_tell_what_waits_for_postgres(
    three: list[Ledger], call: Caller, servers: EmbeddedServers
) -> None:
    servers.kill_postgres()
    three[2].put("not flushed either")
    assert [call("explain", ledger.thread_id).state for ledger in three] == ["ephemeral", "dirty", "dirty"]
    assert call("explain", "dirty").unflushed_age > timedelta(0)
    told = call("stats")
    assert (told.hot_threads, told.due_threads) == (3, 2)
    assert told.cold_threads is None


def test_explain_does_not_call_an_unreachable_thread_absent(call: Caller, servers: EmbeddedServers) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    call("promote", "t")
    call("evict", "t")
    servers.kill_postgres()
    with refused(ColdTierError, "t", REMEDY):
        call("explain", "t")


def test_stats_after_the_outage_are_those_of_before(
    three: list[Ledger], call: Caller, servers: EmbeddedServers
) -> None:
    before = call("stats")
    assert (before.hot_threads, before.due_threads, before.cold_threads) == (3, 1, 2)
    with postgres_killed(servers):
        pass
    after = call("stats")
    assert (after.hot_threads, after.due_threads, after.cold_threads) == (3, 1, 2)


def test_connections_lost_in_a_restart_are_nobodys_business(
    three: list[Ledger], call: Caller, servers: EmbeddedServers, postgres_url: str
) -> None:
    for orderly in (True, False):
        if not orderly:
            servers.kill_postgres()
        servers.restart_postgres()
        call("flush")
        call("evict", "dirty")
        three[1].put("afterwards")
    three[1].settle(postgres_url)


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_write_through_raises_and_keeps_the_write_hot(
    redis_url: str,
    postgres_url: str,
    servers: EmbeddedServers,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
    outage: str,
) -> None:
    call = Caller(make_saver(redis_url, postgres_url, cold_writes="through", promotion=Promotion(checkpoints=1)), loop)
    ledger = Ledger(call, "t")
    ledger.put("first")
    assert call("explain", "t").state == "clean"
    with absent(servers, outage):
        with refused(NO_ANSWER, "t", REMEDY, CONNECT_S):
            ledger.put("second")
        with refused(NO_ANSWER, "t", REMEDY, CONNECT_S):
            ledger.put_writes("task", 1)
        assert call("get_tuple", at("t")).checkpoint["id"] == max(ledger.made)
    ledger.repeat(max(ledger.made))
    assert call("explain", "t").state == "clean"
    ledger.put_writes("task", 1)
    ledger.settle(postgres_url)


def test_refused_connections_raise_and_heal(proxied: Caller, postgres_proxy: Proxy, postgres_url: str) -> None:
    ledger = Ledger(proxied, "t")
    ledger.put("first")
    proxied("promote", "t")
    postgres_proxy.refuse()
    ledger.put("second")
    for _ in range(3):
        with refused(ColdTierError, "t", REMEDY):
            proxied("flush")
        with refused(ColdTierError, "new", REMEDY):
            proxied("get_tuple", at("new"))
    ledger.check(proxied)
    postgres_proxy.heal()
    proxied("flush")
    ledger.settle(postgres_url)


# The embedded promoter


def embedded(make_saver: MakeSaver, redis_url: str, postgres_url: str, **settings: Any) -> Caller:
    saver = make_saver(redis_url, postgres_url, promoter="embedded", promotion=Promotion(checkpoints=1), **settings)
    saver.setup()
    return Caller(saver, None)


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_the_backlog_drains_by_itself(
    redis_url: str,
    postgres_url: str,
    servers: EmbeddedServers,
    redis_client: redis.Redis,
    make_saver: MakeSaver,
    outage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = embedded(make_saver, redis_url, postgres_url)
    ledgers = [Ledger(call, f"t{n}") for n in range(10)]
    for ledger in ledgers[::2]:
        ledger.put("clean before")
    call("flush")
    for ledger in ledgers[1::2]:
        call("get_tuple", at(ledger.thread_id))  # known not to exist, so that they can begin without Postgres
    caplog.clear()
    with absent(servers, outage):
        for _ in range(3):
            for ledger in ledgers:
                ledger.put("during the outage")
                ledger.put_writes("task", 1)
            wait_until(lambda: "nothing is lost" in caplog.text, "the promoter to notice")
        assert len(due(redis_client)) == 10
    wait_until(lambda: call("stats").due_threads == 0, "the backlog to drain")
    assert {record.levelno for record in caplog.records if record.name.endswith("promoter")} == {logging.WARNING}
    for ledger in ledgers:
        ledger.settle(postgres_url)


def due(client: redis.Redis) -> list[Any]:
    return [name for key in client.scan_iter("*:due") for name in client.zrange(key, 0, -1)]


def test_a_large_backlog_does_not_flood_the_log(
    proxied_redis_url: str,
    proxied_postgres_url: str,
    postgres_proxy: Proxy,
    make_saver: MakeSaver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = embedded(make_saver, proxied_redis_url, proxied_postgres_url)
    ledgers = [Ledger(call, f"t{n}") for n in range(400)]
    for ledger in ledgers:
        call("get_tuple", at(ledger.thread_id))
    postgres_proxy.drop()
    postgres_proxy.refuse()
    caplog.clear()

    def said() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name.endswith("promoter")]

    for ledger in ledgers:
        ledger.put()
    wait_until(lambda: len(said()) > 1 and said()[-1].created - said()[0].created > 2, "the promoter to try again")
    assert len(said()) <= 6


def test_what_a_dead_process_left_is_taken_up_by_the_next(
    redis_url: str,
    postgres_url: str,
    servers: EmbeddedServers,
    make_saver: MakeSaver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hot_flushing, "LEASE_MS", 1_000)
    monkeypatch.setattr(promoter, "SWEEP_S", 0.1)
    call = embedded(make_saver, redis_url, postgres_url)
    ledger = Ledger(call, "t")
    ledger.put("first")
    call("flush")
    servers.kill_postgres()
    ledger.put("second")
    with in_time(2):
        call.saver.close()
    servers.restart_postgres()
    ledger.call = Caller(make_saver(redis_url, postgres_url), None)
    assert ledger.call("explain", "t").state == "dirty"
    with make_saver(redis_url, postgres_url, promoter="embedded"):
        wait_until(lambda: ledger.call("explain", "t").state == "clean", "the lease to end, and a sweep")
        ledger.settle(postgres_url)


def test_promoter_takes_over_from_a_dead_one_when_its_lease_has_ended(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    make_saver: MakeSaver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(promoter, "SWEEP_S", 0.1)
    call = Caller(make_saver(redis_url, postgres_url), None)
    leased, free = Ledger(call, "leased"), Ledger(call, "free")
    for ledger in (leased, free):
        ledger.put("first")
        call("promote", ledger.thread_id)
        ledger.put("second")
    store = call.saver._store
    Stepped(call.saver, flushing.flush(store, "leased")).stop_before("commit")  # and it dies
    assert call("explain", "leased").lease
    with make_saver(redis_url, postgres_url, promoter="embedded"):
        wait_until(lambda: call("explain", "free").state == "clean", "what nobody has in hand")
        assert call("explain", "leased").state == "dirty"
        redis_client.zadd(store.hot.bucket_key(bucket_of("leased"), "due"), {"leased": 1})
        wait_until(lambda: call("explain", "leased").state == "clean", "a sweep after the end of the lease")
        for ledger in (leased, free):
            ledger.settle(postgres_url)


def test_resident_threads_run_on_until_redis_is_full_and_drain_afterwards(
    redis_url: str, postgres_url: str, servers: EmbeddedServers, redis_client: redis.Redis, make_saver: MakeSaver
) -> None:
    call = embedded(make_saver, redis_url, postgres_url, hot_checkpoints=1)
    ledgers = [Ledger(call, f"t{n}") for n in range(3)]
    for ledger in ledgers:
        ledger.put("first")
    call("flush")
    redis_client.config_set("maxmemory", redis_client.info("memory")["used_memory"] + 3_000_000)
    servers.kill_postgres()
    # By Redis itself if it is filled within two flush intervals, and else by the back-pressure that comes before.
    with refused(HotFullError, remedy=r"thread 't\d'.*[Rr]aise (its )?maxmemory", within_s=10):
        for number in range(300):
            ledgers[number % 3].put(noise(50_000))
    assert sum(len(ledger.acknowledged) for ledger in ledgers) > 20
    for ledger in ledgers:
        ledger.check(call)
    servers.restart_postgres()
    wait_until(lambda: call("stats").due_threads == 0, "the backlog to drain")
    for ledger in ledgers:
        ledger.put("there is room again")
    redis_client.config_set("maxmemory", 0)
    for ledger in ledgers:
        ledger.settle(postgres_url)


def test_back_pressure_comes_before_redis_is_full(
    redis_url: str, postgres_url: str, servers: EmbeddedServers, redis_client: redis.Redis, make_saver: MakeSaver
) -> None:
    """So that ephemeral threads, reads that fill, and bookkeeping still have room."""
    call = embedded(make_saver, redis_url, postgres_url)
    ephemeral = Ledger(Caller(make_saver(redis_url, postgres_url), None), "ephemeral")
    ephemeral.put("first")
    ledger = Ledger(call, "t")
    ledger.put("first")
    call("flush")
    # A tenth of it is more than a page of a flush, which Redis 8 counts until Lua has collected it.
    redis_client.config_set("maxmemory", redis_client.info("memory")["used_memory"] + 90_000_000)
    servers.kill_postgres()
    ledger.put("dirty")
    wait_until(lambda: call("explain", "t").unflushed_age > timedelta(seconds=1), "ten flush intervals to pass")
    with refused(HotFullError, "t", r"not taken for a long time.*Bring Postgres back, or raise maxmemory", within_s=60):
        for _ in range(1_500):
            ledger.put(noise(100_000))
    memory = redis_client.info("memory")
    assert memory["used_memory"] - memory["mem_not_counted_for_evict"] < memory["maxmemory"]
    ledger.check(call)
    ephemeral.put("there is room")
    servers.restart_postgres()
    wait_until(lambda: call("stats").due_threads == 0, "the backlog to drain", 60)
    ledger.put("afterwards")
    redis_client.config_set("maxmemory", 0)
    for each in (ledger, ephemeral):
        each.settle(postgres_url)


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_closing_a_saver_during_the_outage_ends_in_time_and_loses_nothing(
    redis_url: str, postgres_url: str, servers: EmbeddedServers, make_saver: MakeSaver, outage: str
) -> None:
    call = embedded(make_saver, redis_url, postgres_url, flush_interval=timedelta(seconds=60))
    ledger = Ledger(call, "t")
    ledger.put("first")
    with absent(servers, outage), in_time(CONNECT_S + 1):
        call.saver.close()
    ledger.call = Caller(make_saver(redis_url, postgres_url), None)
    assert ledger.call("explain", "t").state == "dirty"
    ledger.settle(postgres_url)
