"""The rules that every key in Redis keeps: no sole copy has a TTL, nothing else is immortal, every thread is sound."""

from __future__ import annotations

from typing import Any, cast

import msgpack
import redis

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
    meta: dict[str, Any] = msgpack.unpackb(packed)
    state, due = meta["s"], client.zscore(head + b":due", thread_id) is not None
    mortal = state != "d" and bool(meta["ttl" if state == "e" else "ht"])
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
    meta = msgpack.unpackb(fields[b"m"])
    frames = {name[1:]: msgpack.Unpacker() for name in fields if name[:1] == b"c"}
    used: dict[bytes, int] = {}
    for k, unpacker in frames.items():
        unpacker.feed(fields[b"c" + k])
        refs = unpacker.unpack()[3]
        for channel, version in zip(refs[::2], refs[1::2], strict=True):
            name = channel.encode()
            blob = b"%s:%d:%s%s" % (k.partition(b":")[0], len(name), name, version.encode())
            used[blob] = used.get(blob, 0) + 1
    wrong = [
        f"{key!r}: value {name!r} is counted {count!r} times and used {used.get(name[1:], 0)} times"
        for name in fields
        if name[:1] == b"b"
        for count in [fields.get(b"r" + name[1:])]
        if count is None or not 1 <= int(count.partition(b":")[0]) <= used.get(name[1:], 0)
    ]
    wrong += [f"{key!r}: {problem}" for problem in _unsound_arenas(fields)]
    wrong += [f"{key!r}: {n!r} counts a value that is not there" for n in fields if n[:1] == b"r" and _gone(n, fields)]
    wrong += _unlinked(key, fields, meta, set(frames))
    for name in (name for name in fields if name[:1] == b"y"):
        for n in range(1, int(fields[name]) + 1):
            if b"w%s\0%d" % (name[1:], n) not in fields:
                wrong.append(f"{key!r}: write {n} of {name!r} is missing")
    return wrong


def _unsound_arenas(fields: dict[bytes, bytes]) -> list[str]:
    """What does not fit between the values that are recipes, and the arenas that they are made of."""
    wrong = []
    made_of: dict[int, int] = {}
    for name in (name for name in fields if name[:1] == b"b"):
        number = 0
        if fields[name][:1] == b"R":
            number, size, items = msgpack.unpackb(fields[name][17:], raw=True)
            made_of[number] = made_of.get(number, 0) + 1
            stretches = [item for item in items if isinstance(item, list)]
            _, length, piece_size = msgpack.unpackb(fields.get(b"A%d" % number, msgpack.packb([0, 0, 0])))
            if size != piece_size or any(sum(stretch) > length for stretch in stretches):
                wrong.append(f"{name!r} is made of more than arena {number} has")
            needed = {n for at, length in stretches for n in range(at // size, -(-(at + length) // size))}
            if not all(fields.get(b"a%d:%d" % (number, n)) for n in needed):
                wrong.append(f"{name!r} needs {needed} of arena {number}, of which something was erased")
        if fields.get(b"r" + name[1:], b"").partition(b":")[2] != (b"%d" % number if number else b""):
            wrong.append(f"{name!r} is made of arena {number}, which its count does not say")
    expected = {}
    for name in (name for name in fields if name[:1] == b"A"):
        uses, length, size = msgpack.unpackb(fields[name])
        if uses != made_of.get(int(name[1:]), 0):
            wrong.append(f"{name!r} counts {uses} values of {made_of}")
        for n in range(-(-length // size)):
            expected[b"a%s:%d" % (name[1:], n)] = min(size, length - n * size)
    found = {name: len(value) for name, value in fields.items() if name[:1] == b"a"}
    if found.keys() != expected.keys() or any(size not in (0, expected[name]) for name, size in found.items()):
        wrong.append(f"pieces {found} are there instead of {expected}")
    return wrong


def _gone(name: bytes, fields: dict[bytes, bytes]) -> bool:
    return b"b" + name[1:] not in fields


def _unlinked(key: bytes, fields: dict[bytes, bytes], meta: dict[str, Any], all_: set[bytes]) -> list[str]:
    wrong = []
    chains = [("the thread", meta["th"], 2, meta["n"], all_)]
    for name, packed in fields.items():
        if name[:1] == b"n":
            number, head, _, count, _, _, early = msgpack.unpackb(packed)
            own = {k for k in all_ if k.partition(b":")[0] == b"%d" % number}
            waiting = [f for f in fields if f.startswith(b"y%d:" % number) and f[1:] not in all_]
            if len(waiting) != early:
                wrong.append(f"{key!r}: {name!r} counts {early} checkpoints with early writes of {waiting}")
            chains.append((f"namespace {name[1:]!r}", head, 0, count, own))
    for what, head, older, count, members in chains:
        seen: list[bytes] = []
        at = head
        while at and len(seen) <= len(all_):
            seen.append(at.encode())
            links = msgpack.unpackb(fields[b"l" + at.encode()])
            at = links[older - 2] if links[older] is False else links[older]  # the same as in the namespace
        ids = [k.partition(b":")[2] for k in seen]
        if set(seen) != members or len(seen) != count or ids != sorted(ids, reverse=True):
            wrong.append(f"{key!r}: {what} links {seen} of {members} and counts {count}")
    return wrong
