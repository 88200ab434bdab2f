"""The values that this process has read or written last, so that they need not travel again. No I/O.

A value is known by its tag, which the write that stored it has made up: while Redis has the tag under the version, the
bytes there are the ones that are remembered here. So this may forget, or be wrong, at no cost but bytes on the wire.
The next value of a channel travels as a difference, and a value that is read again does not travel at all.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from langgraph_tiered_checkpoint.hot.difference import Item, difference
from langgraph_tiered_checkpoint.records import BlobRow

SMALLEST_BYTES = 2_048
"""Smaller values are not worth the effort."""

_ENTRY_BYTES = 500
"""What remembering takes besides the value's own bytes, about."""

_CIPHER = "+"
"""In the type of an `EncryptedSerializer`'s values, which have nothing in common."""

_NOTHING: Mapping[str, BlobRow] = MappingProxyType({})


class KnownValues:
    """One value per channel, of the namespaces of threads used last, up to a number of bytes in all.

    Any number of OS threads may use it. A forked child starts with nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.forget_all()
        _all.add(self)

    def forget_all(self) -> None:
        """Start afresh."""
        self._bytes = 0
        self._values: OrderedDict[tuple[str, str], Mapping[str, BlobRow]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, thread_id: str, ns: str, blobs: Sequence[BlobRow], tag: str = "") -> None:
        """Note values that are in the hot tier now: under their own tags, or under one that they were written with."""
        worth = {
            blob.channel: blob._replace(tag=tag) if tag else blob
            for blob in blobs
            if len(blob.data) >= SMALLEST_BYTES and (tag or blob.tag) and _CIPHER not in blob.type
        }
        if worth:
            with self._lock:
                known = {**self._values.get((thread_id, ns), _NOTHING), **worth}
                self._forget((thread_id, ns))
                if (size := _size(known)) <= self._most_bytes // 4:
                    self._values[thread_id, ns] = known
                    self._bytes += size
                while self._bytes > self._most_bytes:
                    self._forget(next(iter(self._values)))

    def forget(self, thread_id: str | None = None) -> None:
        """Drop the values of a thread, or all: what was removed is not to stay in memory."""
        with self._lock:
            for key in [key for key in self._values if thread_id in (key[0], None)]:
                self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        self._bytes -= _size(self._values.pop(key, _NOTHING))

    def known(self, thread_id: str, ns: str) -> Mapping[str, BlobRow]:
        """What is remembered of a namespace, by channel. Does not change afterwards."""
        return self._values.get((thread_id, ns), _NOTHING)

    def difference(self, thread_id: str, blob: BlobRow) -> tuple[BlobRow, Sequence[Item]] | None:
        """The predecessor of a value, and how it differs from that, if that is known and they have most in common."""
        if len(blob.data) < SMALLEST_BYTES:
            return None
        known = self.known(thread_id, blob.ns).get(blob.channel)
        if known is None or known.type != blob.type or known.version == blob.version:
            return None
        items = difference(known.data, blob.data)
        return (known, items) if items is not None else None


_all: weakref.WeakSet[KnownValues] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for known in list(_all):
        known.forget_all()  # another thread of the parent may have been at work, and holds the lock for ever


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _size(values: Mapping[str, BlobRow]) -> int:
    return sum(len(blob.data) + _ENTRY_BYTES for blob in values.values())
