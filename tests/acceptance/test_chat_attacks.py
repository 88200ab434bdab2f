"""The chat service under attack: who is not Alice gets nothing of hers, and cannot tell whether she has anything."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import time
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
from acceptance.chat_service import SECRET, Client, Service, token
from acceptance.conftest import Visit
from itsdangerous import URLSafeSerializer
from waiting import wait_until

from langgraph_tiered_checkpoint import EmbeddedServers, TieredSaver

NONE = "NoSuchConversat."
"""As long as a real id."""

Answer = tuple[int, dict[str, str], str]


@dataclass
class Target:
    """A conversation of Alice's, and all that an attacker could know of it."""

    user: str
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
        http.get(path),
        http.head(path),
        http.get(path, params=aside),
        http.get(path, headers={"x-conversation": conversation, "x-thread-id": conversation}),
        http.post(path, json=question),
        http.post(path, json=smuggled),
        http.post(path, json=smuggled, params=aside),
        http.post(path, json={}),
        http.put(path, json=smuggled),
        http.patch(path, json=smuggled),
        http.delete(path),
        http.delete(path, params=aside),
        http.get(f"{path}/"),
        http.get(f"{path}%00"),
    ]
    return [seen(answer, conversation) for answer in answers]


@pytest.fixture
def target(visit: Visit, chat_servers: EmbeddedServers) -> Target:
    """A short conversation of a signed-in user of this test's own."""
    user = f"alice-{uuid4()}"
    alice = visit(token(user))
    alice.say("My name is Alice.")
    tenant = hashlib.sha256(f"user:{user}".encode()).hexdigest()[:32]  # as the service does
    with (
        redis.Redis.from_url(chat_servers.redis_url, decode_responses=True) as client,
        TieredSaver.from_urls(chat_servers.redis_url, chat_servers.postgres_url) as saver,
    ):
        (key,) = client.scan_iter(f"*{alice.latest}")
        head = saver.scoped(tenant).get_tuple({"configurable": {"thread_id": alice.latest}})
    assert head
    return Target(user, alice, alice.latest, key.partition(":t:")[2], head.checkpoint["id"])


def grow_long(target: Target) -> None:
    for _ in range(3):
        target.alice.say("What is my name?", target.conversation)


def state(target: Target) -> str:
    return target.alice.conversations().get(target.conversation, {"state": "absent"})["state"]


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


def forged_cookies(signed: str) -> dict[str, str]:
    """Cookies for a visitor "alice" that the server did not make, by somebody who has one that it did."""
    payload, _, signature = signed.rpartition(".")
    encoded = base64.urlsafe_b64encode(b'"alice"').decode().rstrip("=")
    return {
        "another key": str(URLSafeSerializer("a guessed secret", salt="visitor").dumps("alice")),
        "another purpose": str(URLSafeSerializer(SECRET, salt="other").dumps("alice")),
        "old signature": f"{encoded}.{signature}",
        "cut": f"{payload[:-1]}.{signature}",
        "no signature": payload,
        "a token": token("alice"),
    }


def strangers(visit: Visit, user: str) -> Iterator[Client]:
    """Everybody who is not this user, whom some of them say they are."""
    yield visit()
    known_by_cookie = visit()
    known_by_cookie.say("My name is Mallory.")
    yield known_by_cookie
    yield visit(token("mallory"))
    forger = visit()
    forger.http.headers["cookie"] = f"visitor={forged_cookies(known_by_cookie.http.cookies['visitor'])['another key']}"
    yield forger
    yield visit(token(user, "a guessed secret, of sufficient length"))
    yield visit(handmade({"alg": "none", "typ": "JWT"}, {"sub": user, "exp": SOON}))


