"""What was removed is gone: when the call that took away the last reference returns, Redis has none of its bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from homes import at, make_checkpoint, put, values_of
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from stepping import Stepped

from langgraph_tiered_checkpoint import Promotion, TieredSaver


def line(number: int) -> str:
    return f"{number:06}" + os.urandom(60).hex()


@pytest.fixture
def saver(redis_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, promotion=Promotion.never()) as made:
        yield made


def everything(client: redis.Redis) -> bytes:
    """All bytes of all threads in Redis."""
    found: list[Any] = [client.hgetall(key) for key in client.scan_iter("*:t:*")]
    return b"".join(name + value for fields in found for name, value in fields.items())


def chain(saver: TieredSaver, states: list[list[str]], run_ids: str = "") -> list[RunnableConfig]:
    configs = [at("t")]
    for number, state in enumerate(states, 1):
        run = {"run_id": run_ids[number - 1]} if run_ids else {}
        configs.append(put(saver, configs[-1], {"a": state}, number, **run))
    return configs[1:]


def test_message_that_was_removed_is_gone_with_the_prune(saver: TieredSaver, redis_client: redis.Redis) -> None:
    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("ai", line(len(state["messages"])))]}

    graph = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile(checkpointer=saver)
    for turn in range(30):
        given = "SECRET" if turn == 12 else "hello"
        graph.invoke({"messages": [HumanMessage(f"{given} {line(turn)}", id=f"m{turn}")]}, at("t"))
    graph.update_state(at("t"), {"messages": [RemoveMessage("m12")]})
    assert b"SECRET" in everything(redis_client)
    expected = graph.get_state(at("t")).values
    saver.prune(["t"])
    assert b"SECRET" not in everything(redis_client)
    assert graph.get_state(at("t")).values == expected
    saver.copy_thread("t", "copy")
    graph.invoke({"messages": [HumanMessage("and on")]}, at("t"))
    assert graph.get_state(at("copy")).values == expected
    assert b"SECRET" not in everything(redis_client)


def test_what_a_run_wrote_is_gone_when_it_is_rolled_back(saver: TieredSaver, redis_client: redis.Redis) -> None:
    lines = [line(n) for n in range(300)]
    states = [lines[:100], lines[:150], [*lines[:150], "SECRET" * 20], lines[:160], lines[:170]]
    configs = chain(saver, states, "aabaa")
    saver.delete_for_runs(["b"])
    assert b"SECRET" not in everything(redis_client)
    kept = [*zip(configs[:2], states[:2], strict=True), *zip(configs[3:], states[3:], strict=True)]
    for config, state in kept:
        assert values_of(saver, config) == {"a": state}


@pytest.mark.parametrize("travels", ["as a difference", "whole"])
def test_value_that_is_put_over_is_gone(saver: TieredSaver, redis_client: redis.Redis, travels: str) -> None:
    lines = [line(n) for n in range(200)]
    made = make_checkpoint({"a": [*lines, "SECRET" * 20]}, 2)
    metadata: Any = {"source": "loop", "step": 2, "parents": {}}
    first = put(saver, at("t"), {"a": lines}, 1)
    config = saver.put(first, made, metadata, made["channel_versions"])
    assert b"SECRET" in everything(redis_client)
    saver.get_tuple(first)
    values = {"a": [*lines, "another"]} if travels == "as a difference" else {"a": ["short"]}
    saver.put(first, {**made, "channel_values": values}, metadata, made["channel_versions"])
    assert b"SECRET" not in everything(redis_client)
    assert values_of(saver, config) == values
    assert values_of(saver, first) == {"a": lines}


def test_prune_that_was_cut_off_is_completed_by_repeating_it(saver: TieredSaver, redis_client: redis.Redis) -> None:
    lines = [line(n) for n in range(100)]
    chain(saver, [lines, [*lines, "SECRET" * 20], [*lines, "more" * 20]])
    Stepped(saver, saver._requests.prune(["t"], "keep_latest")).stop_before("erase")
    assert b"SECRET" in everything(redis_client)
    saver.prune(["t"])
    assert b"SECRET" not in everything(redis_client)
    assert values_of(saver, at("t")) == {"a": [*lines, "more" * 20]}


@pytest.mark.parametrize("before", ["made_of", "erase"])
def test_what_is_written_during_a_prune_stays(saver: TieredSaver, redis_client: redis.Redis, before: str) -> None:
    lines = [line(n) for n in range(100)]
    configs = chain(saver, [lines, [*lines, "SECRET" * 20], [*lines, "more" * 20]])
    pruning = Stepped(saver, saver._requests.prune(["t"], "keep_latest")).stop_before(before)
    put(saver, configs[-1], {"a": [*lines, "more" * 20, "late" * 20]}, 4)
    pruning.finish()
    assert b"SECRET" not in everything(redis_client)
    assert [found.checkpoint["channel_values"]["a"] for found in saver.list(at("t"))] == [
        [*lines, "more" * 20, "late" * 20],
        [*lines, "more" * 20],
    ]


def test_large_arena_is_erased_in_pages(saver: TieredSaver, redis_client: redis.Redis) -> None:
    lines = [line(n) for n in range(60_000)]
    states = [[*lines[:10_000], "SECRET" * 20, *lines[10_000:]], lines, [*lines, line(0)]]
    configs = chain(saver, states)
    plan = Stepped(saver, saver._requests.prune(["t"], "keep_latest"))
    for _page in range(3):
        plan.stop_before("erase").take(1)
    plan.finish()
    assert b"SECRET" not in everything(redis_client)
    assert values_of(saver, configs[-1]) == {"a": states[-1]}


_runs = iter(range(10**9))


@st.composite
def edits(draw: st.DrawFn) -> tuple[list[list[int]], list[int], bool]:
    """States as numbers of lines, each made of an earlier one; which of them are rolled back; or pruned."""
    states, fresh = [list(range(60))], 60
    for _ in range(draw(st.integers(1, 9))):
        state = list(states[draw(st.integers(0, len(states) - 1))])
        for _ in range(draw(st.integers(1, 3))):
            match draw(st.sampled_from(["add", "take", "cut", "replace"])):
                case "add":
                    state += range(fresh, fresh + 3)
                case "take" if state:
                    state.pop(draw(st.integers(0, len(state) - 1)))
                case "cut":
                    state = state[draw(st.integers(0, 40)) :]
                case _ if state:
                    state[draw(st.integers(0, len(state) - 1))] = fresh
            fresh += 3
        states.append(state)
    gone = draw(st.lists(st.integers(0, len(states) - 1), unique=True))
    return states, gone, draw(st.booleans())


@given(edits())
def test_of_any_history_nothing_stays_that_was_removed_and_nothing_goes_that_was_not(
    saver: TieredSaver, redis_client: redis.Redis, edited: tuple[list[list[int]], list[int], bool]
) -> None:
    numbers, gone, pruned = edited
    texts = {n: line(n) for state in numbers for n in state}
    states = [[texts[n] for n in state] for state in numbers]
    run = f"run {next(_runs)}"
    configs = [at("t")]
    for number, state in enumerate(states, 1):
        run_id = run if number - 1 in gone else "other"
        configs.append(put(saver, configs[-1], {"a": state}, number, run_id=run_id))
    if pruned:
        saver.prune(["t"])
    saver.delete_for_runs([run])
    kept = {n: config for n, config in enumerate(configs[1:]) if n not in gone and (not pruned or n == len(states) - 1)}
    for n, config in kept.items():
        assert values_of(saver, config) == {"a": states[n]}
    found = everything(redis_client)
    needed = {text for n in kept for text in states[n]}
    assert [text for text in texts.values() if text not in needed and text.encode() in found] == []
    saver.delete_thread("t")
