"""The command line, as whoever operates a store uses it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import psycopg
import pytest
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from waiting import wait_until

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.cli import FAILED, UNAVAILABLE, USAGE, main

LGT = (sys.executable, "-m", "langgraph_tiered_checkpoint")
SECRET = "I live in Elm Street"


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """What was printed as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


class Lgt(Protocol):
    def __call__(self, *args: str) -> Outcome: ...


@pytest.fixture
def servers_of_the_environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, postgres_url: str) -> None:
    monkeypatch.setenv("LGT_REDIS_URL", redis_url)
    monkeypatch.setenv("LGT_POSTGRES_URL", postgres_url)


@pytest.fixture
def lgt(servers_of_the_environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lgt:
    """Runs a command in this process."""

    def run(*args: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["lgt", *args])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        return Outcome(int(exit_.value.code or 0), out, err)

    return run


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """Flushes when told to."""
    never = Promotion.never()
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=never) as made:
        made.setup()
        yield made


def talk(saver: TieredSaver, thread_id: str, text: str = SECRET, *, ask: bool = False) -> None:
    def answer(state: MessagesState) -> dict[str, list[BaseMessage | tuple[str, str]]]:
        if ask:
            interrupt("May I?")
        return {"messages": [("ai", "Noted")]}

    graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile(checkpointer=saver)
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    graph.invoke({"messages": [HumanMessage(text)]}, config)


def test_threads_are_listed_in_order_with_a_prefix_and_a_limit(lgt: Lgt, saver: TieredSaver) -> None:
    for thread_id in ("b", "a-2", "a-1", "a-3"):
        talk(saver, thread_id)
    assert [row["thread_id"] for row in lgt("threads", "--prefix", "a-", "--limit", "2", "--json").lines] == [
        "a-1",
        "a-2",
    ]
    assert lgt("threads").out.split() == ["thread", "id", "a-1", "a-2", "a-3", "b"]


def test_long_list_has_the_state_of_each(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "passing")
    talk(saver, "staying")
    saver.promote("staying")
    states = {row["thread_id"]: (row["tier"], row["state"]) for row in lgt("threads", "-l", "--json").lines}
    assert states == {"passing": ("hot", "ephemeral"), "staying": ("both", "clean")}


def test_explain_says_where_a_thread_is_and_why(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "1")
    outcome = lgt("explain", "1")
    assert outcome.status == 0
    assert "ephemeral" in outcome.out
    assert "it is deleted" in outcome.out
    assert lgt("explain", "2").status == FAILED


def test_looking_prolongs_no_life(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "1")
    before = saver.explain("1").expires_at
    for command in ("explain", "show", "history"):
        assert lgt(command, "1").status == 0
    after = saver.explain("1").expires_at
    assert before is not None
    assert after is not None
    assert abs((after - before).total_seconds()) < 0.1  # both are computed from what is left, in ms


def test_no_value_is_shown_unless_asked_for(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "1", ask=True)
    for command in (
        ["status"],
        ["threads", "-l"],
        ["explain", "1"],
        ["show", "1"],
        ["show", "1", "--json"],
        ["history", "1"],
    ):
        outcome = lgt(*command)
        assert outcome.status == 0
        assert SECRET not in outcome.out + outcome.err
        assert "May I?" not in outcome.out + outcome.err
    [shown] = lgt("show", "1", "--values", "--json").lines
    assert shown["interrupted"] is True
    assert "May I?" in shown["interrupts"][0]
    assert {row["channel"]: row for row in shown["channels"]}["messages"]["value"] == [f"human: {SECRET}"]


def test_history_is_newest_first(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "1")
    rows = lgt("history", "1", "--json").lines
    assert [row["step"] for row in rows] == [1, 0, -1]
    assert [row["step"] for row in lgt("history", "1", "--limit", "1", "--json").lines] == [1]
    assert lgt("history", "2").status == lgt("history", "1", "--namespace", "sub").status == FAILED


