"""Names of the fields of a thread's hash. No I/O. What is in them is said in lua/common.lua."""

from __future__ import annotations


def place(ns: str, checkpoint_id: str) -> str:
    """A checkpoint's place. No id holds a NUL."""
    return f"{ns}\0{checkpoint_id}"


def split(place_: bytes) -> tuple[str, str]:
    """The namespace and the id of a place."""
    ns, _, checkpoint_id = place_.decode().partition("\0")
    return ns, checkpoint_id


def value(ns: str, channel: str, version: str) -> str:
    """Where the value of a channel is."""
    return f"b{ns}\0{channel}\0{version}"


def split_value(field: str) -> tuple[str, str, str]:
    """Namespace, channel and version of a value's field."""
    ns, channel, version = field[1:].split("\0")
    return ns, channel, version


def ordinal(place_: str, idx: int | str, task_id: str) -> str:
    """Where the ordinal of a pending write is noted."""
    return f"p{place_}\0{idx}\0{task_id}"
