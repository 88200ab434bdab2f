"""Lists that say where to look: a checkpoint id, `before`, a filter. In any tier they answer as InMemorySaver does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from homes import HOMES, at, make_checkpoint, settle
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from sameness import difference

from langgraph_tiered_checkpoint import Promotion, TieredSaver

LAST = 9
SPACES = ("", "a", "z:call")


def identifier(n: int) -> str:
    return f"1f000000-0000-6000-8000-{n:012}"


@pytest.fixture(params=[*HOMES, "trimmed"])
def savers(request: pytest.FixtureRequest, redis_url: str, postgres_url: str) -> Iterator[tuple[Any, InMemorySaver]]:
    """Ours and the yardstick, with the same checkpoints: every id in the root, some in other namespaces as well."""
    kept = 3 if request.param == "trimmed" else None
    yardstick = InMemorySaver()
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", promotion=Promotion.never(), hot_checkpoints=kept
    ) as saver:
        for n in range(1, LAST + 1):
            for ns in SPACES if n % 3 == 0 else SPACES[:1]:
                made = make_checkpoint({"value": [ns, n]}, n)
                made["id"] = identifier(n)
                for one in (saver, yardstick):
                    stored = one.put(at("t", ns), made, {"step": n, "odd": n % 2}, made["channel_versions"])  # type: ignore[typeddict-unknown-key]
                    one.put_writes(stored, [("value", f"write {n}")], "task")
        settle(saver, "t", "promoted" if kept else request.param)
        assert saver.explain("t").hot_checkpoints < 3 * LAST
        yield saver, yardstick


def place(found: CheckpointTuple) -> tuple[str, str]:
    return found.config["configurable"]["checkpoint_id"], found.config["configurable"]["checkpoint_ns"]


def configs() -> Iterator[tuple[str, RunnableConfig, dict[str, Any]]]:
    for n in (1, 3, LAST, LAST + 1):
        for ns in (*SPACES, "unknown", None):
            where = {"thread_id": "t", "checkpoint_id": identifier(n)} | ({} if ns is None else {"checkpoint_ns": ns})
            yield f"id {n} in {ns!r}", {"configurable": where}, {}
    of_three: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_id": identifier(3)}}
    everywhere: RunnableConfig = {"configurable": {"thread_id": "t"}}
    yield "id, below another", of_three, {"before": at("t", "", identifier(4))}
    yield "id, below itself", of_three, {"before": at("t", "", identifier(3))}
    yield "id that the filter wants", of_three, {"filter": {"odd": 1}}
    yield "id that it does not want", of_three, {"filter": {"odd": 0}}
    for n in (1, 3, 6, LAST + 1):
        for ns in ("", "a", "unknown"):
            before = at("t", ns, identifier(n))
            yield f"before {n} of {ns!r} everywhere", everywhere, {"before": before}
            yield f"before {n} of {ns!r} in the root", at("t", ""), {"before": before, "limit": 2}
    for limit in (1, 2, 4, None):
        yield f"filter, limit {limit}", at("t", ""), {"filter": {"odd": 0}, "limit": limit}
        yield f"filter everywhere, limit {limit}", everywhere, {"filter": {"odd": 0}, "limit": limit}


def test_lists_that_say_where_to_look_give_what_the_yardstick_gives(savers: tuple[Any, InMemorySaver]) -> None:
    saver, yardstick = savers
    for name, config, search in configs():
        given, wanted = [list(one.list(config, **search)) for one in (saver, yardstick)]
        if search.get("limit") and "everywhere" in name:  # which ones of equal ids come first is ours to say
            assert len(given) == len(wanted), name
            continue
        given, wanted = sorted(given, key=place), sorted(wanted, key=place)
        assert not difference([t._asdict() for t in given], [t._asdict() for t in wanted], name), name


def test_a_listed_id_is_found_in_all_namespaces_in_the_order_of_lists(savers: tuple[Any, InMemorySaver]) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_id": identifier(6)}}
    listed = [t.config["configurable"]["checkpoint_ns"] for t in savers[0].list(config)]
    assert listed == ["z:call", "a", ""]
