"""The bytes of a record in the hot tier: a header that scripts look at, then what only travels. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgpack

from langgraph_tiered_checkpoint.hot import fields
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, Outline, Recipe, Renaming, Unreadable, WriteRow

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
    """The record of a checkpoint; `filled`: one that Postgres has no sends of, where they are at the parent.

    Two bytes with the length of the parent's id, that id, the header that scripts look at, and a list of what only
    travels.
    """
    parent, prefix = row.parent_id.encode(), f"b{row.ns}\0"
    names = [f"{prefix}{channel}\0{version}" for channel, version in row.refs]
    old = [2 if filled else 1] if row.sends_at_parent else []
    head = pack_list([row.root_id, row.depth, row.run_id, names, row.inline, *old])
    exact_type, exact = row.exact_metadata or ("", b"")
    checkpoint = row.checkpoint
    for text, stand_in in _repeated(row.root_id, [version for _, version in row.refs]):
        checkpoint = checkpoint.replace(text, stand_in)
    body = _pack([checkpoint, row.metadata, exact_type, exact])
    return b"".join([len(parent).to_bytes(2, "big"), parent, head, body])


def _after_parent(frame: bytes) -> int:
    """Where the header begins."""
    return 2 + int.from_bytes(frame[:2], "big")


def renamed(frame: bytes, renaming: Renaming) -> bytes:
    """The record of a checkpoint for a copy of its thread."""
    unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1)
    first = _after_parent(frame)
    unpacker.feed(frame[first:])
    try:
        unpacker.skip()
        head = first + unpacker.tell()
        checkpoint, metadata, exact_type, exact = unpacker.unpack()
        found = (exact_type, exact) if exact_type else None
        of_copy = renaming.rename(metadata, found)
    except _FAULTS:  # as damaged as it was
        return frame
    if of_copy == (metadata, found):
        return frame
    return frame[:head] + _pack([checkpoint, of_copy[0], *(of_copy[1] or ("", b""))])


def _repeated(root_id: str, versions: Iterable[str]) -> Iterable[tuple[bytes, bytes]]:
    """What the JSON of a checkpoint repeats of its header, mostly versions, and what stands for it in the record."""
    return zip([b'"%b"' % text.encode() for text in dict.fromkeys([root_id, *versions])], _STAND_INS, strict=False)


def pack_blob(blob: BlobRow, tag: str) -> bytes:
    """A value that travels whole, as lua/values.lua has it: its bytes are the type, NUL, the data."""
    return b"W%b%b\0%b" % (tag.encode(), blob.type.encode(), blob.data)


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
        self._pieces: dict[tuple[bytes, int], bytes] = {}
        self._unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1)  # to make one costs more than to use it

    def checkpoint(self, ns: str, checkpoint_id: str, frame: bytes, links: bytes) -> CheckpointRow:
        """The inverse of `pack_frame`. The links, if there are any, know the parent better."""
        try:
            parent, header = self._header(ns, frame, links)
            root, depth, run, refs, inline, *old = header
            checkpoint, metadata, exact_type, exact = self._unpacker.unpack()
            for text, stand_in in _repeated(root, (version for _, version in refs)):
                checkpoint = checkpoint.replace(stand_in, text)
            return CheckpointRow(
                ns,
                checkpoint_id,
                parent,
                checkpoint,
                metadata,
                (exact_type, exact) if exact_type else None,
                refs,
                tuple(inline),
                run,
                root,
                depth,
                bool(old),
            )
        except _FAULTS as exc:
            raise Unreadable(f"checkpoint {checkpoint_id!r} of namespace {ns!r} in Redis") from exc

    def outline(self, place: bytes, head: bytes, links: bytes, *, sends: bool) -> Outline:
        """The same of a record that ends with its header. With `sends`, some wait at its parent."""
        ns, checkpoint_id = fields.split(place)
        try:
            parent, (root, depth, run, refs, *_) = self._header(ns, head, links)
        except _FAULTS as exc:
            raise Unreadable(f"checkpoint {checkpoint_id!r} of namespace {ns!r} in Redis") from exc
        return Outline(ns, checkpoint_id, parent, root, max(depth, int(sends)), run, refs)

    def _header(self, ns: str, frame: bytes, links: bytes) -> tuple[str, list[Any]]:
        first = _after_parent(frame)
        self._unpacker.feed(frame[first:])
        header = self._unpacker.unpack()
        after = len(ns) + 2  # "b", the namespace, NUL
        header[3] = tuple(_channel_and_version(name[after:]) for name in header[3])
        parent = msgpack.unpackb(links)[2] if links else frame[2:first].decode()
        return parent, header

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
        arena, size, items, length = msgpack.unpackb(recipe[_HEAD:], raw=True)
        for n, piece in zip(value[1::2], value[2::2], strict=True):
            self._pieces[arena, n] = piece
        parts: list[bytes] = []
        for item in items:
            if isinstance(item, list):
                parts += self._stretch(arena, size, *item)
            else:
                parts.append(item)
        while b"\0" not in parts[0]:  # a piece of the arena ends inside the type
            parts[:2] = [parts[0] + parts[1]]
        type_, _, parts[0] = parts[0].partition(b"\0")
        made_of = Recipe(arena.decode(), size, tuple(map(_item, items)), length)
        return BlobRow(ns, channel, version, type_.decode(), b"".join(parts), _tag(recipe), made_of)

    def _stretch(self, arena: bytes, size: int, offset: int, length: int) -> list[bytes]:
        first, begin = divmod(offset, size)
        last, end = divmod(offset + length, size)
        parts = [self._pieces[arena, n] for n in range(first, last)]
        if end:
            parts.append(self._pieces[arena, last][:end])
        if begin:
            parts[0] = parts[0][begin:]
        if sum(map(len, parts)) != length:
            raise ValueError(f"a piece of arena {arena!r} is cut short")
        return parts


def _channel_and_version(name: str) -> tuple[str, str]:
    channel, _, version = name.partition("\0")
    return channel, version


def _item(item: Any) -> bytes | tuple[int, int]:
    return (item[0], item[1]) if isinstance(item, list) else item


def _tag(value: bytes) -> str:
    return value[1:_HEAD].decode()


def _pack(value: Any) -> bytes:
    return cast("bytes", msgpack.packb(value))


def pack_list(value: list[Any]) -> bytes:
    """A list of strings, bytes and numbers, without the bin type that the msgpack of Redis 6.2 does not know."""
    return cast("bytes", msgpack.packb(value, use_bin_type=False))
