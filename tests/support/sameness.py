"""Equality that tells types and bits apart where `==` does not: 1, True and 1.0; 0.0 and -0.0. A nan is the same."""

from __future__ import annotations

import dataclasses
import re
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time
from enum import Enum
from typing import Any

from pydantic import BaseModel


def difference(a: Any, b: Any, at: str = "") -> str:
    """Where `a` and `b` first differ, as a sentence; empty if they are the same. The order of a dict says nothing."""
    if type(a) is not type(b):
        return f"{at}: {a!r} is a {type(a).__name__}, {b!r} a {type(b).__name__}"
    if isinstance(a, Enum):
        return _unless(a is b, a, b, at)
    for kind, compare in _COMPARED.items():
        if isinstance(a, kind):
            return compare(a, b, at)
    if dataclasses.is_dataclass(a):
        return _mappings(_fields(a), _fields(b), at)
    return _unless(a == b, a, b, at)


def same(a: Any, b: Any) -> bool:
    """Whether `difference` finds none."""
    return not difference(a, b)


def _unless(equal: object, a: Any, b: Any, at: str) -> str:
    return "" if equal else f"{at}: {a!r} is not {b!r}"


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _models(a: BaseModel, b: BaseModel, at: str) -> str:
    return _mappings(dict(a), dict(b), at) or _mappings(a.model_extra or {}, b.model_extra or {}, at)


def _mappings(a: Mapping[Any, Any], b: Mapping[Any, Any], at: str) -> str:
    if len(a) != len(b) or a.keys() != b.keys():
        return f"{at}: only one has {sorted(map(repr, a.keys() ^ b.keys()))}"
    others = {key: key for key in b}
    return _first(difference(k, others[k], f"{at} key") or difference(a[k], b[k], f"{at}[{k!r}]") for k in a)


def _sequences(a: Any, b: Any, at: str) -> str:
    if len(a) != len(b):
        return f"{at}: {len(a)} items, not {len(b)}: {a!r}, {b!r}"
    return _first(difference(x, y, f"{at}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))


def _deques(a: Any, b: Any, at: str) -> str:
    return _unless(a.maxlen == b.maxlen, a, b, at) or _sequences(a, b, at)


def _sets(a: Any, b: Any, at: str) -> str:
    return _unless(len(a) == len(b) and all(any(same(x, y) for y in b) for x in a), a, b, at)


def _floats(a: float, b: float, at: str) -> str:
    return _unless((a != a and b != b) or struct.pack("d", a) == struct.pack("d", b), a, b, at)  # noqa: PLR0124 - nan


def _times(a: Any, b: Any, at: str) -> str:
    same_zone = repr(a.tzinfo) == repr(b.tzinfo)
    return _unless(a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and same_zone, a, b, at)


def _patterns(a: re.Pattern[Any], b: re.Pattern[Any], at: str) -> str:
    return _unless((a.pattern, a.flags) == (b.pattern, b.flags), a, b, at)


def _first(found: Iterable[str]) -> str:
    return next(filter(None, found), "")


_COMPARED: dict[type | tuple[type, ...], Callable[[Any, Any, str], str]] = {
    float: _floats,
    Mapping: _mappings,
    (list, tuple): _sequences,
    deque: _deques,
    (set, frozenset): _sets,
    (datetime, time): _times,
    re.Pattern: _patterns,
    BaseModel: _models,
}
