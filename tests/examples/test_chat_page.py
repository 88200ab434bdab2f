"""The page of the chat service, in headless Chromium: what people see, and what they do not.

`make pictures` runs the test that takes the pictures of the documentation, and keeps them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psycopg
import pytest
import redis
from axe_playwright_python.sync_playwright import Axe
from chat_service import ASYNC_INTERRUPTS, Service, token
from playwright.sync_api import APIResponse, Browser, BrowserContext, Error, Locator, Route, expect, sync_playwright
from waiting import HANGS_S

from langgraph_tiered_checkpoint import EmbeddedServers

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# The sandbox does not work for root, and what is tested here is a page of our own.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PATIENCE_MS = 1000 * HANGS_S

SETTINGS = {"application": "demo:app"}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium, or name one in CHROMIUM"
)


class Person:
    """Somebody in front of a browser with a profile of its own."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: pytest.fail(f"the page's script failed: {error}"))
        self.page.goto(url)
        self.input = self.page.get_by_label("Message", exact=True)
        self.items = self.page.get_by_role("listitem")
        self.messages = self.page.locator(".human, .ai")  # questions and answers
        self.notice = self.page.get_by_role("alert", include_hidden=True)  # hidden while it is empty
        self.news = self.page.get_by_role("status", include_hidden=True)
        self.empty = self.page.locator(".empty")  # what stands in place of messages

    def begin_saying(self, text: str) -> None:
        self.input.fill(text)
        self.input.press("Enter")

    def hears(self, *messages: str | re.Pattern[str]) -> None:
        """Wait until these are all messages in sight, questions and answers."""
        expect(self.messages).to_have_text(list(messages))
        expect(self.page.locator(".writing")).to_have_count(0)

    def say(self, text: str) -> None:
        said = self.messages.count()
        self.begin_saying(text)
        expect(self.messages).to_have_count(said + 2)
        expect(self.page.locator(".writing")).to_have_count(0)

    def grow_long(self) -> None:
        """Say enough to be promoted, and wait for Postgres."""
        for _ in range(3):
            self.say("What is my name?")
        self.has_badges("Redis + Postgres")

    def has_conversations(self, *titles: str) -> None:
        """Wait until these are all conversations in the list."""
        expect(self.page.locator(".title")).to_have_text(list(titles))

    def has_badges(self, *badges: str | re.Pattern[str]) -> None:
        expect(self.page.locator(".badge:visible")).to_have_text(list(badges))

    def item(self, title: str) -> Locator:
        return self.items.filter(has_text=title)

    def press(self, name: str) -> None:
        """A button of the page; the one in the dialog, where one is open."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def answers_dialog(self, name: str) -> None:
        self.page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()
        expect(self.page.get_by_role("dialog")).to_have_count(0)


Arrive: TypeAlias = Callable[..., Person]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def arrive(browser: Browser, service: Service) -> Iterator[Arrive]:
    """Makes people, each with a browser profile of their own."""
    with contextlib.ExitStack() as stack:

        def person(width: int = 1100, height: int = 680) -> Person:
            context = browser.new_context(viewport={"width": width, "height": height})
            stack.callback(context.close)
            return Person(context, service.url)

        yield person


def test_two_browsers_chat_at_once_and_see_only_their_own(arrive: Arrive) -> None:
    alice, bob = arrive(), arrive()
    alice.begin_saying("My name is Alice.")
    bob.begin_saying("My name is Bob.")
    alice.hears("My name is Alice.", "Nice to meet you, Alice.")
    bob.hears("My name is Bob.", "Nice to meet you, Bob.")
    alice.begin_saying("What is my name?")
    bob.begin_saying("What is my name?")
    expect(alice.messages.last).to_have_text("Your name is Alice.")
    expect(bob.messages.last).to_have_text("Your name is Bob.")
    alice.has_conversations("My name is Alice.")
    bob.has_conversations("My name is Bob.")


def test_link_to_somebody_elses_conversation_opens_nothing(arrive: Arrive) -> None:
    alice, bob = arrive(), arrive()
    alice.say("My name is Alice.")
    seen = []
    for link in (alice.page.url, f"{bob.url}/#NoSuchConversation"):
        bob.page.goto(link)
        expect(bob.empty).to_contain_text("There is no such conversation here")
        seen.append(bob.page.locator("body").inner_text())
    assert seen[0] == seen[1]
    assert "Nice to meet you" not in seen[0]


def test_answer_appears_while_it_is_being_written_until_it_is_stopped(arrive: Arrive) -> None:
    alice = arrive()
    alice.page.evaluate(
        """() => { window.seen = []; new MutationObserver(() => {
            const text = document.querySelector('.ai:last-child')?.textContent;
            if (text && text !== window.seen.at(-1)) window.seen.push(text);
        }).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""
    )
    alice.say("What is my name?")
    seen = alice.page.evaluate("window.seen")
    assert seen[-1] == "I don't know your name."
    assert len(seen) > 1
    assert all(seen[-1].startswith(piece) for piece in seen)
    alice.say("again " * 600)
    alice.begin_saying("What have I said?")  # half a minute of words
    expect(alice.page.locator(".writing")).to_contain_text("again")
    alice.press("Stop")
    expect(alice.page.locator(".stopped")).to_contain_text("So far you have said:")
    expect(alice.page.locator(".stopped li").nth(1)).to_contain_text("again")
    alice.say("My name is Alice.")


