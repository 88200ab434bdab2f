"""The tests that docs/guarantees.md and the index name are there, and where a reader looks for them."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[2]
GUARANTEES = TESTS.parent / "docs" / "guarantees.md"


def is_there(file: str, test: str) -> bool:
    """Whether the file exists and, if a test is given, defines it."""
    path = TESTS / file
    return path.is_file() and (not test or bool(re.search(rf"^(async )?def {test}\b", path.read_text(), re.MULTILINE)))


def test_every_test_that_a_guarantee_names_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)(?:::(\w+))?`", GUARANTEES.read_text(encoding="utf-8")))
    assert len([test for _, test in named if test]) > 40
    assert [f"{file}::{test}" for file, test in sorted(named) if not is_there(file, test)] == []


def test_every_promise_names_a_test() -> None:
    """In its own words, or under its name in the fold below its group."""
    text = GUARANTEES.read_text(encoding="utf-8")
    text = text[text.index("## Promises") : text.index("## What the caller sees")]
    promises = [(promise.partition("**")[0].rstrip(".,:"), promise) for promise in text.split("\n- **")[1:]]
    assert len(promises) > 40
    folded = {name: tests for name, tests in re.findall(r"^- (.+?): (`.*)$", text, re.MULTILINE) if "::test_" in tests}
    held = {name for name, promise in promises if "::test_" in promise.partition("\n\n<details")[0]}
    assert {name for name, _ in promises} - held - set(folded) == set()
    assert set(folded) <= {name for name, _ in promises}, "tests of no promise"


def test_the_index_of_the_tests_names_each_file_once() -> None:
    table = (TESTS / "README.md").read_text(encoding="utf-8").partition("| subject |")[2]
    there = [path.relative_to(TESTS).with_suffix("").as_posix() for path in TESTS.rglob("test_*.py")]
    assert sorted(re.findall(r"`(\w+/[\w/]+)`", table)) == sorted(there)


def test_each_file_lies_in_the_folder_of_its_subject() -> None:
    """Not in that of its kind: `deletion/faults/test_x.py`, not `faults/test_x.py`. tests/README.md says more."""
    kinds = ("unit", "integration", "acceptance", "races", "faults")
    misplaced = [path.relative_to(TESTS) for kind in kinds for path in (TESTS / kind).rglob("test_*.py")]
    assert misplaced == [], "move them: see tests/README.md"
