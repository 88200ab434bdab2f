"""Redis is killed, frozen, refuses connections or was demoted: an error in time, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import redis
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver, frozen, in_time, redis_killed, refused
from faults.proxy import Proxy
from homes import HOMES, at, settle
from waiting import wait_until

from langgraph_tiered_checkpoint import EmbeddedServers, HotTierError, Promotion, TieredSaver
from langgraph_tiered_checkpoint.embedded.servers import children_of

REMEDY = r"Check that it runs|It may be overloaded or unreachable; see timeouts\.hot"
READS: dict[str, tuple[Any, ...]] = {
    "get_tuple": (at("t"),),
    "list": (at("t"),),
    "explain": ("t",),
}
OPERATIONS: dict[str, tuple[Any, ...]] = READS | {
    "put_writes": (at("t", checkpoint_id="1f000000-0000-6000-8000-000000000001"), [("n", 1)], "task"),
    "delete_thread": ("t",),
    "copy_thread": ("t", "u"),
    "prune": (["t"],),
    "delete_for_runs": (["run"],),
    "promote": ("t",),
    "pin": ("t",),
    "flush": ("t",),
    "evict": ("t",),
}
NAMELESS: dict[str, tuple[Any, ...]] = {"stats": (), "flush": (), "list": (None,), "thread_ids": ()}


@pytest.mark.parametrize(("outage", "home"), [*(("killed", home) for home in HOMES), ("frozen", "promoted")])
def test_every_call_raises_in_time_and_everything_is_there_afterwards(
    call: Caller, servers: EmbeddedServers, outage: str, home: str, postgres_url: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    ledger.put("second")
    ledger.put_writes("task", 1, 2)
    settle(call.saver, "t", home)
    with redis_killed(servers) if outage == "killed" else frozen(servers.redis_pid):
        for method, args in READS.items():
            with refused(HotTierError, "t", REMEDY):
                call(method, *args)
        with refused(HotTierError, "t", REMEDY):
            ledger.put("during the outage")
        with refused(HotTierError, "t", REMEDY):
            ledger.put_writes("other", 3)
        with refused(HotTierError, remedy=REMEDY):
            call("stats")
    ledger.put("afterwards")
    ledger.settle(postgres_url)


def test_both_servers_freeze_at_once_and_everything_is_there_afterwards(
    call: Caller, servers: EmbeddedServers, postgres_url: str
) -> None:
    ledgers = [Ledger(call, home) for home in HOMES]
    for ledger in ledgers:
        ledger.put("first")
        ledger.put_writes("task", 1, 2)
        settle(call.saver, ledger.thread_id, ledger.thread_id)
    with frozen(servers.redis_pid), frozen(servers.postgres_pid):
        for ledger in ledgers:
            with refused(HotTierError, ledger.thread_id, REMEDY):
                call("get_tuple", at(ledger.thread_id))
            with refused(HotTierError, ledger.thread_id, REMEDY):
                ledger.put("during the outage")
        with refused(HotTierError, remedy=REMEDY):
            call("flush")
    for ledger in ledgers:
        ledger.put("afterwards")
        ledger.settle(postgres_url)


@pytest.mark.parametrize("method", OPERATIONS)
def test_no_operation_answers_around_an_outage(call: Caller, servers: EmbeddedServers, method: str) -> None:
    Ledger(call, "t").put()
    servers.kill_redis()
    named = {"delete_for_runs": "", "copy_thread": "u"}
    with refused(HotTierError, named.get(method, "t"), REMEDY):
        call(method, *OPERATIONS[method])


@pytest.mark.parametrize("method", NAMELESS)
def test_operations_on_all_threads_raise_too(call: Caller, servers: EmbeddedServers, method: str) -> None:
    Ledger(call, "t").put()
    servers.kill_redis()
    with refused(HotTierError, remedy=REMEDY):
        call(method, *NAMELESS[method])


def test_everything_acknowledged_before_a_crash_survives_it(
    call: Caller, servers: EmbeddedServers, redis_client: redis.Redis, postgres_url: str
) -> None:
    ephemeral, dirty, clean = (Ledger(call, thread_id) for thread_id in ("ephemeral", "dirty", "clean"))
    for ledger in (ephemeral, dirty, clean):
        ledger.put("first")
    call("promote", "dirty")
    call("promote", "clean")
    dirty.put("not flushed yet")
    dirty.put_writes("task", "nor is this")
    before = {t: (call("explain", t).state, call("explain", t).expires_at) for t in ("ephemeral", "dirty", "clean")}
    assert [state for state, _ in before.values()] == ["ephemeral", "dirty", "clean"]
    servers.kill_redis()
    servers.restart_redis()
    for thread_id, (state, expires_at) in before.items():
        told = call("explain", thread_id)
        assert told.state == state
        assert (told.expires_at is None) == (expires_at is None)
    assert call("stats").due_threads == 1
    for ledger in (ephemeral, dirty, clean):
        ledger.settle(postgres_url)


def test_savers_made_during_the_outage_work_after_it(
    servers: EmbeddedServers,
    redis_url: str,
    postgres_url: str,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    servers.kill_redis()
    call = Caller(make_saver(redis_url, postgres_url), loop)
    ledger = Ledger(call, "t")
    with refused(HotTierError, "t", REMEDY):
        call("get_tuple", at("t"))
    with refused(HotTierError, remedy=REMEDY):
        call("setup")
    servers.restart_redis()
    assert call("get_tuple", at("t")) is None
    ledger.put()
    ledger.settle(postgres_url)


def test_a_write_that_a_frozen_redis_executes_later_is_there_once(
    call: Caller, servers: EmbeddedServers, postgres_url: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    ledger.put_writes("task", "sure")
    with frozen(servers.redis_pid):
        with refused(HotTierError, "t", REMEDY):
            ledger.put("second")
        with refused(HotTierError, "t", REMEDY):
            ledger.put_writes("task", "sure", "unsure")
    late = max(ledger.made)
    ledger.repeat(late)
    ledger.repeat(late)
    ledger.put("third")
    ledger.settle(postgres_url)


def test_a_full_pipe_does_not_outlast_the_timeout(call: Caller, servers: EmbeddedServers) -> None:
    """What does not fit into the socket's buffers cannot even be sent."""
    ledger = Ledger(call, "t")
    ledger.put("first")
    with frozen(servers.redis_pid), refused(HotTierError, "t", REMEDY):
        ledger.put("x" * 30_000_000)
    ledger.check(call)