@pytest.mark.parametrize(
    "where", ["ephemeral", "dirty", "clean", "cold", "absent: expired", "absent: deleted"], ids=str.split
)
def test_somebody_elses_conversation_is_like_none(
    visit: Visit, target: Target, chat_servers: EmbeddedServers, where: str
) -> None:
    hers = target.conversation
    with brought(target, where, chat_servers):
        for stranger in strangers(visit, target.user):
            of_hers = attempts(stranger, hers, target.checkpoint_id)
            assert of_hers == attempts(stranger, NONE, "1f0e4f2c-0000-6000-8000-000000000000")
            assert not {status for status, _, _ in of_hers} & {200, 204}
            assert "Alice" not in str(of_hers)
        # The name that it has in the tiers is as unknown, even to who has found it out.
        of_stored = attempts(mallory := visit(token("mallory")), target.stored_id, target.checkpoint_id)
        assert of_stored == attempts(mallory, target.stored_id.replace(hers, NONE), target.checkpoint_id)
        assert not {status for status, _, _ in of_stored} & {200, 204}
    if where.startswith("absent"):
        assert target.alice.http.get(f"/conversations/{hers}").status_code == 404
    else:
        assert target.alice.say("What is my name?", hers) == "Your name is Alice."


@pytest.mark.parametrize("where", ["ephemeral", "dirty", "cold"])
def test_ids_in_body_or_query_do_not_choose_the_conversation(
    visit: Visit, target: Target, chat_servers: EmbeddedServers, where: str
) -> None:
    for stranger in (visit(), visit(token(f"mallory-{uuid4()}"))):
        with brought(target, where, chat_servers):
            ids = {"thread_id": target.conversation, "id": target.conversation, "checkpoint_id": target.checkpoint_id}
            ids |= {"checkpoint_ns": "", "before": target.checkpoint_id}
            listed = stranger.http.get("/conversations", params=ids)
            assert listed.json() == []
            begun = stranger.http.post(
                "/conversations",
                params=ids,
                json={"text": "What is my name?", **ids, "config": {"configurable": ids}, "configurable": ids},
            )
            assert begun.text == "I don't know your name."
            assert begun.headers["x-conversation"] != target.conversation
        if where == "cold":
            target.alice.say("What is my name?", target.conversation)


@pytest.mark.parametrize("where", ["ephemeral", "cold"])
def test_no_gross_difference_in_time_tells_that_a_conversation_exists(
    visit: Visit, target: Target, chat_servers: EmbeddedServers, where: str
) -> None:
    stranger = visit(token("mallory"))
    took: dict[str, list[float]] = {target.conversation: [], NONE: []}
    with brought(target, where, chat_servers):
        for conversation in itertools.chain.from_iterable([took] * 40):
            started = time.perf_counter()
            assert stranger.http.get(f"/conversations/{conversation}").status_code == 404
            took[conversation].append(time.perf_counter() - started)
    hers, none = (min(times) for times in took.values())  # what the work itself takes, on however busy a machine
    assert 0.5 < hers / none < 2


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
    "a cookie": str(URLSafeSerializer(SECRET, salt="visitor").dumps("alice")),
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
    for cookie in (*forged_cookies(somebody.http.cookies["visitor"]).values(), "chosen-by-the-attacker"):
        visitor = visit()
        visitor.http.headers["cookie"] = f"visitor={cookie}"
        given = visitor.http.get("/session").headers["set-cookie"]
        assert given.startswith("visitor=")
        assert cookie not in given
    assert "set-cookie" not in somebody.http.get("/session").headers


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
    assert len(attacker.conversations()) == 1

    victim.http.cookies.set("visitor", planted, domain="127.0.0.1", path="/")
    assert victim.http.delete("/session").status_code == 204
    assert victim.http.get("/session").json() == {"user": None}
    assert victim.http.cookies["visitor"] != planted
    victim.say("My name is still Victim.")
    assert len(attacker.conversations()) == 1


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


def test_over_https_a_cookie_from_a_neighbouring_domain_is_not_looked_at(
    visit: Visit, chat_servers: EmbeddedServers
) -> None:
    https = Service(chat_servers, CHAT_HTTPS="1")
    try:
        victim = visit(url=https.url)
        # What other hosts of the domain can plant are cookies without this prefix.
        victim.http.headers["cookie"] = f"visitor={URLSafeSerializer(SECRET, salt='visitor').dumps('planted')}"
        given = victim.http.get("/session").headers["set-cookie"]
        assert given.startswith("__Host-visitor=")
        assert "Secure" in given
        assert "Path=/" in given
    finally:
        https.stop()
