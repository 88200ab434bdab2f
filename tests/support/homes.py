"""A thread in each place that it can live in, with one way to make it and one to move it there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from langgraph_tiered_checkpoint import TieredSaver

HOMES = ("ephemeral", "promoted", "evicted")


def settle(saver: TieredSaver, thread_id: str, home: str) -> None:
    """Bring a thread to where the test wants it."""
    if home == "ephemeral":
        assert saver.explain(thread_id).state == "ephemeral"
        return
    saver.promote(thread_id)
    if home == "evicted":
        saver.evict(thread_id)
    assert saver.explain(thread_id).tier == {"promoted": "both", "evicted": "cold"}[home]


def at(thread_id: str, ns: str = "", checkpoint_id: str | None = None) -> RunnableConfig:
    """A config."""
    configurable: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": ns}
    if checkpoint_id:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def make_checkpoint(values: Mapping[str, Any], version: int = 1) -> Checkpoint:
    """A checkpoint with these values, all of one version."""
    made = empty_checkpoint()
    made["id"] = str(uuid6(clock_seq=version))
    made["channel_values"] = dict(values)
    made["channel_versions"] = dict.fromkeys(values, f"{version:032}.0001")
    return made


def put(
    saver: BaseCheckpointSaver[str],
    config: RunnableConfig,
    values: Mapping[str, Any],
    version: int = 1,
    **metadata: Any,
) -> RunnableConfig:
    """Put a checkpoint with all its values new."""
    made = make_checkpoint(values, version)
    given: Any = {"source": "loop", "step": version, "parents": {}, **metadata}
    return saver.put(config, made, given, made["channel_versions"])


def values_of(saver: TieredSaver, config: RunnableConfig) -> dict[str, Any]:
    """The channel values of what a config names."""
    found = saver.get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]
