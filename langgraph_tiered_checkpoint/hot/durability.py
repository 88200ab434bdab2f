"""Whether a Redis keeps what it is given, as far as it tells: checks of the doctor, and warnings at opening. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langgraph_tiered_checkpoint.records import Check, Verdict

ASKED: Final = (("INFO", "memory"), ("INFO", "persistence"), ("CONFIG", "GET", "save"))
"""What to ask for `durability`. Older servers take one section at a time, and managed ones may refuse any."""

_FULL = 0.9
"""Of a limit, what counts as almost full."""

WHY: Final = {
    "eviction": "What is evicted may be the only copy of what Postgres does not have yet, and no error tells of it.",
    "persistence": "What is not flushed yet, and every ephemeral thread, is in Redis alone.",
    "memory limit": "Without one Redis grows until the machine ends it. With one, it refuses writes.",
}


def info_field(info: object, name: str) -> str:
    """A field in a reply to INFO; empty if it is not there, or was refused."""
    return next((told[name] for told in nodes(info) if name in told), "")


def nodes(info: object) -> list[Mapping[str, str]]:
    """The fields in a reply to INFO, of each server that has answered."""
    match info:
        case dict() if info and all(isinstance(value, dict) for value in info.values()):  # of a cluster: by node
            return [{str(k): str(v) for k, v in of_node.items()} for of_node in info.values()]
        case dict():
            return [{str(k): str(v) for k, v in info.items()}]
        case bytes():
            return [dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)]
        case _:
            return []


def time_of(reply: object) -> float | None:
    """The reply to TIME, as Unix time in s, of a cluster one node's; None if it was refused."""
    if isinstance(reply, dict):
        reply = next(iter(reply.values()), None)
    return int(reply[0]) + int(reply[1]) / 1_000_000 if isinstance(reply, list) else None


def text_of(reply: object) -> str | None:
    """The reply to GET, "" where there is nothing; None if it was refused."""
    if isinstance(reply, Exception):
        return None
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply or "")


def durability(replies: Sequence[object], *, cold: bool, flushes_later: bool) -> list[Check]:
    """How it evicts, what it keeps on disk, and how much memory it may take.

    Args:
        replies: to `ASKED`.
        cold: whether there is a cold tier, so that there are threads that must not be lost.
        flushes_later: Redis alone holds what is not flushed yet, also of promoted threads.
    """
    memory, persistence, save = replies
    return [
        _eviction(nodes(memory), cold=cold),
        _persistence(nodes(persistence), save, flushes_later=cold and flushes_later),
        _limit(nodes(memory)),
    ]


def message(check: Check, display_url: str) -> str:
    """A check that has found something, as a message."""
    return f"Redis at {display_url}: {check.found}. {check.remedy}"


def _eviction(memory: Sequence[Mapping[str, str]], *, cold: bool) -> Check:
    policies = {told["maxmemory_policy"] for told in memory if "maxmemory_policy" in told}
    if not policies:
        return _check("eviction", "unknown", "it does not tell its maxmemory-policy (INFO is refused)")
    bad = sorted(policy for policy in policies if policy.startswith("allkeys"))
    if not bad or not cold:
        return _check("eviction", "ok", f"maxmemory-policy {', '.join(sorted(policies))}")
    remedy = "Set maxmemory-policy to noeviction or volatile-lru"
    if all(told.get("maxmemory") == "0" for told in memory):
        found = f"maxmemory-policy {bad[0]}, which will evict any key once maxmemory is set"
        return _check("eviction", "warning", found, remedy)
    found = (
        f"it evicts any key when it is full (maxmemory-policy {bad[0]}), also threads with changes that Postgres does "
        "not have"
    )
    return _check("eviction", "failure", found, remedy)


def _persistence(told: Sequence[Mapping[str, str]], save: object, *, flushes_later: bool) -> Check:
    name = "persistence"
    if not told:
        return _check(name, "unknown", "it does not tell whether it keeps anything on disk (INFO is refused)")
    failed = [f for f in ("rdb_last_bgsave_status", "aof_last_write_status") for of in told if of.get(f) == "err"]
    if failed:
        return _check(
            name, "failure", f"it cannot write to its disk ({failed[0]}:err)", "See its log, and make room on its disk"
        )
    if all(of.get("aof_enabled") == "1" for of in told):
        return _check(name, "ok", "appendonly yes")
    if _no_save_points(save):
        found = (
            "it keeps nothing on disk (appendonly no, and no save points): when it stops, changes that were not "
            "flushed are lost, and ephemeral threads"
        )
        remedy = 'Set appendonly yes, or use cold_writes="through"'
        if not flushes_later:
            found, remedy = "it keeps nothing on disk: when it stops, ephemeral threads are lost", "Set appendonly yes"
        return _check(name, "failure" if flushes_later else "warning", found, remedy)
    points = _save_points(save)
    if points is None:
        return _check(name, "unknown", "appendonly no, and it does not tell its save points (CONFIG is refused)")
    return _check(name, "ok", f"snapshots (save {points}); what came after the last one goes when it is killed")


def _limit(memory: Sequence[Mapping[str, str]]) -> Check:
    name = "memory limit"
    limits = [(int(told["used_memory"]), int(told["maxmemory"])) for told in memory if "maxmemory" in told]
    if not limits:
        return _check(name, "unknown", "it does not tell its maxmemory (INFO is refused)")
    if any(not limit for _, limit in limits):
        remedy = "Set maxmemory to what the machine can spare, with maxmemory-policy noeviction or volatile-lru"
        return _check(name, "warning", "maxmemory is not set", remedy)
    used, limit = max(limits, key=lambda of: of[0] / of[1])
    found = f"{used / 2**20:,.0f} of {limit / 2**20:,.0f} MB are used"
    if used < _FULL * limit:
        return _check(name, "ok", found)
    remedy = "Raise maxmemory, shorten ttl or hot_ttl, or see that a promoter drains what is dirty"
    return _check(name, "warning", found, remedy)


def _no_save_points(reply: object) -> bool:
    return _save_points(reply) == ""


def _save_points(reply: object) -> str | None:
    value: Any = None
    if isinstance(reply, dict):
        value = reply.get(b"save", reply.get("save"))
    elif isinstance(reply, list) and len(reply) == 2:
        value = reply[1]
    return value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else None


def _check(name: str, verdict: Verdict, found: str, remedy: str = "") -> Check:
    return Check(name=name, verdict=verdict, found=found, why=WHY[name], remedy=remedy)
