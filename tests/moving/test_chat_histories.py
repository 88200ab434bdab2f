"""Chat histories that LangChain keeps in Redis become threads that a graph goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from homes import at
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, message_to_dict
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_tiered_checkpoint import RedisChatHistories, TieredChatMessageHistory, TieredSaver
from langgraph_tiered_checkpoint.errors import ConfigurationError, TieredCheckpointError

SAID: list[BaseMessage] = [HumanMessage("hi"), AIMessage("hello", id="its own"), HumanMessage("äöü \U0001f600")]


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
        yield made


@pytest.fixture
def histories(redis_url: str) -> Iterator[redis.Redis]:
    """Another database of the same Redis."""
    with redis.Redis.from_url(redis_url.rsplit("/", 1)[0] + "/3") as client:
        client.flushdb()
        yield client


def say(client: redis.Redis, key: str, messages: list[BaseMessage], ttl: int | None = None) -> None:
    """As langchain-community does."""
    for message in messages:
        client.lpush(key, json.dumps(message_to_dict(message)))
    if ttl:
        client.expire(key, ttl)


def answering(saver: TieredSaver) -> Any:
    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{len(state['messages'])} messages so far")]}

    return StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile(checkpointer=saver)


def test_session_becomes_a_thread_that_a_graph_goes_on_from(saver: TieredSaver, histories: redis.Redis) -> None:
    say(histories, "message_store:s:1", SAID)
    say(histories, "message_store:", SAID)
    histories.lpush("message_store:broken", "no JSON")
    histories.set("message_store:no list", "x")
    report = saver.import_threads(RedisChatHistories(histories))
    assert report.imported == 1
    assert sorted(refused.thread_id for refused in report.refused) == ["", "broken"]
    graph = answering(saver)
    assert graph.get_state(at("s:1")).next == ()
    assert TieredChatMessageHistory("s:1", saver).messages[1] == SAID[1]
    ids = [message.id for message in TieredChatMessageHistory("s:1", saver).messages]
    assert saver.import_threads(RedisChatHistories(histories)).already_there == 1
    found = graph.invoke({"messages": [HumanMessage("more")]}, at("s:1"))["messages"]
    assert [m.content for m in found] == [*(m.content for m in SAID), "more", "4 messages so far"]
    assert [m.id for m in found[:3]] == ids
    again = saver.import_threads(RedisChatHistories(histories), thread_ids=["s:1"])
    assert "exists" in again.refused[0].why


async def test_session_keeps_what_is_left_of_its_ttl_and_without_one_is_promoted(
    saver: TieredSaver, histories: redis.Redis
) -> None:
    say(histories, "mine:short", SAID, ttl=600)
    say(histories, "mine:kept", SAID)
    say(histories, "message_store:another", SAID)
    report = await saver.aimport_threads(RedisChatHistories(histories, key_prefix="mine:"))
    assert (report.imported, report.refused) == (2, ())
    short, kept = await saver.aexplain("short"), await saver.aexplain("kept")
    assert (short.state, kept.state) == ("ephemeral", "clean")
    assert short.expires_at is not None
    assert short.last_write_at is not None
    assert 500 < (short.expires_at - short.last_write_at).total_seconds() < 700
    assert (await saver.aimport_threads(RedisChatHistories(histories, key_prefix="mine:"))).already_there == 2
    looked_at = await saver.aexplain("short")
    assert looked_at.expires_at is not None
    assert (looked_at.expires_at - short.last_write_at).total_seconds() < 700
    await answering(saver).ainvoke({"messages": [HumanMessage("more")]}, at("short"))
    used = await saver.aexplain("short")
    assert used.expires_at is not None
    assert (used.expires_at - short.last_write_at).total_seconds() > 80_000  # the saver's own ttl


def test_redis_that_cannot_be_read_is_told(saver: TieredSaver) -> None:
    with pytest.raises(TieredCheckpointError, match="chat histories"):
        saver.import_threads(RedisChatHistories("redis://127.0.0.1:1/0"))
    nonsense: list[Any] = ["http://x", 5]
    for source in nonsense:
        with pytest.raises(ConfigurationError):
            RedisChatHistories(source)
