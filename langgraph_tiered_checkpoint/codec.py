"""Checkpoints, metadata and pending writes <-> rows in wire form. The only module that calls the serde. No I/O.

The JSON of a checkpoint is what `langgraph-checkpoint-postgres` stores: primitives of `channel_values` inline,
everything else in blobs keyed by channel and version. A value is inline only if Postgres' `jsonb` gives it back
exactly, and only under LangGraph's plain serde: any other one may be there to keep the value from being read, so that
all its values go to blobs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

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
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import INTERRUPT, TASKS, _DeltaSnapshot

from langgraph_tiered_checkpoint.arguments import check_flag, wrong
from langgraph_tiered_checkpoint.errors import (
    ConfigurationError,
    InvalidThreadError,
    UnserializableError,
    ValueTooLargeError,
)
from langgraph_tiered_checkpoint.ids import CheckpointKey
from langgraph_tiered_checkpoint.records import (
    BlobRow,
    CheckpointRow,
    DeltaAncestor,
    StoredCheckpoint,
    Typed,
    Unreadable,
    UnreadableValue,
    WriteRow,
)

_NOT_STORED = "Nothing of this call was stored; what the run has stored before stays, and it can go on from there"

_dump_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


MOST_BYTES: Final = 512 * 1024 * 1024
"""Of one value: Redis's proto-max-bulk-len, as it is by default."""


class EncodedCheckpoint(NamedTuple):
    """A checkpoint ready to be stored."""

    row: CheckpointRow
    blobs: list[BlobRow]
    expected: list[int]
    """Positions in `row.refs` of values that the checkpoint has but `new_versions` did not name: stored earlier."""
    inline: dict[str, str]
    """Versions, as text, of the channels whose value is inline and nowhere else."""
    stored: frozenset[tuple[str, str]]
    """(channel, version as text) of the values that it has in blobs."""