def test_status_counts_the_store(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "passing")
    talk(saver, "staying")
    saver.promote("staying")
    [counted] = lgt("status", "--json").lines
    assert (counted["hot_threads"], counted["cold_threads"], counted["due_threads"]) == (2, 1, 0)
    assert "hot threads" in lgt("status").out


def test_threads_move_between_tiers(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "1")
    assert lgt("promote", "1").status == 0
    assert saver.explain("1").state == "clean"
    assert lgt("pin", "1").status == 0
    assert saver.explain("1").pinned
    assert lgt("unpin", "1").status == 0
    assert not saver.explain("1").pinned
    assert lgt("evict", "1").status == 0
    assert saver.explain("1").tier == "cold"
    assert lgt("evict", "2").status == 0  # nothing of it is hot, which is what was asked for
    assert lgt("promote", "2").status == FAILED


def test_flush_is_a_barrier_for_one_thread_or_all(lgt: Lgt, redis_url: str, postgres_url: str) -> None:
    always = Promotion(checkpoints=1)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=always) as saver:
        for thread_id in ("1", "2", "3"):
            talk(saver, thread_id)
        assert lgt("flush", "2").status == 0
        assert [saver.explain(thread_id).state for thread_id in ("1", "2", "3")] == ["dirty", "clean", "dirty"]
        assert lgt("flush").status == 0
        assert [saver.explain(thread_id).state for thread_id in ("1", "2", "3")] == ["clean", "clean", "clean"]


def test_copy_and_prune(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "1")
    assert lgt("copy", "1", "2").status == 0
    assert lgt("copy", "1", "2").status == USAGE
    assert lgt("copy", "none", "3").status == FAILED
    assert lgt("prune", "2").status == 0
    assert [len(lgt("history", thread_id, "--json").lines) for thread_id in ("1", "2")] == [3, 1]


