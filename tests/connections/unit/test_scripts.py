"""What is sent to Redis of the scripts and their includes."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest

from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.hot import scripts
from langgraph_tiered_checkpoint.hot.recipes import Packed
from langgraph_tiered_checkpoint.hot.scripts import header, script
from langgraph_tiered_checkpoint.hot.writing import OF_WRITER, Writer
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import CheckpointRow, WriteRow
from langgraph_tiered_checkpoint.steps import Lua

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
    names = ("now_ms", "note_run", "quick_state", "quickly", "load", "leaving", "add", "moved", "admit")
    places = [text.index(f"local function {name}(") for name in names]
    assert places == sorted(places)
    assert text.count("local function now_ms(") == 1


ROW = CheckpointRow("ns", "c2", "c1", b"{}", b"{}", None, (("a", "1"), ("b", "2")), (), "run", "root", 0)
WRITER = Writer("t", "op", "incarnation", confirmed=True, since_ms=5.0)
WRITE = WriteRow("ns", "c1", "task", 0, "a", "", b"", "")
HOT = Store.of(Settings()).hot
OF_SUPERSTEPS: dict[str, tuple[Lua[Any], tuple[str, ...]]] = {
    "put": (
        HOT.put(WRITER, ROW, Packed([], [], []), [0], taken_over=True, note_run=True),
        (
            *OF_WRITER,
            *("ns", "id", "parent", "quick", "size", "root", "run_id", "log", "expected", "packed", "looked_at"),
            *("s", "hns", "yns\0c2", "cns\0c2", "record"),
        ),
    ),
    "put_writes": (
        HOT.put_writes(WRITER, "ns", "c1", "task", [WRITE], interrupt=False),
        (
            *OF_WRITER,
            *("ns", "id", "quick", "interrupt", "special", "looked_at"),
            *("s", "hns", "yns\0c1", "pns\0c1\x000\0task", "frame"),
        ),
    ),
    "get": (
        HOT.get("t", "ns", "c1", root_id="root", token="token"),
        ("ns", "id", "refresh", "root", "cold", "token", "only"),
    ),
}


@pytest.mark.parametrize("name", OF_SUPERSTEPS)
def test_arguments_that_are_given_by_position_are_those_of_the_header(name: str) -> None:
    """The others are given by name, which each call makes sure of."""
    call, names = OF_SUPERSTEPS[name]
    fixed = header(name).args
    assert names[: len(fixed)] == fixed
    assert len(call.args) == len(names) + 1  # the server's run id
    by_name = dict(zip(names, call.args, strict=False))
    known: dict[str, bytes | str] = {"ns": "ns", "thread_id": "t", "op": "op", "incarnation": "incarnation"}
    known |= {"confirmed": "1", "quick": "1", "parent": "c1", "root": "root", "run_id": "run", "interrupt": "0"}
    assert {n: by_name[n] for n in names if n in known} == {n: known[n] for n in names if n in known}
    assert [by_name[n] for n in names[len(fixed) :] if "\0" in n or n in ("s", "hns")] == [
        n for n in names[len(fixed) :] if "\0" in n or n in ("s", "hns")
    ]


def test_builder_that_gives_other_arguments_than_the_script_takes_is_a_mistake() -> None:
    with pytest.raises(TypeError, match=r"reopen\.lua takes"):
        HOT._call("reopen", "t", str, tokens="x")
    with pytest.raises(TypeError, match=r"reopen\.lua takes"):
        HOT._call("reopen", "t", str, token="x", rest=["more"])
