"""The bytes of a record in the hot tier: a header that scripts look at, then what only travels. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgpack

from langgraph_tiered_checkpoint.hot.known_values import Difference
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, Renaming, Unreadable, WriteRow

_HEAD = 17
"""Of a value in the hot tier: its kind and its tag."""

MOST_ALONE = 500
"""Pending writes of one call up to which each has a field of its own: a script has something to do for each field."""

_BUNDLE = 1_000
"""Pending writes in one field, at most, where there are more."""

_FAULTS = (AttributeError, LookupError, TypeError, ValueError, msgpack.UnpackException)
"""What it comes to when bytes are not what was written."""

_STAND_INS = [bytes((code,)) for code in range(32) if chr(code) not in "\t\n\r"]
"""Bytes that no JSON contains: it has to escape them."""


def pack_frame(row: CheckpointRow, *, filled: bool = False) -> bytes:
    """The record of a checkpoint; `filled`: one that Postgres has no sends of, where they are at the parent."""
    refs = [part for pair in row.refs for part in pair]
    old = [2 if filled else 1] if row.sends_at_parent else []
    head = pack_list([row.root_id, row.depth, row.run_id, refs, row.inline, *old])
    exact_type, exact = row.exact_metadata or ("", b"")
    checkpoint = row.checkpoint
    for text, stand_in in _repeated(row.root_id, refs):
        checkpoint = checkpoint.replace(text, stand_in)
    return head + _pack([checkpoint, row.metadata, exact_type, exact])


def renamed(frame: bytes, renaming: Renaming) -> bytes:
    """The record of a checkpoint for a copy of its thread."""
    unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1)
    unpacker.feed(frame)
    try:
        unpacker.skip()
        head = unpacker.tell()
        checkpoint, metadata, exact_type, exact = unpacker.unpack()
        found = (exact_type, exact) if exact_type else None
        of_copy = renaming.rename(metadata, found)
    except _FAULTS:  # as damaged as it was
        return frame
    if of_copy == (metadata, found):
        return frame
    return frame[:head] + _pack([checkpoint, of_copy[0], *(of_copy[1] or ("", b""))])


def _repeated(root_id: str, refs: list[str]) -> Iterable[tuple[bytes, bytes]]:
    """What the JSON of a checkpoint repeats of its header, mostly versions, and what stands for it in the record."""
    return zip([b'"%b"' % text.encode() for text in dict.fromkeys([root_id, *refs[1::2]])], _STAND_INS, strict=False)


def pack_blob(blob: BlobRow, tag: str) -> bytes:
    """A value that travels whole, as lua/values.lua has it: its bytes are the type, NUL, the data."""
    return b"W%b%b\0%b" % (tag.encode(), blob.type.encode(), blob.data)


def pack_difference(blob: BlobRow, found: Difference) -> bytes:
    """A value that travels as a difference, as lua/deriving.lua has it."""
    type_ = blob.type.encode() + b"\0"
    items: list[Any] = [type_]
    for item in found.items:
        if isinstance(item, bytes):
            items.append(item)
        else:
            items.append((item[0] + len(type_), item[1]))
    return b"D" + pack_list([found.version, found.tag, items])


def pack_writes(writes: Sequence[WriteRow]) -> list[tuple[int | str, bytes]]:
    """The records of pending writes of one task, each with its index; or, of many, with the first and the last one."""
    if len(writes) <= MOST_ALONE:
        return [(write.idx, _pack_write(write)) for write in writes]
    ordinary = [write for write in writes if write.idx >= 0]
    special: list[tuple[int | str, bytes]] = [(write.idx, _pack_write(write)) for write in writes if write.idx < 0]
    return special + [_pack_bundle(ordinary[i : i + _BUNDLE]) for i in range(0, len(ordinary), _BUNDLE)]


def _pack_write(write: WriteRow) -> bytes:
    head = pack_list([write.task_id, write.idx, write.channel, write.type, write.task_path])
    return head + write.data


def _pack_bundle(writes: Sequence[WriteRow]) -> tuple[str, bytes]:
    name = f"{writes[0].idx}-{writes[-1].idx}"
    channels = list(dict.fromkeys(write.channel for write in writes))
    return name, pack_list([writes[0].task_id, name, channels]) + _pack([write[3:] for write in writes])


class Parts:
    """The records and values of one reply, taken in its order.

    The pieces of an arena come with the first value that is made of them. `known` are values by channel that the caller
    has said it has.
    """

    def __init__(self, known: Mapping[str, BlobRow] | None = None) -> None:
        self._known = known or {}
        self._pieces: dict[tuple[int, int], bytes] = {}
        self._unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1)  # to make one costs more than to use it

    def checkpoint(self, ns: bytes, checkpoint_id: bytes, parent: bytes, frame: bytes) -> CheckpointRow:
        """The inverse of `pack_frame`."""
        try:
            self._unpacker.feed(frame)
            root, depth, run, refs, inline, *old = self._unpacker.unpack()
            checkpoint, metadata, exact_type, exact = self._unpacker.unpack()
            for text, stand_in in _repeated(root, refs):
                checkpoint = checkpoint.replace(stand_in, text)
            return CheckpointRow(
                ns.decode(),
                checkpoint_id.decode(),
                parent.decode(),
                checkpoint,
                metadata,
                (exact_type, exact) if exact_type else None,
                tuple(zip(refs[::2], refs[1::2], strict=True)),
                tuple(inline),
                run,
                root,
                depth,
                bool(old),
            )
        except _FAULTS as exc:
            raise Unreadable(f"checkpoint {_shown(checkpoint_id)} of namespace {_shown(ns)} in Redis") from exc

    def writes(self, ns: str, checkpoint_id: str, frames: Iterable[bytes]) -> list[WriteRow]:
        """The inverse of `pack_writes`, of one checkpoint's pending writes in the order in which they came.

        Scripts do not look into bundles, so the first write of a task and index wins here.
        """
        rows: list[WriteRow] = []
        bundled = False
        try:
            for frame in frames:
                stop = self._unpacker.tell() + len(frame)
                self._unpacker.feed(frame)
                task_id, idx, *rest = self._unpacker.unpack()
                if isinstance(idx, str):
                    bundled = True
                    rows += [WriteRow(ns, checkpoint_id, task_id, *write) for write in self._unpacker.unpack()]
                else:
                    channel, type_, task_path = rest
                    data = self._unpacker.read_bytes(stop - self._unpacker.tell())
                    rows.append(WriteRow(ns, checkpoint_id, task_id, idx, channel, type_, data, task_path))
        except _FAULTS as exc:
            raise Unreadable(f"a pending write of checkpoint {checkpoint_id!r}, namespace {ns!r}, in Redis") from exc
        return list({(row.task_id, row.idx): row for row in reversed(rows)}.values())[::-1] if bundled else rows

    def blob(self, ns: str, channel: str, version: str, value: Any) -> BlobRow:
        """A value that lua/delivering.lua has given, whole or with pieces of its arena."""
        try:
            return self._blob(ns, channel, version, value)
        except _FAULTS as exc:
            raise Unreadable(f"channel {channel!r}, version {version!r}, namespace {ns!r}, in Redis") from exc

    def _blob(self, ns: str, channel: str, version: str, value: Any) -> BlobRow:
        if value == 1:
            return self._known[channel]
        if isinstance(value, bytes):
            stop = value.index(b"\0", _HEAD)
            return BlobRow(ns, channel, version, value[_HEAD:stop].decode(), value[stop + 1 :], _tag(value))
        recipe = value[0]
        number, size, items = msgpack.unpackb(recipe[_HEAD:], raw=True)
        for n, piece in zip(value[1::2], value[2::2], strict=True):
            self._pieces[number, n] = piece
        parts: list[bytes] = []
        for item in items:
            if isinstance(item, list):
                parts += self._stretch(number, size, *item)
            else:
                parts.append(item)
        while b"\0" not in parts[0]:  # a piece of the arena ends inside the type
            parts[:2] = [parts[0] + parts[1]]
        type_, _, parts[0] = parts[0].partition(b"\0")
        return BlobRow(ns, channel, version, type_.decode(), b"".join(parts), _tag(recipe))

    def _stretch(self, number: int, size: int, offset: int, length: int) -> list[bytes]:
        first, begin = divmod(offset, size)
        last, end = divmod(offset + length, size)
        parts = [self._pieces[number, n] for n in range(first, last)]
        if end:
            parts.append(self._pieces[number, last][:end])
        if begin:
            parts[0] = parts[0][begin:]
        if sum(map(len, parts)) != length:
            raise ValueError(f"a piece of arena {number} is cut short")
        return parts


def _shown(text: bytes) -> str:
    return repr(text.decode(errors="replace"))


def _tag(value: bytes) -> str:
    return value[1:_HEAD].decode()


def _pack(value: Any) -> bytes:
    return cast("bytes", msgpack.packb(value))


def pack_list(value: list[Any]) -> bytes:
    """A list of strings, bytes and numbers, without the bin type that the msgpack of Redis 6.2 does not know."""
    return cast("bytes", msgpack.packb(value, use_bin_type=False))