class Codec:
    """Encodes with one serde. Cheap to make; holds no state of its own."""

    def __init__(self, serde: SerializerProtocol, *, inline: bool | None = None) -> None:
        self.serde = serde
        self._inline = type(serde) is JsonPlusSerializer if inline is None else inline

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
            elif self._inline and inlines(value):
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
            sends_at_parent=sends_at_parent(checkpoint),
        )
        expected = [i for i, (c, _) in enumerate(refs) if c in stored and c not in new_versions]
        alone = {c: str(versions[c]) for c in inline if c in versions and c not in stored}
        return EncodedCheckpoint(row, blobs, expected, alone, frozenset(ref for ref in refs if ref[0] in stored))

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

    def decode_tuple(
        self,
        thread_id: str,
        stored: StoredCheckpoint,
        sends: Sequence[Typed] = (),
        channels: Collection[str] | None = None,
    ) -> CheckpointTuple:
        """Rebuild a checkpoint tuple of fresh objects.

        Args:
            thread_id: the id that the caller knows the thread by.
            stored: rows from either tier.
            sends: pending sends of the parent, for checkpoints older than format v4.
            channels: the only ones whose values are wanted; None for all.
        """
        row = stored.row
        checkpoint = _parsed(row.checkpoint, row)
        values = checkpoint.setdefault("channel_values", {})
        if channels is not None:
            values = checkpoint["channel_values"] = {c: value for c, value in values.items() if c in channels}
        for blob in stored.blobs:
            if blob.type != "empty" and (channels is None or blob.channel in channels):
                values[blob.channel] = self._loads((blob.type, blob.data), "channel", blob.channel, row.checkpoint_id)
        if sends:
            versions = checkpoint["channel_versions"]
            values[TASKS] = [self._loads(send, "channel", TASKS, row.checkpoint_id) for send in sends]
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
        if exact:
            return cast("CheckpointMetadata", self._loads(exact, "the metadata", "", row.checkpoint_id))
        return cast("CheckpointMetadata", _parsed(row.metadata, row))

    def decode_writes(self, writes: Iterable[WriteRow]) -> list[PendingWrite]:
        """Pending writes in `writes_sort_key` order."""
        ordered = sorted(writes, key=lambda w: writes_sort_key(w.task_path, w.task_id, w.idx))
        return [
            (w.task_id, w.channel, self._loads((w.type, w.data), "the pending write to", w.channel, w.checkpoint_id))
            for w in ordered
        ]

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
                    seeds[channel] = (
                        json.loads(typed[1])
                        if typed[0] == "json"
                        else self._loads(typed, "channel", channel, ancestor.checkpoint_id)
                    )
        history: dict[str, DeltaChannelHistory] = {}
        for channel in channels:
            history[channel] = {"writes": collected[channel][::-1]}
            if channel in seeds:
                history[channel]["seed"] = seeds[channel]
        return history

    def rename(self, was: str, key: CheckpointKey, metadata: bytes, exact: Typed | None) -> tuple[bytes, Typed | None]:
        """The metadata of a copy, plain and exact: with the thread id of `key` where that of its source `was`.

        What names no thread, or another one, is given back as it came; so is what the serde cannot read.
        """
        try:
            found = self.serde.loads_typed(exact) if exact else json.loads(metadata)
        except Exception:  # noqa: BLE001 - it is copied as it is
            return metadata, exact
        if not isinstance(found, dict) or found.get("thread_id") != was:
            return metadata, exact
        return self._encode_metadata(key, cast("CheckpointMetadata", {**found, "thread_id": key.thread_id}))

    def _encode_metadata(self, key: CheckpointKey, metadata: CheckpointMetadata) -> tuple[bytes, Typed | None]:
        if exact_in_json(metadata):
            return _json(key, "the metadata", metadata), None
        return _dump_json(projection(metadata)).encode(), self._dumps(key, "the metadata", metadata)

    def _loads(self, typed: Typed, what: str, name: str, checkpoint_id: str) -> Any:
        try:
            return self.serde.loads_typed(typed)
        except Exception as exc:
            raise UnreadableValue(f"{what} {name!r} of checkpoint {checkpoint_id!r}") from exc

    def _as_json(self, value: Any) -> bytes | None:
        """What LangGraph's serde cannot write, and reads all the same: integers of more than 64 bits, above all."""
        if type(self.serde) is not JsonPlusSerializer:
            return None
        try:
            data = _dump_json(value).encode() if exact_in_json(value) else None
            return data if data is not None and self.serde.loads_typed(("json", data)) == value else None
        except Exception:  # noqa: BLE001 - then it is not carried
            return None

    def _dumps(self, key: CheckpointKey, what: str, value: Any) -> Typed:
        try:
            type_, data = self.serde.dumps_typed(value)
        except Exception as exc:
            as_json = self._as_json(value)
            if as_json is not None:
                return "json", as_json
            raise UnserializableError(
                f"thread {key.thread_id!r}: {what} holds a {type(value).__name__} that the serde cannot carry ({exc}). "
                f"{_NOT_STORED}. Store something serializable instead, or pass a serde that carries it"
            ) from exc
        if len(data) > MOST_BYTES:
            raise ValueTooLargeError(
                f"thread {key.thread_id!r}: {what} is {len(data):,} bytes long, and Redis takes {MOST_BYTES:,} as one "
                f"value. {_NOT_STORED}. Keep large values elsewhere, and their names in the state"
            )
        if "\0" in type_:
            raise UnserializableError(f"thread {key.thread_id!r}: the serde's type tag {type_!r} contains NUL")
        return type_, bytes(data)


def check_serde(serde: object, *, inline: object) -> None:
    """Make sure of what a saver is to serialize with; None stands for LangGraph's own.

    Raises:
        ConfigurationError: a class in place of an instance, or something without the methods of a serializer; or values
            are to be encrypted, and to be in clear.
    """
    if inline is not None:
        check_flag("inline", inline)
    if inline and isinstance(serde, EncryptedSerializer):
        raise ConfigurationError("inline=True would leave values in clear that the EncryptedSerializer is to encrypt")
    methods = (("dumps_typed", "loads_typed"), ("dumps", "loads"))
    fits = any(all(callable(getattr(serde, name, None)) for name in pair) for pair in methods)
    if serde is not None and (isinstance(serde, type) or not fits):
        raise wrong("serde", serde, "an object with dumps_typed and loads_typed; None takes LangGraph's")


def inline_versions(stored: StoredCheckpoint, checkpoint: Checkpoint) -> dict[str, str]:
    """Versions, as text, of the channels whose value is inline in a stored checkpoint, and nowhere else."""
    if not stored.row.inline:
        return {}
    elsewhere = {blob.channel for blob in stored.blobs}
    versions = checkpoint["channel_versions"]
    return {c: str(versions[c]) for c in stored.row.inline if c in versions and c not in elsewhere}


