"""What becomes of a value that is a little different from the one before: a recipe of what both have in common. No I/O.

The bytes that versions of a channel have in common lie in an arena, as pieces of one size; a recipe says how to put a
value together from stretches of it and a little text: see lua/values.lua. Everything is packed here; the script makes
sure that the predecessor and the arena are still what they were when this process stored or read them, and stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.hot import fields
from langgraph_tiered_checkpoint.hot.difference import Item, Stretch
from langgraph_tiered_checkpoint.hot.frames import pack_blob, pack_list
from langgraph_tiered_checkpoint.records import BlobRow, Recipe

PIECE_BYTES = 8_192
MOST_PIECES = 512
MOST_ITEMS = 32

_TEXT = 64
"""Bytes up to which an item stays in the recipe."""


class Packed(NamedTuple):
    """Channel values, ready for put.lua."""

    conditions: list[tuple[str, bytes]]
    """What the script is to make sure of, as (field, what it has to be)."""
    pairs: list[tuple[str, bytes]]
    """Fields and their values."""
    stored: list[BlobRow]
    """The values, as they can be known by afterwards."""

    @property
    def bytes(self) -> int:
        """What is to be stored, in all."""
        return sum(len(data) for _, data in self.pairs)


def pack_values(op: str, blobs: Iterable[tuple[BlobRow, BlobRow | None, Sequence[Item] | None]]) -> Packed:
    """Pack values: each with its predecessor and how it differs from that, if it is to travel as a difference."""
    packed = Packed([], [], [])
    names = (f"{op}.{i}" for i in count())
    for blob, base, items in blobs:
        field = fields.value(blob.ns, blob.channel, blob.version)
        packed.conditions.append((field, b""))
        recipe = None
        if base is not None and items is not None:
            recipe = _derive(packed, op, field, base, blob, items, names)
        if recipe is None:
            packed.pairs.append((field, pack_blob(blob, op)))
        packed.stored.append(blob._replace(tag=op, recipe=recipe))
    return packed


def _derive(
    packed: Packed,
    op: str,
    field: str,
    base: BlobRow,
    blob: BlobRow,
    difference: Sequence[Item],
    names: Iterator[str],
) -> Recipe | None:
    """Pack a value as a recipe. None: it would take up more than the value itself."""
    before = base.recipe or _whole(base, names)
    shift = len(base.type.encode()) + 1
    joined: list[Item] = []
    _join(joined, blob.type.encode() + b"\0")
    for item in difference:
        if isinstance(item, bytes):
            _join(joined, item)
        else:
            _join_stretch(joined, before.items, item[0] + shift, item[1])
    items: list[Item] = []
    fresh, length, total = [], before.bytes, 0
    for item in joined:
        size = _length(item)
        total += size
        if isinstance(item, bytes) and size > _TEXT:
            fresh.append(item)
            _join(items, (length, size))
            length += size
        else:
            _join(items, item)
    most = MOST_PIECES * before.piece_bytes
    if len(items) > MOST_ITEMS or length > 2 * total + 2 * PIECE_BYTES or length > most:
        return None
    recipe = Recipe(before.arena, before.piece_bytes, tuple(items), length)
    base_field, text = fields.value(base.ns, base.channel, base.version), b"".join(fresh)
    if base.recipe:
        packed.conditions.append((base_field, b"TR" + base.tag.encode()))
        _extend(packed, before, text)
    else:
        begun = pack_list([base.tag, before.piece_bytes, before.arena, text])
        packed.conditions.append((base_field, b"B" + begun))
        packed.pairs.extend([(base_field, _pack(base.tag, before)), (f"u{before.arena}", b"2")])
        packed.pairs.append((f"A{before.arena}", _size(length, before)))
    packed.pairs.append((field, _pack(op, recipe)))
    return recipe


def _whole(base: BlobRow, names: Iterator[str]) -> Recipe:
    """A value as an arena of its own."""
    size = len(base.type.encode()) + 1 + len(base.data)
    piece_bytes = PIECE_BYTES
    while size > MOST_PIECES // 4 * piece_bytes:
        piece_bytes *= 2
    return Recipe(next(names), piece_bytes, ((0, size),), size)


def _extend(packed: Packed, arena: Recipe, fresh: bytes) -> None:
    packed.conditions.append((f"u{arena.arena}", b"u"))
    if not fresh:
        return
    packed.conditions.append((f"A{arena.arena}", b"=" + _size(arena.bytes, arena)))
    packed.pairs.append((f"A{arena.arena}", _size(arena.bytes + len(fresh), arena)))
    number, begun = divmod(arena.bytes, arena.piece_bytes)
    if begun:
        room = arena.piece_bytes - begun
        packed.conditions.append((_piece(arena, number), b"+" + fresh[:room]))
        number, fresh = number + 1, fresh[room:]
    packed.pairs.extend(_pieces(arena, number, fresh))


def _pieces(arena: Recipe, number: int, text: bytes) -> Iterator[tuple[str, bytes]]:
    for at in range(0, len(text), arena.piece_bytes):
        yield _piece(arena, number), text[at : at + arena.piece_bytes]
        number += 1


def _piece(arena: Recipe, number: int) -> str:
    return f"a{arena.arena}\0{number}"


def _size(length: int, arena: Recipe) -> bytes:
    return b"%d %d" % (length, arena.piece_bytes)


def _pack(tag: str, recipe: Recipe) -> bytes:
    items: list[Any] = [item if isinstance(item, bytes) else list(item) for item in recipe.items]
    return b"R%b%b" % (tag.encode(), pack_list([recipe.arena, recipe.piece_bytes, items, recipe.bytes]))


def _length(item: Item) -> int:
    return len(item) if isinstance(item, bytes) else item[1]


def _join(items: list[Item], item: Item) -> None:
    """Add an item: adjacent strings become one, and adjacent stretches."""
    last = items[-1] if items else None
    if isinstance(item, bytes):
        if isinstance(last, bytes):
            items[-1] = last + item
            return
    elif last is not None and not isinstance(last, bytes) and sum(last) == item[0]:
        items[-1] = (last[0], last[1] + item[1])
        return
    items.append(item)


def _join_stretch(items: list[Item], of: Sequence[Item], offset: int, length: int) -> None:
    """Add the stretch of `of` that is `length` bytes long after `offset`."""
    at, stop = 0, offset + length
    for item in of:
        size = _length(item)
        low, high = max(offset, at), min(stop, at + size)
        if low < high:
            if isinstance(item, bytes):
                _join(items, item[low - at : high - at])
            else:
                _join(items, _within(item, low - at, high - low))
        at += size


def _within(stretch: Stretch, offset: int, length: int) -> Stretch:
    return stretch[0] + offset, length
