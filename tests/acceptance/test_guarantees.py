"""docs/guarantees.md: the tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
GUARANTEES = TESTS.parent / "docs" / "guarantees.md"


def test_every_test_that_a_guarantee_names_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)?\w+\.py)`", GUARANTEES.read_text(encoding="utf-8")))
    assert len(named) > 10
    assert [name for name in named if not (TESTS / name).is_file()] == []
