"""Writes that wait for their checkpoint while another run of the thread is deleted: they find it, in every tier."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from typing import Any

import pytest
from homes import at, make_checkpoint, put

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
    if home == "dirty":
        saver.promote("t")
    contextvars.Context().run(saver.put_writes, at("t", ns, made["id"]), EARLY, "task")
    if home in ("clean", "cold"):
        saver.promote("t")
    if home == "cold":
        saver.evict("t")
    assert saver.explain("t").state == home
    saver.delete_for_runs(["deleted"])
    metadata: Any = {"source": "loop", "step": 3, "parents": {}, "run_id": "other"}
    config = contextvars.Context().run(saver.put, at("t", ns), made, metadata, made["channel_versions"])
    for move in ("explain", "promote", "evict"):
        getattr(saver, move)("t")
        for found in (saver.get_tuple(at("t", ns)), saver.get_tuple(config), next(iter(saver.list(at("t", ns))))):
            assert found is not None
            assert found.checkpoint["id"] == made["id"]
            assert sorted((channel, value) for _, channel, value in found.pending_writes or ()) == sorted(EARLY)
