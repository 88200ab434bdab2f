"""Writes that wait for their checkpoint while others are deleted or pruned: they find it, in every tier."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from typing import Any

import pytest
from homes import at, make_checkpoint, put
from langgraph.checkpoint.base import Checkpoint

from langgraph_tiered_checkpoint import Promotion, TieredSaver

EARLY = [("n", "precious"), ("__interrupt__", "please answer")]
SUB = "sub:task"


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        yield made


def deleted_run(saver: TieredSaver, leaves: str) -> str:
    """A thread with a run that is to be deleted; the namespace in which writes wait for a checkpoint of another."""
    old = put(saver, at("t"), {"n": 1}, 1, run_id="deleted")
    match leaves:
        case "others in the namespace":
            put(saver, old, {"n": 2}, 2, run_id="other")
            return ""
        case "others in another namespace":
            put(saver, at("t", SUB), {"n": 1}, 1, run_id="deleted")
            put(saver, old, {"n": 2}, 2, run_id="other")
            return SUB
        case "no checkpoint":
            return ""
        case _:
            put(saver, at("t", SUB), {"n": 1}, 1, run_id="deleted")
            return "another:task"


def put_early_writes(saver: TieredSaver, home: str, ns: str, made: Checkpoint) -> None:
    """Put the writes of a checkpoint that is still to come, and bring the thread to where the test wants it."""
    if home == "dirty":
        saver.promote("t")
    contextvars.Context().run(saver.put_writes, at("t", ns, made["id"]), EARLY, "task")
    if home in ("clean", "cold"):
        saver.promote("t")
    if home == "cold":
        saver.evict("t")
    assert saver.explain("t").state == home


def arrive(saver: TieredSaver, ns: str, made: Checkpoint, parents: dict[str, str]) -> None:
    """Put the checkpoint. It has its writes, wherever the thread is."""
    metadata: Any = {"source": "loop", "step": 3, "parents": parents, "run_id": "other"}
    config = contextvars.Context().run(saver.put, at("t", ns), made, metadata, made["channel_versions"])
    for move in ("explain", "promote", "evict"):
        getattr(saver, move)("t")
        for found in (saver.get_tuple(at("t", ns)), saver.get_tuple(config), next(iter(saver.list(at("t", ns))))):
            assert found is not None
            assert found.checkpoint["id"] == made["id"]
            assert sorted((channel, value) for _, channel, value in found.pending_writes or ()) == sorted(EARLY)


@pytest.mark.parametrize("home", ["ephemeral", "dirty", "clean", "cold"])
@pytest.mark.parametrize(
    "leaves",
    [
        "others in the namespace",
        "others in another namespace",
        "no checkpoint",
        "no checkpoint, and none there ever was in the namespace",
    ],
)
def test_early_writes_find_their_checkpoint_after_another_run_was_deleted(
    saver: TieredSaver, home: str, leaves: str
) -> None:
    ns = deleted_run(saver, leaves)
    made = make_checkpoint({"n": 3}, 3)
    put_early_writes(saver, home, ns, made)
    saver.delete_for_runs(["deleted"])
    arrive(saver, ns, made, {})


@pytest.mark.parametrize("home", ["ephemeral", "dirty", "clean", "cold"])
def test_early_writes_of_a_call_find_their_checkpoint_after_its_others_were_pruned(
    saver: TieredSaver, home: str
) -> None:
    root = put(saver, at("t"), {"n": 1}, 1)
    parents = {"": root["configurable"]["checkpoint_id"]}
    put(saver, at("t", SUB), {"n": 1}, 1, parents=parents)
    put(saver, root, {"n": 2}, 2)
    put_early_writes(saver, home, SUB, made := make_checkpoint({"n": 3}, 3))
    saver.prune(["t"])
    assert list(saver.list(at("t", SUB))) == []
    arrive(saver, SUB, made, parents)
