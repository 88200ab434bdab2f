"""Connections that are slow, stall, or end in the middle of a reply: errors in time, nothing lost and nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver, in_time, refused
from faults.proxy import Fault, Proxy
from homes import at, make_checkpoint
from waiting import wait_until

from langgraph_tiered_checkpoint import ColdTierError, ColdTimeoutError, HotTierError, Promotion, TieredSaver
from langgraph_tiered_checkpoint.steps import Sql, Statements, Tx

SCRIPT = b"EVAL"  # or EVALSHA
FLUSH = b"channel_versions"  # in every checkpoint that a commit carries, and in no other question to Postgres
BYTES = [0, 1, 20]


@pytest.fixture
def ledger(proxied: Caller) -> Ledger:
    """A promoted thread with something in it."""
    made = Ledger(proxied, "t")
    made.put("first")
    made.put_writes("task", 0)
    proxied("promote", "t")
    return made


# Redis


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_connections_that_were_forgotten_on_the_way_cost_one_timeout_in_all(
    make_saver: MakeSaver,
    proxied_redis_url: str,
    proxied_postgres_url: str,
    redis_proxy: Proxy,
    postgres_proxy: Proxy,
    tier: str,
) -> None:
    saver: TieredSaver = make_saver(proxied_redis_url, proxied_postgres_url)
    saver.setup()
    ports = saver._sync._connections.sync_ports()
    assert ports.cold is not None
    together = threading.Barrier(4)

    def body() -> Statements[None]:
        yield Sql("SELECT 1")
        together.wait(30)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ports.cold.transact, [Tx("several", "t", body)] * 4))
    for _ in range(3):
        ports.hot.check()  # makes one more
    (redis_proxy if tier == "hot" else postgres_proxy).forget()
    with pytest.raises(HotTierError if tier == "hot" else ColdTierError, match="in time"):
        saver.get_tuple(at("nobody"))
    for number in range(4):
        assert saver.get_tuple(at(f"nobody {number}")) is None


async def test_async_connections_that_were_forgotten_on_the_way_cost_one_timeout_in_all(
    make_saver: MakeSaver, redis_url: str, proxied_postgres_url: str, postgres_proxy: Proxy
) -> None:
    saver: TieredSaver = make_saver(redis_url, proxied_postgres_url)
    await saver.asetup()
    ports = await saver._async._connections.async_ports()
    assert ports.cold is not None

    def body() -> Statements[None]:
        yield Sql("SELECT pg_sleep(0.2)")

    await asyncio.gather(*(ports.cold.transact(Tx("several", "t", body)) for _ in range(4)))
    postgres_proxy.forget()
    with pytest.raises(ColdTierError, match="in time"):
        await saver.aget_tuple(at("nobody"))
    for number in range(4):
        assert await saver.aget_tuple(at(f"nobody {number}")) is None
    await saver.aclose()


@pytest.mark.parametrize("cut_after", BYTES)
def test_a_reply_that_is_cut_once_is_asked_for_again(
    ledger: Ledger, proxied: Caller, redis_proxy: Proxy, postgres_url: str, cut_after: int
) -> None:
    fault = redis_proxy.set(Fault(cut_after=cut_after, once_asked=SCRIPT, times=1))
    ledger.put("second")
    assert fault.cuts == 1
    fault = redis_proxy.set(Fault(cut_after=cut_after, once_asked=SCRIPT, times=1))
    ledger.put_writes("task", 1, 2)
    assert fault.cuts == 1
    fault = redis_proxy.set(Fault(cut_after=cut_after, once_asked=SCRIPT, times=1))
    ledger.check(proxied)
    assert fault.cuts == 1
    ledger.settle(postgres_url)


@pytest.mark.parametrize("state", ["new", "ephemeral", "clean", "evicted"])
def test_a_write_whose_replies_are_cut_may_be_stored_and_can_be_repeated(
    proxied: Caller, redis_proxy: Proxy, postgres_url: str, state: str
) -> None:
    ledger = Ledger(proxied, "t")
    if state == "new":
        assert proxied("get_tuple", at("t")) is None
    else:
        ledger.put("first")
        if state != "ephemeral":
            proxied("promote", "t")
        if state == "evicted":
            proxied("evict", "t")
    redis_proxy.set(Fault(cut_after=3, once_asked=SCRIPT))
    with refused(HotTierError, "t", "cannot be reached.*Check that it runs"):
        ledger.put("second")
    if ledger.head is not None:
        with refused(HotTierError, "t", "cannot be reached.*Check that it runs"):
            ledger.put_writes("task", 1, 2)
    redis_proxy.heal()
    unsure = max(ledger.made)
    for _ in range(2):
        ledger.repeat(unsure)
    ledger.check(proxied)
    ledger.put_writes("task", 1, 2)
    repeated = ledger.writes[unsure]
    ledger.put_writes("task", 1, 2)
    ledger.writes[unsure] = repeated[:2]
    ledger.settle(postgres_url)


@pytest.mark.parametrize("cut_after", [1, 100])
def test_a_read_whose_reply_is_cut_is_an_error_and_never_half_an_answer(
    ledger: Ledger, proxied: Caller, redis_proxy: Proxy, cut_after: int
) -> None:
    for number in range(5):
        ledger.put(number)
    redis_proxy.set(Fault(cut_after=cut_after, once_asked=SCRIPT))
    for method in ("get_tuple", "list"):
        with refused(HotTierError, "t", "cannot be reached.*Check that it runs"):
            proxied(method, at("t"))
    redis_proxy.heal()
    ledger.check(proxied)


def test_a_delete_whose_reply_is_cut_can_be_repeated(ledger: Ledger, proxied: Caller, redis_proxy: Proxy) -> None:
    redis_proxy.set(Fault(cut_after=0, once_asked=SCRIPT))
    with refused(HotTierError, "t", "cannot be reached"):
        proxied("delete_thread", "t")
    redis_proxy.heal()
    proxied("delete_thread", "t")
    assert proxied("get_tuple", at("t")) is None
    assert proxied("explain", "t").state == "absent"


@pytest.mark.parametrize("passing", range(3))
def test_a_flush_that_loses_redis_at_any_reply_is_taken_up_by_the_next(
    ledger: Ledger, proxied: Caller, redis_proxy: Proxy, postgres_url: str, passing: int
) -> None:
    """Lease, changes, acknowledgement: each in turn is executed, and its reply lost."""
    ledger.put("second")
    ledger.put_writes("task", 1)
    fault = redis_proxy.set(Fault(skip=passing, cut_after=0, once_asked=SCRIPT))
    with contextlib.suppress(HotTierError):
        proxied("flush", "t")
    assert fault.cuts > 0
    redis_proxy.heal()
    ledger.put("third")
    ledger.settle(postgres_url)


def test_slow_replies_are_waited_for(ledger: Ledger, proxied: Caller, redis_proxy: Proxy, postgres_url: str) -> None:
    redis_proxy.set(Fault(delay_s=0.1))
    ledger.put("second")
    ledger.check(proxied)
    redis_proxy.heal()
    ledger.settle(postgres_url)


def test_replies_slower_than_the_timeout_are_an_error(
    ledger: Ledger, proxied: Caller, redis_proxy: Proxy, postgres_url: str
) -> None:
    redis_proxy.set(Fault(delay_s=0.8))
    for _ in range(2):
        with refused(HotTierError, "t", r"did not answer in time.*see timeouts\.hot"):
            ledger.put("late")
    with refused(HotTierError, "t", r"did not answer in time.*see timeouts\.hot"):
        proxied("get_tuple", at("t"))
    redis_proxy.heal()
    ledger.put("afterwards")
    ledger.settle(postgres_url)


def test_a_black_hole_is_an_error_in_time(
    ledger: Ledger, proxied: Caller, redis_proxy: Proxy, postgres_url: str
) -> None:
    redis_proxy.set(Fault(swallow=True))
    for _ in range(2):
        with refused(HotTierError, "t", r"did not answer in time.*see timeouts\.hot"):
            proxied("get_tuple", at("t"))
    redis_proxy.heal()
    ledger.settle(postgres_url)


def test_tasks_that_share_the_connection_each_get_their_own_answer_or_an_error(
    proxied_redis_url: str, proxied_postgres_url: str, redis_proxy: Proxy, make_saver: MakeSaver, postgres_url: str
) -> None:
    """Replies must not be handed to the wrong task after a cut in the middle of many."""
    saver = make_saver(proxied_redis_url, proxied_postgres_url)

    async def all_of_them() -> None:
        async def one(n: int) -> None:
            config = at(f"t{n}")
            parent = config
            for step in range(20):
                made = make_checkpoint({"n": [n, step]}, step + 1)
                for _ in range(5):
                    try:
                        parent = await saver.aput(parent, made, {"step": step}, made["channel_versions"])
                        found = await saver.aget_tuple(config)
                    except HotTierError:
                        continue
                    assert found is not None
                    assert found.checkpoint["channel_values"] == {"n": [n, step]}
                    break
                else:
                    raise AssertionError("five failures in a row")

        async def saw() -> None:
            for cut_after in range(0, 4000, 200):
                redis_proxy.set(Fault(cut_after=cut_after, once_asked=SCRIPT, times=1))
                await asyncio.sleep(0.01)

        await asyncio.gather(saw(), *(one(n) for n in range(16)))
        redis_proxy.heal()
        for n in range(16):
            listed = [found.checkpoint["channel_values"] async for found in saver.alist(at(f"t{n}"))]
            assert listed == [{"n": [n, step]} for step in reversed(range(20))]
        await saver._async.aclose()

    asyncio.run(all_of_them())


# Postgres


@pytest.mark.parametrize("cut_after", [0, 1, 10])
def test_a_commit_whose_acknowledgement_is_lost_is_not_made_twice(
    ledger: Ledger, proxied: Caller, postgres_proxy: Proxy, postgres_url: str, cut_after: int
) -> None:
    ledger.put("second")
    ledger.put_writes("task", 1, 2)
    fault = postgres_proxy.set(Fault(cut_after=cut_after, once_asked=FLUSH, times=1))
    proxied("flush")
    assert fault.cuts == 1
    assert proxied("explain", "t").state == "clean"
    ledger.put("third")
    ledger.settle(postgres_url)


def test_commits_whose_acknowledgements_are_all_lost_are_found_out_later(
    ledger: Ledger, proxied: Caller, postgres_proxy: Proxy, postgres_url: str
) -> None:
    ledger.put("second")
    ledger.put_writes("task", 1, 2)
    postgres_proxy.set(Fault(cut_after=0, once_asked=FLUSH))
    with refused(ColdTierError, "t", "cannot be reached or has failed.*Check that it runs, and its log"):
        proxied("flush")
    ledger.put("third")
    ledger.check(proxied)
    postgres_proxy.heal()
    assert proxied("explain", "t").state == "dirty"
    proxied("flush")
    assert proxied("stats").due_threads == 0
    ledger.settle(postgres_url)


def test_a_first_promotion_whose_commits_are_lost_is_completed(
    proxied: Caller, postgres_proxy: Proxy, postgres_url: str
) -> None:
    proxied("setup")
    ledger = Ledger(proxied, "t")
    ledger.put("first")
    ledger.put_writes("task", 1)
    postgres_proxy.set(Fault(cut_after=0, once_asked=FLUSH))
    with refused(ColdTierError, "t", "cannot be reached or has failed"):
        proxied("promote", "t")
    proxied("promote", "t")  # finds out that it was committed, and need not send it again
    postgres_proxy.heal()
    ledger.put("second")
    ledger.settle(postgres_url)


@pytest.mark.parametrize("operation", ["prune", "delete_thread", "copy_thread"])
def test_a_structural_operation_whose_commit_is_lost_can_be_repeated(
    ledger: Ledger, proxied: Caller, postgres_proxy: Proxy, operation: str
) -> None:
    ledger.put("second")
    args: tuple[Any, ...] = {"prune": (["t"],), "delete_thread": ("t",), "copy_thread": ("t", "u")}[operation]
    proxied("flush")
    postgres_proxy.set(Fault(cut_after=0, once_asked=b"COMMIT", times=2))
    with refused(ColdTierError, remedy="cannot be reached or has failed"):
        proxied(operation, *args)
    postgres_proxy.heal()
    match operation:
        case "prune":
            proxied(operation, *args)
            assert [found.checkpoint["id"] for found in proxied("list", at("t"))] == [ledger.head]
        case "delete_thread":
            proxied(operation, *args)
            assert proxied("get_tuple", at("t")) is None
        case _:
            copied = [found.checkpoint["id"] for found in proxied("list", at("u"))]
            assert copied in ([], sorted(ledger.made, reverse=True))


@pytest.mark.parametrize("cut_after", [1, 200])
def test_a_read_that_postgres_does_not_finish_is_an_error_and_never_half_an_answer(
    ledger: Ledger, proxied: Caller, postgres_proxy: Proxy, cut_after: int
) -> None:
    ledger.put("second")
    proxied("evict", "t")
    fault = postgres_proxy.set(Fault(cut_after=cut_after, once_asked=b"SELECT", times=1))
    ledger.check(proxied)
    assert fault.cuts == 1
    proxied("evict", "t")
    postgres_proxy.set(Fault(cut_after=cut_after, once_asked=b"SELECT"))
    for method in ("get_tuple", "list", "explain"):
        with refused(ColdTierError, "t", "cannot be reached or has failed.*Check that it runs, and its log"):
            proxied(method, "t" if method == "explain" else at("t"))
    postgres_proxy.heal()
    ledger.check(proxied)


def test_setup_that_loses_its_connection_can_be_repeated(
    proxied_redis_url: str,
    proxied_postgres_url: str,
    postgres_proxy: Proxy,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
    postgres_url: str,
) -> None:
    call = Caller(make_saver(proxied_redis_url, proxied_postgres_url), loop)
    postgres_proxy.set(Fault(cut_after=0, once_asked=b"COMMIT"))
    with refused(ColdTierError, remedy="cannot be reached or has failed"):
        call("setup")
    postgres_proxy.heal()
    ledger = Ledger(call, "t")
    ledger.put()
    ledger.settle(postgres_url)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(swallow=True), id="black hole"),
        pytest.param(Fault(delay_s=0.8), id="slow", marks=pytest.mark.nightly),
    ],
)
def test_a_postgres_that_does_not_answer_in_time_is_an_error(
    ledger: Ledger, proxied: Caller, postgres_proxy: Proxy, postgres_url: str, fault: Fault
) -> None:
    ledger.put("second")
    postgres_proxy.set(fault)
    with refused(ColdTimeoutError, "t", r"did not answer in time.*see timeouts\.cold", within_s=2):
        proxied("flush")
    with refused((ColdTierError, ColdTimeoutError), "new", r"see timeouts\.cold|Check that it runs", within_s=3):
        proxied("get_tuple", at("new"))
    ledger.put("third")
    ledger.check(proxied)
    postgres_proxy.heal()
    proxied("flush")
    ledger.settle(postgres_url)


def test_a_slow_postgres_slows_nobody_but_those_that_need_it(
    proxied_redis_url: str, proxied_postgres_url: str, postgres_proxy: Proxy, make_saver: MakeSaver, postgres_url: str
) -> None:
    saver = make_saver(proxied_redis_url, proxied_postgres_url, promotion=Promotion(checkpoints=1), promoter="embedded")
    ledger = Ledger(Caller(saver, None), "t")
    ledger.put()
    saver.flush()
    postgres_proxy.set(Fault(delay_s=0.3))
    with in_time(0):
        for number in range(200):  # which is a minute, if each has to wait
            ledger.put(number)
        saver.get_tuple(at("t"))
    postgres_proxy.heal()
    wait_until(lambda: saver.stats().due_threads == 0, "the backlog to drain")
    ledger.settle(postgres_url)
