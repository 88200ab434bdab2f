"""The faults that `make mutants` makes can still be made, and the tests that have to notice them are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mutants.mutations import MUTATIONS, PACKAGE, Mutation

import langgraph_tiered_checkpoint

TESTS = Path(__file__).parents[2]
ROOT = Path(langgraph_tiered_checkpoint.__file__).parents[1]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.what for mutation in MUTATIONS])
def test_fault_can_be_made(mutation: Mutation) -> None:
    changed = mutation.applied(ROOT)
    if mutation.file.endswith(".py"):
        compile(changed, f"{PACKAGE}/{mutation.file}", "exec")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.what for mutation in MUTATIONS])
def test_tests_that_have_to_notice_a_fault_are_there(mutation: Mutation) -> None:
    assert mutation.tests
    for test in mutation.tests:
        file, _, function = test.partition("::")
        assert re.search(rf"^(async )?def {function}\(", (TESTS / file).read_text(), re.MULTILINE), test
