"""What following a plan leaves as it was, and gauges that nobody waits for."""

from __future__ import annotations

import asyncio
import threading

from langgraph_tiered_checkpoint.errors import HotTierError
from langgraph_tiered_checkpoint.io.gauges import StoreGauges
from langgraph_tiered_checkpoint.io.targets import HotTarget
from langgraph_tiered_checkpoint.io.telemetry import Telemetry
from langgraph_tiered_checkpoint.records import TierStats
from langgraph_tiered_checkpoint.steps import Plan

TELEMETRY = Telemetry(HotTarget(url="redis://localhost:1/0"), None)


def plan() -> Plan[str]:
    yield from ()
    return "done"


def test_a_plan_is_run_as_it_is_where_nobody_wants_to_know() -> None:
    asked = plan()
    assert TELEMETRY.follow(asked) is asked


def test_gauges_of_one_scrape_read_the_store_once_and_an_event_loop_waits_for_nothing() -> None:
    answers, reads = threading.Event(), []

    def read() -> TierStats:
        reads.append(1)
        assert answers.wait(60)
        return TierStats(hot_threads=7)

    gauges = StoreGauges("lgt", read)

    async def scrape() -> object:
        return gauges.latest()

    assert asyncio.run(scrape()) is None  # though Redis has not answered
    answers.set()
    found = [gauges.latest() for _ in range(10)]
    assert {reading.stats.hot_threads for reading in found if reading and reading.stats} == {7}
    assert None not in found
    assert len(reads) == 1


def test_a_redis_that_does_not_answer_is_told_of_without_figures() -> None:
    def read() -> TierStats:
        raise HotTierError("down")

    reading = StoreGauges("lgt", read).latest()
    assert reading is not None
    assert reading.stats is None
