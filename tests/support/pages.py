"""Runs the examples of a page of the documentation, from its first to its last, as a reader would.

Python blocks share their names. What one prints has to be what a `text` block right below it says, where `...` stands
for anything. Lines of `sh` blocks that begin with `lgt ` are run too; of those that would not end, only the options
are looked at.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.cli import main

DOCS = Path(__file__).parents[2] / "docs"
REDIS, POSTGRES = "redis://localhost:6379/0", "postgresql://localhost/app"
_BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_ENDLESS = ("worker", "dev", "--watch")


class Block(NamedTuple):
    """An example."""

    language: str
    line: int
    """Of the page, on which it begins."""
    text: str
    is_output: bool
    """Whether it says what the one above has printed."""


def blocks_of(page: Path) -> list[Block]:
    """The examples of a page."""
    text = page.read_text(encoding="utf-8")
    blocks, end = [], 0
    for found in _BLOCK.finditer(text):
        is_output = found[2] == "text" and not text[end : found.start()].strip()
        blocks.append(Block(found[2], text.count("\n", 0, found.start(3)), textwrap.dedent(found[3]), is_output))
        end = found.end()
    return blocks


def run(page: Path, instead: Mapping[str, str]) -> dict[str, Any]:
    """Run a page; the names that its Python examples leave. `instead` says what to read for some words in it."""
    names: dict[str, Any] = {"__name__": page.stem}
    printed = ""
    for language, line, text, is_output in blocks_of(page):
        source = text
        for word, other in instead.items():
            source = source.replace(word, other)
        if is_output:
            same = doctest.OutputChecker().check_output(text, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert same, f"{page.name}, line {line}, says\n{text}\nand what is printed is\n{printed}"
        if language == "python":
            with _caught() as caught:
                exec(compile("\n" * line + source, str(page), "exec"), names)
            printed = caught.getvalue()
        elif language == "sh":
            for command in re.findall(r"^lgt (.*)", source, re.MULTILINE):
                printed = _command(shlex.split(command, comments=True))
    return names


def _command(arguments: list[str]) -> str:
    if any(word in arguments for word in _ENDLESS):
        arguments = [*arguments[: arguments.index("--watch") if "--watch" in arguments else None], "--help"]
    status: object = 0
    before, sys.argv = sys.argv, ["lgt", *arguments]
    with _caught() as caught:
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        finally:
            sys.argv = before
    assert not status, f"lgt {' '.join(arguments)}: {caught.getvalue()}"
    return caught.getvalue()


@contextlib.contextmanager
def _caught() -> Iterator[io.StringIO]:
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        yield written
