"""Whatever happens to a server: `explain` and `stats` tell the truth meanwhile, and the backlog drains by itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import pytest
import redis
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver, frozen, in_time, poison, postgres_killed, redis_killed, refused
from faults.proxy import Fault, Proxy
from homes import at
from waiting import AT_ONCE_S, HANGS_S, wait_until

from langgraph_tiered_checkpoint import (
    ColdTimeoutError,
    EmbeddedServers,
    HotTierError,
    Promotion,
    TieredSaver,
    Timeouts,
)

THREADS = ("a", "b", "c")


@dataclass
class Rig:
    """Both servers, and the proxies in front of them."""

    servers: EmbeddedServers
    redis_proxy: Proxy
    postgres_proxy: Proxy
    redis_client: redis.Redis
    postgres_url: str


@pytest.fixture
def rig(
    servers: EmbeddedServers, redis_proxy: Proxy, postgres_proxy: Proxy, redis_client: redis.Redis, postgres_url: str
) -> Rig:
    return Rig(servers, redis_proxy, postgres_proxy, redis_client, postgres_url)


@contextlib.contextmanager
def full(rig: Rig, policy: str) -> Iterator[None]:
    rig.redis_client.config_set("maxmemory-policy", policy)
    rig.redis_client.config_set("maxmemory", 1)
    yield
    rig.redis_client.config_set("maxmemory", 0)


@contextlib.contextmanager
def refusing(proxy: Proxy) -> Iterator[None]:
    proxy.refuse()
    yield
    proxy.heal()


@contextlib.contextmanager
def faulty(proxy: Proxy, fault: Fault) -> Iterator[None]:
    proxy.set(fault)
    yield
    proxy.heal()


@contextlib.contextmanager
def read_only(rig: Rig) -> Iterator[None]:
    exempt = "-c default_transaction_read_only=off"
    with psycopg.connect(rig.postgres_url, autocommit=True, options=exempt) as admin:
        admin.execute("ALTER DATABASE app SET default_transaction_read_only = on")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        yield
        admin.execute("ALTER DATABASE app RESET default_transaction_read_only")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


@contextlib.contextmanager
def out_of_storage(rig: Rig) -> Iterator[None]:
    poison(rig.postgres_url, "%", "RAISE 'No space left on device' USING ERRCODE = '53100'")
    yield
    with psycopg.connect(rig.postgres_url, autocommit=True) as admin:
        admin.execute("DROP FUNCTION refuse CASCADE")


Break = Callable[[Rig], AbstractContextManager[None]]

REDIS_FAULTS: dict[str, Break] = {
    "killed": lambda rig: redis_killed(rig.servers),
    "frozen": lambda rig: frozen(rig.servers.redis_pid),
    "refused": lambda rig: refusing(rig.redis_proxy),
    "slow": lambda rig: faulty(rig.redis_proxy, Fault(delay_s=0.8)),
    "cut": lambda rig: faulty(rig.redis_proxy, Fault(cut_after=3)),
}
POSTGRES_FAULTS: dict[str, Break] = {
    "killed": lambda rig: postgres_killed(rig.servers),
    "frozen": lambda rig: frozen(rig.servers.postgres_pid),
    "refused": lambda rig: refusing(rig.postgres_proxy),
    "slow": lambda rig: faulty(rig.postgres_proxy, Fault(delay_s=0.8)),
    "cut": lambda rig: faulty(rig.postgres_proxy, Fault(cut_after=3)),
}
REFUSALS: dict[str, Break] = {"read-only": read_only, "out of storage": out_of_storage}
MEMORY = ("noeviction", "volatile-lru")


def cases(names: dict[str, Break], in_ci: str) -> list[object]:
    return [pytest.param(name, marks=() if name == in_ci else pytest.mark.nightly) for name in names]


@pytest.fixture
def saver(proxied_redis_url: str, proxied_postgres_url: str, make_saver: MakeSaver) -> TieredSaver:
    return make_saver(
        proxied_redis_url,
        proxied_postgres_url,
        promoter="embedded",
        promotion=Promotion(checkpoints=1),
        flush_interval=timedelta(seconds=0.7),
    )


@pytest.fixture
def ledgers(saver: TieredSaver) -> list[Ledger]:
    """Promoted threads, clean at first."""
    made = [Ledger(Caller(saver, None), thread_id) for thread_id in THREADS]
    for ledger in made:
        ledger.put("first")
    saver.flush()
    return made


def drains(saver: TieredSaver, ledgers: list[Ledger], postgres_url: str) -> None:
    """By itself."""

    def drained() -> bool:
        try:
            return saver.stats().due_threads == 0
        except HotTierError:  # its first call after the fault may still meet what the fault has left
            return False

    wait_until(drained, "the backlog", 40)
    told = saver.stats()
    assert (told.parked_threads, told.overdue_threads, told.oldest_due_age, told.cold_error) == ((), 0, None, None)
    assert [saver.explain(ledger.thread_id).last_error for ledger in ledgers] == [None] * len(ledgers)
    for ledger in ledgers:
        ledger.settle(postgres_url)


@pytest.mark.parametrize("fault", cases(REDIS_FAULTS, "frozen"))
def test_redis(fault: str, rig: Rig, saver: TieredSaver, ledgers: list[Ledger], postgres_url: str) -> None:
    for ledger in ledgers:
        ledger.put("not flushed")
    with REDIS_FAULTS[fault](rig):
        due = time.monotonic() + 1.5  # when the promoter has met it, too
        while time.monotonic() < due:
            with refused(HotTierError, "a"):
                saver.explain("a")
            with refused(HotTierError):
                saver.stats()
    drains(saver, ledgers, postgres_url)


@pytest.mark.parametrize("fault", cases(POSTGRES_FAULTS, "cut"))
def test_postgres(fault: str, rig: Rig, saver: TieredSaver, ledgers: list[Ledger], postgres_url: str) -> None:
    with POSTGRES_FAULTS[fault](rig):
        for ledger in ledgers:
            ledger.put("not flushed")
        time.sleep(1)
        with in_time(3.0):
            told = saver.stats()
        assert (told.due_threads, told.parked_threads, told.cold_threads) == (3, (), None)
        assert told.cold_error is not None
        assert told.oldest_unflushed_age is not None  # a promoter that has just tried has made them due later
        assert timedelta() < told.oldest_unflushed_age < timedelta(seconds=HANGS_S)
        for ledger in ledgers:
            with in_time(3.0):
                assert saver.explain(ledger.thread_id).state == "dirty"
    drains(saver, ledgers, postgres_url)


@pytest.mark.parametrize("fault", cases(REFUSALS, "read-only"))
def test_postgres_that_takes_no_writes(
    fault: str, rig: Rig, saver: TieredSaver, ledgers: list[Ledger], postgres_url: str
) -> None:
    with REFUSALS[fault](rig):
        for ledger in ledgers:
            ledger.put("not flushed")
        time.sleep(1.5)
        told = saver.stats()
        assert (told.due_threads, told.parked_threads, told.cold_threads) == (3, (), 3)
        assert {saver.explain(ledger.thread_id).state for ledger in ledgers} == {"dirty"}
    drains(saver, ledgers, postgres_url)


@pytest.mark.nightly
@pytest.mark.parametrize("policy", MEMORY)
def test_redis_out_of_memory(
    policy: str, rig: Rig, saver: TieredSaver, ledgers: list[Ledger], postgres_url: str
) -> None:
    """It drains while it is full."""
    for ledger in ledgers:
        ledger.put("not flushed")
    with full(rig, policy):
        wait_until(lambda: saver.stats().due_threads == 0, "the backlog")
        assert all(saver.explain(ledger.thread_id).state in ("clean", "cold") for ledger in ledgers)
    drains(saver, ledgers, postgres_url)


@pytest.mark.nightly
@pytest.mark.parametrize("seconds", [0.3, 2.5])
def test_timeouts_say_how_long_callers_wait(
    seconds: float, rig: Rig, redis_url: str, postgres_url: str, make_saver: MakeSaver
) -> None:
    limit = timedelta(seconds=seconds)
    saver = make_saver(redis_url, postgres_url, timeouts=Timeouts(hot=limit, cold=limit))
    ledger = Ledger(Caller(saver, None), "t")
    ledger.put("first")
    saver.promote("t")
    ledger.put("second")
    calls: list[tuple[int | None, type[Exception], Callable[[], object]]] = [
        (rig.servers.redis_pid, HotTierError, lambda: saver.get_tuple(at("t"))),
        (rig.servers.postgres_pid, ColdTimeoutError, lambda: saver.flush("t")),
    ]
    for pid, error, call in calls:
        with frozen(pid):
            started = time.monotonic()
            with pytest.raises(error):
                call()
            assert 0.9 * seconds <= time.monotonic() - started < seconds + AT_ONCE_S
    ledger.settle(postgres_url)
