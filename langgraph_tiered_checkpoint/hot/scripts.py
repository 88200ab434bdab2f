"""The Lua scripts as Redis knows them: text with its includes, and SHA-1. Reads package files, nothing else."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_INCLUDE = re.compile(r"^-- include: (\w+)[ \t]*$", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*--.*\n|[ \t]+--.*$", re.MULTILINE)
_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end\n", re.MULTILINE | re.DOTALL)


class Script(NamedTuple):
    """One script, ready for EVAL and EVALSHA."""

    text: bytes
    sha: str
    """The name by which EVALSHA calls it."""


@cache
def script(name: str) -> Script:
    """The script in lua/`name`.lua, with each line `-- include: other` replaced by the text of lua/other.lua.

    What it does not use of that is left out, since a script makes its functions anew each time it runs.

    Raises:
        FileNotFoundError: there is no such script.
    """
    text = _used(_COMMENT.sub("", _text(name))).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


def load() -> None:
    """Read all of them, which happens with the first use of each otherwise."""
    for file in (files(__package__) / "lua").iterdir():
        script(file.name.removesuffix(".lua"))


def _text(name: str) -> str:
    text = (files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: _text(match.group(1)).rstrip("\n"), text)


def _used(text: str) -> str:
    """The script without the functions at its top level that nothing calls."""
    names = Counter(re.findall(r"\w+", text))
    shorter = _FUNCTION.sub(lambda function: function[0] if names[function[1]] > 1 else "", text)
    return text if shorter == text else _used(shorter)
