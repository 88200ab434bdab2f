"""Checkpoints that were read before, in the order and the shape in which they are put back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple


class Piece(NamedTuple):
    """One checkpoint, as `put` and then `put_writes` take it."""

    before: RunnableConfig
    """Names its parent."""
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    new_versions: ChannelVersions
    config: RunnableConfig
    """Names the checkpoint itself."""
    writes: dict[str, list[tuple[str, Any]]]
    """Pending writes by task."""


def pieces(thread_id: str, checkpoints: Iterable[CheckpointTuple]) -> Iterator[Piece]:
    """From the oldest to the newest, whichever way they came; each value is new where it comes first."""
    stored: set[tuple[str, str, str]] = set()
    for found in sorted(checkpoints, key=_id_and_ns):
        checkpoint, (_, ns) = found.checkpoint, _id_and_ns(found)
        new = {c: v for c, v in checkpoint["channel_versions"].items() if (ns, c, str(v)) not in stored}
        stored |= {(ns, c, str(v)) for c, v in new.items() if c in checkpoint["channel_values"]}
        # A channel without a value is said to be empty: nobody is to look for its value in the parent.
        new |= {c: v for c, v in checkpoint["channel_versions"].items() if c not in checkpoint["channel_values"]}
        writes: dict[str, list[tuple[str, Any]]] = {}
        for task_id, channel, value in found.pending_writes or ():
            writes.setdefault(task_id, []).append((channel, value))
        parent = found.parent_config
        yield Piece(
            _config(thread_id, ns, parent["configurable"]["checkpoint_id"] if parent else ""),
            checkpoint,
            found.metadata,
            new,
            _config(thread_id, ns, checkpoint["id"]),
            writes,
        )


def _id_and_ns(found: CheckpointTuple) -> tuple[str, str]:
    return found.checkpoint["id"], found.config["configurable"].get("checkpoint_ns") or ""


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}
