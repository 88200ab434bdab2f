"""The Agent Server example: `langgraph dev` with this saver as its checkpointer, driven through `langgraph_sdk`."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import psycopg
import pytest
import redis
from key_rules import broken_rules
from langgraph_sdk import get_sync_client
from langgraph_sdk.errors import APIStatusError
from waiting import HANGS_S, wait_until

from langgraph_tiered_checkpoint import EmbeddedServers, TieredSaver
from langgraph_tiered_checkpoint.embedded.servers import free_port

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="langgraph-api needs Python 3.11")

EXAMPLE = Path(__file__).parents[2] / "examples" / "agent_server"
GRAPH = "refunds"
OFFLINE = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "true", "LANGSMITH_TRACING": "false"}
TURN = 3
"""Checkpoints that a message and its answer make."""


@contextlib.contextmanager
def process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("ab") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options) as running,
    ):
        try:
            yield running
        finally:
            running.terminate()
            running.wait(HANGS_S)


def wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    def ready() -> bool:
        assert server.poll() is None, log.read_text(encoding="utf-8")
        try:
            return httpx.get(f"http://127.0.0.1:{port}/ok").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(ready, "the Agent Server to answer")


def copied(to: Path) -> Path:
    """The example where it can write its files, with what it needs of the other examples."""
    for name in ("model.py", "story.py"):
        shutil.copy(EXAMPLE.parent / name, to)
    ignored = shutil.ignore_patterns(".langgraph_api", "__pycache__")
    return Path(shutil.copytree(EXAMPLE, to / EXAMPLE.name, ignore=ignored))


class AgentServer:
    """`langgraph dev` in a process of its own, on a copy of the example, and its client."""

    def __init__(self, folder: Path, servers: EmbeddedServers, checkpointer: str = "checkpointer") -> None:
        self.port = free_port()
        self._folder = copied(folder)
        configuration = self._folder / "langgraph.json"
        named = configuration.read_text(encoding="utf-8").replace("py:checkpointer", f"py:{checkpointer}")
        configuration.write_text(named, encoding="utf-8")
        self._log = folder / "log"
        self._environment = {name: value for name, value in os.environ.items() if name != "MODEL"} | OFFLINE
        self._environment |= {"REDIS_URL": servers.redis_url, "POSTGRES_URL": servers.postgres_url}

    @contextlib.contextmanager
    def running(self, **settings: str) -> Iterator[AgentServer]:
        options = ["--no-browser", "--no-reload", "--n-jobs-per-worker", "4", "--port", str(self.port)]
        command = [sys.executable, "-m", "langgraph_cli", "dev", *options]
        with process(command, self._log, cwd=self._folder, env=self._environment | settings) as dev:
            wait_for(dev, self.port, self._log)
            self._process = dev
            with get_sync_client(url=f"http://127.0.0.1:{self.port}") as client:
                self.threads: Any = client.threads
                self.runs: Any = client.runs
                yield self
        assert "Blocking call" not in self._log.read_text(encoding="utf-8")

    def interrupt(self) -> None:
        """Stop it as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def new_thread(self) -> str:
        return str(self.threads.create()["thread_id"])

    def say(self, thread_id: str, text: str, **options: Any) -> str:
        """The answer, or the question at which the run was interrupted."""
        return outcome(self.runs.wait(thread_id, GRAPH, input=said(text), **options))

    def decide(self, thread_id: str, decision: str) -> str:
        return outcome(self.runs.wait(thread_id, GRAPH, command={"resume": decision}))

    def start_thinking(self, thread_id: str, text: str) -> str:
        """The id of a run that has begun, and will not end by itself."""
        run = self.runs.create(thread_id, GRAPH, input=said(text), context={"think_s": 600})
        wait_until(lambda: self.threads.get_state(thread_id)["next"] == ["assistant"], "the run to begin")
        return str(run["run_id"])

    def history(self, thread_id: str, **options: Any) -> list[Any]:
        return list(self.threads.get_history(thread_id, **{"limit": 1000, **options}))

    def messages(self, thread_id: str) -> list[str]:
        values = self.threads.get_state(thread_id)["values"]
        return [message["content"] for message in values.get("messages", [])]


