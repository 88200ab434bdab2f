"""The documentation: its examples run and print what it says, and its pages are in the navigation."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_redis import cluster_of_one
from pages import DOCS, POSTGRES, REDIS, blocks_of, run

from langgraph_tiered_checkpoint import EmbeddedServers, TieredSaver

CLUSTER = "redis://localhost:7000"
PAGES = sorted(
    [*DOCS.glob("tutorial/*.md"), *DOCS.glob("howto/*.md"), DOCS / "operations.md", DOCS.parent / "README.md"]
)
Read = Callable[..., dict[str, Any]]


@pytest.fixture
def read(redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Runs a page on the servers of this test."""
    monkeypatch.setenv("LGT_REDIS_URL", redis_url)
    monkeypatch.setenv("LGT_POSTGRES_URL", postgres_url)

    def read(page: Path, **instead: str) -> dict[str, Any]:
        ours = f"TieredSaver.from_urls({redis_url!r}, {postgres_url!r}"
        return run(page, {"TieredSaver.embedded(": ours, REDIS: redis_url, POSTGRES: postgres_url, **instead})

    return read


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_examples_run_and_print_what_the_page_says(page: Path, read: Read, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        names = read(
            page, **{CLUSTER: stack.enter_context(cluster_of_one(tmp_path)).url} if "cluster" in page.stem else {}
        )
        if saver := names.get("saver"):
            saver.close()


async def test_server_enters_what_the_page_on_the_agent_server_defines(read: Read) -> None:
    names = read(DOCS / "howto" / "agent-server.md")
    async with names["checkpointer"]() as saver:
        assert saver is names["saver"]


def test_tests_that_the_page_on_pytest_shows_pass(
    read: Read, servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = read(DOCS / "howto" / "pytest.md")
    with TieredSaver.from_urls(servers.redis_url, servers.postgres_url) as saver:
        names["test_it_remembers_without_redis"](saver.scoped("a test"))
    names["test_my_service"](servers, monkeypatch)


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    listed = re.findall(r'= "([\w/-]+\.md)"', (DOCS.parent / "zensical.toml").read_text(encoding="utf-8"))
    assert [page for page in listed if not (DOCS / page).is_file()] == []
    folders = (DOCS.glob(f"{folder}/*.md") for folder in ("tutorial", "howto", "reference"))
    there = [page.relative_to(DOCS).as_posix() for pages in folders for page in pages]
    assert [page for page in there if page not in listed] == []


@pytest.mark.parametrize("page", [*PAGES, DOCS / "index.md"], ids=lambda page: page.stem)
def test_examples_use_the_urls_that_this_test_replaces(page: Path) -> None:
    urls = {
        url
        for block in blocks_of(page)
        if block.language == "python"
        for url in re.findall(r"\w+://[^\"']*", block.text)
    }
    assert {url for url in urls if url.startswith(("redis://", "postgresql://"))} <= {REDIS, POSTGRES, CLUSTER}
