"""Checkpoints, metadata and pending writes <-> rows in wire form. The only module that calls the serde. No I/O.

The JSON of a checkpoint is what `langgraph-checkpoint-postgres` stores: primitives of `channel_values` inline,
everything else in blobs keyed by channel and version. A value is inline only if Postgres' `jsonb` gives it back
exactly; other values, and all values under an `EncryptedSerializer`, go to blobs.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_serializable_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import INTERRUPT, TASKS, _DeltaSnapshot

from langgraph_tiered_checkpoint.errors import InvalidThreadError, UnserializableError
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, DeltaAncestor, StoredCheckpoint, Typed, WriteRow

MAX_THREAD_ID_BYTES = 1_000
MAX_KEY_BYTES = 2_600
"""Sum of a row's key columns: beyond it Postgres' B-tree refuses the row."""

INLINE_CHARS = 256
"""Longer strings are shared between checkpoints as blobs instead of being repeated in each."""

_dump_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_INLINE_INT = 10**300
_UUID6_EPOCH_100NS = 0x01B21DD213814000


class EncodedCheckpoint(NamedTuple):
    """A checkpoint ready to be stored."""

    row: CheckpointRow
    blobs: list[BlobRow]
    expected: list[int]
    """Positions in `row.refs` of values that the checkpoint has but `new_versions` did not name: stored earlier."""


class Codec:
    """Encodes with one serde. Cheap to make; holds no state of its own."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self.serde = serde
        self._inline = not isinstance(serde, EncryptedSerializer)

    def encode_checkpoint(
        self,
        config: RunnableConfig,
        key: CheckpointKey,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> EncodedCheckpoint:
        """Encode what `put` was given.

        Raises:
            UnserializableError: a value that neither JSON nor the serde carries.
            InvalidThreadError: a channel or version that Postgres could not key.
        """
        versions: dict[str, Any] = {**checkpoint["channel_versions"], **new_versions}
        inline: dict[str, Any] = {}
        stored: set[str] = set()
        blobs: list[BlobRow] = []
        for channel, value in checkpoint["channel_values"].items():
            if isinstance(value, _DeltaSnapshot):
                inline[channel] = True
            elif self._inline and _inlines(value):
                inline[channel] = value
                continue
            if channel not in versions:
                continue
            stored.add(channel)
            if channel in new_versions:
                blobs.append(self.encode_blob(key, channel, versions[channel], value))
        body = {**checkpoint, "channel_values": inline}
        serializable = get_serializable_checkpoint_metadata(config, metadata)
        metadata_json, exact = self._encode_metadata(key, serializable)
        refs = tuple((c, str(v)) for c, v in versions.items() if c not in inline or c in stored)
        key.check_all(refs)
        parents = serializable.get("parents") or {}
        row = CheckpointRow(
            ns=key.ns,
            checkpoint_id=key.checkpoint_id,
            parent_id=key.parent_id,
            checkpoint=_json(key, "the checkpoint", body),
            metadata=metadata_json,
            exact_metadata=exact,
            refs=refs,
            inline=tuple(inline),
            run_id=str(serializable.get("run_id") or ""),
            root_id=str(parents.get("", "")) if key.ns else key.checkpoint_id,
            depth=delta_depth(serializable),
        )
        expected = [i for i, (c, _) in enumerate(refs) if c in stored and c not in new_versions]
        return EncodedCheckpoint(row, blobs, expected)

    def encode_blob(self, key: CheckpointKey, channel: str, version: Any, value: Any) -> BlobRow:
        """Serialize one channel's value.

        Raises:
            UnserializableError: the serde refuses it.
        """
        return BlobRow(key.ns, channel, str(version), *self._dumps(key, f"channel {channel!r}", value))

    def encode_writes(
        self, key: CheckpointKey, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> list[WriteRow]:
        """Encode what `put_writes` was given. Special channels take their negative index.

        Raises:
            UnserializableError: the serde refuses a value.
        """
        if "\0" in task_path:
            raise InvalidThreadError(f"thread {key.thread_id!r}: task_path {task_path!r} contains NUL")
        key.check_all([(task_id, ""), *((channel, "") for channel, _ in writes)])
        rows = []
        for position, (channel, value) in enumerate(writes):
            typed = self._dumps(key, f"the write to {channel!r} of task {task_id!r}", value)
            idx = WRITES_IDX_MAP.get(channel, position)
            rows.append(WriteRow(key.ns, key.checkpoint_id, task_id, idx, channel, *typed, task_path))
        return rows

    def decode_tuple(self, thread_id: str, stored: StoredCheckpoint, sends: Sequence[Typed] = ()) -> CheckpointTuple:
        """Rebuild a checkpoint tuple of fresh objects.

        Args:
            thread_id: the id that the caller knows the thread by.
            stored: rows from either tier.
            sends: pending sends of the parent, for checkpoints older than format v4.
        """
        row = stored.row
        checkpoint = json.loads(row.checkpoint)
        values = checkpoint.setdefault("channel_values", {})
        for blob in stored.blobs:
            if blob.type != "empty":
                values[blob.channel] = self.serde.loads_typed((blob.type, blob.data))
        if sends:
            versions = checkpoint["channel_versions"]
            values[TASKS] = [self.serde.loads_typed(send) for send in sends]
            versions[TASKS] = max(versions.values()) if versions else f"{1:032}.{0:016}"
        return CheckpointTuple(
            config=_config(thread_id, row.ns, row.checkpoint_id),
            checkpoint=checkpoint,
            metadata=self.decode_metadata(row),
            parent_config=_config(thread_id, row.ns, row.parent_id) if row.parent_id else None,
            pending_writes=self.decode_writes(stored.writes),
        )

    def decode_metadata(self, row: CheckpointRow) -> CheckpointMetadata:
        """The metadata as it was put."""
        exact = row.exact_metadata
        return cast("CheckpointMetadata", self.serde.loads_typed(exact) if exact else json.loads(row.metadata))

    def decode_writes(self, writes: Iterable[WriteRow]) -> list[PendingWrite]:
        """Pending writes in `writes_sort_key` order."""
        ordered = sorted(writes, key=lambda w: writes_sort_key(w.task_path, w.task_id, w.idx))
        return [(w.task_id, w.channel, self.serde.loads_typed((w.type, w.data))) for w in ordered]

    def decode_delta_history(
        self, channels: Sequence[str], ancestors: Iterable[DeltaAncestor]
    ) -> dict[str, DeltaChannelHistory]:
        """Per channel: the writes from its seed to the target, oldest first, and the seed if there is one."""
        collected: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
        seeds: dict[str, Any] = {}
        for ancestor in ancestors:
            for write in reversed(self.decode_writes(w for w in ancestor.writes if w.channel in collected)):
                if write[1] not in seeds:
                    collected[write[1]].append(write)
            for channel, typed in ancestor.seeds.items():
                if channel in collected and channel not in seeds:
                    seeds[channel] = json.loads(typed[1]) if typed[0] == "json" else self.serde.loads_typed(typed)
        history: dict[str, DeltaChannelHistory] = {}
        for channel in channels:
            history[channel] = {"writes": collected[channel][::-1]}
            if channel in seeds:
                history[channel]["seed"] = seeds[channel]
        return history

    def _encode_metadata(self, key: CheckpointKey, metadata: CheckpointMetadata) -> tuple[bytes, Typed | None]:
        if _exact_in_json(metadata):
            return _json(key, "the metadata", metadata), None
        return _dump_json(_projection(metadata)).encode(), self._dumps(key, "the metadata", metadata)

    def _dumps(self, key: CheckpointKey, what: str, value: Any) -> Typed:
        try:
            type_, data = self.serde.dumps_typed(value)
        except Exception as exc:
            raise UnserializableError(
                f"thread {key.thread_id!r}: {what} holds a {type(value).__name__} that the serde cannot carry ({exc}). "
                "Nothing was stored. Store something serializable instead, or pass a serde that carries it"
            ) from exc
        if "\0" in type_:
            raise UnserializableError(f"thread {key.thread_id!r}: the serde's type tag {type_!r} contains NUL")
        return type_, bytes(data)


class CheckpointKey(NamedTuple):
    """Which checkpoint a call is about, checked against what both tiers can key."""

    thread_id: str
    ns: str
    checkpoint_id: str
    parent_id: str

    @classmethod
    def of(cls, thread_id: str, ns: str, checkpoint_id: str, parent_id: str = "") -> CheckpointKey:
        """Check and build.

        Raises:
            InvalidThreadError: a part contains NUL or a lone surrogate, or the parts are too long together.
        """
        key = cls(thread_id, ns, checkpoint_id, parent_id)
        if not checkpoint_id:
            raise InvalidThreadError(f"thread {thread_id!r}: checkpoint_id must be a non-empty string")
        check_text(thread_id, "checkpoint_id", checkpoint_id)
        together = "".join(key)
        if not together.isascii() or "\0" in together or len(together) > MAX_KEY_BYTES:
            key.check()
            check_text(thread_id, "checkpoint_id", parent_id)
        return key

    def check(self, *parts: str) -> None:
        """Check the key columns of a row of this checkpoint.

        Raises:
            InvalidThreadError: see `of`.
        """
        total = sum(check_text(self.thread_id, "a key", part) for part in (*self[:3], *parts))
        if total > MAX_KEY_BYTES:
            raise InvalidThreadError(
                f"thread {self.thread_id[:80]!r}: thread id, namespace and names come to {total} bytes together, "
                f"more than the {MAX_KEY_BYTES} that a Postgres index takes. Shorten the thread id or the node names"
            )

    def check_all(self, rows: Sequence[tuple[str, str]]) -> None:
        """`check` every row, at little cost where all of them together are short enough for one.

        Raises:
            InvalidThreadError: see `of`.
        """
        try:
            together = "".join([part for row in rows for part in row])
        except TypeError:  # something is no string, which is told below
            together = "\0"
        longest = len(together) + 4 * sum(map(len, self[:3]))
        if longest > MAX_KEY_BYTES or not together.isascii() or "\0" in together:
            for row in rows:
                self.check(*row)


def check_text(thread_id: object, what: str, text: str) -> int:
    """The length of `text` in UTF-8 bytes.

    Raises:
        InvalidThreadError: not a string, or one that Postgres cannot store.
    """
    if not isinstance(text, str):
        raise InvalidThreadError(f"thread {thread_id!r}: {what} must be a string, not {type(text).__name__}")
    if "\0" in text:
        raise InvalidThreadError(f"thread {thread_id!r}: {what} {text!r} contains NUL, which Postgres cannot store")
    if text.startswith("\U0010ffff"):
        raise InvalidThreadError(f"thread {thread_id!r}: {what} {text!r} begins with U+10FFFF, which is reserved")
    try:
        return len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as exc:
        raise InvalidThreadError(f"thread {thread_id!r}: {what} {text!r} is not valid unicode") from exc


def check_thread_id(thread_id: object) -> str:
    """The thread id as a string, as LangGraph makes it.

    Raises:
        InvalidThreadError: missing, empty, too long, or not storable.
    """
    if thread_id is None or thread_id == "":
        raise InvalidThreadError(
            'a checkpointer needs a non-empty thread id: pass config={"configurable": {"thread_id": "..."}}'
        )
    text = str(thread_id)
    size = check_text(text, "the thread id", text)
    if size > MAX_THREAD_ID_BYTES:
        raise InvalidThreadError(
            f"thread {text[:80]!r}...: the thread id is {size} bytes long, more than {MAX_THREAD_ID_BYTES}; "
            "use a hash of it"
        )
    return text


def uuid6_time_ms(checkpoint_id: str) -> float:
    """Unix time in ms inside a version-6 UUID (RFC 9562); 0 for any other id."""
    try:
        parsed = uuid.UUID(checkpoint_id)
    except ValueError:
        return 0
    if parsed.version != 6:
        return 0
    ticks = ((parsed.int >> 80) << 12) | ((parsed.int >> 64) & 0xFFF)
    return max(0, ticks - _UUID6_EPOCH_100NS) / 10_000


def delta_depth(metadata: Mapping[str, Any]) -> int:
    """How many ancestors the delta channels of a checkpoint may need: the largest superstep count."""
    counters = metadata.get("counters_since_delta_snapshot") or {}
    return max((int(supersteps) for _, supersteps in counters.values()), default=0)


def interrupts(writes: Iterable[WriteRow]) -> bool:
    """Whether the writes say that the run stopped at `interrupt()`."""
    return any(write.channel == INTERRUPT for write in writes)


def matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Whether the metadata has every wanted value, by Python equality. A missing key equals None."""
    return not wanted or all(metadata.get(name) == value for name, value in wanted.items())


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def _inlines(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= INLINE_CHARS and _exact_str(value)
    if kind is int:
        return bool(-_INLINE_INT < value < _INLINE_INT)
    if kind is float:
        return _exact_float(value)
    return value is None or kind is bool


def _exact_str(text: str) -> bool:
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _exact_float(value: float) -> bool:
    """Whether `jsonb`, which keeps numbers as decimals, gives back this very float."""
    if not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
        return False
    return "e" not in repr(value)


def _exact_in_json(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return all(type(k) is str and _exact_str(k) and _exact_in_json(v) for k, v in value.items())
    if kind in (list, tuple):
        return all(map(_exact_in_json, value))
    if kind is str:
        return _exact_str(value)
    if kind is int:
        return bool(-_INLINE_INT < value < _INLINE_INT)
    if kind is float:
        return _exact_float(value)
    return value is None or kind is bool


def _projection(value: Any) -> Any:
    """The nearest JSON that `jsonb` takes, for readers that know only the plain metadata column."""
    if isinstance(value, Mapping):
        return {_clean(str(k)): _projection(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_projection(v) for v in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _clean(str(value))


def _clean(text: str) -> str:
    return text.replace("\0", "").encode(errors="replace").decode()


def _json(key: CheckpointKey, what: str, value: Any) -> bytes:
    try:
        text = _dump_json(value)
        encoded = text.encode()
    except (TypeError, ValueError) as exc:
        raise UnserializableError(
            f"thread {key.thread_id!r}: {what} cannot be written as JSON ({exc}). Nothing was stored"
        ) from exc
    if "\\u0000" in text and not _exact_in_json(value):
        raise InvalidThreadError(
            f"thread {key.thread_id!r}: a name in {what} contains NUL, which Postgres cannot store"
        )
    return encoded