Place: TypeAlias = Callable[[str, str], None]


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def outcome(state: Any) -> str:
    return str(state["__interrupt__"][0]["value"] if "__interrupt__" in state else state["messages"][-1]["content"])


@pytest.fixture(scope="module")
def servers() -> Iterator[EmbeddedServers]:
    """In place of the session's: a test wipes them."""
    with EmbeddedServers() as running:
        yield running
        with redis.Redis.from_url(running.redis_url) as client:
            assert broken_rules(client) == []


@pytest.fixture(scope="module")
def server(servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentServer]:
    with AgentServer(tmp_path_factory.mktemp("agent"), servers).running(COLD_WRITES="through") as running:
        yield running


@pytest.fixture
def tiers(servers: EmbeddedServers) -> Iterator[TieredSaver]:
    """Looks at the tiers from outside, and flushes nothing by itself."""
    with TieredSaver.from_urls(servers.redis_url, servers.postgres_url, promoter="external") as saver:
        yield saver


@pytest.fixture
def place(tiers: TieredSaver) -> Place:
    def move(thread_id: str, where: str) -> None:
        if where in ("both", "cold"):
            tiers.promote(thread_id)
        if where == "cold":
            tiers.evict(thread_id)
        assert tiers.explain(thread_id).tier == where

    return move


def rows(servers: EmbeddedServers, thread_id: str) -> int:
    """Of a thread, in all tables that hold any."""
    with psycopg.connect(servers.postgres_url) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {table} WHERE thread_id = %s", (thread_id,)).fetchone()
            for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads")
        ]
    return sum(count[0] for count in counts if count)


def test_conversation_is_promoted_by_its_third_message_and_goes_on_when_redis_has_lost_it(
    server: AgentServer, tiers: TieredSaver, servers: EmbeddedServers
) -> None:
    thread_id = server.new_thread()
    assert server.say(thread_id, "My name is Alice.") == "Nice to meet you, Alice."
    assert server.say(thread_id, "What is my name?") == "Your name is Alice."
    assert tiers.explain(thread_id).state == "ephemeral"
    assert rows(servers, thread_id) == 0
    assert server.say(thread_id, "What is my name?") == "Your name is Alice."
    assert tiers.explain(thread_id).state == "clean"
    whole = server.history(thread_id)
    assert len(whole) == 3 * TURN
    tiers.evict(thread_id)
    assert server.history(thread_id) == whole
    assert server.say(thread_id, "What is my name?") == "Your name is Alice."
    assert server.history(thread_id)[TURN:] == whole
    assert server.history(thread_id, limit=2, before=whole[0]["checkpoint"]) == whole[1:3]
    assert tiers.explain(thread_id).cold_checkpoints == 4 * TURN


def test_interrupted_thread_waits_in_postgres_until_it_is_resumed(server: AgentServer, tiers: TieredSaver) -> None:
    thread_id = server.new_thread()
    assert server.say(thread_id, "Refund order 17, please.") == "Refund order 17?"
    assert tiers.explain(thread_id).state == "clean"
    tiers.evict(thread_id)
    state = server.threads.get_state(thread_id)
    assert [interrupt["value"] for interrupt in state["interrupts"]] == ["Refund order 17?"]
    assert server.threads.get(thread_id)["status"] == "interrupted"
    assert server.decide(thread_id, "approve") == "Order 17 is refunded."
    assert server.threads.get_state(thread_id)["interrupts"] == []
    assert tiers.explain(thread_id).tier == "both"


