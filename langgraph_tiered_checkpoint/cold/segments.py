"""What a segment of the archive is, and how checkpoints are found in one. No I/O.

A segment has two parts. The *frame* is all that its checkpoints hold: JSON, metadata and pending writes, and then the
values of each channel, all in the order of the checkpoints. Of a value that follows another one of its channel only
what is new goes there, and the whole is compressed as one, with long-distance matching. The *contents* say what lies
where, compressed by themselves, so that whoever asks only which checkpoints there are need not read the values. Each
part begins with a byte for the format and four for its length when it is not compressed, which is looked at before
anything is made of it.

The binding is the one that Python has from 3.14 on, and its backport: one API, and some day no package at all.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack

from langgraph_tiered_checkpoint.errors import DEFECTS, DamagedThreadError
from langgraph_tiered_checkpoint.records import Outline

if TYPE_CHECKING:
    from types import ModuleType

Place = tuple[str, str]
"""(namespace, checkpoint id)"""

Piece = bytes | list[int]
"""Some bytes, or offset and length in a stretch of the frame."""

FULL_BYTES: Final = 32 * 1024 * 1024
"""A segment takes no more once it has this much, before it is compressed; nor ever a checkpoint that alone has more."""
FULL_CHECKPOINTS: Final = 512
ENTRY_BYTES: Final = 100
"""What naming something takes in the contents, about, beside its names."""

_MOST_BYTES = 2 * FULL_BYTES
_LEAST_WINDOW_LOG = 10
_VERSION = 1
_HEADER = struct.Struct("!BI")


class CheckpointColumns(NamedTuple):
    """A row of `checkpoints` as it stands there."""

    ns: str
    checkpoint_id: str
    parent_id: str | None
    type: str | None
    checkpoint: str
    metadata: str
    exact_type: str | None
    exact: bytes | None
    sha256: bytes | None


class BlobColumns(NamedTuple):
    """A row of `checkpoint_blobs` as it stands there."""

    ns: str
    channel: str
    version: str
    type: str
    data: bytes | None


class WriteColumns(NamedTuple):
    """A row of `checkpoint_writes` as it stands there."""

    ns: str
    checkpoint_id: str
    task_id: str
    idx: int
    channel: str
    type: str | None
    data: bytes
    task_path: str


class Entry(NamedTuple):
    """A checkpoint with all that it needs."""

    outline: Outline
    row: CheckpointColumns
    blobs: list[BlobColumns]
    writes: list[WriteColumns]

    @property
    def place(self) -> Place:
        """Where it stands in its thread."""
        return self.row.ns, self.row.checkpoint_id

    @property
    def bytes(self) -> int:
        """How much it is, about, without what it shares."""
        size = len(self.row.checkpoint) + len(self.row.metadata) + len(self.row.exact or b"") + ENTRY_BYTES
        size += sum(len(blob.data or b"") + ENTRY_BYTES for blob in self.blobs)
        return size + sum(len(w.data) + len(w.channel) + len(w.task_path) + ENTRY_BYTES for w in self.writes)


class Segment(NamedTuple):
    """A segment as it is stored."""

    first: str
    last: str
    spaces: list[str]
    firsts: list[str]
    """Of each of these namespaces, the first checkpoint id."""
    lasts: list[str]
    keys: list[int]
    """See `key_of`."""
    runs: list[str]
    """The runs that wrote to it, cut off at the length by which they are looked up."""
    packed: int
    """How many checkpoints."""
    raw_bytes: int
    contents: bytes
    frame: bytes


def key_of(place: Place) -> int:
    """A number that says which segments have to be looked into for a checkpoint: 4 bytes of what would be 36."""
    return zlib.crc32("\0".join(place).encode()) - 2**31


class _Named(NamedTuple):
    """The contents of a segment."""

    checkpoints: dict[Place, list[Any]]
    channels: list[tuple[str, str, int]]
    """Namespace, name, and where the values begin in the frame."""
    blobs: list[list[Any]]
    writes: dict[Place, list[list[Any]]]


class Opened:
    """A segment that was read. What is wrong with it shows when it is looked at.

    Raises:
        DamagedThreadError: from everything, if the bytes are not those of a segment. The message says which one it is.
    """

    def __init__(self, thread_id: str, number: int, contents: bytes, frame: bytes = b"") -> None:
        self.thread_id = thread_id
        self.number = number
        self._contents = contents
        self._frame = frame

    @cached_property
    def _named(self) -> _Named:
        try:
            spaces, checkpoints, channels, blobs, all_writes = msgpack.unpackb(inflated(self._contents))
            places = [(spaces[record[0]], record[1]) for record in checkpoints]
            writes: dict[Place, list[list[Any]]] = {}
            for write in all_writes:
                writes.setdefault(places[write[0]], []).append(write)
            of_channels = [(spaces[space], name, begin) for space, name, begin in channels]
            return _Named(dict(zip(places, checkpoints, strict=True)), of_channels, blobs, writes)
        except (*DEFECTS, msgpack.UnpackException) as exc:
            raise self._damaged("its contents", exc) from exc

    @cached_property
    def _raw(self) -> bytes:
        return inflated(self._frame)

    @property
    def places(self) -> Iterable[Place]:
        """Of all checkpoints in it."""
        return self._named.checkpoints.keys()

    def outlines(self) -> list[Outline]:
        """Of all checkpoints in it."""
        return [
            Outline(ns, id_, record[2] or "", record[3], record[4], record[5])
            for (ns, id_), record in self._named.checkpoints.items()
        ]

    def row(self, place: Place) -> CheckpointColumns:
        """A checkpoint that is in it, without its values."""
        ns, id_ = place
        record = self._named.checkpoints[place]
        try:
            _, _, parent_id, _, _, _, type_, exact_type, sha256, pieces, _ = record
            checkpoint, metadata, exact = (None if piece is None else self._bytes([piece]) for piece in pieces)
            texts = (checkpoint or b"").decode(), (metadata or b"").decode()
        except DEFECTS as exc:
            raise self._damaged(f"checkpoint {id_!r}", exc) from exc
        return CheckpointColumns(ns, id_, parent_id, type_, *texts, exact_type, exact, sha256)

    def blobs(self, place: Place) -> list[BlobColumns]:
        """The values of a checkpoint that is in it."""
        named = self._named
        found = []
        try:
            for number in named.checkpoints[place][10]:
                channel, version, type_, recipe = named.blobs[number]
                ns, name, begin = named.channels[channel - 1]
                data = None if recipe is None else self._bytes(recipe, begin)
                found.append(BlobColumns(ns, name, version, type_, data))
        except DEFECTS as exc:
            raise self._damaged(f"checkpoint {place[1]!r}", exc) from exc
        return found

    def writes(self, place: Place) -> list[WriteColumns]:
        """The pending writes of a checkpoint that is in it."""
        records = self._named.writes.get(place, ())
        try:
            return [
                WriteColumns(*place, task_id, idx, channel, type_, self._bytes([data]), task_path)
                for _, task_id, idx, channel, type_, data, task_path in records
            ]
        except DEFECTS as exc:
            raise self._damaged(f"writes to checkpoint {place[1]!r}", exc) from exc

    def entries(self, places: Iterable[Place] | None = None) -> Iterator[Entry]:
        """Those checkpoints, or all."""
        outlines = {(outline.ns, outline.checkpoint_id): outline for outline in self.outlines()}
        for place in outlines if places is None else places:
            yield Entry(outlines[place], self.row(place), self.blobs(place), self.writes(place))

    def _bytes(self, recipe: Iterable[Piece], begin: int = 0) -> bytes:
        parts, size = [], 0
        for piece in recipe:
            if isinstance(piece, bytes):
                part = piece
            else:
                offset, length = piece
                part = self._raw[begin + offset : begin + offset + length]
                if begin + offset < 0 or len(part) != length:
                    raise IndexError(offset)
            parts.append(part)
            size += len(part)
            if size > _MOST_BYTES:
                raise OverflowError(size)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _damaged(self, what: str, cause: Exception) -> DamagedThreadError:
        return DamagedThreadError(
            f"thread {self.thread_id!r}: segment {self.number} of its archive in Postgres cannot be read, {what} "
            f"({type(cause).__name__}): its bytes are damaged. The thread's latest checkpoint, and what is in "
            "no segment or in another one, can be read. Restore the row of table tiered_segments with that thread_id "
            f"and segment {self.number} from a backup"
        )


@cache
def _zstd() -> ModuleType:
    """Imported with the first segment: most processes never see one."""
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def deflated(data: bytes) -> bytes:
    """A part of a segment, from its bytes."""
    zstd = _zstd()
    options = {
        zstd.CompressionParameter.compression_level: 3,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
        zstd.CompressionParameter.window_log: max(_LEAST_WINDOW_LOG, len(data).bit_length()),
        zstd.CompressionParameter.checksum_flag: 1,
    }
    compressed: bytes = zstd.compress(data, options=options)
    return _HEADER.pack(_VERSION, len(data)) + compressed


def inflated(part: bytes) -> bytes:
    """The bytes of a part.

    Raises:
        ValueError: it is damaged, longer than it says, or says that it is longer than any can be.
    """
    version, length = _HEADER.unpack_from(part)
    if version != _VERSION or length > _MOST_BYTES:
        raise ValueError(f"format {version}, {length} bytes")
    zstd = _zstd()
    decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MOST_BYTES.bit_length()})
    try:
        data: bytes = decompressor.decompress(part[_HEADER.size :], max_length=length + 1)
    except zstd.ZstdError as exc:
        raise ValueError(str(exc)) from exc
    if len(data) != length or not decompressor.eof or decompressor.unused_data:
        raise ValueError(f"{len(data)} bytes instead of {length}")
    return data
