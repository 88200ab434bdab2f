"""The values that this process has read or written last, so that their successors travel as differences. No I/O.

A value is known by its tag, which the write that stored it has made up: while Redis has the tag under the version, the
bytes there are the ones that are remembered here. So this may forget, or be wrong, at no cost but bytes on the wire.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from langgraph_tiered_checkpoint.difference import Item, difference
from langgraph_tiered_checkpoint.records import BlobRow

SMALLEST_BYTES = 2_048
"""Smaller values are not worth the effort."""

_ENTRY_BYTES = 500
"""What remembering takes besides the value's own bytes, about."""

_CIPHER = "+"
"""In the type of an `EncryptedSerializer`'s values, which have nothing in common."""

_Key = tuple[str, str, str]


class Difference(NamedTuple):
    """A value as what it takes from its predecessor."""

    version: str
    """Of the predecessor, in the same channel."""
    tag: str
    items: Sequence[Item]
    """In order; stretches are of the predecessor's serialized data, without its type."""


class Predecessors:
    """One value per channel of a namespace of a thread, the ones used last, up to a number of bytes in all."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._values: OrderedDict[_Key, BlobRow] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, thread_id: str, blobs: Sequence[BlobRow], tag: str = "") -> None:
        """Note values that are in the hot tier now: under their own tags, or under one that they were written with."""
        for blob in blobs:
            size = len(blob.data) + _ENTRY_BYTES
            if len(blob.data) < SMALLEST_BYTES or size > self._most_bytes // 4 or _CIPHER in blob.type:
                continue
            if tag or blob.tag:
                self._put((thread_id, blob.ns, blob.channel), blob._replace(tag=tag) if tag else blob, size)

    def _put(self, key: _Key, blob: BlobRow, size: int) -> None:
        with self._lock:
            self._discard(key)
            self._values[key] = blob
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._discard(next(iter(self._values)))

    def _discard(self, key: _Key) -> None:
        old = self._values.pop(key, None)
        if old is not None:
            self._bytes -= len(old.data) + _ENTRY_BYTES

    def difference(self, thread_id: str, blob: BlobRow) -> Difference | None:
        """How the value differs from its predecessor, if that is known and they have most in common."""
        if len(blob.data) < SMALLEST_BYTES:
            return None
        known = self._values.get((thread_id, blob.ns, blob.channel))
        if known is None or known.type != blob.type or known.version == blob.version:
            return None
        items = difference(known.data, blob.data)
        return Difference(known.version, known.tag, items) if items is not None else None
