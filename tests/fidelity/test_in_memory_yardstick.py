"""Every graph of the corpus does on a TieredSaver what it does on an InMemorySaver, whichever tier serves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from sameness import difference
from scenarios.driving import aplay, play
from scenarios.graphs import CORPUS, Scenario, Script

from langgraph_tiered_checkpoint import Promotion, TieredSaver

THREAD = "yardstick"
TURNS = 3

Between = Callable[[TieredSaver], None]
ABetween = Callable[[TieredSaver], Awaitable[None]]


def nothing(saver: TieredSaver) -> None:
    assert saver.explain(THREAD).state == "ephemeral"


def flush(saver: TieredSaver) -> None:
    saver.flush()
    assert saver.explain(THREAD).state == "clean"


def evict(saver: TieredSaver) -> None:
    saver.evict(THREAD)
    assert saver.explain(THREAD).tier == "cold"


async def anothing(saver: TieredSaver) -> None:
    assert (await saver.aexplain(THREAD)).state == "ephemeral"


async def aflush(saver: TieredSaver) -> None:
    await saver.aflush()
    assert (await saver.aexplain(THREAD)).state == "clean"


async def aevict(saver: TieredSaver) -> None:
    await saver.aevict(THREAD)
    assert (await saver.aexplain(THREAD)).tier == "cold"


NEVER = {"promotion": Promotion.never()}
AT_ONCE = {"promotion": Promotion(checkpoints=1), "hot_checkpoints": 3}

ways = pytest.mark.parametrize(
    ("settings", "between", "abetween"),
    [
        pytest.param(NEVER, nothing, anothing, id="ephemeral"),
        pytest.param(AT_ONCE, flush, aflush, id="trimmed"),
        pytest.param(AT_ONCE, evict, aevict, id="evicted"),
        pytest.param({**AT_ONCE, "cold_writes": "through"}, flush, aflush, id="through"),
    ],
)
corpus = pytest.mark.parametrize("scenario", CORPUS, ids=lambda scenario: scenario.name)


def whole(scenario: Scenario) -> Script:
    """The script and some sequels as one; each ends with the history."""
    yield from scenario.script()
    for _ in range(TURNS):
        yield from scenario.sequel()


@pytest.fixture(scope="module")
def yardstick() -> Callable[[Scenario], list[Any]]:
    known: dict[str, list[Any]] = {}

    def expected(scenario: Scenario) -> list[Any]:
        if scenario.name not in known:
            known[scenario.name] = play(scenario, InMemorySaver(), THREAD, whole(scenario))
        return known[scenario.name]

    return expected


@pytest.fixture
def make_saver(redis_url: str, postgres_url: str) -> Callable[..., TieredSaver]:
    return lambda settings: TieredSaver.from_urls(redis_url, postgres_url, promoter="external", **settings)


@corpus
@ways
def test_sync_runs_see_what_they_see_on_the_in_memory_saver(
    scenario: Scenario,
    settings: dict[str, Any],
    between: Between,
    abetween: ABetween,
    make_saver: Callable[..., TieredSaver],
    yardstick: Callable[[Scenario], list[Any]],
) -> None:
    with make_saver(settings) as saver:
        seen = play(scenario, saver, THREAD, whole(scenario), lambda: between(saver))
        assert difference(seen, yardstick(scenario)) == ""
        if settings is AT_ONCE and between is flush:
            status = saver.explain(THREAD)
            assert status.hot_checkpoints < (status.cold_checkpoints or 0), "nothing was trimmed"


@corpus
@ways
async def test_async_runs_see_what_sync_runs_see_on_the_in_memory_saver(
    scenario: Scenario,
    settings: dict[str, Any],
    between: Between,
    abetween: ABetween,
    make_saver: Callable[..., TieredSaver],
    yardstick: Callable[[Scenario], list[Any]],
) -> None:
    async with make_saver(settings) as saver:
        seen = await aplay(scenario, saver, THREAD, whole(scenario), lambda: abetween(saver))
        assert difference(seen, yardstick(scenario)) == ""


@corpus
def test_run_goes_on_in_another_process_after_each_action(
    scenario: Scenario, make_saver: Callable[..., TieredSaver], yardstick: Callable[[Scenario], list[Any]]
) -> None:
    """Two savers, which share nothing but the servers."""
    with make_saver(AT_ONCE) as one, make_saver(AT_ONCE) as other:
        seen = play(scenario, one, THREAD, scenario.script(), one.flush)
        seen += play(scenario, other, THREAD, scenario.sequel(), other.flush)
        seen += play(scenario, one, THREAD, scenario.sequel(), other.flush)
        other.evict(THREAD)
        seen += play(scenario, one, THREAD, scenario.sequel(), other.flush)
        assert difference(seen, yardstick(scenario)) == ""
