"""What the fields of a thread's hash say, read without the scripts. See hot/lua/common.lua and hot/lua/state.lua."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack

STATE = struct.Struct(">BBBBBddddddddd")
NUMBERS = (
    *("state", "reads", "writes", "interrupted", "own_ttl", "change", "last_write"),
    *("checkpoints", "roots", "bytes", "dirty_since", "created", "ttl", "hot_ttl"),
)


def meta_of(fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    """All of a thread's meta."""
    state = fields[b"s"]
    run, incarnation, newest = state[STATE.size :].decode().split("\0", 2)
    numbers = dict(zip(NUMBERS, STATE.unpack(state[: STATE.size]), strict=True))
    own = {"state": chr(int(numbers["state"])), "run": run, "incarnation": incarnation, "newest": newest}
    return {**numbers, **msgpack.unpackb(fields[b"m"]), **own}


def with_run(state: bytes, run: str) -> bytes:
    """The field "s" of a thread that was last compared with Postgres under another run of the server."""
    _, rest = state[STATE.size :].split(b"\0", 1)
    return state[: STATE.size] + run.encode() + b"\0" + rest


class Record(NamedTuple):
    """A checkpoint's record, and its links."""

    parent: str
    older: str
    thread: str
    """The next older one in the thread, a place."""
    values: list[str]
    """Names of the fields of its values."""


def record_of(fields: Mapping[bytes, bytes], place: bytes) -> Record:
    """What is said of a checkpoint that is there."""
    frame = fields[b"c" + place]
    first = 2 + int.from_bytes(frame[:2], "big")
    unpacker = msgpack.Unpacker()
    unpacker.feed(frame[first:])
    values = unpacker.unpack()[3]
    parent = frame[2:first].decode()
    if links := fields.get(b"l" + place):
        older, thread, parent = msgpack.unpackb(links)
        return Record(parent, older, thread, values)
    ns = place.partition(b"\0")[0].decode()
    return Record(parent, parent, f"{ns}\0{parent}" if parent else "", values)


def quick_no_more(state: bytes) -> bytes:
    """The field "s" of a thread that no script may take its quick way with."""
    return state[:1] + b"\0\0" + state[3:]
