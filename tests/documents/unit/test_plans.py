"""Plans know replies by their types: they hold no bytes, and have every step make its reply of what a server says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import langgraph_tiered_checkpoint

PACKAGE = Path(langgraph_tiered_checkpoint.__file__).parent
MODULES = [*sorted((PACKAGE / "plans").glob("*.py")), PACKAGE / "calls.py", PACKAGE / "cold" / "preparing.py"]


def offences(source: str) -> Iterator[str]:
    """Literals of bytes, and steps that are yielded as they are; what makes an `Iterator` is no plan."""
    tree = ast.parse(source)
    made = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef) and outer.returns and "Iterator[" in ast.unparse(outer.returns)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            yield f"line {node.lineno} holds {node.value!r}: parse the reply in hot/, next to its call"
        if isinstance(node, ast.Yield) and id(node) not in made:
            yield f"line {node.lineno} yields a step whose reply has no type: write `yield from`"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_plans_take_replies_by_their_types(module: Path) -> None:
    assert list(offences(module.read_text())) == []


def test_bytes_and_bare_steps_are_found() -> None:
    source = (
        "def plan():\n    reply = yield step\n    return reply[0] == b'ok'\n\ndef f() -> Iterator[int]:\n    yield 1\n"
    )
    assert [offence.partition(" ")[2][:1] for offence in offences(source)] == ["2", "3"]
