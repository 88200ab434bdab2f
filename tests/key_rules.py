"""The rules that every key in Redis keeps: no sole copy has a TTL, nothing else is immortal."""

from __future__ import annotations

from typing import Any, cast

import msgpack
import redis

COMPANIONS = ("due", "threads", "runs", "gone", "parked")


def broken_rules(client: redis.Redis) -> list[str]:
    """What is wrong with the keys in Redis; empty if nothing is."""
    return [problem for key in client.scan_iter("*") for problem in _problems(client, key)]


def _problems(client: redis.Redis, key: bytes) -> list[str]:
    head, _, thread_id = key.partition(b":t:")
    if not thread_id:
        known = key.rpartition(b":")[2].decode() in COMPANIONS
        return [] if known or b":{" not in key else [f"{key!r} is of no known kind"]
    packed = cast("bytes | None", client.hget(key, "m"))
    ttl_ms = client.pttl(key)
    if ttl_ms == -2:  # lapsed meanwhile
        return []
    if packed is None:
        return [] if ttl_ms > 0 else [f"marker {key!r} has no TTL"]
    meta: dict[str, Any] = msgpack.unpackb(packed)
    state, due = meta["s"], client.zscore(head + b":due", thread_id) is not None
    mortal = state != "d" and bool(meta["ttl" if state == "e" else "ht"])
    return [
        problem
        for problem, so in (
            (f"{state} {key!r} has a TTL of {ttl_ms} ms", not mortal and ttl_ms >= 0),
            (f"{state} {key!r} has no TTL", mortal and ttl_ms < 0),
            (f"{state} {key!r} is due", due and state != "d"),
            (f"{state} {key!r} is not due", not due and state == "d"),
        )
        if so
    ]
