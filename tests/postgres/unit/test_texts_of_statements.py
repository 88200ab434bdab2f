"""What holds for the text of every statement: tables have their schema, and text is ordered by bytes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from langgraph_tiered_checkpoint.cold import schema
from langgraph_tiered_checkpoint.cold.schema import TABLES, _read

QUERIES = {name: text for file in ("read.sql", "write.sql") for name, text in _read(file).items()}
ALL = QUERIES | dict(_read("schema.sql"))

ORDERED = re.compile(r'(COLLATE "C"|\$order)( DESC)?$')
A_NUMBER = "k.number"
WHETHER_THERE_IS_A_ROW = "checkpoint_ns LIMIT 1"
TEXT = r"\w*(?:thread_id|checkpoint_id|checkpoint_ns|thread|\bid|\bns|version|channel)\b\)?"
COMPARED = re.compile(TEXT + r"\s*[<>]=?")


@pytest.mark.parametrize("name", QUERIES)
def test_every_order_by_is_bytewise(name: str) -> None:
    for clause in re.findall(r"ORDER BY ([^\n)]*)", QUERIES[name]):
        if not clause.startswith(WHETHER_THERE_IS_A_ROW):
            for key in clause.partition(" LIMIT")[0].partition(" FOR ")[0].split(","):
                assert key.strip() == A_NUMBER or ORDERED.search(key.strip()), f"{name}: ORDER BY {clause}"


@pytest.mark.parametrize("name", QUERIES)
def test_every_comparison_of_text_is_bytewise(name: str) -> None:
    text = re.sub(r"<>|->>?|<@|@>", " ", QUERIES[name])
    assert not COMPARED.findall(text), f"{name}: {COMPARED.findall(text)}"
    for function in re.findall(r"\b(?:least|greatest)\(.*", text):
        if "checkpoint_id" in function:
            assert "$order" in function, f"{name}: {function}"


@pytest.mark.parametrize("name", ALL)
def test_every_table_is_named_with_its_schema(name: str) -> None:
    """Tests of statements run without a schema, those of setup with one that has to be quoted."""
    unqualified = re.compile(rf"(?<!\$schema\.)\b({'|'.join(TABLES)})\b")
    assert not unqualified.search(ALL[name]), ALL[name]


PACKAGE = Path(schema.__file__).parents[1]


@pytest.mark.parametrize("name", ALL)
def test_every_statement_is_used(name: str) -> None:
    assert any(f'"{name}"' in path.read_text() for path in PACKAGE.rglob("*.py"))