@pytest.mark.parametrize("where", ["hot", "both", "cold"])
def test_rollback_removes_what_the_run_wrote(
    server: AgentServer, tiers: TieredSaver, place: Place, servers: EmbeddedServers, where: str
) -> None:
    thread_id = server.new_thread()
    server.say(thread_id, "My name is Alice.")
    before = server.history(thread_id)
    run_id = server.start_thinking(thread_id, "My name is Bob.")
    place(thread_id, where)
    assert server.say(thread_id, "What is my name?", multitask_strategy="rollback") == "Your name is Alice."
    assert server.messages(thread_id)[2:] == ["What is my name?", "Your name is Alice."]
    after = server.history(thread_id)
    assert after[TURN:] == before
    assert run_id not in {state["metadata"]["run_id"] for state in after}
    assert tiers.explain(thread_id).tier == ("hot" if where == "hot" else "both")
    with psycopg.connect(servers.postgres_url) as connection:
        like = f"%{run_id}%"
        left = connection.execute("SELECT count(*) FROM checkpoints WHERE metadata::text LIKE %s", (like,)).fetchone()
    assert left == (0,)


def test_rollback_of_the_first_run_leaves_an_empty_thread_to_the_next(server: AgentServer, tiers: TieredSaver) -> None:
    thread_id = server.new_thread()
    server.start_thinking(thread_id, "My name is Bob.")
    assert server.say(thread_id, "What is my name?", multitask_strategy="rollback") == "I don't know your name."
    assert len(server.history(thread_id)) == TURN


@pytest.mark.parametrize("where", ["hot", "cold"])
def test_deleting_a_run_removes_what_it_wrote_and_leaves_copies(server: AgentServer, place: Place, where: str) -> None:
    thread_id = server.new_thread()
    server.say(thread_id, "My name is Alice.")
    before = server.history(thread_id)
    server.say(thread_id, "My name is Bob.")
    copy = server.threads.copy(thread_id)["thread_id"]
    copied = server.history(copy)
    place(thread_id, where)
    [latest, _] = server.runs.list(thread_id)
    server.runs.delete(thread_id, latest["run_id"])
    assert server.history(thread_id) == before
    assert server.history(copy) == copied
    assert server.say(thread_id, "What is my name?") == "Your name is Alice."
    assert server.say(copy, "What is my name?") == "Your name is Bob."


def test_development_server_refuses_to_prune_to_the_latest_which_the_saver_does(
    server: AgentServer, tiers: TieredSaver
) -> None:
    thread_id = server.new_thread()
    server.say(thread_id, "My name is Alice.")
    with pytest.raises(APIStatusError, match="keep_latest"):
        server.threads.prune([thread_id], strategy="keep_latest")
    assert len(server.history(thread_id)) == TURN
    tiers.prune([thread_id], strategy="keep_latest")
    assert len(server.history(thread_id)) == 1
    assert server.say(thread_id, "What is my name?") == "Your name is Alice."


@pytest.mark.parametrize("where", ["hot", "cold"])
def test_copy_is_a_thread_of_its_own(server: AgentServer, tiers: TieredSaver, place: Place, where: str) -> None:
    source = server.new_thread()
    server.say(source, "My name is Alice.")
    place(source, where)
    whole = server.history(source)
    copy = server.threads.copy(source)["thread_id"]
    assert tiers.explain(copy).tier == where
    assert [state["values"] for state in server.history(copy)] == [state["values"] for state in whole]
    server.say(copy, "My name is Bob.")
    assert server.history(source) == whole
    server.threads.delete(source)
    assert server.say(copy, "What is my name?") == "Your name is Bob."


def test_copy_of_an_interrupted_thread_waits_as_well(server: AgentServer) -> None:
    source = server.new_thread()
    server.say(source, "Refund order 17, please.")
    copy = server.threads.copy(source)["thread_id"]
    assert server.decide(copy, "reject") == "The refund of order 17 was rejected."
    assert server.decide(source, "approve") == "Order 17 is refunded."


@pytest.mark.parametrize("where", ["hot", "cold"])
def test_state_can_be_updated_and_the_past_be_forked(server: AgentServer, place: Place, where: str) -> None:
    thread_id = server.new_thread()
    server.say(thread_id, "My name is Alice.")
    place(thread_id, where)
    [answered, *_] = server.history(thread_id)
    server.threads.update_state(thread_id, said("My name is Carol."), as_node="__start__")
    assert server.say(thread_id, "What is my name?") == "Your name is Carol."
    fork = {"checkpoint": answered["checkpoint"]}
    assert server.say(thread_id, "What is my name?", **fork) == "Your name is Alice."
    assert len(server.history(thread_id)) == TURN + 1 + TURN + TURN