def test_list_that_comes_late_does_not_close_what_was_begun_meanwhile(arrive: Arrive) -> None:
    alice = arrive()
    expect(alice.empty).to_be_visible()
    late: list[tuple[Route, APIResponse]] = []

    def hold_the_first(route: Route) -> None:
        if late or route.request.method != "GET":
            route.continue_()
        else:
            late.append((route, route.fetch()))

    alice.page.route("**/conversations", hold_the_first)
    while not late:
        alice.page.wait_for_timeout(50)
    alice.say("My name is Alice.")
    alice.has_conversations("My name is Alice.")
    ((route, empty),) = late
    assert empty.json() == []
    route.fulfill(response=empty)
    with alice.page.expect_response(re.compile("/conversations$")):
        pass  # the next one: the late one has been drawn, or dropped
    alice.hears("My name is Alice.", "Nice to meet you, Alice.")
    expect(alice.notice).to_be_empty()


def test_conversation_moves_between_the_tiers_before_ones_eyes(arrive: Arrive) -> None:
    alice = arrive()
    hot, cold, where = (alice.page.locator(one) for one in ("#hot", "#cold", "#where"))
    expect(alice.empty).to_contain_text("Wipe Redis. What was kept goes on as if nothing had happened.")
    alice.say("My name is Alice.")
    alice.has_badges(re.compile(r"^Redis only · \d+ h left$"))
    expect(hot).to_contain_text("3 checkpoints")
    expect(cold).to_contain_text("not yet at 9 checkpoints")
    expect(where).to_contain_text("Only Redis has it")
    expect(alice.page.get_by_role("button", name="Evict")).to_be_disabled()
    alice.press("Pin")
    expect(alice.news).to_have_text("Pinned: Postgres has it, and it does not expire.")
    alice.has_badges("Redis + Postgres · pinned")
    alice.press("Evict")
    expect(hot).to_contain_text("not here")
    expect(where).to_contain_text("it costs Redis nothing")

    alice.press("New conversation")
    alice.say("What is 12*7?")
    expect(alice.page.locator(".tool")).to_have_text("calculator(12*7) → 84")
    alice.press("Wipe Redis")
    expect(alice.page.get_by_role("dialog")).to_contain_text("1 conversation is in Redis only and will be gone")
    alice.answers_dialog("Wipe Redis")
    expect(alice.news).to_have_text(
        "Redis is empty. 1 conversation is still here, in Postgres. 1 conversation was in Redis only, and went with it."
    )
    alice.has_conversations("My name is Alice.")
    expect(alice.empty).to_be_visible()  # the one that was open is gone
    alice.item("My name is Alice.").get_by_role("button").first.click()
    alice.hears("My name is Alice.", "Nice to meet you, Alice.")
    alice.say("What is my name?")
    expect(alice.messages.last).to_have_text("Your name is Alice.")


