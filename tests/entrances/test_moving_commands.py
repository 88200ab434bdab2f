"""Threads are exported, imported and erased from the command line."""

from __future__ import annotations

import io
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from homes import at, put
from langgraph.checkpoint.sqlite import SqliteSaver

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.cli import FAILED, USAGE, main

SECRET = "I live in Elm Street"


@pytest.fixture
def saver(redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TieredSaver]:
    monkeypatch.setenv("LGT_REDIS_URL", redis_url)
    monkeypatch.setenv("LGT_POSTGRES_URL", postgres_url)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        made.setup()
        yield made


def test_threads_are_moved_from_the_command_line(
    saver: TieredSaver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lgt(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lgt", *args])
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0), *capsys.readouterr()

    elsewhere = tmp_path / "threads.sqlite"
    with SqliteSaver.from_conn_string(str(elsewhere)) as source:
        for thread in ("t", "u", "n" * 1001):
            put(source, at(thread), {"a": [SECRET]})
    status, out, _ = lgt("import", str(elsewhere), "--dry-run", "--json")
    assert (status, [json.loads(line)["outcome"] for line in out.splitlines()]) == (
        FAILED,
        ["refused", "imported", "imported"],
    )
    assert list(saver.thread_ids()) == []
    status, out, err = lgt("import", str(elsewhere))
    assert status == FAILED
    assert "1001 bytes" in err
    assert SECRET not in out + err
    assert list(saver.thread_ids()) == ["t", "u"]

    file, packed = tmp_path / "t.jsonl", tmp_path / "all.jsonl.gz"
    assert lgt("export", "t", "-o", str(file))[0] == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert lgt("export", "-o", str(packed))[0] == 0
    assert lgt("export", "t", "-o", str(file))[0] == USAGE
    assert lgt("export", "nobody")[0] == FAILED
    assert lgt("export", "t")[1] == file.read_text()
    assert SECRET in lgt("export", "t", "--decoded")[1]

    assert lgt("erase", "t", "--yes")[0] == USAGE
    assert lgt("erase", "--all", "--asked-by", "me", "--yes")[0] == USAGE
    status, out, _ = lgt("erase", "t", "u", "--asked-by", "ticket 7", "--yes", "--json")
    assert (status, [json.loads(line)["gone"] for line in out.splitlines()]) == (0, [True, True])
    assert list(saver.thread_ids()) == []

    assert lgt("--scope", "x", "import", str(packed), "u")[0] == 0
    assert list(saver.scoped("x").thread_ids()) == ["u"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(file.read_text()))
    assert lgt("import", "-")[0] == 0
    assert saver.explain("t").state == "clean"
    assert lgt("--scope", "x", "erase", "--all", "--asked-by", "me", "--yes")[0] == 0
    assert list(saver.scoped("x").thread_ids()) == []
    assert lgt("import", "postgresql://nobody@127.0.0.1:1/none")[0] == FAILED
    assert lgt("import", "no such file")[0] == USAGE
