"""Lists that say what they are of, and how they become arrays of Postgres in binary. No I/O.

psycopg looks at each element of a list several times to find out what it is of; for a commit, that cost more than all
else that the client does. Where a connection has not been taught, these are lists like any other.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

_int32 = struct.Struct("!i").pack
_int64 = struct.Struct("!q").pack
_empty = struct.Struct("!iiI").pack
_head = struct.Struct("!iiIii").pack  # dimensions, whether there are NULLs, type of the elements, length, lower bound
_NULL = _int32(-1)


class TextArray(list[Any]):
    """Of str, or None for NULL."""


class ByteaArray(list[Any]):
    """Of bytes, or None for NULL."""


class IntegerArray(list[Any]):
    """Of int, up to 32 bits."""


class BigintArray(list[Any]):
    """Of int, up to 64 bits."""


ARRAYS: Mapping[str, type[list[Any]]] = {
    "text": TextArray,
    "bytea": ByteaArray,
    "integer": IntegerArray,
    "bigint": BigintArray,
}
"""By the name of the type of their elements."""


class _ArrayDumper(Dumper):
    format = Format.BINARY
    element_oid: ClassVar[int]
    array_oid: ClassVar[int]

    def __init__(self, cls: type, context: Any = None) -> None:
        super().__init__(cls, context)
        self.oid = self.array_oid  # of the instance only: the class is not to become the dumper of all such arrays

    def packed(self, values: Sequence[Any]) -> Sequence[bytes | None]:
        """The elements as Postgres takes them in binary."""
        return values

    def dump(self, obj: Sequence[Any]) -> bytes:
        if not obj:
            return _empty(0, 0, self.element_oid)
        elements = self.packed(obj)
        count = len(elements)
        parts = [_head(1, None in elements, self.element_oid, count, 1)] * (1 + 2 * count)
        parts[1::2] = [_NULL if element is None else _int32(len(element)) for element in elements]
        parts[2::2] = [element or b"" for element in elements]
        return b"".join(parts)


class _TextArrayDumper(_ArrayDumper):
    element_oid, array_oid = 25, 1009

    def packed(self, values: Sequence[str | None]) -> Sequence[bytes | None]:
        encoding = self.connection.info.encoding if self.connection is not None else "utf-8"
        return [None if value is None else value.encode(encoding) for value in values]


class _ByteaArrayDumper(_ArrayDumper):
    element_oid, array_oid = 17, 1001


class _IntegerArrayDumper(_ArrayDumper):
    element_oid, array_oid = 23, 1007

    def packed(self, values: Sequence[int]) -> Sequence[bytes | None]:
        return [_int32(value) for value in values]


class _BigintArrayDumper(_ArrayDumper):
    element_oid, array_oid = 20, 1016

    def packed(self, values: Sequence[int]) -> Sequence[bytes | None]:
        return [_int64(value) for value in values]


def teach_arrays(connection: Any) -> None:
    """Make sure that a connection packs these the short way, whoever made it."""
    adapters = connection.adapters
    if adapters.get_dumper(TextArray, PyFormat.BINARY) is not _TextArrayDumper:
        adapters.register_dumper(TextArray, _TextArrayDumper)
        adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
        adapters.register_dumper(IntegerArray, _IntegerArrayDumper)
        adapters.register_dumper(BigintArray, _BigintArrayDumper)
