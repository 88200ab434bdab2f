"""Parents that go round in a circle, as an import tool or a faulty program can make them: each is visited once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from homes import HOMES, at, settle
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from langgraph_tiered_checkpoint import TieredSaver

DEEP: Any = {"source": "loop", "step": 1, "parents": {}, "counters_since_delta_snapshot": {"sought": [1000, 1000]}}


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", hot_checkpoints=2) as opened:
        yield opened


def circle(saver: TieredSaver, size: int, tail: int = 0) -> list[RunnableConfig]:
    """That many checkpoints in a circle, oldest first, and some after it; each with a pending write of its own."""
    configs = [at("t", checkpoint_id=f"{n:04}") for n in range(size + tail)]
    for n, config in enumerate(configs):
        put(saver, config, configs[n - 1] if n else at("t"))
        saver.put_writes(config, [("sought", n)], "task")
    put(saver, configs[0], configs[size - 1])
    return configs


def put(saver: TieredSaver, config: RunnableConfig, after: RunnableConfig) -> None:
    made = empty_checkpoint()
    made["id"] = config["configurable"]["checkpoint_id"]
    saver.put(after, made, DEEP, {})


def history(saver: TieredSaver, config: RunnableConfig) -> list[int]:
    found = saver.get_delta_channel_history(config=config, channels=["sought"])["sought"]
    assert "seed" not in found
    return [value for _, _, value in found["writes"]]


@pytest.mark.parametrize(("size", "tail"), [(1, 0), (2, 0), (3, 2), (20, 7)])
def test_the_history_of_a_delta_channel_has_each_ancestor_once(
    saver: TieredSaver, home: str, size: int, tail: int
) -> None:
    configs = circle(saver, size, tail)
    settle(saver, "t", home)
    assert history(saver, configs[0]) == list(range(1, size))
    assert history(saver, configs[-1]) == list(range(size + tail - 1))


def test_a_thread_whose_parents_go_round_can_be_read_pruned_trimmed_and_copied(saver: TieredSaver, home: str) -> None:
    configs = circle(saver, 3, 1)
    settle(saver, "t", home)
    assert [item.config["configurable"]["checkpoint_id"] for item in saver.list(at("t"))] == [
        config["configurable"]["checkpoint_id"] for config in reversed(configs)
    ]
    first = saver.get_tuple(configs[0])
    assert first is not None
    assert first.parent_config is not None
    assert first.parent_config["configurable"]["checkpoint_id"] == "0002"
    saver.copy_thread("t", "copy")
    saver.prune(["t"])
    assert history(saver, configs[-1]) == [0, 1, 2]  # what its delta channel may need stays
    put(saver, at("t", checkpoint_id="0009"), configs[-1])
    saver.flush()
    assert history(saver, at("t")) == [0, 1, 2, 3]
    saver.delete_thread("t")
    assert saver.get_tuple(at("t")) is None
    assert len(list(saver.list(at("copy")))) == 4
