"""The Lua scripts as Redis knows them: with includes and names put in, and a SHA-1. Reads package files, nothing else.

A script's header names its keys and arguments: `-- KEYS: thread due`, `-- ARGV: thread_id op fields...`. In the script,
`KEYS.due` and `ARGV.op` stand for `KEYS[2]` and `ARGV[2]`, and `AT.fields` for the place at which a list begins: 3.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_INCLUDE = re.compile(r"^-- include: (\w+)[ \t]*\n", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*--.*\n|[ \t]+--.*$", re.MULTILINE)
_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end\n", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\b(KEYS|ARGV|AT)\.(\w+)")
_HEADER = re.compile(r"^-- (KEYS|ARGV): (.*\n(?:--     [\w .]+\n)*)", re.MULTILINE)


class Script(NamedTuple):
    """One script, ready for EVAL and EVALSHA."""

    text: bytes
    sha: str
    """The name by which EVALSHA calls it."""


class Header(NamedTuple):
    """What a script calls its keys and arguments. A name that ends in "..." stands for any number of them."""

    keys: tuple[str, ...]
    args: tuple[str, ...]
    """Those that are no list."""
    list_: str
    """The name of the list that follows them, "" if there is none."""
    takes_run: bool
    """Whether the server's run id comes after them: see lua/run.lua."""


@cache
def header(name: str) -> Header:
    """What a script takes, as its header says."""
    text = _read(name)
    named = {kind: tuple(words.replace("--", " ").split()) for kind, words in _HEADER.findall(text)}
    args = named.get("ARGV", ())
    fixed, list_ = (args[:-1], args[-1].removesuffix("...")) if args and args[-1].endswith("...") else (args, "")
    return Header(named.get("KEYS", ()), fixed, list_, "-- include: run\n" in text)


@cache
def script(name: str) -> Script:
    """The script in lua/`name`.lua, with each line `-- include: other` replaced by the text of lua/other.lua, once.

    What it does not use of that is left out, since a script makes its functions anew each time it runs.

    Raises:
        FileNotFoundError: there is no such script.
        LookupError: it uses a name that is not in its header.
    """
    places = {
        kind: {word.removesuffix("..."): str(i) for i, word in enumerate(words, 1)}
        for kind, words in (("KEYS", header(name).keys), ("ARGV", (*header(name).args, header(name).list_)))
    }
    places["AT"] = places["KEYS"] | places["ARGV"]

    def numbered(match: re.Match[str]) -> str:
        kind, word = match.groups()
        if word not in places[kind]:
            raise LookupError(f"{name}.lua: {match[0]} is not in its header")
        return places[kind][word] if kind == "AT" else f"{kind}[{places[kind][word]}]"

    text = _NAME.sub(numbered, _used(_COMMENT.sub("", _included(_read(name), {name})))).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


def load() -> None:
    """Read all of them, which happens with the first use of each otherwise. What is included only, has no header."""
    for file in (files(__package__) / "lua").iterdir():
        name = file.name.removesuffix(".lua")
        if _HEADER.search(_read(name)):
            script(name)


def _read(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def _included(text: str, there: set[str]) -> str:
    def included(match: re.Match[str]) -> str:
        name = match[1]
        if name in there:
            return ""
        there.add(name)
        return _included(_read(name), there)

    return _INCLUDE.sub(included, text)


def _used(text: str) -> str:
    """The script without the functions at its top level that nothing calls."""
    names = Counter(re.findall(r"\w+", text))
    shorter = _FUNCTION.sub(lambda function: function[0] if names[function[1]] > 1 else "", text)
    return text if shorter == text else _used(shorter)
