"""What of some bytes can be taken from earlier bytes. Pure.

Made for serialized state that mostly grows: a header that counts elements, then what was there before, then what is
new; also for windows that lose their oldest part, and for edits in the middle. Nothing here knows the format.
"""

from __future__ import annotations

from collections.abc import Iterator

Stretch = tuple[int, int]
"""Offset and length of bytes in the predecessor."""

Item = bytes | Stretch

SHORTEST = 48
"""Shorter stretches are not worth naming."""

_ANCHOR = 24
"""How many bytes have to be alike to go on from there after a mismatch."""
_SKIPS = (1, 2, 4, 0, 8, 16, 64)
_NEAR = 4_096
_ROUNDS = 12


def difference(base: bytes, new: bytes) -> list[Item] | None:
    """`new` as strings and stretches of `base`, in order; None if that saves less than half of it."""
    items: list[Item] = []
    done = literal = 0
    for offset, at, length in _stretches(base, new):
        if at > done:
            items.append(new[done:at])
            literal += at - done
        items.append((offset, length))
        done = at + length
    if done < len(new):
        items.append(new[done:])
        literal += len(new) - done
    return items if 2 * (literal + 16 * len(items)) < len(new) else None


def _stretches(base: bytes, new: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (offset in base, offset in new, length), ascending in new."""
    i = j = 0
    for _ in range(_ROUNDS):
        length = _alike(base, i, new, j)
        if length >= SHORTEST:
            yield i, j, length
        i, j = i + length, j + length
        if i >= len(base) or j >= len(new):
            return
        found = _go_on(base, i, new, j)
        if found is None:
            break
        i, j = found
    length = _alike_at_end(base, i, new, j)
    if length >= SHORTEST:
        yield len(base) - length, len(new) - length, length


def _alike(base: bytes, i: int, new: bytes, j: int) -> int:
    """How many bytes are alike from `i` and `j` on."""
    most = min(len(base) - i, len(new) - j)
    known, step = 0, 64
    while known < most:
        step = min(step, most - known)
        if not new.startswith(base[i + known : i + known + step], j + known):
            break
        known += step
        step *= 32
    else:
        return known
    while step > 1:  # the first difference is among the next `step` bytes
        half = step // 2
        if new.startswith(base[i + known : i + known + half], j + known):
            known += half
            step -= half
        else:
            step = half
    return known


def _alike_at_end(base: bytes, i: int, new: bytes, j: int) -> int:
    """How many bytes are alike at the ends of what follows `i` and `j`."""
    most = min(len(base) - i, len(new) - j)
    known, unknown = 0, most
    while known < unknown:
        tried = (known + unknown + 1) // 2
        if new.endswith(base[len(base) - tried :]):
            known = tried
        else:
            unknown = tried - 1
    return known


def _go_on(base: bytes, i: int, new: bytes, j: int) -> tuple[int, int] | None:
    """Where to go on after a mismatch: something was replaced or put in, or something was taken out."""
    for skip in _SKIPS:
        anchor = base[i + skip : i + skip + _ANCHOR]
        if len(anchor) == _ANCHOR and (at := new.find(anchor, j, j + _NEAR)) >= 0:
            return i + skip, at
    for skip in (0, *_SKIPS):
        anchor = new[j + skip : j + skip + _ANCHOR]
        if len(anchor) == _ANCHOR and (at := base.find(anchor, i)) >= 0:
            return at, j + skip
    return None
