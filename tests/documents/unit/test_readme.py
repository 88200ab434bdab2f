"""The README is short, and what it and the reference say of settings is so. Its examples run in test_pages.py."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from langgraph_tiered_checkpoint import Archive, Promotion, TieredSaver, Timeouts

ROOT = Path(__file__).parents[3]
README, SETTINGS = ROOT / "README.md", ROOT / "docs" / "reference" / "settings.md"


def test_readme_is_read_in_some_minutes() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 1_500


@pytest.mark.skipif(not (ROOT / "hatch_build.py").exists(), reason="the wheel is tested without what builds it")
def test_links_of_the_long_description_are_absolute() -> None:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    metadata: dict[str, dict[str, str]] = {}
    module.Links(str(ROOT), {"repository": "https://git.example.org/x"}).update(metadata)
    links = re.findall(r"\]\(([^)#][^)]*)\)", metadata["readme"]["text"])
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []
    assert "![" not in re.sub(r"!\[[^]]*\]\(https://git\.example\.org/x/raw/main/", "", metadata["readme"]["text"])
    files = {link.partition("/main/")[2] for link in [*links, *metadata["urls"].values()]} - {""}
    assert [file for file in files if not (ROOT / file.partition("#")[0]).exists()] == []


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
    made_from_none = {"promotion": "`Promotion()`", "archive": "`Archive.never()`", "timeouts": "`Timeouts()`"}
    signature = inspect.signature(saver).parameters.values()
    return {p.name: made_from_none.get(p.name, spelled(p.default)) for p in signature}


def rows_of(page: Path, after: str) -> dict[str, str]:
    """Names and defaults in the first table after a text."""
    table = page.read_text(encoding="utf-8").partition(f"\n{after}")[2].partition("| --- |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[1:]]
    return {name.strip("|` "): default for name, default, *_ in cells}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param("`TieredSaver(redis=", parameters_of(TieredSaver), id="TieredSaver"),
        pytest.param("`Promotion(...)`", {f.name: spelled(f.default) for f in fields(Promotion)}, id="Promotion"),
        pytest.param("`Archive(...)`", {f.name: spelled(f.default) for f in fields(Archive)}, id="Archive"),
        pytest.param("`Timeouts(...)`", {f.name: spelled(f.default) for f in fields(Timeouts)}, id="Timeouts"),
    ],
)
def test_reference_names_every_setting_and_default(after: str, expected: dict[str, str]) -> None:
    assert rows_of(SETTINGS, after) == expected


def test_settings_that_the_readme_names_have_these_defaults() -> None:
    assert rows_of(README, "## Configuration").items() <= parameters_of(TieredSaver).items()
