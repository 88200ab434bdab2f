"""The chat service of the examples, over HTTP, with several workers: what it remembers, and what it says in trouble."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import httpx
import psutil
import psycopg
import pytest
import redis
from chat_service import ASYNC_INTERRUPTS, SERVER, Service, Visit, answers, imported, started
from waiting import HANGS_S, wait_until

from langgraph_tiered_checkpoint import EmbeddedServers
from langgraph_tiered_checkpoint.embedded.servers import free_port
from langgraph_tiered_checkpoint.errors import HotFullError, SchemaError, ThreadBusyError


@contextlib.contextmanager
def outage(servers: EmbeddedServers, tier: str) -> Iterator[None]:
    """A block without Redis, or without Postgres."""
    kill, restart = {
        "Redis": (servers.kill_redis, servers.restart_redis),
        "Postgres": (servers.kill_postgres, servers.restart_postgres),
    }[tier]
    kill()
    try:
        yield
    finally:
        restart()


def test_two_visitors_see_their_own_conversations_only(visit: Visit) -> None:
    alice, bob = visit(), visit()
    assert alice.say("My name is Alice.") == "Nice to meet you, Alice."
    hers = alice.latest
    assert bob.say("What is my name?") == "I don't know your name."
    assert alice.say("What is my name?", hers) == "Your name is Alice."
    assert set(alice.conversations()) == {hers}
    assert set(bob.conversations()) == {bob.latest}


def test_promoted_conversation_survives_both_the_server_and_redis(
    visit: Visit, service: Service, chat_servers: EmbeddedServers
) -> None:
    carol = visit()
    carol.say("My name is Carol.")
    hers = carol.latest
    assert carol.conversations()[hers]["state"] == "ephemeral"
    carol.say("What is my name?", hers)
    carol.say("What is my name?", hers)
    wait_until(lambda: carol.conversations()[hers]["state"] == "clean", "the flush")
    service.stop()
    with redis.Redis.from_url(chat_servers.redis_url) as client:
        client.flushall()
    service.start()
    for _ in range(3):
        assert carol.conversations()[hers]["tier"] == "cold"  # the list leaves it there
    assert carol.say("What is my name?", hers) == "Your name is Carol."
    assert carol.http.delete(f"/conversations/{hers}").status_code == 204
    with psycopg.connect(chat_servers.postgres_url) as connection:
        like = f"%{hers}"
        left = connection.execute("SELECT count(*) FROM checkpoints WHERE thread_id LIKE %s", (like,)).fetchone()
    assert left == (0,)


def test_looking_at_a_conversation_does_not_keep_it_alive(visit: Visit) -> None:
    dave = visit()
    dave.say("My name is Dave.")
    his = dave.latest
    seen = [float(dave.conversations()[his]["hot_for_s"])]
    for _ in range(5):
        assert dave.http.get(f"/conversations/{his}").status_code == 200
        seen.append(float(dave.conversations()[his]["hot_for_s"]))
    assert seen == sorted(seen, reverse=True)


def test_sum_is_worked_out_by_a_tool_and_no_message_is_without_words(visit: Visit) -> None:
    erin = visit()
    assert erin.say("What is 12*7?") == "That makes 84."
    assert erin.http.get(f"/conversations/{erin.latest}").json() == [
        {"by": "human", "text": "What is 12*7?"},
        {"by": "tool", "text": "84", "tool": "calculator", "asked": "12*7"},
        {"by": "ai", "text": "That makes 84."},
    ]
    assert erin.say("What is 1/0?", erin.latest) == "I cannot work that out: division by zero."


@ASYNC_INTERRUPTS
def test_refund_waits_for_a_decision_and_is_decided_once(visit: Visit) -> None:
    frank = visit()
    for decision, answer in ((True, "Order 17 is refunded."), (False, "The refund of order 17 was rejected.")):
        assert frank.say("Refund order 17") == "Refund order 17?"
        his = frank.latest
        asked = frank.http.get(f"/conversations/{his}").json()[-1]
        assert (asked["by"], asked["text"]) == ("approval", "Refund order 17?")
        listed = frank.conversations()[his]
        assert listed["waits"]
        assert listed["state"] in {"dirty", "clean"}, "what waits for a human does not expire"
        refused = frank.http.post(f"/conversations/{his}", json={"text": "What is my name?"})
        assert (refused.status_code, refused.json()["detail"][:5]) == (409, "Somet")
        decide = f"/conversations/{his}/decision"
        assert frank.http.post(decide, json={"id": "another", "approve": True}).status_code == 409
        body = {"id": asked["id"], "approve": decision}
        assert frank.http.post(decide, json=body).raise_for_status().text == answer
        assert frank.http.post(decide, json=body).status_code == 409
        assert not frank.conversations()[his]["waits"]


def test_stopped_answer_keeps_what_was_written_and_the_conversation_goes_on(visit: Visit) -> None:
    grace = visit()
    grace.say("again " * 600)
    path = f"/conversations/{grace.latest}"
    with grace.http.stream("POST", path, json={"text": "What have I said?"}) as answer:  # half a minute of words
        pieces = answer.iter_text()
        next(pieces)
        assert grace.http.delete(f"{path}/answer").status_code == 204
        written = len("".join(pieces).split())
    assert 0 < written < 500
    kept = grace.http.get(path).json()[-1]
    assert kept["stopped"]
    assert kept["text"].startswith("So far you have said:")
    assert grace.http.delete(f"{path}/answer").status_code == 204  # there is none, so this means no other
    assert grace.say("My name is Grace.", grace.latest) == "Nice to meet you, Grace."


def test_owner_pins_and_evicts_a_conversation(visit: Visit) -> None:
    heidi = visit()
    heidi.say("My name is Heidi.")
    path = f"/conversations/{heidi.latest}"
    assert heidi.http.delete(f"{path}/hot").status_code == 409  # nothing to fall back on
    assert heidi.http.put(f"{path}/pin").status_code == 204
    assert heidi.conversations()[heidi.latest]["pinned"]
    assert heidi.http.delete(f"{path}/hot").status_code == 204
    assert heidi.conversations()[heidi.latest]["state"] == "cold"
    assert heidi.say("What is my name?", heidi.latest) == "Your name is Heidi."
    assert heidi.http.delete(f"{path}/pin").status_code == 204
    assert not heidi.conversations()[heidi.latest]["pinned"]


@pytest.mark.parametrize("tier", ["Redis", "Postgres"])
def test_outage_is_an_error_and_neither_an_empty_list_nor_a_missing_conversation(
    visit: Visit, chat_servers: EmbeddedServers, tier: str
) -> None:
    alice = visit()
    alice.say("My name is Alice.")
    hers = alice.latest
    with outage(chat_servers, tier):
        refused = [
            alice.http.get("/conversations"),
            alice.http.post("/conversations", json={"text": "Hello"}),
            alice.http.get("/conversations/NoSuchConversation"),
        ]
        if tier == "Redis":
            refused += [
                alice.http.get(f"/conversations/{hers}"),
                alice.http.post(f"/conversations/{hers}", json={"text": "Hello"}),
                alice.http.delete(f"/conversations/{hers}"),
            ]
        else:
            assert alice.say("What is my name?", hers) == "Your name is Alice."
        assert [answer.status_code for answer in refused] == [503] * len(refused)
        assert {answer.text for answer in refused} == {f'{{"detail":"{tier} does not answer just now"}}'}
    wait_until(lambda: alice.http.get("/conversations").status_code == 200, f"{tier} to be back")
    assert alice.say("What is my name?", hers) == "Your name is Alice."


def test_model_that_does_not_stream_is_heard_once(
    visit: Visit, chat_servers: EmbeddedServers, another_model: dict[str, str]
) -> None:
    with Service(chat_servers, **another_model) as another:
        alice = visit(url=another.url)
        assert alice.say("My name is Alice.") == "It would seem:\nAlice"
        assert alice.say("What is my name?", alice.latest) == "It would seem:\nAlice"
        assert len(alice.http.get(f"/conversations/{alice.latest}").json()) == 4


def test_text_that_is_none_is_refused(visit: Visit) -> None:
    alice = visit()
    for text in (r'"\ud800"', '""', "null", f'"{4_001 * "x"}"'):
        body = f'{{"text": {text}}}'
        refused = alice.http.post("/conversations", content=body, headers={"content-type": "application/json"})
        assert (refused.status_code, refused.text) == (422, '{"detail":"this is not a message"}')
    assert alice.conversations() == {}


def test_secret_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="CHAT_SECRET is shorter than 32 bytes"):
        imported(monkeypatch, CHAT_SECRET=31 * "x")


@pytest.mark.parametrize(
    ("error", "who"), [(HotFullError, "Redis"), (SchemaError, "Postgres"), (ThreadBusyError, "The store")]
)
async def test_only_the_tier_that_is_at_fault_is_named(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], who: str
) -> None:
    answer = await imported(monkeypatch, CHAT_SECRET=32 * "x").unavailable(None, error("the details"))
    assert answer.status_code == 503
    assert answer.body == f'{{"detail":"{who} does not answer just now"}}'.encode()


@contextlib.contextmanager
def standing_still(worker: psutil.Process) -> Iterator[None]:
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()


def test_one_command_starts_two_workers_and_each_knows_what_the_other_was_told(visit: Visit) -> None:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CHAT_", "MODEL"))}
    with started([sys.executable, str(SERVER / "serve.py"), str(port)], environment) as command:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}"), "the service to answer")
        one, other = (
            child for child in psutil.Process(command.pid).children() if "spawn_main" in " ".join(child.cmdline())
        )
        alice = visit(url=f"http://127.0.0.1:{port}")
        with standing_still(other):
            alice.say("My name is Alice.")
        with standing_still(one):
            assert alice.say("What is my name?", alice.latest) == "Your name is Alice."
        with standing_still(other):
            assert len(alice.http.get(f"/conversations/{alice.latest}").json()) == 4
        command.send_signal(signal.SIGINT)
        assert command.wait(HANGS_S) == 0


def test_service_flushes_what_is_dirty_before_it_exits(
    visit: Visit, service: Service, chat_servers: EmbeddedServers
) -> None:
    alice = visit()
    alice.say("My name is Alice.")
    alice.say("What is my name?", alice.latest)
    alice.say("What is my name?", alice.latest)
    service.stop()
    try:
        with redis.Redis.from_url(chat_servers.redis_url) as client:
            client.flushall()
    finally:
        service.start()
    assert httpx.get(service.url).status_code == 200
    assert alice.say("What is my name?", alice.latest) == "Your name is Alice."
