"""The page of the command line shows what its commands print. `UPDATE_DOCS=1` has the test write it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.cli import FAILED, UNAVAILABLE, USAGE, main
from langgraph_tiered_checkpoint.cli.app import app
from langgraph_tiered_checkpoint.plans.promoting import beat
from langgraph_tiered_checkpoint.plans.verdicts import WHY

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
SHOWN = re.compile(r"```console\n\$ (lgt[^\n]*)\n(.*?)```", re.DOTALL)
CHECKS = re.compile(r"(\| check \| why it matters \|\n\| --- \| --- \|\n)(.*?)\n\n", re.DOTALL)
VARIES = re.compile(
    r"\d+(\.\d+)? (ms|s|min|h|d|B|KB|MB)\b|\d[\d-]{9}[ T][\d:.+]{8,}"
    r"|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16}\b|\d+\.\d+(\.\d+)?"
)
"""Durations, sizes, moments, ids, versions."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """The store of the page."""
    monkeypatch.setenv("LGT_REDIS_URL", redis_url)
    monkeypatch.setenv("LGT_POSTGRES_URL", postgres_url)
    never = Promotion.never()
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=never) as saver:
        graph = StateGraph(MessagesState).add_node("answer", lambda _: {"messages": [("ai", "Noted")]})
        compiled = graph.add_edge(START, "answer").compile(checkpointer=saver)
        tenant = graph.compile(checkpointer=saver.scoped("acme"))
        for thread_id in ("order-17", "order-18", "visit-1", "visit-2"):
            compiled.invoke({"messages": [HumanMessage("Hello")]}, {"configurable": {"thread_id": thread_id}})
        tenant.invoke({"messages": [HumanMessage("Hello")]}, {"configurable": {"thread_id": "chat"}})
        for thread_id in ("order-17", "order-18"):
            saver.promote(thread_id)
        saver.evict("order-18")
        saver._sync.run(beat(saver._store, before="", now='["id", "web-1", 4711, "lgt", "1", 1e12, 2.5]'))
        yield saver


def printed(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints on a terminal of 100 columns, to either stream."""
    monkeypatch.setattr("langgraph_tiered_checkpoint.cli.output._PIPED_WIDTH", 100)
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit):
        main()
    out, err = capsys.readouterr()
    return "\n".join(line.rstrip() for line in (out + err).splitlines()) + "\n"


def common(text: str) -> str:
    """What does not differ from one time to the next."""
    return re.sub(r"\.\.\.( \.\.\.)+", "...", re.sub(r"\s+", " ", VARIES.sub("...", text)))


def test_page_shows_what_commands_print(
    store: TieredSaver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = PAGE.read_text()
    told = {command: printed(command, monkeypatch, capsys) for command, _ in SHOWN.findall(page)}
    rows = "\n".join(f"| {name} | {why} |" for name, why in WHY.items())
    if os.environ.get("UPDATE_DOCS"):
        page = SHOWN.sub(lambda block: f"```console\n$ {block[1]}\n{told[block[1]]}```", page)
        PAGE.write_text(CHECKS.sub(lambda table: f"{table[1]}{rows}\n\n", page))
    shown = dict(SHOWN.findall(PAGE.read_text()))
    assert {command: common(text) for command, text in shown.items()} == {
        command: common(text) for command, text in told.items()
    }
    assert rows in PAGE.read_text()


def test_page_names_every_command_and_exit_status() -> None:
    page = PAGE.read_text()
    names = [command.name for command in app.registered_commands]
    assert [name for name in names if not re.search(rf"`{name}\b|lgt {name}\b", page)] == []
    for status in (FAILED, USAGE, UNAVAILABLE):
        assert f"\n| {status} | " in page