@ASYNC_INTERRUPTS
def test_refund_waits_on_a_card_for_a_decision(arrive: Arrive, chat_servers: EmbeddedServers) -> None:
    alice = arrive()
    alice.page.get_by_role("group", name="Suggestions").get_by_role("button", name="Refund order 17").click()
    card = alice.page.locator(".approval")
    expect(card).to_contain_text("Refund order 17?")
    alice.hears("Refund order 17")  # no answer without words
    alice.has_badges("Redis + Postgres", "waits for you")
    alice.begin_saying("Hurry up!")
    expect(alice.input).to_have_value("Hurry up!")  # not before the decision
    with redis.Redis.from_url(chat_servers.redis_url) as client:
        client.flushall()
    alice.page.reload()
    card.get_by_role("button", name="Approve").click()
    alice.hears("Refund order 17", "Order 17 is refunded.")
    expect(card).to_have_count(0)


def test_promoted_conversation_survives_a_reload_the_server_and_redis(
    arrive: Arrive, service: Service, chat_servers: EmbeddedServers
) -> None:
    alice = arrive()
    alice.say("My name is Alice.")
    alice.grow_long()
    said = alice.messages.all_inner_texts()

    alice.page.reload()
    alice.hears(*said)

    service.stop()
    expect(alice.notice).to_contain_text("The server does not answer. Trying again")
    alice.begin_saying("Are you there?")
    expect(alice.input).to_have_value("Are you there?")  # what could not be sent is there to be sent again
    service.start()
    expect(alice.notice).to_be_empty()
    alice.hears(*said)

    chat_servers.kill_redis()
    try:
        expect(alice.notice).to_contain_text("Redis does not answer just now")
        alice.begin_saying("Are you there now?")
        expect(alice.input).to_have_value("Are you there now?")
    finally:
        chat_servers.restart_redis()
    expect(alice.notice).to_be_empty()
    alice.has_badges(re.compile("Postgres"))

    with redis.Redis.from_url(chat_servers.redis_url) as client:
        client.flushall()
    alice.has_badges("Postgres")  # a look at the list does not bring it back into Redis
    alice.page.reload()
    alice.hears(*said)
    alice.begin_saying("What is my name?")
    expect(alice.messages.last).to_have_text("Your name is Alice.")


def test_conversation_in_redis_goes_on_while_postgres_is_down(arrive: Arrive, chat_servers: EmbeddedServers) -> None:
    alice = arrive()
    alice.say("My name is Alice.")
    chat_servers.kill_postgres()
    try:
        expect(alice.notice).to_contain_text("Postgres does not answer just now")
        alice.begin_saying("What is my name?")
        expect(alice.messages.last).to_have_text("Your name is Alice.")
    finally:
        chat_servers.restart_postgres()
    expect(alice.notice).to_be_empty()


def test_expired_conversation_is_said_to_have_expired_and_is_no_error(
    arrive: Arrive, chat_servers: EmbeddedServers
) -> None:
    alice = arrive()
    alice.say("My name is Alice.")
    conversation = alice.page.url.partition("#")[2]
    with redis.Redis.from_url(chat_servers.redis_url) as client:
        (key,) = client.scan_iter(f"*{conversation}")
        assert client.pexpire(key, 2_500)  # the same expiry, only sooner
    alice.has_conversations()
    expect(alice.empty).to_contain_text("expired")
    expect(alice.notice).to_be_empty()
    expect(alice.messages).to_have_count(0)
    alice.press("Begin a new one")
    alice.say("What is my name?")
    alice.hears("What is my name?", "I don't know your name.")


