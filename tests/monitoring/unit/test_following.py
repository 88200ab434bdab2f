"""What following a plan leaves as it was, and gauges that nobody waits for."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from waiting import AT_ONCE_S, HANGS_S

from langgraph_tiered_checkpoint.errors import HotTierError
from langgraph_tiered_checkpoint.io import gauges
from langgraph_tiered_checkpoint.io.instruments import _Application, application
from langgraph_tiered_checkpoint.io.targets import HotTarget
from langgraph_tiered_checkpoint.io.telemetry import Telemetry
from langgraph_tiered_checkpoint.plans.journal import Journal
from langgraph_tiered_checkpoint.records import TierStats
from langgraph_tiered_checkpoint.steps import Plan

TELEMETRY = Telemetry(HotTarget(url="redis://localhost:1/0"), None)


def plan() -> Plan[str]:
    yield from ()
    return "done"


def test_a_plan_is_run_as_it_is_where_nobody_wants_to_know() -> None:
    asked = plan()
    assert TELEMETRY.follow(asked) is asked


def test_metrics_and_traces_are_found_whichever_is_set_up_first(monkeypatch: pytest.MonkeyPatch) -> None:
    application = _Application()
    assert application.sdk() is None
    tracers, meters = TracerProvider(), MeterProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    application.look()
    first = application.sdk()
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
    application.look()
    then = application.sdk()
    meters.shutdown()
    assert first is not None
    assert then is not None
    assert (first.measures is None, then.measures is None, first.tracer is then.tracer) == (True, False, True)


def test_no_operation_fails_of_metrics_that_cannot_be_set_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("OTEL_PYTHON_METER_PROVIDER")

    application = _Application()
    monkeypatch.setattr(metrics, "get_meter_provider", fail)
    assert [application.sdk() for _ in range(3)] == [None] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_gauges_of_one_scrape_read_the_store_once_and_an_event_loop_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gauges, "_PATIENCE_S", HANGS_S)
    monkeypatch.setattr(gauges, "SPACING_S", HANGS_S)
    answers, reads = threading.Event(), []

    def read() -> TierStats:
        reads.append(1)
        answers.wait(AT_ONCE_S)  # in vain, if the event loop waits for it
        return TierStats(hot_threads=7)

    store = gauges.StoreGauges("lgt", read)

    async def scrape() -> object:
        return store.latest()

    assert asyncio.run(scrape()) is None  # though Redis has not answered
    answers.set()
    found = [store.latest() for _ in range(10)]
    assert {reading.stats.hot_threads for reading in found if reading and reading.stats} == {7}
    assert None not in found
    assert len(reads) == 1


def test_one_gauge_of_a_scrape_waits_for_servers_that_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def read() -> TierStats:
        answers.wait(AT_ONCE_S)  # in vain, if another gauge waits for it
        return TierStats()

    store = gauges.StoreGauges("lgt", read)
    monkeypatch.setattr(gauges, "_PATIENCE_S", 0.01)
    assert store.latest() is None
    monkeypatch.setattr(gauges, "_PATIENCE_S", HANGS_S)
    assert store.latest() is None
    answers.set()


def test_a_redis_that_does_not_answer_is_told_of_without_figures() -> None:
    def read() -> TierStats:
        raise HotTierError("down")

    reading = gauges.StoreGauges("lgt", read).latest()
    assert reading is not None
    assert reading.stats is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # which is what this is about
def test_a_forked_child_goes_on_though_another_thread_was_counting() -> None:
    journal, store = Journal("lgt"), gauges.StoreGauges("lgt", TierStats)
    store.report()
    with journal._lock, store._lock, application._looking:
        child = os.fork()
        if not child:
            signal.alarm(int(HANGS_S))
            journal.deleted("t")
            application.look()
            os._exit(int(store.latest() is None or application._looking.locked()))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert journal.counts.deleted == 0
