"""The command line, as whoever operates a store uses it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import psycopg
import pytest
import redis
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from rich.console import Console
from waiting import wait_until

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.cli import FAILED, UNAVAILABLE, USAGE, main, output
from langgraph_tiered_checkpoint.cli.endpoint import answering
from langgraph_tiered_checkpoint.cli.serving import demo_script
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.hot.keys import bucket_of
from langgraph_tiered_checkpoint.plans import listing
from langgraph_tiered_checkpoint.records import Health

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
    page = lgt("threads", "--prefix", "a-", "--limit", "2", "--ids")
    assert page.out.split() == ["a-1", "a-2"]
    assert page.err == "there are more: --after 'a-2'\n"
    assert lgt("threads", "--prefix", "a-", "--after", "a-2", "--ids").out.split() == ["a-3"]
    assert [row["thread_id"] for row in lgt("threads", "--json").lines] == ["a-1", "a-2", "a-3", "b"]
    assert [line.split()[:3] for line in lgt("threads", "-n", "1").out.splitlines()] == [
        ["thread", "tier", "state"],
        ["a-1", "hot", "ephemeral"],
    ]


def test_threads_are_filtered_and_sorted(lgt: Lgt, saver: TieredSaver, redis_url: str, postgres_url: str) -> None:
    for thread_id, text in (("passing", "x"), ("staying", "x" * 20_000), ("kept", "x"), ("gone cold", "x")):
        talk(saver, thread_id, text)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as promoting:
        talk(promoting, "asking", ask=True)
    saver.promote("staying")
    saver.pin("kept")
    saver.promote("gone cold")
    saver.evict("gone cold")

    def listed(*args: str) -> list[str]:
        return lgt("threads", "--ids", *args).out.splitlines()

    assert listed("--state", "clean", "--state", "cold") == ["gone cold", "kept", "staying"]
    assert listed("--interrupted") == ["asking"]
    assert listed("--pinned") == ["kept"]
    assert listed("--sort", "last-write")[0] == "asking"
    assert listed("--sort", "last-write", "-r")[0] == "passing"
    assert listed("--sort", "size", "-n", "1") == ["staying"]
    assert listed("-r") == ["staying", "passing", "kept", "gone cold", "asking"]


@pytest.mark.parametrize("page", [200, 1])
def test_scopes_are_listed(lgt: Lgt, saver: TieredSaver, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(listing, "BUCKET_PAGE", page)
    for tenant, count in (("b:1", 1), ("a", 3), ("", 1)):
        for n in range(count):
            talk(saver.scoped(tenant) if tenant else saver, f"chat-{n}")
    assert [row["scope"] for row in lgt("scopes", "--json").lines] == ["a", "b:1"]
    assert lgt("scopes", "--count", "--json").lines == [{"scope": "a", "threads": 3}, {"scope": "b:1", "threads": 1}]


def test_explain_tells_what_has_happened_and_what_comes_next(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "1")
    outcome = lgt("explain", "1")
    assert outcome.status == 0
    assert [re.split("  +", line.strip())[1].split(" 86")[0] for line in outcome.out.splitlines()] == [
        "created, in Redis",
        "last written; 3 checkpoints",
        "hot: not promoted; it is deleted",
        "it expires: nothing is left of it",
    ]
    saver.pin("1")
    [told] = lgt("explain", "1", "--json").lines
    assert [event["what"] for event in told["past"]][1:] == [
        "last written; 3 checkpoints",
        "promoted to Postgres: pin()",
        "flushed: Postgres holds all of it",
    ]
    assert [event["what"] for event in told["next"]] == [
        "it is evicted from Redis; Postgres keeps it",
        "it is pinned: retention passes it over",
    ]
    assert lgt("explain", "2").status == FAILED


def test_show_counts_the_messages(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "1")
    talk(saver, "1")
    assert "2 human, 2 ai" in lgt("show", "1").out
    [shown] = lgt("show", "1", "--json").lines
    assert [message["type"] for message in shown["messages"]] == ["human", "ai", "human", "ai"]
    assert set(shown["messages"][0]) == {"type", "length"}
    assert (shown["tier"], shown["state"]) == ("hot", "ephemeral")


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
        ["threads"],
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
    assert (counted["ephemeral"]["threads"], counted["clean"]["threads"]) == (1, 1)
    told = lgt("status").out
    assert "ephemeral          1" in told
    assert "no promoter alive" in told


def test_status_is_shown_again_and_again(lgt: Lgt, saver: TieredSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    naps = iter([None, None])

    def nap(seconds: float) -> None:
        assert seconds == 5
        next(naps)

    monkeypatch.setattr("time.sleep", nap)
    monkeypatch.setattr(sys, "argv", ["lgt", "status", "--watch", "5", "--json"])
    with pytest.raises(StopIteration):
        main()


def test_doctor_has_a_status_of_its_own_for_failures(lgt: Lgt, saver: TieredSaver) -> None:
    sound = lgt("doctor", "--json")
    assert sound.status == 0
    [report] = sound.lines
    assert report["verdict"] == "warning"
    assert {"name", "verdict", "found", "why", "remedy"} == set(report["checks"][0])
    assert lgt("doctor", "--strict").status == FAILED
    down = lgt("--redis", "redis://:sesame@127.0.0.1:1/0", "doctor")
    assert down.status == FAILED
    assert "could not look" in down.out
    assert "sesame" not in down.out


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


def test_one_thread_that_fails_does_not_keep_the_others(lgt: Lgt, saver: TieredSaver) -> None:
    talk(saver, "1")
    talk(saver, "3")
    outcome = lgt("promote", "1", "2", "3", "--json")
    assert outcome.status == FAILED
    assert [row["thread_id"] + row["result"] for row in outcome.lines] == ["1done", "2failed", "3done"]
    assert "'2'" in outcome.err


def test_sweep_removes_what_has_lapsed(lgt: Lgt, saver: TieredSaver, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        talk(saver, "1")
        client.delete(saver._store.hot.thread_key("1"))
        client.zadd(saver._store.hot.bucket_key(bucket_of("1"), "lapses"), {"1": 1})
        assert lgt("sweep", "--json").lines == [{"result": "swept"}]
        assert client.keys("*:threads") == []


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


def test_worker_flushes_what_others_left_tells_its_health_and_drains_on_sigterm(
    servers_of_the_environment: None, redis_url: str, postgres_url: str
) -> None:
    always, at_once = Promotion(checkpoints=1), timedelta(milliseconds=1)
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", promotion=always, flush_interval=at_once
    ) as saver:
        talk(saver, "1")
        worker = subprocess.Popen(
            [*LGT, "worker", "--health-port", "0", "--health-host", "127.0.0.1"], stderr=subprocess.PIPE, text=True
        )
        try:
            assert worker.stderr is not None
            place = worker.stderr.readline().split()[2].removesuffix("/healthz")
            wait_until(lambda: saver.explain("1").state == "clean", "the worker to flush", 300)
            assert answer(f"{place}/healthz") == (200, {"alive": True, "trouble": None})
            assert answer(f"{place}/readyz")[0] == 200
            assert answer(f"{place}/elsewhere")[0] == 404
            assert [alive.pid for alive in saver.stats().workers] == [worker.pid]
            worker.send_signal(signal.SIGTERM)
            _, said = worker.communicate(timeout=300)
        finally:
            worker.kill()
        assert worker.returncode == 0
        assert said.splitlines()[-1] == "draining"
        assert saver.stats().workers == ()


def answer(url: str) -> tuple[int, Any]:
    """What is served there."""
    try:
        with urllib.request.urlopen(url, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def test_health_tells_an_outage_without_asking_for_a_restart() -> None:
    found = Health(alive=True, trouble="Postgres is down")
    with answering("127.0.0.1", 0, lambda: found) as port:
        assert answer(f"http://127.0.0.1:{port}/healthz")[0] == 200
        assert answer(f"http://127.0.0.1:{port}/readyz") == (503, {"alive": True, "trouble": "Postgres is down"})
        with pytest.raises(ConfigurationError, match="--health-port"), answering("127.0.0.1", port, lambda: found):
            pass


def test_health_of_a_promoter_that_cannot_work() -> None:
    with TieredSaver.from_urls("redis://127.0.0.1:1/0") as saver:
        wait_until(lambda: saver.health().trouble, "the promoter to fail")
        assert saver.health().alive
        assert "127.0.0.1:1" in str(saver.health().trouble)
    assert not saver.health().alive


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
    for name in ("status", "doctor", "threads", "scopes", "explain", "show", "setup", "worker", "erase", "dev", "demo"):
        assert f" {name} " in listed
        assert lgt(name, "--help").status == 0


def test_demo_is_the_quickstart_also_without_a_checkout() -> None:
    script = demo_script()
    assert script is not None
    assert {"model.py", "story.py"} <= {path.name for path in script.parent.iterdir()}


@pytest.mark.parametrize(("width", "columns"), [(80, ["thread", "memory", "state"]), (20, ["thread", "state"])])
def test_columns_that_do_not_fit_are_left_out(
    width: int, columns: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "console", lambda: Console(width=width))
    row = {"thread": "order-17", "memory": "1.2 MB", "state": "clean"}
    output.print_fitting([row], ["thread", "memory", "state"], expendable=["memory"])
    assert capsys.readouterr().out.splitlines()[0].split() == columns


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.25, "250 ms"), (59.7, "1 min"), (61, "1 min 1 s"), (3_600, "1 h"), (90_061, "1 d 1 h"), (-90, "-90 s")],
)
def test_durations_are_said_in_two_units(value: float, said: str) -> None:
    assert output.span(timedelta(seconds=value)) == said


def test_version_is_that_of_the_distribution(lgt: Lgt) -> None:
    from importlib.metadata import version

    assert lgt("--version").out == version("langgraph-tiered-checkpoint") + "\n"


def test_reader_that_stops_reading_is_no_error(servers_of_the_environment: None, saver: TieredSaver) -> None:
    for i in range(30):
        talk(saver, f"{i:02}" * 400)
    command = f"{' '.join(LGT)} threads --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stderr == ""
