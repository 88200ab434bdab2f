"""What a Redis user needs: one call of each command that scripts use, by which to see whether it is refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "GET": (),
    "HDEL": ("f",),
    "HEXISTS": ("f",),
    "HGET": ("f",),
    "HLEN": (),
    "HMGET": ("f",),
    "HSCAN": ("0",),
    "HSET": ("f", "v", "a field without a value"),
    "HSTRLEN": ("f",),
    "PERSIST": (),
    "PEXPIRE": ("no number",),
    "PTTL": (),
    "SET": ("v", "no option"),
    "TYPE": (),
    "UNLINK": (),
    "ZADD": ("no number", "m"),
    "ZCARD": (),
    "ZCOUNT": ("0", "0"),
    "ZRANDMEMBER": ("1",),
    "ZRANGE": ("0", "0"),
    "ZRANGEBYLEX": ("-", "+"),
    "ZRANGEBYSCORE": ("0", "0"),
    "ZREM": ("m",),
    "ZREMRANGEBYRANK": ("0", "0"),
    "ZREMRANGEBYSCORE": ("0", "0"),
    "ZSCAN": ("0",),
    "ZSCORE": ("m",),
}
"""By command, arguments after a key that does not exist, with which it changes nothing even where it is allowed: it
finds nothing, or refuses the arguments, which servers look at after the permissions."""

_KEYLESS: Final = ("TIME",)

USEFUL: Final = ("INFO", "MEMORY")
"""What scripts can do without."""

GRANTS: Final = "on the keys of the prefix, +@all -@dangerous +info is enough"

_REFUSED: Final = ("NOPERM", "can't run this command", "can't access", "ACL failure", "Unknown Redis command")


def calls(key: str) -> list[list[str]]:
    """The calls to make, of that key, which must not exist."""
    return [*([name, key, *more] for name, more in _NEEDED.items()), *([name] for name in _KEYLESS)]


def refused(key: str, replies: Sequence[bytes]) -> list[str]:
    """What the user lacks for `calls`, by the errors that they were answered with."""
    said = {call[0]: reply.decode(errors="replace") for call, reply in zip(calls(key), replies, strict=True)}
    lacking = {name: text for name, text in said.items() if any(word in text for word in _REFUSED)}
    keys = [name for name, text in lacking.items() if "access" in text]
    commands = [name for name in lacking if name not in keys]
    if len(keys) + len(commands) >= len(_NEEDED):
        return [*(name for name in commands if name in _KEYLESS), "access to keys that begin with the prefix"]
    return [*commands, *(f"{name} on keys that begin with the prefix" for name in keys)]
