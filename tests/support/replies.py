"""What Redis replies to a flush."""

from __future__ import annotations

from typing import Any


def lease(flushed: bytes = b"", number: int = 1, last: int = 2, *, state: bytes = b"d", rebase: int = 0) -> list[Any]:
    """By default, of a thread that the second change made due."""
    return [b"thread", b"life", state, flushed, number, last, 1_700_000_000_000, b"age", rebase, 0, 0, b"", b"run"]


ROW = [[b"b", b"b\0channel\x001", b"W0123456789abcdefmsgpack\x00\x01"]]
"""One channel value, as `scan` replies it."""


def changes(through: bytes = b"2.op", number: int = 2, more: bytes = b"0") -> list[Any]:
    return [b"changes", through, number, [], more, b"run"]
