"""What is sent to Redis of the scripts and their includes."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from langgraph_tiered_checkpoint.hot import scripts
from langgraph_tiered_checkpoint.hot.scripts import header, script

FILES = sorted((files(scripts.__package__ or "") / "lua").iterdir(), key=lambda path: path.name)
NAMES = [path.name.removesuffix(".lua") for path in FILES if header(path.name.removesuffix(".lua")).keys]
"""Of those that are no mere includes."""


@pytest.mark.parametrize("name", NAMES)
def test_script_carries_the_functions_that_it_uses_and_no_comments(name: str) -> None:
    text = script(name).text.decode()
    words = re.findall(r"\w+", text)
    assert [made for made in re.findall(r"^local function (\w+)", text, re.MULTILINE) if words.count(made) < 2] == []
    assert not re.search(r"--", text)


def test_includes_are_put_in_place_in_order() -> None:
    text = script("put").text.decode()
    names = ("now_ms", "moved", "note_run", "quick_state", "quickly", "load", "leave_arenas", "add", "admit")
    places = [text.index(f"local function {name}(") for name in names]
    assert places == sorted(places)
    assert text.count("local function now_ms(") == 1
