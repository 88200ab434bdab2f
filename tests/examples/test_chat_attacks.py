"""The chat service under attack: who is not Alice gets nothing of hers, and cannot tell whether she has anything."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
import redis
from chat_service import SECRET, SERVER, Client, Service, Visit, imported, token
from fastapi.testclient import TestClient
from itsdangerous import URLSafeTimedSerializer
from waiting import wait_until

from langgraph_tiered_checkpoint import EmbeddedServers, TieredSaver

NONE = "NoSuchConversat."
"""As long as a real id."""

SETTINGS = {"MODEL_WORD_S": "0"}
STATES = ["ephemeral", "dirty", "clean", "cold", "absent: expired", "absent: deleted"]
SIGNER = URLSafeTimedSerializer(SECRET, salt="visitor")

Answer = tuple[int, dict[str, str], str]


@dataclass
class Target:
    """A conversation of Alice's, and all that an attacker could know of it."""

    kind: str
    """ "user", who is known by a token, or "visitor", by a cookie."""
    name: str
    """What the token or the cookie says."""
    alice: Client
    conversation: str
    stored_id: str
    """What the tiers call it: tenant and conversation."""
    checkpoint_id: str


def seen(answer: httpx.Response, conversation: str = NONE) -> Answer:
    """What an attacker sees of an answer. The date tells nothing, nor does it that what was asked for is repeated."""
    headers = {name: value.replace(conversation, "...") for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, answer.text


def attempts(stranger: Client, conversation: str, checkpoint_id: str) -> list[Answer]:
    """What every way to get at a conversation is answered."""
    path = f"/conversations/{conversation}"
    ids: dict[str, str] = {"checkpoint_id": checkpoint_id, "checkpoint_ns": "", "before": checkpoint_id}
    aside = {**ids, "thread_id": conversation, "conversation": conversation}
    question = {"text": "What is my name?"}
    smuggled = {**question, **aside, "config": {"configurable": aside}, "configurable": aside}
    http = stranger.http
    answers = [
        http.head(path),
        http.get(path, params=aside, headers={"x-conversation": conversation, "x-thread-id": conversation}),
        http.post(path, json=smuggled, params=aside),
        http.post(path, json={}),
        http.put(path, json=smuggled),
        http.delete(path, params=aside),
        http.post(f"{path}/decision", json={"id": "0", "approve": True, **aside}, params=aside),
        http.put(f"{path}/pin", params=aside),
        http.delete(f"{path}/pin"),
        http.delete(f"{path}/hot"),
        http.delete(f"{path}/answer"),
        http.get(f"{path}/"),
        http.get(f"{path}%00"),
    ]
    return [*plain_attempts(stranger, conversation), *(seen(answer, conversation) for answer in answers)]


def plain_attempts(stranger: Client, conversation: str) -> list[Answer]:
    """What it is answered to who uses the service as it is meant."""
    path = f"/conversations/{conversation}"
    answers = [
        stranger.http.get(path),
        stranger.http.post(path, json={"text": "What is my name?"}),
        stranger.http.delete(path),
    ]
    return [seen(answer, conversation) for answer in answers]


def visitors_name(client: Client) -> str:
    return str(SIGNER.loads(client.http.cookies["visitor"]))


@pytest.fixture
def target(request: pytest.FixtureRequest, visit: Visit, chat_servers: EmbeddedServers) -> Target:
    """A short conversation of a person of this test's own: a user, unless the test wants another."""
    kind = getattr(request, "param", "user")
    name = f"alice-{uuid4()}"
    alice = visit(token(name)) if kind == "user" else visit()
    alice.say("My name is Alice.")
    if kind == "visitor":
        name = visitors_name(alice)
    tenant = hashlib.sha256(f"{kind}:{name}".encode()).hexdigest()[:32]  # as the service does
    with (
        redis.Redis.from_url(chat_servers.redis_url, decode_responses=True) as client,
        TieredSaver.from_urls(chat_servers.redis_url, chat_servers.postgres_url) as saver,
    ):
        (key,) = client.scan_iter(f"*{alice.latest}")
        head = saver.scoped(tenant).get_tuple({"configurable": {"thread_id": alice.latest}})
    assert head
    return Target(kind, name, alice, alice.latest, key.partition(":t:")[2], head.checkpoint["id"])


def grow_long(target: Target) -> None:
    for _ in range(3):
        target.alice.say("What is my name?", target.conversation)


def state(target: Target) -> str:
    return str(target.alice.conversations().get(target.conversation, {"state": "absent"})["state"])


@contextlib.contextmanager
def brought(target: Target, where: str, servers: EmbeddedServers) -> Iterator[None]:
    """A block in which the conversation is where the test wants it."""
    with redis.Redis.from_url(servers.redis_url) as client, psycopg.connect(servers.postgres_url) as blocker:
        match where:
            case "ephemeral":
                pass
            case "dirty":  # in the middle of its promotion: nobody can insert into this table
                blocker.execute("LOCK TABLE checkpoints IN SHARE MODE")
                grow_long(target)
            case "clean" | "cold":
                grow_long(target)
                wait_until(lambda: state(target) == "clean", "the flush")
                if where == "cold":
                    client.flushall()
            case "absent: expired":
                (key,) = client.scan_iter(f"*{target.conversation}")
                assert client.pexpire(key, 1)
                wait_until(lambda: not client.exists(key), "the expiry")
            case "absent: deleted":
                grow_long(target)
                assert target.alice.http.delete(f"/conversations/{target.conversation}").status_code == 204
        assert state(target) == where.partition(":")[0]
        yield
        assert state(target) == where.partition(":")[0], "the attempts have changed something"


def forged_cookies(visitor: str, signed: str) -> list[str]:
    """Cookies for a visitor that the server did not make, by somebody who has one, for another, that it did."""
    payload = str(SIGNER.dumps(visitor)).rpartition(".")[0]
    signature = signed.rpartition(".")[2]
    return [
        str(URLSafeTimedSerializer("a guessed secret", salt="visitor").dumps(visitor)),
        str(URLSafeTimedSerializer(SECRET, salt="other").dumps(visitor)),
        f"{payload}.{signature}",
        f"{payload}.",
        payload,
        visitor,
        token(visitor),
    ]


def forged_tokens(user: str) -> list[str]:
    return [
        token(user, "a guessed secret, of sufficient length"),
        handmade({"alg": "none", "typ": "JWT"}, {"sub": user, "exp": SOON}),
    ]


def impostors(visit: Visit, target: Target) -> Iterator[Client]:
    """Who say that they are the person of this name, and can not prove it; or can, but for the other kind."""
    cookies = [f"session={forged}" for forged in forged_tokens(target.name)]
    if target.kind == "user":
        for forged in forged_tokens(target.name):
            yield visit(forged)
        cookies.append(f"visitor={SIGNER.dumps(target.name)}")
    else:
        yield visit(token(target.name))
        (somebody := visit()).http.get("/session")
        cookies += [f"visitor={one}" for one in forged_cookies(target.name, somebody.http.cookies["visitor"])]
        cookies.append(f"session={target.alice.http.cookies['visitor']}")
    for cookie in cookies:
        forger = visit()
        forger.http.headers["cookie"] = cookie
        yield forger


@pytest.mark.parametrize("target", ["user", "visitor"], indirect=True)
@pytest.mark.parametrize("where", STATES, ids=str.split)
def test_somebody_elses_conversation_is_like_none(
    visit: Visit, target: Target, chat_servers: EmbeddedServers, where: str
) -> None:
    hers = target.conversation
    with brought(target, where, chat_servers):
        (known_by_cookie := visit()).http.get("/session")
        for stranger in (visit(), known_by_cookie, visit(token("mallory"))):
            of_hers = attempts(stranger, hers, target.checkpoint_id)
            assert of_hers == attempts(stranger, NONE, "1f0e4f2c-0000-6000-8000-000000000000")
            assert not {status for status, _, _ in of_hers} & {200, 204}
            assert "Alice" not in str(of_hers)
        for impostor in impostors(visit, target):
            of_hers = plain_attempts(impostor, hers)
            assert of_hers == plain_attempts(impostor, NONE)
            assert {status for status, _, _ in of_hers} <= {401, 404}
        # The name that it has in the tiers is as unknown, even to who has found it out.
        of_stored = attempts(mallory := visit(token("mallory")), target.stored_id, target.checkpoint_id)
        assert of_stored == attempts(mallory, target.stored_id.replace(hers, NONE), target.checkpoint_id)
        assert not {status for status, _, _ in of_stored} & {200, 204}
    if where.startswith("absent"):
        assert target.alice.http.get(f"/conversations/{hers}").status_code == 404
    else:
        assert target.alice.say("What is my name?", hers) == "Your name is Alice."


@pytest.mark.parametrize("where", STATES, ids=str.split)
def test_ids_in_body_or_query_do_not_choose_the_conversation(
    visit: Visit, target: Target, chat_servers: EmbeddedServers, where: str
) -> None:
    # To ignore them is the refusal: a message of the stranger's own begins a conversation of the stranger's own.
    ids = {"thread_id": target.conversation, "id": target.conversation, "checkpoint_id": target.checkpoint_id}
    ids |= {"checkpoint_ns": "", "before": target.checkpoint_id}
    with brought(target, where, chat_servers):
        for stranger in (visit(), visit(token(f"mallory-{uuid4()}"))):
            listed = stranger.http.get("/conversations", params=ids)
            assert listed.json() == []
            begun = stranger.http.post(
                "/conversations",
                params=ids,
                json={"text": "What is my name?", **ids, "config": {"configurable": ids}, "configurable": ids},
            )
            assert begun.text == "I don't know your name."
            assert begun.headers["x-conversation"] != target.conversation


@pytest.mark.nightly
@pytest.mark.parametrize("where", STATES, ids=str.split)
def test_no_gross_difference_in_work_tells_that_a_conversation_exists(
    visit: Visit, target: Target, service: Service, chat_servers: EmbeddedServers, where: str
) -> None:
    stranger = visit(token("mallory"))
    with brought(target, where, chat_servers):
        for method in ("GET", "POST", "DELETE"):
            worked: dict[str, list[float]] = {target.conversation: [], NONE: []}
            for conversation in itertools.chain.from_iterable([worked] * 5):
                before = service.cpu_s()
                for _ in range(100):
                    answer = stranger.http.request(method, f"/conversations/{conversation}", json={"text": "Hello"})
                    assert answer.status_code == 404
                worked[conversation].append(service.cpu_s() - before)
            hers, none = (min(times) for times in worked.values())
            assert 0.5 < hers / none < 2, method


# Tokens.


def handmade(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


SOON = int((datetime.now(timezone.utc) + timedelta(hours=1)).timestamp())
ALICE = {"sub": "alice", "exp": SOON}

BAD_TOKENS = {
    "no signature": handmade({"alg": "none", "typ": "JWT"}, ALICE),
    "no signature, in capitals": handmade({"alg": "NONE", "typ": "JWT"}, ALICE),
    "empty signature": handmade({"alg": "HS256", "typ": "JWT"}, ALICE),
    "another algorithm": jwt.encode(ALICE, SECRET, algorithm="HS384"),
    "an algorithm with public keys": handmade({"alg": "RS256", "typ": "JWT"}, ALICE, b"x" * 32),
    "another key": token("alice", "a guessed secret, of sufficient length"),
    "another key, named by the token": jwt.encode(
        ALICE, "a key of the attacker's own, and long", algorithm="HS256", headers={"kid": "1", "jku": "http://mallory"}
    ),
    "other claims under an old signature": ".".join(
        [token("x").split(".")[0], token("alice").split(".")[1], token("mallory").split(".")[2]]
    ),
    "expired": token("alice", lifetime=-timedelta(seconds=1)),
    "not valid yet": jwt.encode({**ALICE, "nbf": SOON - 60}, SECRET, algorithm="HS256"),
    "for ever": jwt.encode({"sub": "alice"}, SECRET, algorithm="HS256"),
    "for nobody": jwt.encode({"exp": SOON}, SECRET, algorithm="HS256"),
    "for another service": jwt.encode({**ALICE, "aud": "mail"}, SECRET, algorithm="HS256"),
    "for a name that is none": jwt.encode({"sub": "\ud800", "exp": SOON}, SECRET, algorithm="HS256"),
    "for an empty name": jwt.encode({"sub": "", "exp": SOON}, SECRET, algorithm="HS256"),
    "for a name without an end": jwt.encode({"sub": 256 * "x", "exp": SOON}, SECRET, algorithm="HS256"),
    "until eternity": jwt.encode({"sub": "alice", "exp": float("inf")}, SECRET, algorithm="HS256"),
    "until some time": jwt.encode({"sub": "alice", "exp": "soon"}, SECRET, algorithm="HS256"),
    "a header without a bottom": base64.urlsafe_b64encode(30_000 * b"[").decode() + ".e30.",
    "a cookie": str(URLSafeTimedSerializer(SECRET, salt="visitor").dumps("alice")),
    "nonsense": "nonsense",
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_token_that_is_not_right_in_every_way_is_refused(service: Service, bad: str) -> None:
    header, cookie = {"authorization": f"Bearer {bad}"}, {"cookie": f"session={bad}"}
    with httpx.Client(base_url=service.url) as http:
        refused = [
            http.get("/conversations", headers=header),
            http.post("/conversations", headers=header, json={"text": "What is my name?"}),
            http.post("/session", headers=header),
            http.get("/conversations", headers=cookie),
        ]
        assert {seen(answer)[::2] for answer in refused} == {(401, '{"detail":"sign in again"}')}
        assert not http.cookies


@pytest.mark.parametrize("header", ["Basic YWxpY2U6YWxpY2U=", "Bearer", "alice"])
def test_other_credentials_are_not_taken_for_an_anonymous_visitors(service: Service, header: str) -> None:
    assert httpx.get(f"{service.url}/conversations", headers={"authorization": header}).status_code == 401


# Cookies.


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(service: Service) -> None:
    visitor = httpx.get(f"{service.url}/session").headers["set-cookie"]
    signed_in = httpx.post(f"{service.url}/session", headers={"authorization": f"Bearer {token('alice')}"})
    for cookie in (visitor, *signed_in.headers.get_list("set-cookie")):
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Domain" not in cookie


def test_cookie_that_the_server_did_not_sign_makes_a_new_visitor(visit: Visit) -> None:
    somebody = visit()
    assert somebody.http.get("/session").status_code == 200
    for cookie in forged_cookies("alice", somebody.http.cookies["visitor"]):
        visitor = visit()
        visitor.http.headers["cookie"] = f"visitor={cookie}"
        assert len(visitor.http.get("/session").headers.get_list("set-cookie")) == 1
        assert visitors_name(visitor) not in {"alice", visitors_name(somebody)}


def test_visitors_cookie_lasts_for_a_year_after_the_latest_visit(visit: Visit) -> None:
    somebody = visit()
    names = set()
    for _ in range(2):
        (given,) = somebody.http.get("/session").headers.get_list("set-cookie")
        assert "Max-Age=31536000" in given
        names.add(visitors_name(somebody))
    assert len(names) == 1
    assert "set-cookie" not in visit(token("alice")).http.get("/session").headers


def test_visitors_cookie_that_an_attacker_has_planted_is_worth_nothing_after_signing_in_or_out(visit: Visit) -> None:
    attacker, victim = visit(), visit()
    attacker.say("My name is Mallory.")
    planted = attacker.http.cookies["visitor"]
    victim.http.cookies.set("visitor", planted, domain="127.0.0.1", path="/")
    assert len(victim.conversations()) == 1  # the attack has worked so far

    user = f"victim-{uuid4()}"
    signed_in = victim.http.post("/session", headers={"authorization": f"Bearer {token(user)}"})
    assert signed_in.status_code == 204
    assert victim.http.get("/session").json() == {"user": user}
    assert "visitor" not in victim.http.cookies
    assert victim.conversations() == {}
    victim.say("My name is Victim.")
    assert attacker.conversations() == {}  # the planted cookie is worth nothing to anybody now

    attacker.say("My name is Mallory again.")
    planted = attacker.http.cookies["visitor"]
    victim.http.cookies.set("visitor", planted, domain="127.0.0.1", path="/")
    assert victim.http.delete("/session").status_code == 204
    assert victim.http.get("/session").json() == {"user": None}
    assert victim.http.cookies["visitor"] != planted
    victim.say("My name is still Victim.")
    assert attacker.conversations() == {}


def test_nobody_is_signed_in_by_a_request_that_another_site_can_make(visit: Visit) -> None:
    victim = visit()
    attackers = token("mallory")
    for request in (
        victim.http.post("/session"),
        victim.http.post("/session", params={"token": attackers}),
        victim.http.post("/session", data={"token": attackers}),
    ):
        assert request.status_code == 401
    asked = victim.http.options(
        "/session", headers={"origin": "http://mallory", "access-control-request-method": "POST"}
    )
    assert not [name for name in asked.headers if name.startswith("access-control")]
    assert victim.http.get("/session").json() == {"user": None}


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_nobody_says_anything_by_a_request_that_another_site_can_make(visit: Visit, content_type: str | None) -> None:
    victim = visit()
    victim.say("My name is Victim.")
    headers = {"content-type": content_type} if content_type else {}
    path = f"/conversations/{victim.latest}"
    for aim in ("/conversations", path):
        assert victim.http.post(aim, content='{"text": "Hello"}', headers=headers).status_code == 422
    decision = victim.http.post(f"{path}/decision", content='{"id": "0", "approve": true}', headers=headers)
    assert decision.status_code == 422
    assert [victim.http.post(f"{path}/{one}").status_code for one in ("pin", "hot", "answer")] == [405] * 3
    assert set(victim.conversations()) == {victim.latest}
    assert len(victim.http.get(f"/conversations/{victim.latest}").json()) == 2


def test_no_answer_is_kept_by_a_cache(visit: Visit) -> None:
    somebody = visit()
    answers = {
        200: somebody.http.get("/conversations"),
        401: visit("nonsense").http.get("/conversations"),
        404: somebody.http.get(f"/conversations/{NONE}"),
        405: somebody.http.put(f"/conversations/{NONE}"),
        422: somebody.http.post("/conversations", json={}),
    }
    assert [answer.status_code for answer in answers.values()] == list(answers)
    assert {answer.headers["cache-control"] for answer in answers.values()} == {"no-store"}


def test_service_is_no_demo(visit: Visit) -> None:
    visitor = visit()
    visitor.say("My name is Alice.")
    assert visitor.http.post("/demo/session", json={"user": "alice"}).status_code == 404
    assert visitor.http.delete("/demo/redis").status_code == 404
    assert 'data-demo=""' in visitor.http.get("/").text
    assert set(visitor.conversations()) == {visitor.latest}


def test_demo_does_not_wipe_a_redis_that_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, postgres_url: str
) -> None:
    monkeypatch.setenv("CHAT_DEMO", "/somewhere/else")
    imported(monkeypatch, REDIS_URL=redis_url, POSTGRES_URL=postgres_url)
    monkeypatch.setattr("story.expect_warnings", lambda *_: None)
    monkeypatch.syspath_prepend(str(SERVER))
    with TestClient(importlib.import_module("demo").app) as visitor:
        conversation = visitor.post("/conversations", json={"text": "My name is Alice."}).headers["x-conversation"]
        refused = visitor.delete("/demo/redis")
        assert (refused.status_code, refused.json()["detail"]) == (403, "This Redis is not the demo's own")
        assert visitor.get(f"/conversations/{conversation}").status_code == 200
    monkeypatch.delitem(sys.modules, "demo")


def test_service_does_not_describe_itself(service: Service) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert httpx.get(f"{service.url}{path}").status_code == 404


def test_over_https_a_cookie_from_a_neighbouring_domain_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, chat_servers: EmbeddedServers
) -> None:
    urls = {"REDIS_URL": chat_servers.redis_url, "POSTGRES_URL": chat_servers.postgres_url}
    # What other hosts of the domain can plant are cookies without this prefix.
    planted = str(SIGNER.dumps("planted"))
    with TestClient(imported(monkeypatch, CHAT_HTTPS="1", **urls).app, base_url="https://chat") as victim:
        given = victim.get("/session", headers={"cookie": f"visitor={planted}"}).headers["set-cookie"]
    assert given.startswith("__Host-visitor=")
    assert planted not in given
    assert "Secure" in given
    assert "Path=/" in given
