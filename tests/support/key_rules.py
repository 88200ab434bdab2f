"""The rules that every key in Redis keeps: no sole copy has a TTL, nothing else is immortal, every thread is sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgpack
import redis
from layout import Record, meta_of, record_of

COMPANIONS = ("due", "threads", "runs", "gone", "parked", "lapses")


def broken_rules(client: redis.Redis) -> list[str]:
    """What is wrong with the keys in Redis; empty if nothing is."""
    return [problem for key in client.scan_iter("*") for problem in _problems(client, key)]


def _problems(client: redis.Redis, key: bytes) -> list[str]:
    if key.endswith(b":workers") and b":{" not in key:
        return [f"{key!r} has no TTL"] if client.pttl(key) == -1 else []
    head, _, thread_id = key.partition(b":t:")
    if not thread_id:
        known = key.rpartition(b":")[2].decode() in COMPANIONS
        return [] if known or b":{" not in key else [f"{key!r} is of no known kind"]
    with client.pipeline() as at_once:  # a promoter may be at work
        at_once.hgetall(key)
        at_once.pttl(key)
        fields, ttl_ms = cast("tuple[dict[bytes, bytes], int]", at_once.execute())
    packed = fields.get(b"m")
    if ttl_ms == -2:  # lapsed meanwhile
        return []
    if packed is None:
        return [] if ttl_ms >= 0 else [f"marker {key!r} has no TTL"]
    meta = meta_of(fields)
    state, due = meta["state"], client.zscore(head + b":due", thread_id) is not None
    mortal = state != "d" and bool(meta["ttl" if state == "e" else "hot_ttl"])
    return _unsound(key, fields) + [
        problem
        for problem, so in (
            (f"{state} {key!r} has a TTL of {ttl_ms} ms", not mortal and ttl_ms >= 0),
            (f"{state} {key!r} has no TTL", mortal and ttl_ms < 0),
            (f"{state} {key!r} is due", due and state != "d"),
            (f"{state} {key!r} is not due", not due and state == "d"),
        )
        if so
    ]


def _unsound(key: bytes, fields: dict[bytes, bytes]) -> list[str]:
    """What does not fit together inside a thread's hash."""
    meta = meta_of(fields)
    records = {name[1:]: record_of(fields, name[1:]) for name in fields if name[:1] == b"c"}
    used = {name.encode() for record in records.values() for name in record.values}
    left = {name.encode() for name in meta.get("left") or ()}
    wrong = [
        f"{key!r}: value {name!r} is of no checkpoint"
        for name in fields
        if name[:1] == b"b" and name not in used and name not in left
    ]
    wrong += [f"{key!r}: {problem}" for problem in _unsound_arenas(fields)]
    wrong += _unlinked(key, fields, meta, records)
    for name in (name for name in fields if name[:1] == b"y"):
        for n in range(1, int(fields[name]) + 1):
            if b"w%s\0%d" % (name[1:], n) not in fields:
                wrong.append(f"{key!r}: write {n} of {name!r} is missing")
    return wrong


def _unsound_arenas(fields: dict[bytes, bytes]) -> list[str]:
    """What does not fit between the values that are recipes, and the arenas that they are made of."""
    wrong = []
    made_of: dict[bytes, int] = {}
    for name in (name for name in fields if name[:1] == b"b" and fields[name][:1] == b"R"):
        arena, size, items, length = msgpack.unpackb(fields[name][17:], raw=True)
        made_of[arena] = made_of.get(arena, 0) + 1
        stretches = [item for item in items if isinstance(item, list)]
        has, piece_size = map(int, fields.get(b"A" + arena, b"0 0").split())
        if size != piece_size or length > has or any(sum(stretch) > length for stretch in stretches):
            wrong.append(f"{name!r} is made of more than arena {arena!r} has")
        needed = {n for at, length in stretches for n in range(at // size, -(-(at + length) // size))}
        if not all(fields.get(b"a%s\0%d" % (arena, n)) for n in needed):
            wrong.append(f"{name!r} needs {needed} of arena {arena!r}, of which something was erased")
    expected = {}
    for name in (name for name in fields if name[:1] == b"A"):
        length, size = map(int, fields[name].split())
        for n in range(-(-length // size)):
            expected[b"a%s\0%d" % (name[1:], n)] = min(size, length - n * size)
    uses = {name[1:]: int(value) for name, value in fields.items() if name[:1] == b"u"}
    if uses != made_of or uses.keys() != {name[1:] for name in fields if name[:1] == b"A"}:
        wrong.append(f"arenas count {uses} values of {made_of}")
    found = {name: len(value) for name, value in fields.items() if name[:1] == b"a"}
    if found.keys() != expected.keys() or any(size not in (0, expected[name]) for name, size in found.items()):
        wrong.append(f"pieces {found} are there instead of {expected}")
    return wrong


def _unlinked(key: bytes, fields: dict[bytes, bytes], meta: dict[str, Any], records: dict[bytes, Record]) -> list[str]:
    wrong = []
    chains: list[tuple[str, bytes, list[bytes], Callable[[Record, bytes], bytes]]] = []
    chains.append(("the thread", meta["newest"].encode(), list(records), _thread))
    early_in_all = 0
    for name, packed in fields.items():
        if name[:1] == b"n":
            ns, (tail, _, early) = name[1:], msgpack.unpackb(packed)
            head, own = fields[b"h" + ns][1:], [place for place in records if place.partition(b"\0")[0] == ns]
            waiting = [f for f in fields if f.startswith(b"y" + ns + b"\0") and f[1:] not in records]
            early_in_all += early
            if len(waiting) != early:
                wrong.append(f"{key!r}: {name!r} counts {early} checkpoints with early writes of {waiting}")
            if tail != min((place.partition(b"\0")[2].decode() for place in own), default=""):
                wrong.append(f"{key!r}: {name!r} has the tail {tail} of {own}")
            first = b"%s\0%s" % (ns, head) if head else b""
            chains.append((f"namespace {ns!r}", first, own, _older))
    if meta["early"] != early_in_all or meta["roots"] != sum(place[:1] == b"\0" for place in records):
        wrong.append(f"{key!r}: {meta} counts early writes and root checkpoints wrong")
    if meta["checkpoints"] != len(records):
        wrong.append(f"{key!r}: {meta['checkpoints']} checkpoints of {records} are counted")
    for what, first, members, following in chains:
        seen: list[bytes] = []
        at = first
        while at and len(seen) <= len(records):
            seen.append(at)
            at = following(records[at], at) if at in records else b""
        if seen != sorted(members, key=lambda place: place.split(b"\0")[::-1], reverse=True):
            wrong.append(f"{key!r}: {what} links {seen} of {members}")
    return wrong


def _thread(record: Record, _: bytes) -> bytes:
    return record.thread.encode()


def _older(record: Record, place: bytes) -> bytes:
    return b"%s\0%s" % (place.partition(b"\0")[0], record.older.encode()) if record.older else b""
