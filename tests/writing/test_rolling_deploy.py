"""Code of two versions takes turns on a thread: what the older does not know of is there for the newer."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from homes import HOMES, at, make_checkpoint, put, settle, values_of
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, StateGraph

from langgraph_tiered_checkpoint import Promotion, TieredSaver


class Old(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


class New(Old, total=False):
    plan: str
    essay: str
    budget: int
    paid: bool
    items: list[int]


GIVEN: dict[str, Any] = {
    "log": ["1"], "plan": "gold", "essay": "e" * 300, "budget": 100, "paid": True, "items": [1],
}  # fmt: skip


def turn(schema: type[Any], saver: BaseCheckpointSaver[str], given: dict[str, Any]) -> dict[str, Any]:
    graph = StateGraph(schema).add_node("a", lambda _: {"log": ["a"]}).add_edge(START, "a").compile(checkpointer=saver)
    graph.invoke(given, at("t"))
    return dict(graph.get_state(at("t")).values)


def story(older: BaseCheckpointSaver[str], newer: BaseCheckpointSaver[str], between: Any = lambda: None) -> Any:
    turn(New, newer, GIVEN)
    between()
    turn(Old, older, {"log": ["2"]})
    between()
    turn(Old, older, {"log": ["3"]})
    return turn(New, newer, {"log": ["4"]})


@pytest.fixture
def savers(redis_url: str, postgres_url: str) -> Iterator[tuple[TieredSaver, TieredSaver]]:
    settings: Any = {"promoter": "external", "promotion": Promotion.never()}
    with (
        TieredSaver.from_urls(redis_url, postgres_url, **settings) as older,
        TieredSaver.from_urls(redis_url, postgres_url, **settings) as newer,
    ):
        yield older, newer


@pytest.mark.parametrize("home", HOMES)
def test_newer_code_finds_what_older_code_does_not_know(savers: tuple[TieredSaver, TieredSaver], home: str) -> None:
    older, newer = savers
    memory: InMemorySaver = InMemorySaver()
    expected = story(memory, memory)
    assert expected["plan"] == "gold"
    assert story(older, newer, lambda: settle(newer, "t", home)) == expected


@pytest.mark.parametrize("remembered", [True, False], ids=["who has read the parent", "who has not"])
def test_version_without_its_value_stands_for_the_parent_s(
    savers: tuple[TieredSaver, TieredSaver], *, remembered: bool
) -> None:
    older, newer = savers
    config = put(newer, at("t"), {"plan": "gold", "gone": "x", "log": ["1"]})
    if remembered:
        older.get_tuple(at("t"))
    made = make_checkpoint({"log": ["1", "2"]}, 2)
    versions = made["channel_versions"] | {"plan": f"{1:032}.0001", "gone": f"{2:032}.0001"}
    made["channel_versions"] = versions
    latest = older.put(config, made, {"source": "loop", "step": 2, "parents": {}}, {"log": versions["log"]})
    assert values_of(newer, latest) == {"plan": "gold", "log": ["1", "2"]}


def test_what_is_carried_on_is_encrypted_where_all_is(redis_url: str, redis_client: Any) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0" * 16)
    with TieredSaver.from_urls(redis_url) as plain, TieredSaver.from_urls(redis_url, serde=serde) as encrypted:
        config = put(plain, at("t"), {"plan": "gold"})
        made = make_checkpoint({"log": ["1"]}, 2)
        new = dict(made["channel_versions"])
        made["channel_versions"] = {**new, "plan": f"{1:032}.0001"}
        latest = encrypted.put(config, made, {"source": "loop", "step": 2, "parents": {}}, new)
        assert values_of(encrypted, latest) == {"plan": "gold", "log": ["1"]}
        [key] = redis_client.scan_iter("*:t:t")
        [first, second] = sorted(name for name in redis_client.hkeys(key) if name[:1] == b"c")
        assert b"gold" in redis_client.hget(key, first)
        assert b"gold" not in redis_client.hget(key, second)
