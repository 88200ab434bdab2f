"""The bytes of a record in the hot tier: a header that scripts look at, then what only travels. No I/O."""

from __future__ import annotations

from typing import Any, cast

import msgpack

from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, Typed, WriteRow


def pack_frame(row: CheckpointRow) -> bytes:
    """The record of a checkpoint."""
    refs = [part for pair in row.refs for part in pair]
    head = pack_list([row.root_id, row.depth, row.run_id, refs, row.inline])
    exact_type, exact = row.exact_metadata or ("", b"")
    return head + _pack([row.checkpoint, row.metadata, exact_type, exact])


def pack_blob(blob: BlobRow) -> bytes:
    """A typed value: the type tag, NUL, the bytes."""
    return blob.type.encode() + b"\0" + blob.data


def pack_write(write: WriteRow) -> bytes:
    """The record of a pending write."""
    head = pack_list([write.task_id, write.idx, write.channel, write.type, write.task_path])
    return head + write.data


def unpack_typed(value: bytes) -> Typed:
    """The inverse of `pack_blob`."""
    type_, _, data = value.partition(b"\0")
    return type_.decode(), data


def unpack_frame(ns: bytes, checkpoint_id: bytes, parent: bytes, frame: bytes) -> CheckpointRow:
    """The inverse of `pack_frame`."""
    unpacker = _unpacker(frame)
    root, depth, run, refs, inline = unpacker.unpack()
    checkpoint, metadata, exact_type, exact = unpacker.unpack()
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
    )


def unpack_write(ns: str, checkpoint_id: str, frame: bytes) -> WriteRow:
    """The inverse of `pack_write`."""
    unpacker = _unpacker(frame)
    task_id, idx, channel, type_, task_path = unpacker.unpack()
    return WriteRow(ns, checkpoint_id, task_id, idx, channel, type_, frame[unpacker.tell() :], task_path)


def _pack(value: Any) -> bytes:
    return cast("bytes", msgpack.packb(value))


def pack_list(value: list[Any]) -> bytes:
    """A list of strings, bytes and numbers, without the bin type that the msgpack of Redis 6.2 does not know."""
    return cast("bytes", msgpack.packb(value, use_bin_type=False))


def _unpacker(frame: bytes) -> msgpack.Unpacker:
    unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1)
    unpacker.feed(frame)
    return unpacker