@pytest.mark.parametrize("where", ["hot", "both", "cold"])
def test_deleted_thread_is_in_neither_tier(
    server: AgentServer, tiers: TieredSaver, place: Place, servers: EmbeddedServers, where: str
) -> None:
    thread_id = server.new_thread()
    server.say(thread_id, "My name is Alice.")
    place(thread_id, where)
    server.threads.delete(thread_id)
    assert tiers.explain(thread_id).state == "absent"
    assert rows(servers, thread_id) == 0


def test_expired_thread_is_still_listed_and_starts_anew(server: AgentServer, servers: EmbeddedServers) -> None:
    thread_id = server.new_thread()
    server.say(thread_id, "My name is Alice.")
    with redis.Redis.from_url(servers.redis_url) as client:
        [key] = client.scan_iter(f"*:t:{thread_id}")
        client.pexpire(key, 1)
        wait_until(lambda: not client.exists(key), "the expiry")
    [listed] = server.threads.search(ids=[thread_id])
    assert "Nice to meet you, Alice." in str(listed["values"]), "the server's own list keeps what was said"
    assert server.history(thread_id) == []
    assert server.say(thread_id, "What is my name?") == "I don't know your name."
    server.threads.delete(thread_id)
    assert server.threads.search(ids=[thread_id]) == []


def test_stopped_server_has_flushed_and_the_next_one_goes_on(
    tiers: TieredSaver, servers: EmbeddedServers, tmp_path: Path
) -> None:
    server = AgentServer(tmp_path, servers)
    with server.running(BG_JOB_ISOLATED_LOOPS="true"):
        chatting, waiting = server.new_thread(), server.new_thread()
        server.say(chatting, "My name is Alice.")
        server.say(waiting, "Refund order 17, please.")
    assert tiers.explain(chatting).state == "ephemeral"
    assert tiers.explain(waiting).state == "clean"
    tiers.evict(waiting)
    with server.running():
        assert server.say(chatting, "What is my name?") == "Your name is Alice."
        assert server.decide(waiting, "approve") == "Order 17 is refunded."
    assert tiers.explain(waiting).state == "clean"
    assert tiers.explain(waiting).cold_checkpoints == 5


@pytest.mark.parametrize("checkpointer", ["saver", "plain"])
def test_stopped_server_has_flushed_also_what_it_does_not_close(
    tiers: TieredSaver, servers: EmbeddedServers, tmp_path: Path, checkpointer: str
) -> None:
    """Of an instance, or of a plain function that returns one, the server closes nothing."""
    server = AgentServer(tmp_path, servers, checkpointer)
    with (tmp_path / EXAMPLE.name / "checkpoints.py").open("a", encoding="utf-8") as module:
        module.write("\n\ndef plain():\n    return saver\n")
    with server.running() as running:
        waiting = server.new_thread()
        server.say(waiting, "Refund order 17, please.")
        running.interrupt()
    assert tiers.explain(waiting).state == "clean"


def test_readme_tells_what_happens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    session = "".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    promised = "".join(re.findall(r"^```text\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    [config] = re.findall(r"^```json\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert config == (EXAMPLE / "langgraph.json").read_text(encoding="utf-8")
    port = free_port()
    command = [sys.executable, str(copied(tmp_path) / "serve.py"), "--no-reload", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "MODEL"}
    log = tmp_path / "log"
    with process(command, log, env=environment) as server:
        wait_for(server, port, log)
        for name, url in re.findall(r"^export (\w+)='(.*)'$", log.read_text(encoding="utf-8"), re.MULTILINE):
            monkeypatch.setenv(name, url)
        names: dict[str, Any] = {"__name__": "readme"}
        exec(session.replace(":2024", f":{port}"), names)
        names["client"].close()
        names["tiers"].close()
    assert server.returncode == 0
    assert capsys.readouterr().out == promised
