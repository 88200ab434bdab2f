"""What Postgres' `jsonb` gives back exactly as it was given, and the nearest that it takes of anything else. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

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
