"""The chat service of the examples, over HTTP, with several workers: whose conversation is whose, in every tier."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeAlias

import httpx
import jwt
import psycopg
import pytest
import redis
from itsdangerous import URLSafeSerializer
from waiting import wait_until

from langgraph_tiered_checkpoint import EmbeddedServers

SERVER = Path(__file__).parents[2] / "examples" / "chat_server"
SECRET = "a secret of the server's, and of nobody else"
PROMOTE_AT = 9
"""Checkpoints: the third message of a conversation."""


class Service:
    """A server in processes of its own."""

    def __init__(self, servers: EmbeddedServers, port: int, **settings: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._environment = {name: value for name, value in os.environ.items() if name != "MODEL"} | {
            "CHAT_SECRET": SECRET,
            "CHAT_PROMOTE_AT": str(PROMOTE_AT),
            "REDIS_URL": servers.redis_url,
            "POSTGRES_URL": servers.postgres_url,
            "PYTHONPATH": os.pathsep.join([str(SERVER), str(SERVER.parent)]),
            **settings,
        }
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(self._port), "--workers", "2"]
        self._process = subprocess.Popen([*command, "--log-level", "warning"], env=self._environment)
        wait_until(self._answers, "the service to answer", seconds=30)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url).status_code == 200
        except httpx.TransportError:
            return False


class Browser:
    """Somebody with a cookie jar, or a token."""

    def __init__(self, service: Service, token: str | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=service.url, headers=headers, timeout=20)

    def say(self, text: str, conversation: str = "") -> str:
        """The answer; `conversation` of a new one is in `self.latest`."""
        response = self.http.post(f"/conversations/{conversation}".rstrip("/"), json={"text": text}).raise_for_status()
        self.latest = response.headers["x-conversation"]
        return response.text

    def conversations(self) -> dict[str, dict[str, str]]:
        return {one["id"]: one for one in self.http.get("/conversations").raise_for_status().json()}

    def attempts(self, conversation: str) -> list[tuple[int, str]]:
        """What every way to get at a conversation is answered."""
        path = f"/conversations/{conversation}"
        aside = {"thread_id": conversation, "checkpoint_ns": "", "checkpoint_id": "1", "before": conversation}
        answers = [
            self.http.get(path),
            self.http.get(path, params=aside),
            self.http.post(path, json={"text": "What is my name?"}),
            self.http.post(path, json={"text": "What is my name?", "config": {"configurable": aside}, **aside}),
            self.http.delete(path),
        ]
        return [(answer.status_code, answer.text) for answer in answers]


Visit: TypeAlias = Callable[..., Browser]


def token(sub: str, secret: str = SECRET, lifetime: timedelta = timedelta(hours=1)) -> str:
    return jwt.encode({"sub": sub, "exp": datetime.now(timezone.utc) + lifetime}, secret, algorithm="HS256")


@pytest.fixture(scope="module")
def servers() -> Iterator[EmbeddedServers]:
    """In place of the session's: a test wipes them."""
    with EmbeddedServers() as running:
        yield running


@pytest.fixture(scope="module")
def service(servers: EmbeddedServers, unused_port: int) -> Iterator[Service]:
    running = Service(servers, unused_port)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def visit() -> Iterator[Visit]:
    with contextlib.ExitStack() as stack:

        def arrive(service: Service, token: str | None = None) -> Browser:
            browser = Browser(service, token)
            stack.enter_context(browser.http)
            return browser

        yield arrive


def test_two_visitors_see_their_own_conversations_only(visit: Visit, service: Service) -> None:
    alice, bob = visit(service), visit(service)
    assert alice.say("My name is Alice.") == "Nice to meet you, Alice."
    hers = alice.latest
    assert bob.say("What is my name?") == "I don't know your name."
    assert alice.say("What is my name?", hers) == "Your name is Alice."
    assert set(alice.conversations()) == {hers}
    assert set(bob.conversations()) == {bob.latest}


def test_cookie_is_signed_and_out_of_reach_of_scripts(service: Service) -> None:
    cookie = httpx.get(service.url).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


@pytest.mark.parametrize("where", ["hot", "dirty or clean", "cold only", "deleted"])
def test_somebody_elses_conversation_is_like_none(
    visit: Visit, service: Service, servers: EmbeddedServers, where: str
) -> None:
    alice = visit(service, token("alice"))
    alice.say("My name is Alice.")
    hers = alice.latest
    if where != "hot":
        for _ in range(3):
            alice.say("What is my name?", hers)
    if where == "cold only":
        wait_until(lambda: alice.conversations()[hers]["state"] == "clean", "the flush")
        with redis.Redis.from_url(servers.redis_url) as client:
            client.flushall()
    if where == "deleted":
        assert alice.http.delete(f"/conversations/{hers}").status_code == 204
    forged = visit(service)
    forged.http.cookies["visitor"] = str(URLSafeSerializer("guessed", salt="visitor").dumps("alice"))
    for stranger in (visit(service), visit(service, token("mallory")), forged):
        of_hers, of_none = stranger.attempts(hers), stranger.attempts("NoSuchConversation")
        assert of_hers == of_none == [(404, '{"detail":"no such conversation"}')] * 5
        assert stranger.conversations() == {}
    if where == "deleted":
        assert hers not in alice.conversations()
    else:
        assert alice.say("What is my name?", hers) == "Your name is Alice."


@pytest.mark.parametrize(
    "bad",
    [token("alice", "a guessed secret, of sufficient length"), token("alice", lifetime=-timedelta(1)), "nonsense"],
)
def test_token_that_the_server_did_not_sign_or_that_is_too_old_is_refused(
    visit: Visit, service: Service, bad: str
) -> None:
    assert {status for status, _ in visit(service, bad).attempts("any")} == {401}


def test_promoted_conversation_survives_both_the_server_and_redis(
    visit: Visit, service: Service, servers: EmbeddedServers
) -> None:
    carol = visit(service)
    carol.say("My name is Carol.")
    hers = carol.latest
    assert carol.conversations()[hers]["state"] == "ephemeral"
    carol.say("What is my name?", hers)
    carol.say("What is my name?", hers)
    wait_until(lambda: carol.conversations()[hers]["state"] == "clean", "the flush")
    service.stop()
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    service.start()
    assert carol.conversations()[hers]["tier"] in ("cold", "both")
    assert carol.say("What is my name?", hers) == "Your name is Carol."
    assert carol.http.delete(f"/conversations/{hers}").status_code == 204
    with psycopg.connect(servers.postgres_url) as connection:
        like = f"%{hers}"
        left = connection.execute("SELECT count(*) FROM checkpoints WHERE thread_id LIKE %s", (like,)).fetchone()
    assert left == (0,)


def test_visitor_who_never_comes_back_is_forgotten(visit: Visit, servers: EmbeddedServers, unused_port: int) -> None:
    short = Service(servers, unused_port + 1, CHAT_TTL_S="1")
    try:
        dave = visit(short)
        dave.say("My name is Dave.")
        his = dave.latest
        wait_until(lambda: dave.conversations() == {}, "the conversation to expire")
        assert dave.attempts(his) == dave.attempts("NoSuchConversation")
    finally:
        short.stop()
