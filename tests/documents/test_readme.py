"""The README: its Python examples run, in order, and its tables name every parameter with its default."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from langgraph_tiered_checkpoint import Promotion, TieredSaver, Timeouts
from langgraph_tiered_checkpoint.cold.schema import TABLES

README = Path(__file__).parents[2] / "README.md"
REDIS, POSTGRES = "redis://localhost:6379/0", "postgresql://localhost/app"


def python_blocks() -> list[tuple[int, str]]:
    """Each example with the line that it begins on."""
    text = README.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start(1)), match[1])
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def run_blocks(names: dict[str, Any], redis_url: str, postgres_url: str) -> None:
    for line, block in python_blocks():
        source = "\n" * line + block.replace(REDIS, redis_url).replace(POSTGRES, postgres_url)
        exec(compile(source, README.name, "exec"), names)


def test_examples_run_in_order_as_printed(
    redis_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    run_blocks(names, redis_url, postgres_url)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("not promoted; it is deleted")
    assert told[1] == "clean"
    assert told[2].startswith("both clean ")
    ddl = "\n".join(told)
    assert all(f"CREATE TABLE IF NOT EXISTS {table}" in ddl for table in TABLES)
    with TieredSaver.from_urls(redis_url, postgres_url) as saver:
        assert not list(saver.thread_ids("cookie-"))


def test_web_service_as_printed_tells_users_apart(redis_url: str, postgres_url: str) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    run_blocks(names, redis_url, postgres_url)
    with TestClient(names["app"]) as http:

        def say(user: str) -> Any:
            return http.post("/first", params={"text": "Hello"}, headers={"x-user": user}).raise_for_status().json()

        assert [say("alice"), say("bob"), say("alice")] == [f"That was message {n}." for n in (1, 1, 3)]


def test_examples_use_the_urls_that_this_test_replaces() -> None:
    urls = {url for _, block in python_blocks() for url in re.findall(r"\w+://[^\"]*", block)}
    assert urls == {REDIS, POSTGRES}


def spelled(default: object) -> str:
    """A default as the tables write it."""
    match default:
        case timedelta():
            for seconds, unit in ((3600, "hour"), (60, "minute"), (1, "second")):
                count = default.total_seconds() / seconds
                if count >= 1:
                    return f"{count:g} {unit}{'s' if count > 1 else ''}"
            raise AssertionError(default)
        case int() if not isinstance(default, bool):
            return str(default)
        case str():
            return f'`"{default}"`'
        case inspect.Parameter.empty:
            return "required"
        case _:
            return f"`{default}`"


def parameters_of(saver: Callable[..., object]) -> dict[str, str]:
    made_from_none = {"promotion": "`Promotion()`", "timeouts": "`Timeouts()`"}
    signature = inspect.signature(saver).parameters.values()
    return {p.name: made_from_none.get(p.name, spelled(p.default)) for p in signature}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param("`TieredSaver(redis=", parameters_of(TieredSaver), id="TieredSaver"),
        pytest.param("`Promotion(...)`", {f.name: spelled(f.default) for f in fields(Promotion)}, id="Promotion"),
        pytest.param("`Timeouts(...)`", {f.name: spelled(f.default) for f in fields(Timeouts)}, id="Timeouts"),
    ],
)
def test_configuration_table_names_every_parameter_and_default(after: str, expected: dict[str, str]) -> None:
    table = README.read_text(encoding="utf-8").partition(f"\n{after}")[2].partition("| --- |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[1:]]
    assert {name.strip("|` "): default for name, default, *_ in rows} == expected