def test_refused_connections_raise_and_heal(proxied: Caller, redis_proxy: Proxy, postgres_url: str) -> None:
    ledger = Ledger(proxied, "t")
    ledger.put("first")
    redis_proxy.refuse()
    for _ in range(3):
        with refused(HotTierError, "t", REMEDY):
            ledger.put("refused")
        with refused(HotTierError, "t", REMEDY):
            proxied("get_tuple", at("t"))
    redis_proxy.heal()
    ledger.put("afterwards")
    ledger.settle(postgres_url)


def test_one_lost_connection_is_nobodys_business(proxied: Caller, redis_proxy: Proxy, postgres_url: str) -> None:
    ledger = Ledger(proxied, "t")
    for number in range(5):
        ledger.put(number)
        redis_proxy.drop()
    ledger.settle(postgres_url)


def refuses_all(ledger: Ledger, says: str) -> None:
    """Writes, and a read, since that counts as use."""
    reads = functools.partial(ledger.call, "get_tuple", at("t"))
    for use in (functools.partial(ledger.put, "refused"), functools.partial(ledger.put_writes, "task", 1), reads):
        with refused(HotTierError, "t", says):
            use()


def test_a_demoted_redis_is_an_error_until_it_is_promoted_again(
    call: Caller, redis_client: redis.Redis, postgres_url: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    call("promote", "t")
    redis_client.replicaof("127.0.0.1", "1")
    refuses_all(ledger, "READONLY|replica")
    redis_client.replicaof("NO", "ONE")
    ledger.put("second")
    ledger.settle(postgres_url)


def test_a_redis_without_its_replicas_is_an_error_until_they_are_back(
    call: Caller, redis_client: redis.Redis, postgres_url: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    redis_client.config_set("min-replicas-to-write", 1)
    refuses_all(ledger, "NOREPLICAS")
    redis_client.config_set("min-replicas-to-write", 0)
    ledger.put("second")
    ledger.settle(postgres_url)


def test_a_redis_that_cannot_save_is_an_error_until_it_can(
    call: Caller, servers: EmbeddedServers, redis_client: redis.Redis, postgres_url: str
) -> None:
    """The last save has failed, and it refuses writes rather than lose them."""
    ledger = Ledger(call, "t")
    ledger.put("first")
    before: dict[str, Any] = {name: redis_client.config_get(name)[name] for name in ("save", "rdb-key-save-delay")}
    try:
        redis_client.config_set("save", "900 1")
        redis_client.config_set("rdb-key-save-delay", 60_000_000)  # us; the child is killed before
        redis_client.bgsave()
        assert servers.redis_pid is not None
        for child in children_of(servers.redis_pid):
            os.kill(child, signal.SIGKILL)
        wait_until(lambda: redis_client.info("persistence")["rdb_last_bgsave_status"] == "err", "the save to fail")
        refuses_all(ledger, "MISCONF")
    finally:
        for name, value in before.items():
            redis_client.config_set(name, value)
    ledger.put("second")
    ledger.settle(postgres_url)


def test_a_redis_that_is_busy_with_a_script_is_an_error_until_it_is_not(
    call: Caller, servers: EmbeddedServers, redis_client: redis.Redis, postgres_url: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    redis_client.config_set("lua-time-limit", 1)
    with redis.Redis.from_url(servers.redis_url) as other, ThreadPoolExecutor(1) as pool:
        forever = pool.submit(other.eval, "while true do end", 0)
        try:
            wait_until(lambda: is_busy(redis_client), "the script to take too long")
            with refused(HotTierError, "t", "BUSY"):
                ledger.put("refused")
            with refused(HotTierError, "t", "BUSY"):
                call("get_tuple", at("t"))
        finally:
            redis_client.script_kill()
        assert isinstance(forever.exception(), redis.ResponseError)
    redis_client.config_set("lua-time-limit", 5000)
    ledger.put("second")
    ledger.settle(postgres_url)


def is_busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.ResponseError as exc:
        return "BUSY" in str(exc)
    return False


def test_the_embedded_promoter_outlives_the_outage_and_says_little(
    redis_url: str,
    postgres_url: str,
    servers: EmbeddedServers,
    make_saver: MakeSaver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    saver: TieredSaver = make_saver(redis_url, postgres_url, promoter="embedded", promotion=Promotion(checkpoints=1))
    saver.setup()
    threads = [Ledger(Caller(saver, None), f"t{n}") for n in range(5)]
    for ledger in threads:
        ledger.put("first")
    servers.kill_redis()
    wait_until(lambda: "postponed" in caplog.text, "the promoter to notice")
    servers.restart_redis()
    wait_until(lambda: saver.stats().due_threads == 0, "the backlog to drain")
    assert len([record for record in caplog.records if record.name.startswith("langgraph_tiered")]) < 20
    for ledger in threads:
        ledger.settle(postgres_url)


def test_closing_a_saver_during_the_outage_ends_in_time_and_loses_nothing(
    redis_url: str, postgres_url: str, servers: EmbeddedServers, make_saver: MakeSaver
) -> None:
    settings = {"promoter": "embedded", "promotion": Promotion(checkpoints=1), "flush_interval": timedelta(seconds=60)}
    saver: TieredSaver = make_saver(redis_url, postgres_url, **settings)
    ledger = Ledger(Caller(saver, None), "t")
    ledger.put("first")
    assert servers.redis_pid is not None
    os.kill(servers.redis_pid, signal.SIGSTOP)
    with in_time(2):
        saver.close()
    os.kill(servers.redis_pid, signal.SIGCONT)
    successor: TieredSaver = make_saver(redis_url, postgres_url)
    assert successor.explain("t").state == "dirty"
    ledger.call = Caller(successor, None)
    ledger.settle(postgres_url)
