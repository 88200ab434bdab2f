"""A stream consumed by one task a chunk, each with a context of its own: the run stays in one life of its thread."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import pytest
import redis
from homes import at
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from langgraph_tiered_checkpoint import Promotion, ThreadDeletedError, TieredSaver
from langgraph_tiered_checkpoint.hot.keys import bucket_of


class State(TypedDict):
    steps: Annotated[list[int], operator.add]


def graph(saver: TieredSaver) -> CompiledStateGraph[Any, Any, Any, Any]:
    built = StateGraph(State)
    for number in range(4):
        built.add_node(str(number), lambda _, number=number: {"steps": [number]})
        built.add_edge(str(number - 1) if number else START, str(number))
    return built.compile(checkpointer=saver)


async def chunk_of(stream: AsyncIterator[Any]) -> Any:
    """The next chunk, fetched by a task of its own; None at the end."""

    async def fetch() -> Any:
        return await anext(stream, None)

    return await asyncio.create_task(fetch())


async def rest_of(stream: AsyncIterator[Any]) -> list[Any]:
    """The chunks that are left, each fetched by a task of its own."""
    chunks = []
    while (chunk := await chunk_of(stream)) is not None:
        chunks.append(chunk)
    return chunks


@pytest.fixture
async def saver(redis_url: str, postgres_url: str) -> AsyncIterator[TieredSaver]:
    async with TieredSaver.from_urls(
        redis_url, postgres_url, promotion=Promotion(checkpoints=2), flush_interval=timedelta(milliseconds=10)
    ) as made:
        yield made


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_stream_of_a_deleted_thread_brings_nothing_back(
    saver: TieredSaver, redis_client: redis.Redis, durability: Any
) -> None:
    """Also long after the delete, when no tombstone tells of it any more."""
    config: Any = at("t")
    await graph(saver).ainvoke({"steps": [-1]}, config)
    stream = graph(saver).astream({"steps": [-2]}, config, durability=durability)
    await chunk_of(stream)
    await asyncio.create_task(saver.adelete_thread("t"))
    redis_client.delete(f"lgt:{{{bucket_of('t'):02x}}}:gone")
    with pytest.raises(ThreadDeletedError):
        await rest_of(stream)
    assert await saver.aget_tuple(config) is None
    assert (await saver.aexplain("t")).tier is None


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_stream_goes_on_in_the_thread_that_it_has_read(saver: TieredSaver, durability: Any) -> None:
    config: Any = at("t")
    for run in (1, 2):
        stream = graph(saver).astream({"steps": [-run]}, config, durability=durability)
        assert len(await rest_of(stream)) == 4
    found = await saver.aget_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"]["steps"] == [-1, 0, 1, 2, 3, -2, 0, 1, 2, 3]