def test_new_and_delete(arrive: Arrive, chat_servers: EmbeddedServers) -> None:
    alice = arrive()
    alice.say("My name is Alice.")
    alice.grow_long()
    alice.press("New conversation")
    expect(alice.messages).to_have_count(0)
    alice.say("What is my name?")
    alice.hears("What is my name?", "I don't know your name.")
    alice.has_conversations("What is my name?", "My name is Alice.")  # the latest first

    alice.press("Delete “My name is Alice.”")
    alice.answers_dialog("Cancel")
    expect(alice.items).to_have_count(2)
    alice.item("My name is Alice.").get_by_role("button").first.click()
    expect(alice.messages.last).to_have_text("Your name is Alice.")
    conversation = alice.page.url.partition("#")[2]
    alice.press("Delete “My name is Alice.”")
    alice.answers_dialog("Delete")
    alice.has_conversations("What is my name?")
    expect(alice.messages).to_have_count(0)
    alice.page.reload()
    alice.has_conversations("What is my name?")
    with psycopg.connect(chat_servers.postgres_url) as connection:
        rows = connection.execute("SELECT 1 FROM checkpoints WHERE thread_id LIKE %s", (f"%{conversation}",)).fetchall()
    assert not rows


def test_what_people_say_is_text_and_never_html(arrive: Arrive) -> None:
    alice = arrive()
    bad = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>\"'><b id=bold>&amp;"
    links = "[a](javascript:window.hacked=1) [b](data:text/html,x) ![c](https://c.example/) <https://d.example/>"
    alice.say(bad)
    alice.say(links)
    alice.say("What have I said?")  # now the model says it, in Markdown
    alice.page.reload()
    expect(alice.messages.last).to_contain_text(bad)
    alice.has_conversations(f"{bad[:59]}…")
    expect(alice.page.locator("h1")).to_have_text(f"{bad[:59]}…")
    assert alice.page.locator("img, #bold, script").count() == 1  # the page's own script
    reached = alice.page.locator(".message a").evaluate_all("links => links.map(one => one.href)")
    assert reached == ["https://c.example/", "https://d.example/"]
    # The second line of defence: no text can be made HTML.
    with pytest.raises(Error, match="TrustedHTML"):
        alice.page.evaluate("document.body.innerHTML = '<img src=x onerror=\"window.hacked=1\">'")
    assert alice.page.evaluate("window.hacked") is None


def test_signing_in_and_out_carries_nothing_over(arrive: Arrive) -> None:
    def sign_in(person: Person, what: str) -> None:
        person.press("Sign in")
        person.page.get_by_text("With a token").click()
        person.page.get_by_label(re.compile("JWT")).fill(what)
        person.answers_dialog("Sign in")

    user = f"alice-{time.time_ns()}"
    alice, elsewhere = arrive(), arrive()
    alice.say("My name is Nobody.")
    sign_in(alice, token(user, "a guessed secret that is long enough"))
    expect(alice.notice).to_have_text("This token is not valid here.")
    sign_in(alice, token(user))
    expect(alice.page.locator("#name")).to_have_text(user)
    alice.has_conversations()
    alice.say("My name is Alice.")
    sign_in(elsewhere, token(user))
    elsewhere.has_conversations("My name is Alice.")
    alice.press("Sign out")
    expect(alice.page.locator("#name")).to_have_text("Anonymous visitor")
    alice.has_conversations()
    alice.press("Sign in")
    alice.answers_dialog("bob")  # a demo's, who needs no token
    expect(alice.page.locator("#name")).to_have_text("bob")
    alice.press("Wipe Redis")
    alice.answers_dialog("Wipe Redis")
    expect(alice.news).to_contain_text("Redis is empty")
    alice.page.reload()
    expect(alice.page.locator("#name")).to_have_text("bob")  # or who wipes Redis could not look what is left


