"""Of a thread, one reads what one wants: the messages, or some channels, without what else there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from homes import HOMES, at, put, settle, values_of
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from statements import run

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.errors import ConfigurationError, UnreadableValueError
from langgraph_tiered_checkpoint.plans import reading

SAID = [HumanMessage("one", id="1"), AIMessage("two", id="2"), HumanMessage("three" * 1000, id="3")]


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        yield made


@pytest.mark.parametrize("home", HOMES)
async def test_messages_come_without_the_rest_of_the_thread(saver: TieredSaver, postgres_url: str, home: str) -> None:
    before = put(saver, at("t"), {"messages": SAID[2:], "large": ["x" * 3000], "short": "y"})
    put(saver, before, {"messages": SAID, "large": ["x" * 3001], "short": "y"}, 2)  # of what came before, in Redis
    settle(saver, "t", home)
    if home == "evicted":
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute("UPDATE checkpoint_blobs SET type = 'nonsense' WHERE channel = 'large'")
            fetched = run(conn, Cold(None).fetch("t", "", None, channels=["messages"])).stored
            assert fetched is not None
            assert [blob.channel for blob in fetched.blobs] == ["messages"]
    if home != "evicted":
        saver._store.known_values.forget("t")
        found = saver._sync.run(reading.get(saver._store, "t", "", "", channels=["messages"])).stored
        assert found is not None
        assert [blob.channel for blob in found.blobs] == ["messages"]
    assert saver.messages("t") == SAID
    assert await saver.amessages("t", limit=2) == SAID[1:]
    assert saver.messages("t", before="3", limit=1) == SAID[1:2]
    assert (saver.messages("t", before="1"), saver.messages("t", limit=0)) == ([], [])
    assert (saver.messages("nobody"), saver.messages("t", "no such channel")) == ([], [])
    assert saver.scoped("a").messages("t") == []
    if home == "evicted":
        assert saver.explain("t").tier == "cold"
        with pytest.raises(UnreadableValueError):
            saver.get_tuple(at("t"))


def test_reading_messages_does_not_keep_the_next_run_from_making_the_thread_resident(saver: TieredSaver) -> None:
    put(saver, at("t"), {"messages": SAID})
    settle(saver, "t", "evicted")
    assert saver.messages("t") == SAID
    saver.get_tuple(at("t"))
    assert saver.explain("t").tier == "both"


def test_what_holds_no_messages_is_told(saver: TieredSaver) -> None:
    put(saver, at("t"), {"messages": "text", "said": SAID})
    nonsense: list[dict[str, Any]] = [{}, {"channel": "said", "before": "4"}, {"limit": -1}, {"channel": ""}]
    for arguments in nonsense:
        with pytest.raises(ConfigurationError):
            saver.messages("t", **arguments)


@pytest.mark.parametrize("home", HOMES)
def test_saver_that_loads_some_channels_gives_no_others_and_loses_none(saver: TieredSaver, home: str) -> None:
    class State(MessagesState):
        notes: list[str]
        mood: str

    def answer(state: State) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{len(state['messages'])} so far")]}

    builder: Any = StateGraph(State).add_node(answer).add_edge(START, "answer")
    builder.compile(checkpointer=saver).invoke({"messages": SAID, "notes": ["n"], "mood": "fine"}, at("t"))
    settle(saver, "t", home)
    narrow = saver.with_load_channels(["messages"])
    assert [*values_of(narrow, at("t"))] == ["messages"]
    assert {channel for t in narrow.list(at("t")) for channel in t.checkpoint["channel_values"]} == {"messages"}
    assert narrow.with_load_channels(None).get_tuple(at("t")) == saver.get_tuple(at("t"))
    builder.compile(checkpointer=narrow).invoke({"messages": [HumanMessage("more")]}, at("t"))
    values = builder.compile(checkpointer=saver).get_state(at("t")).values
    assert [message.content for message in values["messages"]][-2:] == ["more", "5 so far"]
    assert (values["notes"], values["mood"]) == (["n"], "fine")
    nonsense: list[Any] = ["messages", [1]]
    for channels in nonsense:
        with pytest.raises(ConfigurationError):
            saver.with_load_channels(channels)
