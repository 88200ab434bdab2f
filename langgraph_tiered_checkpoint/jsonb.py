"""What Postgres' `jsonb` gives back exactly as it was given, and the nearest that it takes of anything else. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

INLINE_CHARS = 256
"""Longer strings are shared between checkpoints as blobs instead of being repeated in each."""

_INLINE_INT = 10**300


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