def test_keyboard_is_enough(arrive: Arrive) -> None:
    alice = arrive()
    expect(alice.input).to_be_focused()
    for key in ("H", "i", "Shift+Enter", "y", "o", "u", "Enter"):
        alice.page.keyboard.press(key)
    alice.hears("Hi\nyou", re.compile("I only know names"))
    expect(alice.input).to_be_focused()
    first = alice.items.get_by_role("button").first
    expect(first).to_be_visible()  # the list comes after the answer
    for _ in range(20):  # suggestions, messages, the strip's buttons, delete, the line itself
        alice.page.keyboard.press("Shift+Tab")
        if alice.page.evaluate("document.activeElement.className") == "open-it":
            break
    expect(first).to_be_focused()
    with alice.page.expect_response(re.compile("/conversations$")) as listed:
        pass  # the list is drawn anew
    assert listed.value.ok
    expect(first).to_be_focused()
    alice.page.keyboard.press("Enter")
    expect(alice.input).to_be_focused()
    alice.hears("Hi\nyou", re.compile("I only know names"))


@ASYNC_INTERRUPTS
def test_page_is_accessible_in_light_and_in_the_dark(arrive: Arrive) -> None:
    alice = arrive()
    alice.page.emulate_media(reduced_motion="reduce")

    def faults() -> list[Any]:
        found = []
        for scheme in SCHEMES:
            alice.page.emulate_media(color_scheme=scheme)
            found += [(scheme, one["id"], one["nodes"]) for one in Axe().run(alice.page).response["violations"]]
        return found

    expect(alice.page.get_by_role("button", name="Wipe Redis")).to_be_visible()
    assert faults() == []
    alice.say("Hello")
    alice.say("What is 12*7?")
    alice.begin_saying("Refund order 17")
    expect(alice.page.locator(".approval")).to_be_visible()
    alice.has_badges("Redis + Postgres", "waits for you")
    assert faults() == []
    small = "all => all.filter(one => Math.min(one.offsetWidth, one.offsetHeight) < 44).map(one => one.outerHTML)"
    assert alice.page.locator("button:visible").evaluate_all(small) == []
    alice.press("Sign in")
    assert faults() == []


@ASYNC_INTERRUPTS
def test_pictures_of_the_page_which_fits_any_width(
    arrive: Arrive, chat_servers: EmbeddedServers, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("CHAT_PICTURES") or tmp_path)
    alice = arrive()
    alice.page.emulate_media(reduced_motion="reduce")
    alice.say("Plan my trip to Lisbon in spring, please, with a day by the sea.")
    alice.press("Pin")
    alice.press("Evict")
    alice.has_badges("Postgres · pinned")
    alice.press("New conversation")
    alice.say("My name is Alice.")
    alice.say("What is 12*7?")
    alice.begin_saying("Refund order 17")
    expect(alice.page.locator(".approval")).to_be_visible()
    alice.press("New conversation")
    alice.say("What is the weather like?")
    alice.has_badges(re.compile("^Redis only · "), "Redis + Postgres", "waits for you", "Postgres · pinned")
    alice.item("My name is Alice.").get_by_role("button").first.click()
    expect(alice.page.locator(".approval")).to_be_visible()
    alice.page.mouse.move(0, 0)
    alice.page.screenshot(path=pictures / "chat-server.png")
    for width in (390, 320, 640, 2_000):
        alice.page.set_viewport_size({"width": width, "height": 700})
        if width == 390:
            alice.page.emulate_media(color_scheme="dark")
            alice.page.screenshot(path=pictures / "chat-server-phone.png")
        assert alice.page.evaluate("document.documentElement.scrollWidth") <= width
    alice.page.set_viewport_size({"width": 320, "height": 560})
    alice.press("List of conversations")
    assert alice.page.evaluate("document.documentElement.scrollWidth") <= 320
    title = alice.page.locator(".title").last
    assert (
        title.evaluate("one => one.scrollWidth > one.clientWidth && getComputedStyle(one).textOverflow") == "ellipsis"
    )
    alice.item("My name is Alice.").get_by_role("button").first.click()
    expect(alice.page.locator(".approval")).to_be_visible()
