"""A thread that cannot be flushed for a reason of its own is parked, backs off, is told of, and holds nobody up."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import psycopg
import pytest
from faults.ledger import Caller, Ledger
from faults.outages import REFUSES, MakeSaver, poison, refused
from waiting import wait_until

from langgraph_tiered_checkpoint import FlushError, Promotion, promoter


@pytest.mark.parametrize(
    "refuses",
    [
        REFUSES,
        "RAISE 'poison'",
        "RAISE 'poison' USING ERRCODE = 'XX000'",
        "RAISE 'poison' USING ERRCODE = '53200'",
        "RAISE 'poison' USING ERRCODE = '54000'",
        "PERFORM pg_sleep(60)",
    ],
)
def test_promoter_parks_the_thread_at_fault_and_flushes_the_others(
    redis_url: str, postgres_url: str, make_saver: MakeSaver, refuses: str
) -> None:
    soon = timedelta(seconds=1)  # so that all come in one batch
    promotion = Promotion(checkpoints=1)
    saver = make_saver(redis_url, postgres_url, promotion=promotion, promoter="embedded", flush_interval=soon)
    saver.setup()
    poison(postgres_url, "t3", refuses)
    call = Caller(saver, None)
    ledgers = [Ledger(call, f"t{n}") for n in range(8)]
    for ledger in ledgers:
        ledger.put("a value")
    others = [ledger.thread_id for ledger in ledgers if ledger.thread_id != "t3"]
    wait_until(lambda: {saver.explain(t).state for t in others} == {"clean"}, "the others")
    wait_until(lambda: saver.stats().parked_threads == ("t3",), "parking")
    assert re.search("raised in refuse|in time", saver.explain("t3").last_error or "")
    with psycopg.connect(postgres_url) as admin:
        admin.execute("DROP FUNCTION refuse CASCADE")
    for ledger in ledgers:
        ledger.settle(postgres_url)


def test_a_thread_that_postgres_refuses_backs_off_and_drains_by_itself_when_it_may(
    redis_url: str, postgres_url: str, make_saver: MakeSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoter, "SWEEP_S", 1)
    call = Caller(make_saver(redis_url, postgres_url, promotion=Promotion(checkpoints=1)), None)
    call.saver.setup()
    poison(postgres_url, "t")
    ledger = Ledger(call, "t")
    ledger.put("refused")
    for delay_s in (1, 2, 4):
        before = time.time()
        with refused(FlushError, "t", "stay in Redis"):
            call("flush")
        due_s = call("explain", "t").due_at.timestamp()
        assert before + delay_s - 0.01 <= due_s <= time.time() + delay_s
    assert call("stats").parked_threads == ("t",)
    with psycopg.connect(postgres_url) as admin:
        admin.execute("DROP FUNCTION refuse CASCADE")
    with make_saver(redis_url, postgres_url, promoter="embedded") as other:
        wait_until(lambda: other.explain("t").state == "clean", "the next try", 40)
        assert other.stats().parked_threads == ()
        assert other.explain("t").last_error is None
    ledger.settle(postgres_url)
