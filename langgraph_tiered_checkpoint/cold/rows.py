"""How rows of the official tables become records. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from langgraph.checkpoint.serde.types import TASKS

from langgraph_tiered_checkpoint.codec import delta_depth, sends_at_parent
from langgraph_tiered_checkpoint.cold.segments import WriteColumns
from langgraph_tiered_checkpoint.records import CheckpointRow, Typed, Unreadable, WriteRow

_Write = TypeVar("_Write", WriteRow, WriteColumns)
_EXACT = json.JSONDecoder(parse_int=str, parse_float=str)


def versions_of(checkpoint_json: str) -> dict[str, str]:
    """The version of each channel, as it is a key of `checkpoint_blobs`."""
    versions = _EXACT.decode(checkpoint_json).get("channel_versions") or {}
    return {channel: str(version) for channel, version in versions.items()}


def describe(
    ns: str, checkpoint_id: str, parent_id: str, checkpoint_json: str, metadata_json: str, exact: Typed | None
) -> CheckpointRow:
    """A row of `checkpoints` as a record. Numbers keep the text that `jsonb` gives them, as versions are keys."""
    try:
        return _describe(ns, checkpoint_id, parent_id, checkpoint_json, metadata_json, exact)
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise Unreadable(f"checkpoint {checkpoint_id!r} of namespace {ns!r} in Postgres") from exc


def _describe(
    ns: str, checkpoint_id: str, parent_id: str, checkpoint_json: str, metadata_json: str, exact: Typed | None
) -> CheckpointRow:
    checkpoint = _EXACT.decode(checkpoint_json)
    metadata = json.loads(metadata_json)
    values = checkpoint.get("channel_values") or {}
    versions = checkpoint.get("channel_versions") or {}
    parents = metadata.get("parents") or {}
    return CheckpointRow(
        ns=ns,
        checkpoint_id=checkpoint_id,
        parent_id=parent_id,
        checkpoint=checkpoint_json.encode(),
        metadata=metadata_json.encode(),
        exact_metadata=exact,
        # An inline `true` may be the marker of a delta snapshot, whose value is a blob.
        refs=tuple((channel, str(v)) for channel, v in versions.items() if values.get(channel, True) is True),
        inline=tuple(values),
        run_id=str(metadata.get("run_id") or ""),
        root_id=str(parents.get("", "")) if ns else checkpoint_id,
        depth=delta_depth(metadata),
        sends_at_parent=sends_at_parent(checkpoint),
    )


def sends_among(writes: Iterable[WriteRow]) -> list[Typed]:
    """The pending sends among the writes of a checkpoint, in order."""
    return ordered([(w.task_path, w.task_id, w.idx, w.type, w.data) for w in writes if w.channel == TASKS])


def ordered(sends: list[tuple[Any, ...]]) -> list[Typed]:
    """The values of rows (task path, task id, idx, type, data), in that order."""
    return [(type_, data) for *_, type_, data in sorted(sends, key=lambda send: send[:3])]


def merge_writes(earlier: Iterable[_Write], later: Iterable[_Write]) -> list[_Write]:
    """Pending writes of one checkpoint from two places: the first wins for idx >= 0, the last for idx < 0."""
    merged = {(w.task_id, w.idx): w for w in earlier}
    for write in later:
        key = (write.task_id, write.idx)
        if write.idx < 0 or key not in merged:
            merged[key] = write
    return list(merged.values())
