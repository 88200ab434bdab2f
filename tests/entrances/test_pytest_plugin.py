"""What pytest finds in this package, used by the tests of somebody else's program."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["langgraph_tiered_checkpoint.testing"]'  # as its entry point does where it is installed

THEIRS = """
import pytest
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

CONFIG = {"configurable": {"thread_id": "1"}}

@pytest.fixture
def graph(tiered_saver):
    return StateGraph(MessagesState).add_node("a", lambda _: {}).add_edge(START, "a").compile(checkpointer=tiered_saver)

@pytest.mark.parametrize("_", range(2))
def test_sync(graph, tiered_saver, _):
    assert list(tiered_saver.thread_ids()) == []
    graph.invoke({"messages": [HumanMessage("Hello")]}, CONFIG)
    tiered_saver.promote("1")
    assert tiered_saver.explain("1").tier == "both"

@pytest.mark.asyncio
@pytest.mark.parametrize("_", range(2))
async def test_async(graph, tiered_saver, _):
    assert [id_ async for id_ in tiered_saver.athread_ids()] == []
    await graph.ainvoke({"messages": [HumanMessage("Hello")]}, CONFIG)

def test_own_saver(tiered_servers):
    from langgraph_tiered_checkpoint import TieredSaver
    with TieredSaver.from_urls(tiered_servers.redis_url, key_prefix="own") as saver:
        assert saver.stats().hot_threads == 0
"""


def test_each_test_has_a_saver_of_its_own_on_real_servers(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(THEIRS)
    pytester.runpytest_subprocess("-p", "no:randomly", "-W", "error::ResourceWarning").assert_outcomes(passed=5)