def test_delete_asks_and_says_what_goes(lgt: Lgt, saver: TieredSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    talk(saver, "1")
    dry = lgt("delete", "1", "--dry-run")
    assert dry.status == 0
    assert dry.err.startswith("1: ephemeral")
    for answer in ("", "n\n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        assert lgt("delete", "1").status == FAILED
        assert saver.explain("1").tier == "hot"
    assert lgt("delete", "1", "2", "--yes").status == FAILED  # of the other there is nothing
    assert saver.explain("1").tier is None


def test_scope_confines_every_command(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver.scoped("ours"), "1")
    talk(saver.scoped("theirs"), "2")
    assert [row["thread_id"] for row in lgt("--scope", "ours", "threads", "--json").lines] == ["1"]
    assert lgt("--scope", "theirs", "explain", "1").status == FAILED
    assert lgt("--scope", "ours", "worker", "--once").status == USAGE


@pytest.mark.bare
def test_setup_makes_the_tables_and_check_does_not(lgt: Lgt, postgres_url: str) -> None:
    assert lgt("setup", "--check").status == UNAVAILABLE
    assert lgt("setup").status == 0
    assert lgt("setup", "--check").status == 0
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM checkpoints").fetchone() == (0,)


def test_setup_binds_a_redis_to_a_postgres_of_another_store_only_when_told_to(
    lgt: Lgt, saver: TieredSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk(saver, "1")
    saver.promote("1")
    saver.close()
    refused = lgt("--key-prefix", "another", "setup")
    assert refused.status == USAGE
    assert "take_over" in refused.err
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert lgt("--key-prefix", "another", "setup", "--take-over").status == FAILED
    assert lgt("--key-prefix", "another", "setup", "--take-over", "--yes").status == 0
    assert lgt("--key-prefix", "another", "explain", "1").status == 0
    assert lgt("explain", "1").status == USAGE


def test_ddl_is_what_a_dba_can_run(lgt: Lgt, postgres_url: str) -> None:
    ddl = lgt("--schema", "agents", "setup", "--print-ddl").out
    with psycopg.connect(postgres_url) as connection:
        connection.execute(ddl)
    assert lgt("--schema", "agents", "setup", "--check").status == 0


def test_mistakes_say_what_to_do(lgt: Lgt, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = lgt("--redis", "localhost:6379", "status")
    assert refused.status == USAGE
    assert "redis://" in refused.err
    assert len(refused.err.splitlines()) == 1
    monkeypatch.delenv("LGT_REDIS_URL")
    assert "LGT_REDIS_URL" in lgt("status").err
    monkeypatch.delenv("LGT_POSTGRES_URL")
    assert "LGT_POSTGRES_URL" in lgt("setup").err


def test_outage_has_a_status_of_its_own_and_no_password(lgt: Lgt) -> None:
    outcome = lgt("--redis", "redis://:sesame@127.0.0.1:1/0", "explain", "1")
    assert outcome.status == UNAVAILABLE
    assert "sesame" not in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_worker_flushes_what_others_left_and_drains_on_sigterm(
    servers_of_the_environment: None, redis_url: str, postgres_url: str
) -> None:
    always, at_once = Promotion(checkpoints=1), timedelta(milliseconds=1)
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", promotion=always, flush_interval=at_once
    ) as saver:
        talk(saver, "1")
        worker = subprocess.Popen(
            [sys.executable, "-m", "langgraph_tiered_checkpoint", "worker"], stderr=subprocess.PIPE
        )
        try:
            wait_until(lambda: saver.explain("1").state == "clean", "the worker to flush", 300)
            worker.send_signal(signal.SIGTERM)
            _, said = worker.communicate(timeout=300)
        finally:
            worker.kill()
        assert worker.returncode == 0
        assert said.decode().splitlines()[-1] == "draining"


def test_worker_once_flushes_and_ends(lgt: Lgt, redis_url: str, postgres_url: str) -> None:
    always = Promotion(checkpoints=1)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=always) as saver:
        talk(saver, "1")
        assert lgt("worker", "--once").status == 0
        assert saver.explain("1").state == "clean"


def test_dev_starts_servers_and_prints_their_urls() -> None:
    dev = subprocess.Popen(
        [sys.executable, "-m", "langgraph_tiered_checkpoint", "dev"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert dev.stdout is not None
        urls = dict(dev.stdout.readline().removeprefix("export ").strip().split("=", 1) for _ in range(2))
        redis_url, postgres_url = (urls[name].strip("'") for name in ("LGT_REDIS_URL", "LGT_POSTGRES_URL"))
        with TieredSaver.from_urls(redis_url, postgres_url) as saver:
            talk(saver, "1")
            assert saver.explain("1").tier == "hot"
        dev.send_signal(signal.SIGINT)
        assert dev.wait(300) == 0
    finally:
        dev.kill()
        dev.communicate()


WITHOUT_TYPER = """
import sys
sys.modules["typer"] = None
from langgraph_tiered_checkpoint.cli import main
main()
"""


def test_without_the_extra_it_names_the_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TYPER, "status"], capture_output=True, text=True, check=False)
    assert done.returncode == USAGE
    assert done.stderr == "lgt: the command line needs typer: pip install 'langgraph-tiered-checkpoint[cli]'\n"


def test_help_of_every_command_is_one_line_and_more(lgt: Lgt) -> None:
    assert lgt().status == USAGE  # with the help
    listed = lgt("--help").out
    for name in ("status", "threads", "explain", "show", "history", "setup", "worker", "flush", "delete", "dev"):
        assert f"\n  {name} " in listed
        assert lgt(name, "--help").status == 0


def test_version_is_that_of_the_distribution(lgt: Lgt) -> None:
    from importlib.metadata import version

    assert lgt("--version").out == version("langgraph-tiered-checkpoint") + "\n"


def test_reader_that_stops_reading_is_no_error(servers_of_the_environment: None, saver: TieredSaver) -> None:
    for i in range(30):
        talk(saver, f"{i:02}" * 400)
    command = f"{' '.join(LGT)} threads --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stderr == ""