def delta_depth(metadata: Mapping[str, Any]) -> int:
    """How many ancestors the delta channels of a checkpoint may need: the largest superstep count."""
    counters = metadata.get("counters_since_delta_snapshot") or {}
    return max((int(supersteps) for _, supersteps in counters.values()), default=0)


def sends_at_parent(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of a format before v4, in which pending sends are writes of the parent."""
    try:
        return float(checkpoint.get("v") or 1) < 4
    except (TypeError, ValueError):
        return False


def interrupts(writes: Iterable[WriteRow]) -> bool:
    """Whether the writes say that the run stopped at `interrupt()`."""
    return any(write.channel == INTERRUPT for write in writes)


def matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Whether the metadata has every wanted value, by Python equality. A missing key equals None."""
    return not wanted or all(metadata.get(name) == value for name, value in wanted.items())


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def _parsed(text: bytes, row: CheckpointRow) -> Any:
    """The object that a record's JSON holds."""
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise Unreadable(f"checkpoint {row.checkpoint_id!r} of namespace {row.ns!r}") from exc
    if not isinstance(found, dict):
        raise Unreadable(f"checkpoint {row.checkpoint_id!r} of namespace {row.ns!r}")
    return found


def _json(key: CheckpointKey, what: str, value: Any) -> bytes:
    try:
        text = _dump_json(value)
        encoded = text.encode()
    except (TypeError, ValueError) as exc:
        raise UnserializableError(
            f"thread {key.thread_id!r}: {what} cannot be written as JSON ({exc}). {_NOT_STORED}"
        ) from exc
    if "\\u0000" in text and not exact_in_json(value):
        raise InvalidThreadError(
            f"thread {key.thread_id!r}: a name in {what} contains NUL, which Postgres cannot store"
        )
    return encoded


INLINE_CHARS = 256
"""Longer strings are shared between checkpoints as blobs instead of being repeated in each."""

_INLINE_INT = 10**300

_COMPARABLE = 1e15
"""The largest numbers that metadata are searched for in Postgres."""


def inlines(value: Any) -> bool:
    """Whether a channel's value stays in the checkpoint's JSON: a primitive that is short and exact there."""
    kind = type(value)
    if kind in (dict, list, tuple) or (kind is str and len(value) > INLINE_CHARS):
        return False
    return exact_in_json(value)


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


def exact_in_json(value: Any) -> bool:
    """Whether `jsonb` gives back this very value; tuples count as the lists that they come back as."""
    kind = type(value)
    if kind is dict:
        return all(type(k) is str and _exact_str(k) and exact_in_json(v) for k, v in value.items())
    if kind in (list, tuple):
        return all(map(exact_in_json, value))
    if kind is str:
        return _exact_str(value)
    if kind is int:
        return bool(-_INLINE_INT < value < _INLINE_INT)
    if kind is float:
        return _exact_float(value)
    return value is None or kind is bool


def projection(value: Any) -> Any:
    """The nearest JSON that `jsonb` takes, for readers that know only the plain metadata column."""
    if isinstance(value, Mapping):
        return {_clean(str(k)): projection(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [projection(v) for v in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _clean(str(value))


def _clean(text: str) -> str:
    return text.replace("\0", "").encode(errors="replace").decode()


def path_of(wanted: Mapping[Any, Any]) -> str | None:
    """A jsonpath that is true of all metadata in plain JSON that have these values by Python's equality; None for none.

    It may be true of others, too: what `jsonb` cannot tell as Python does, it leaves out.
    """
    terms = (_term(f"$.{_literal(name)}", value) for name, value in wanted.items() if _has_literal(name))
    return " && ".join(term for term in terms if term) or None


def _term(at: str, value: Any) -> str | None:
    """What can be said of one value; a missing name is as good as None."""
    if value is None:
        return f"(!exists({at}) || {at} == null)"
    if _has_literal(value):
        return f"{at} == {_literal(value)}"
    if type(value) not in (bool, int, float) or not abs(value) <= _COMPARABLE:
        return None
    # 1 equals 1.0 and True, and a decimal of many digits what it is nearest to.
    about = abs(value) * 1e-9 + 1e-9
    same = f"{at} >= {value - about:.12f} && {at} <= {value + about:.12f}"
    return f"({same} || {at} == {str(bool(value)).lower()})" if value in (0, 1) else f"({same})"


def _has_literal(value: Any) -> bool:
    """Whether it is text that a database of any encoding takes."""
    return type(value) is str and value.isascii() and "\0" not in value


def _literal(text: str) -> str:
    return json.dumps(text)
