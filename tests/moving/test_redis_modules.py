"""What is kept in a Redis with the modules RedisJSON and RediSearch: its savers, and the histories of langchain-redis.

Run where `LGT_REDIS_STACK_URL` names an empty one, with langgraph-checkpoint-redis and langchain-redis installed.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from homes import at, make_checkpoint
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.types import Command
from scenarios.asking import THREADS, conversation, converse, everything

from langgraph_tiered_checkpoint import Promotion, RedisChatHistories, TieredChatMessageHistory, TieredSaver

URL = os.environ.get("LGT_REDIS_STACK_URL", "")
pytestmark = pytest.mark.skipif(not URL, reason="LGT_REDIS_STACK_URL names no Redis with modules")


@pytest.fixture(autouse=True)
def stack() -> Iterator[None]:
    with redis.Redis.from_url(URL) as client:
        client.flushall()
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        yield made


def test_threads_of_the_redis_saver_come_with_all_their_writes(saver: TieredSaver) -> None:
    module: Any = pytest.importorskip("langgraph.checkpoint.redis")
    with module.RedisSaver.from_conn_string(URL) as source:
        source.setup()
        converse(source)
        early = make_checkpoint({"a": [b"x"]}, 1)
        source.put_writes(at("early", checkpoint_id=early["id"]), [("a", b"y")], "task", "~a")
        source.put(at("early"), early, {"source": "loop", "step": 1, "parents": {}}, early["channel_versions"])
        report = saver.import_threads(source)
        assert (report.imported, report.refused) == (4, ())
        for thread in THREADS:
            theirs = [source.get_tuple(t.config) for t in source.list(at(thread))]
            mine = {
                (t.checkpoint["id"], t.config["configurable"]["checkpoint_ns"]): t
                for t in saver.list({"configurable": {"thread_id": thread}})
            }
            for one in theirs:
                place = one.checkpoint["id"], one.config["configurable"]["checkpoint_ns"]
                assert mine[place].checkpoint == one.checkpoint
                assert mine[place].metadata == one.metadata
                assert sorted(map(repr, mine[place].pending_writes or ())) >= sorted(map(repr, one.pending_writes))
            assert saver.explain(thread).state == "clean"
    found = saver.get_tuple(at("early"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": [b"x"]}
    assert found.pending_writes == [("task", "a", b"y")]
    graph = conversation(saver)
    assert graph.invoke(Command(resume="36"), at("t")) == {"asked": "age", "answered": "36", "count": 2}


def test_threads_of_a_shallow_saver_are_found_by_the_other_one(saver: TieredSaver) -> None:
    module: Any = pytest.importorskip("langgraph.checkpoint.redis")
    with module.ShallowRedisSaver.from_conn_string(URL) as source:
        source.setup()
        converse(source)
    with module.RedisSaver.from_conn_string(URL) as other:
        report = saver.import_threads(other)
        assert (report.imported, report.refused) == (3, ())
    assert conversation(saver).invoke(Command(resume="36"), at("t")) == {"asked": "age", "answered": "36", "count": 2}


async def test_async_and_shallow_savers_keep_their_ttl(saver: TieredSaver) -> None:
    shallow: Any = pytest.importorskip("langgraph.checkpoint.redis.shallow")
    aio: Any = pytest.importorskip("langgraph.checkpoint.redis.ashallow")
    with shallow.ShallowRedisSaver.from_conn_string(URL, ttl={"default_ttl": 10}) as source:
        source.setup()
        await asyncio.to_thread(conversation(source).invoke, {"asked": "name"}, at("t"))
    async with aio.AsyncShallowRedisSaver.from_conn_string(URL) as source:
        report = await saver.aimport_threads(source)
        assert (report.imported, report.refused) == (1, ())
    status = await saver.aexplain("t")
    assert status.state == "ephemeral"
    assert status.expires_at is not None
    assert status.last_write_at is not None
    assert (status.expires_at - status.last_write_at).total_seconds() < 700
    found = await conversation(saver).ainvoke(Command(resume="Ada"), at("t"))
    assert found["answered"] == "Ada"


def test_histories_of_langchain_redis(saver: TieredSaver) -> None:
    module: Any = pytest.importorskip("langchain_redis")
    history = module.RedisChatMessageHistory("s:1", redis_url=URL, ttl=600)
    history.add_messages([HumanMessage("hi"), AIMessage("there"), ToolMessage("r", tool_call_id="1")])
    report = saver.import_threads(RedisChatHistories(URL))
    assert (report.imported, report.refused) == (1, ())
    assert [m.content for m in TieredChatMessageHistory("s:1", saver).messages] == ["hi", "there", "r"]
    assert saver.explain("s:1").state == "ephemeral"
    assert everything(saver, "s:1")[0][4] is None
