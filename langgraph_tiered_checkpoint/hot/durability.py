"""Whether a Redis keeps what it is given, as far as it tells. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

ASKED: Final = (("INFO", "memory"), ("INFO", "persistence"), ("CONFIG", "GET", "save"))
"""What to ask for `dangers`. Older servers take one section at a time, and managed ones may refuse any."""


def info_field(info: object, name: str) -> str:
    """A field in a reply to INFO; empty if it is not there, or was refused."""
    match info:
        case dict():
            return str(info.get(name, ""))
        case bytes():
            lines = dict(line.split(":", 1) for line in info.decode(errors="replace").split() if ":" in line)
            return lines.get(name, "")
        case _:
            return ""


def dangers(replies: Sequence[object], display_url: str, *, flushes_later: bool) -> list[str]:
    """What will lose data although nothing fails. Nothing is guessed from what the server does not tell.

    Args:
        replies: to `ASKED`.
        display_url: where the server is, for people.
        flushes_later: Redis alone holds what is not flushed yet, also of promoted threads.
    """
    memory, persistence, save = replies
    found = []
    policy = info_field(memory, "maxmemory_policy")
    if policy.startswith("allkeys") and info_field(memory, "maxmemory") != "0":
        found.append(
            f"Redis at {display_url} evicts any key when it is full (maxmemory-policy {policy}), also threads with "
            "changes that Postgres does not have. Set maxmemory-policy to noeviction or volatile-lru"
        )
    if flushes_later and info_field(persistence, "aof_enabled") == "0" and _no_save_points(save):
        found.append(
            f"Redis at {display_url} keeps nothing on disk (appendonly no, and no save points): when it stops, changes "
            'that were not flushed are lost, and ephemeral threads. Set appendonly yes, or use cold_writes="through"'
        )
    return found


def _no_save_points(reply: object) -> bool:
    if isinstance(reply, dict):
        return reply.get(b"save", reply.get("save")) in (b"", "")
    return isinstance(reply, list) and len(reply) == 2 and reply[1] in (b"", "")
