"""How checkpoints are packed into a segment of the archive. No I/O. See segments.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import msgpack

from langgraph_tiered_checkpoint.cold.segments import (
    ENTRY_BYTES,
    FULL_BYTES,
    FULL_CHECKPOINTS,
    BlobColumns,
    Entry,
    Piece,
    Place,
    Segment,
    deflated,
    key_of,
)

Difference = Callable[[bytes, bytes], Sequence[bytes | tuple[int, int]] | None]
"""From a value and its successor to strings, and stretches of the first, that make up the second; None if that saves
little. Pure."""

_SHORT = 48
"""Fewer bytes stand in the contents themselves."""
_WORTH_COMPARING = 256
_MOST_PIECES = 200
_RUN_ID_CHARS = 64
"""As the index of run ids in `checkpoints` has them."""


class _Stretch:
    """A part of a frame in the making: of one channel's values, or of everything else."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.parts: list[bytes] = []
        self.bytes = 0
        self.latest: tuple[bytes, list[Piece]] = (b"", [])
        """The last value that went there, and what it is made of."""


class Packing:
    """A segment in the making."""

    def __init__(self, difference: Difference | None = None) -> None:
        self._difference = difference
        self._texts = _Stretch(0)
        self._channels: dict[tuple[str, str], _Stretch] = {}
        self.raw_bytes = 0
        """How much there is in it, before it is compressed."""
        self._spaces: dict[str, int] = {}
        self._checkpoints: dict[Place, list[Any]] = {}
        self._blobs: dict[tuple[str, str, str], int] = {}
        self._recipes: list[list[Any]] = []
        self._writes: list[list[Any]] = []
        self._runs: set[str] = set()

    def __len__(self) -> int:
        return len(self._checkpoints)

    def is_full(self) -> bool:
        """Whether it is to take no more."""
        return len(self) >= FULL_CHECKPOINTS or self.raw_bytes >= FULL_BYTES

    def knows(self, blob: tuple[str, str, str]) -> bool:
        """Whether it has a value: (namespace, channel, version)."""
        return blob in self._blobs

    def add(self, entry: Entry) -> None:
        """Take a checkpoint; of its values those that are not there yet."""
        ns, id_ = entry.place
        row, outline = entry.row, entry.outline
        space = self._spaces.setdefault(ns, len(self._spaces))
        blobs = [self._blob(blob) for blob in entry.blobs]
        texts = [self._keep(self._texts, row.checkpoint.encode()), self._keep(self._texts, row.metadata.encode())]
        exact = None if row.exact is None else self._keep(self._texts, row.exact)
        self._checkpoints[entry.place] = [
            *(space, id_, row.parent_id, outline.root_id, outline.depth, outline.run_id),
            *(row.type, row.exact_type, row.sha256, [*texts, exact], blobs),
        ]
        for write in entry.writes:
            at = len(self._checkpoints) - 1
            data = self._keep(self._texts, write.data)
            self._writes.append([at, write.task_id, write.idx, write.channel, write.type, data, write.task_path])
            self.raw_bytes += ENTRY_BYTES + len(write.channel) + len(write.task_path)
        self.raw_bytes += ENTRY_BYTES
        if outline.run_id:
            self._runs.add(outline.run_id[:_RUN_ID_CHARS])

    def _keep(self, stretch: _Stretch, data: bytes) -> Piece:
        self.raw_bytes += len(data)
        if len(data) < _SHORT:
            return data
        stretch.parts.append(data)
        stretch.bytes += len(data)
        return [stretch.bytes - len(data), len(data)]

    def _blob(self, blob: BlobColumns) -> int:
        key = blob.ns, blob.channel, blob.version
        number = self._blobs.get(key)
        if number is None:
            number = self._blobs[key] = len(self._recipes)
            self._spaces.setdefault(blob.ns, len(self._spaces))
            channel = self._channels.setdefault((blob.ns, blob.channel), _Stretch(1 + len(self._channels)))
            recipe = None if blob.data is None else self._recipe(channel, blob.data)
            self._recipes.append([channel.number, blob.version, blob.type, recipe])
            self.raw_bytes += ENTRY_BYTES + 10 * len(recipe or ())
        return number

    def _recipe(self, channel: _Stretch, data: bytes) -> list[Piece]:
        base, of_base = channel.latest
        items: Sequence[bytes | tuple[int, int]] | None = None
        if self._difference is not None and min(len(base), len(data)) >= _WORTH_COMPARING:
            items = self._difference(base, data)
        recipe: list[Piece] = []
        for item in items if items is not None else (data,):
            for piece in [self._keep(channel, item)] if isinstance(item, bytes) else _taken(of_base, *item):
                _join(recipe, piece)
        if len(recipe) > _MOST_PIECES:
            recipe = [self._keep(channel, data)]
        channel.latest = data, recipe
        return recipe

    def finish(self) -> Segment:
        """What is to be stored. There is something in it."""
        of_spaces: dict[str, list[str]] = {}
        for ns, id_ in sorted(self._checkpoints):
            of_spaces.setdefault(ns, []).append(id_)
        ids = sorted(id_ for _, id_ in self._checkpoints)
        spaces, stretches = list(self._spaces), [self._texts, *self._channels.values()]
        begins = [0, *accumulate(stretch.bytes for stretch in stretches)]
        channels = [[self._spaces[ns], name, begins[of.number]] for (ns, name), of in self._channels.items()]
        named = [spaces, list(self._checkpoints.values()), channels, self._recipes, self._writes]
        return Segment(
            ids[0],
            ids[-1],
            list(of_spaces),
            [ids_[0] for ids_ in of_spaces.values()],
            [ids_[-1] for ids_ in of_spaces.values()],
            [key_of(place) for place in self._checkpoints],
            sorted(self._runs),
            len(self),
            begins[-1],
            deflated(msgpack.packb(named)),
            deflated(b"".join(part for stretch in stretches for part in stretch.parts)),
        )


def _taken(recipe: Sequence[Piece], offset: int, length: int) -> Iterator[Piece]:
    """What of a recipe makes up a stretch of its value."""
    end, at = offset + length, 0
    for piece in recipe:
        size = len(piece) if isinstance(piece, bytes) else piece[1]
        begin, stop = max(offset - at, 0), min(end - at, size)
        if begin < stop:
            yield piece[begin:stop] if isinstance(piece, bytes) else [piece[0] + begin, stop - begin]
        at += size
        if at >= end:
            return


def _join(recipe: list[Piece], piece: Piece) -> None:
    """Add a piece; one that goes on where the last one ends becomes part of it."""
    last = recipe[-1] if recipe else None
    if isinstance(last, bytes) and isinstance(piece, bytes):
        recipe[-1] = last + piece
    elif isinstance(last, list) and isinstance(piece, list) and sum(last) == piece[0]:
        recipe[-1] = [last[0], last[1] + piece[1]]
    else:
        recipe.append(list(piece) if isinstance(piece, list) else piece)
