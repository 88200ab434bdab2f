"""Structural operations keep what a thread's state is made of, wherever the thread lives."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import pytest
from homes import at
from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph

from langgraph_tiered_checkpoint import Promotion, TieredSaver

HOMES = ("ephemeral", "promoted", "evicted", "trimmed")


def _extend(value: list[str] | None, updates: list[list[str]]) -> list[str]:
    return [*(value or []), *(item for update in updates for item in update)]


class Often(TypedDict):
    items: Annotated[list[str], DeltaChannel(_extend, snapshot_frequency=3)]


class Never(TypedDict):
    items: Annotated[list[str], DeltaChannel(_extend, snapshot_frequency=1_000)]


def _talk(saver: TieredSaver, state: Any, home: str) -> Any:
    builder = StateGraph(state)
    builder.add_node("node", lambda given: {"items": [f"node {len(given['items'])}"]})
    builder.add_edge(START, "node")
    graph = builder.compile(checkpointer=saver)
    for turn in range(8):
        graph.invoke({"items": [f"turn {turn}"]}, at("t"))
        if home != "ephemeral":
            saver.promote("t")
    if home == "evicted":
        saver.evict("t")
    return graph


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("state", [Often, Never])
def test_pruned_and_copied_delta_channels_keep_their_value(
    redis_url: str, postgres_url: str, state: Any, home: str
) -> None:
    settings: Any = {"promotion": Promotion.never(), "promoter": "external"}
    if home == "trimmed":
        settings["hot_checkpoints"] = 2
    with TieredSaver.from_urls(redis_url, postgres_url, **settings) as saver:
        graph = _talk(saver, state, home)
        before = graph.get_state(at("t")).values["items"]
        assert len(before) == 16
        listed = len(list(saver.list(at("t"))))
        saver.prune(["t"])
        kept = len(list(saver.list(at("t"))))
        assert kept < listed if state is Often else kept == listed
        assert graph.get_state(at("t")).values["items"] == before
        saver.copy_thread("t", "copy")
        assert graph.get_state(at("copy")).values["items"] == before
        graph.invoke({"items": ["more"]}, at("t"))
        assert graph.get_state(at("t")).values["items"] == [*before, "more", "node 17"]
        assert graph.get_state(at("copy")).values["items"] == before
