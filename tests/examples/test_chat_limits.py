"""The chat service and clients that ask too much: at once, of its memory, for too long, or after they have left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import psutil
import pytest
import redis
from chat_service import SECRET, Client, Service, Visit, imported, token
from fastapi.testclient import TestClient
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from waiting import wait_until

from langgraph_tiered_checkpoint import EmbeddedServers

CHUNK = b"x" * 16_384


def said(client: Client, conversation: str) -> list[str]:
    """What the client has said in it, as far as it was kept."""
    messages = client.http.get(f"/conversations/{conversation}").raise_for_status().json()
    return [message["text"] for message in messages if message["by"] == "human"]


# Several messages at once.


def test_no_message_that_was_answered_is_lost_among_others_sent_at_once(visit: Visit) -> None:
    alice = visit()
    alice.say("My name is Alice.")
    conversation = alice.latest

    def say(number: int) -> tuple[str, int]:
        text = f"This is message {number}."
        return text, alice.http.post(f"/conversations/{conversation}", json={"text": text}).status_code

    with ThreadPoolExecutor(5) as pool:
        answered = dict(pool.map(say, range(5)))
    assert set(answered.values()) <= {200, 409}
    kept = said(alice, conversation)[1:]
    assert kept
    assert set(kept) == {text for text, status in answered.items() if status == 200}


def test_message_is_refused_while_another_is_being_answered_by_whatever_worker(
    visit: Visit, chat_servers: EmbeddedServers
) -> None:
    alice = visit()
    alice.say("My name is Alice.")
    with redis.Redis.from_url(chat_servers.redis_url) as client:
        client.set(f"chat:run:{alice.latest}", "another worker's")
        refused = alice.http.post(f"/conversations/{alice.latest}", json={"text": "What is my name?"})
        assert refused.status_code == 409
        assert refused.headers["retry-after"] == "1"
        assert refused.json() == {"detail": "Another answer is being written in this conversation"}
        client.delete(f"chat:run:{alice.latest}")
    assert alice.say("What is my name?", alice.latest) == "Your name is Alice."
    assert said(alice, alice.latest) == ["My name is Alice.", "What is my name?"]


def test_answer_is_written_to_its_end_although_nobody_listens(visit: Visit) -> None:
    alice = visit()
    alice.say("My name is Alice.")
    path = f"/conversations/{alice.latest}"
    with alice.http.stream("POST", path, json={"text": "What is my name?"}) as answer:
        assert answer.status_code == 200
    wait_until(lambda: len(alice.http.get(path).json()) == 4, "the answer")
    assert alice.http.get(path).json()[-1] == {"by": "ai", "text": "Your name is Alice."}
    assert alice.say("What is my name?", alice.latest) == "Your name is Alice."


# Long bodies.


@pytest.mark.parametrize("length", [True, False], ids=["length known", "in chunks"])
def test_long_body_is_refused_while_it_comes(monkeypatch: pytest.MonkeyPatch, length: bool) -> None:  # noqa: FBT001
    """Nobody has signed in, and no more of it is taken than a message could be."""
    taken, answered = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += len(CHUNK)
        return {"type": "http.request", "body": CHUNK, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    headers = [(b"content-type", b"application/json")] + [(b"content-length", b"500000000")] * length
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/conversations",
        "query_string": b"",
        "headers": headers,
    }
    asyncio.run(imported(monkeypatch).app(scope, receive, send))
    assert answered[0]["status"] == 413
    assert taken <= 2 * 65_536


def test_long_body_is_refused_over_http(visit: Visit) -> None:
    alice = visit()
    headers = {"content-type": "application/json"}
    for content in (CHUNK * 320, (CHUNK for _ in range(320))):
        refused = alice.http.post("/conversations", content=content, headers=headers)
        assert (refused.status_code, refused.json()) == (413, {"detail": "This is too long"})
    assert alice.say("My name is Alice.") == "Nice to meet you, Alice."


# Who has left.


def test_copy_of_a_users_cookie_is_worth_nothing_after_signing_out(visit: Visit) -> None:
    alice, thief = visit(), visit()
    assert alice.http.post("/session", headers={"authorization": f"Bearer {token('alice')}"}).status_code == 204
    alice.say("My name is Alice.")
    thief.http.cookies.set("session", alice.http.cookies["session"], domain="127.0.0.1", path="/")
    assert len(thief.conversations()) == 1
    assert alice.http.delete("/session").status_code == 204
    assert thief.http.get("/conversations").status_code == 401
    assert thief.http.get(f"/conversations/{alice.latest}").status_code == 401


@pytest.mark.parametrize("leaves", ["signs in", "signs out"])
def test_copy_of_a_visitors_cookie_is_worth_nothing_after_signing_in_or_out(visit: Visit, leaves: str) -> None:
    alice, thief = visit(), visit()
    alice.say("My name is Alice.")
    thief.http.cookies.set("visitor", alice.http.cookies["visitor"], domain="127.0.0.1", path="/")
    assert len(thief.conversations()) == 1
    method, headers = {
        "signs in": ("POST", {"authorization": f"Bearer {token('alice')}"}),
        "signs out": ("DELETE", {}),
    }[leaves]
    assert alice.http.request(method, "/session", headers=headers).status_code == 204
    assert thief.conversations() == {}
    assert thief.http.get(f"/conversations/{alice.latest}").status_code == 404


def test_visitors_cookie_is_good_for_a_year_only(visit: Visit) -> None:
    class ThenSigner(TimestampSigner):
        days = 0

        def get_timestamp(self) -> int:
            return int(time.time()) - self.days * 86_400

    names = {}
    for days in (364, 366):
        ThenSigner.days = days
        visitor = visit()
        cookie = str(URLSafeTimedSerializer(SECRET, salt="visitor", signer=ThenSigner).dumps(f"visitor {days}"))
        visitor.http.headers["cookie"] = f"visitor={cookie}"
        given = visitor.http.get("/session").cookies["visitor"]
        names[days] = URLSafeTimedSerializer(SECRET, salt="visitor").loads(given)
    assert names[364] == "visitor 364"
    assert names[366] != "visitor 366"


@pytest.mark.parametrize("exp", [10**18, 253_402_300_799, 1e300], ids=["10**18", "year 9999", "1e300"])
def test_session_ends_within_half_a_day_however_long_its_token_is_good(service: Service, exp: float) -> None:
    long = jwt.encode({"sub": "alice", "exp": exp}, SECRET, algorithm="HS256")
    signed_in = httpx.post(f"{service.url}/session", headers={"authorization": f"Bearer {long}"})
    assert signed_in.status_code == 204
    assert "Max-Age=43200" in signed_in.headers["set-cookie"]


# How much, and how often.


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch, redis_url: str, postgres_url: str) -> Iterator[TestClient]:
    """The service in this process, which has little patience."""
    module = imported(
        monkeypatch,
        REDIS_URL=redis_url,
        POSTGRES_URL=postgres_url,
        CHAT_CONVERSATIONS="2",
        CHAT_MESSAGES_A_MINUTE="4",
        CHAT_REQUESTS_A_MINUTE="30",
    )
    with TestClient(module.app) as client:
        yield client


def test_visitor_begins_no_more_conversations_than_the_service_keeps(strict: TestClient) -> None:
    first, _ = (strict.post("/conversations", json={"text": "Hello"}).headers["x-conversation"] for _ in range(2))
    refused = strict.post("/conversations", json={"text": "Hello"})
    assert (refused.status_code, refused.json()) == (403, {"detail": "You have 2 conversations: delete one first"})
    assert strict.delete(f"/conversations/{first}").status_code == 204
    assert strict.post("/conversations", json={"text": "Hello"}).status_code == 200


def test_visitor_who_says_too_much_in_a_minute_has_to_wait(strict: TestClient) -> None:
    conversation = strict.post("/conversations", json={"text": "Hello"}).headers["x-conversation"]
    # Another minute may begin meanwhile.
    answers = [strict.post(f"/conversations/{conversation}", json={"text": "Hello"}) for _ in range(10)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json() == {"detail": "Too many messages: wait a minute"}
    assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_address_that_says_too_much_in_a_minute_has_to_wait_whoever_it_is(
    strict: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.REQUESTS", 1_000)
    answers = []
    for _ in range(90):
        strict.cookies.clear()
        answers.append(strict.post("/conversations", json={"text": "Hello"}).status_code)
        if answers[-1] == 429:
            break
    assert answers[:40] == [200] * 40
    assert answers[-1] == 429


def test_address_that_asks_too_often_has_to_wait_whoever_it_is(strict: TestClient) -> None:
    answers = []
    for _ in range(70):
        strict.cookies.clear()
        answers.append(strict.get("/session").status_code)
    assert 429 in answers


# Headers.


def test_every_answer_has_the_headers_that_keep_browsers_careful(visit: Visit) -> None:
    alice = visit()
    alice.say("My name is Alice.")
    answers = [
        alice.http.get("/"),
        alice.http.get("/conversations"),
        alice.http.post("/conversations", json={"text": "Hello"}),
        alice.http.delete(f"/conversations/{alice.latest}"),
        visit("nonsense").http.get("/conversations"),
        alice.http.get("/nothing"),
        alice.http.put("/conversations"),
        alice.http.post("/conversations", content=CHUNK * 5, headers={"content-type": "application/json"}),
        alice.http.post("/conversations", json={}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 204, 401, 404, 405, 413, 422]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "strict-transport-security" not in answer.headers


def test_over_https_every_answer_says_to_come_back_that_way(monkeypatch: pytest.MonkeyPatch) -> None:
    client = TestClient(imported(monkeypatch, CHAT_HTTPS="1").app, base_url="https://chat")
    for path in ("/", "/nothing"):
        assert client.get(path).headers["strict-transport-security"] == "max-age=31536000"


# The tests' own service.


def test_service_that_does_not_start_leaves_no_process(chat_servers: EmbeddedServers) -> None:
    """uvicorn starts workers again and again that end while they import the application."""
    others = set(psutil.Process().children(recursive=True))
    broken = Service(chat_servers, CHAT_SECRET="too short")
    broken.patience_s = 1
    with pytest.raises(AssertionError, match="waited 1 s for the service"), broken:
        pass
    mine = set(psutil.Process().children(recursive=True)) - others
    assert not [process for process in mine if "uvicorn" in " ".join(process.cmdline())]
