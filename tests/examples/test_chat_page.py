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
from typing import TypeAlias

import psycopg
import pytest
import redis
from chat_service import Service, token
from playwright.sync_api import APIResponse, Browser, BrowserContext, Locator, Route, expect, sync_playwright
from waiting import HANGS_S

from langgraph_tiered_checkpoint import EmbeddedServers

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# The sandbox does not work for root, and what is tested here is a page of our own.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PATIENCE_MS = 1000 * HANGS_S

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
        self.messages = self.page.get_by_role("log").locator("p:not(.empty)")
        self.notice = self.page.locator("[role=alert]")  # hidden while it is empty

    def begin_saying(self, text: str) -> None:
        self.input.fill(text)
        self.input.press("Enter")

    def hears(self, *messages: str) -> None:
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
        self.has_badges("kept · Redis and Postgres")

    def has_conversations(self, *titles: str) -> None:
        """Wait until these are all conversations in the list."""
        expect(self.page.locator(".title")).to_have_text(list(titles))

    def has_badges(self, *badges: str | re.Pattern[str]) -> None:
        expect(self.page.locator(".badge")).to_have_text(list(badges))

    def item(self, title: str) -> Locator:
        return self.items.filter(has_text=title)

    def answer_dialogs(self, *, accept: bool) -> None:
        self.page.once("dialog", lambda dialog: dialog.accept() if accept else dialog.dismiss())


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

        def person(width: int = 1000, height: int = 620) -> Person:
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
        expect(bob.notice).to_contain_text("There is no such conversation here")
        seen.append(bob.page.locator("body").inner_text())
    assert seen[0] == seen[1]
    assert "Nice to meet you" not in seen[0]


def test_answer_appears_while_it_is_being_written(arrive: Arrive) -> None:
    alice = arrive()
    alice.page.evaluate(
        """() => { window.seen = []; new MutationObserver(() => {
            const text = document.querySelector('.ai')?.textContent;
            if (text && text !== window.seen.at(-1)) window.seen.push(text);
        }).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""
    )
    alice.say("Do you know me?")
    seen = alice.page.evaluate("window.seen")
    assert seen[-1] == "I only know names, sums and refunds."
    assert len(seen) > 1
    assert all(seen[-1].startswith(piece) for piece in seen)


def test_list_that_comes_late_does_not_close_what_was_begun_meanwhile(arrive: Arrive) -> None:
    alice = arrive()
    expect(alice.page.locator(".empty")).to_be_visible()
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


def test_long_conversation_is_promoted_before_ones_eyes(arrive: Arrive) -> None:
    alice = arrive()
    alice.page.evaluate("window.sameAsBefore = true")
    alice.say("My name is Alice.")
    alice.has_badges(re.compile(r"^Redis · expires in \d+ (s|min|h)$"))
    alice.say("What is my name?")
    alice.say("What is my name?")
    alice.has_badges("kept · Redis and Postgres")
    expect(alice.page.locator("#where")).to_contain_text("Kept in Postgres.")
    assert alice.page.evaluate("window.sameAsBefore"), "without a reload"


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
    alice.has_badges(re.compile("kept"))

    with redis.Redis.from_url(chat_servers.redis_url) as client:
        client.flushall()
    alice.has_badges("kept · Postgres")  # a look at the list does not bring it back into Redis
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


def test_expired_conversation_is_gone_from_the_page(arrive: Arrive, chat_servers: EmbeddedServers) -> None:
    alice = arrive()
    alice.say("My name is Alice.")
    conversation = alice.page.url.partition("#")[2]
    with redis.Redis.from_url(chat_servers.redis_url) as client:
        (key,) = client.scan_iter(f"*{conversation}")
        assert client.pexpire(key, 300)  # the same expiry, only sooner
    alice.has_conversations()
    expect(alice.notice).to_contain_text("it has expired")
    expect(alice.messages).to_have_count(0)
    alice.page.reload()
    alice.say("What is my name?")
    alice.hears("What is my name?", "I don't know your name.")


def test_new_and_delete(arrive: Arrive, chat_servers: EmbeddedServers) -> None:
    alice = arrive()
    alice.say("My name is Alice.")
    alice.grow_long()
    alice.page.get_by_role("button", name="New conversation").click()
    expect(alice.messages).to_have_count(0)
    alice.say("What is my name?")
    alice.hears("What is my name?", "I don't know your name.")
    alice.has_conversations("What is my name?", "My name is Alice.")  # the latest first

    alice.answer_dialogs(accept=False)
    alice.page.get_by_role("button", name="Delete “My name is Alice.”").click()
    expect(alice.items).to_have_count(2)
    alice.item("My name is Alice.").get_by_role("button").first.click()
    expect(alice.messages.last).to_have_text("Your name is Alice.")
    conversation = alice.page.url.partition("#")[2]
    alice.answer_dialogs(accept=True)
    alice.page.get_by_role("button", name="Delete “My name is Alice.”").click()
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
    alice.say(bad)
    alice.page.reload()
    alice.hears(bad, "I only know names, sums and refunds.")
    alice.has_conversations(bad[:60])
    expect(alice.page.locator("h1")).to_have_text(bad[:60])
    assert alice.page.locator("img, #bold, script").count() == 1  # the page's own script
    assert alice.page.evaluate("window.hacked") is None
    # The second line of defence: even if it were written as HTML, it could not run.
    alice.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=1\">')")
    expect(alice.page.locator("img")).to_have_js_property("complete", value=True)
    assert alice.page.evaluate("window.hacked") is None


def test_signing_in_and_out_carries_nothing_over(arrive: Arrive) -> None:
    def sign_in(person: Person, what: str) -> None:
        person.page.get_by_role("button", name="Sign in", exact=True).click()
        person.page.get_by_label(re.compile("JWT")).fill(what)
        person.page.get_by_role("dialog").get_by_role("button", name="Sign in").click()

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
    alice.page.get_by_role("button", name="Sign out").click()
    expect(alice.page.locator("#name")).to_have_text("Anonymous visitor")
    alice.has_conversations()


def test_keyboard_is_enough(arrive: Arrive) -> None:
    alice = arrive()
    expect(alice.input).to_be_focused()
    for key in ("H", "i", "Shift+Enter", "y", "o", "u", "Enter"):
        alice.page.keyboard.press(key)
    alice.hears("Hi\nyou", "I only know names, sums and refunds.")
    expect(alice.input).to_be_focused()
    first = alice.items.get_by_role("button").first
    expect(first).to_be_visible()  # the list comes after the answer
    for _ in range(3):  # delete, the line itself, new
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
    alice.hears("Hi\nyou", "I only know names, sums and refunds.")


def test_pictures_of_the_page_which_fits_any_width(
    arrive: Arrive, chat_servers: EmbeddedServers, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("CHAT_PICTURES") or tmp_path)
    alice = arrive(height=560)
    alice.say("Plan my trip to Lisbon in spring, please.")
    alice.grow_long()
    with redis.Redis.from_url(chat_servers.redis_url) as client:
        client.flushall()
    alice.page.get_by_role("button", name="New conversation").click()
    for text in ("My name is Alice.", "What is my name?", "Do you remember me?", "Since when?"):
        alice.say(text)
    alice.has_badges("kept · Redis and Postgres", "kept · Postgres")
    alice.page.get_by_role("button", name="New conversation").click()
    alice.say("What is the weather like?")
    alice.has_badges(re.compile("^Redis · expires in"), "kept · Redis and Postgres", "kept · Postgres")
    alice.item("My name is Alice.").get_by_role("button").first.click()
    expect(alice.messages).to_have_count(8)
    alice.page.screenshot(path=pictures / "chat-server.png")
    for width in (390, 320, 640, 2_000):
        alice.page.set_viewport_size({"width": width, "height": 700})
        if width == 390:
            alice.page.screenshot(path=pictures / "chat-server-phone.png")
        assert alice.page.evaluate("document.documentElement.scrollWidth") <= width
    alice.page.set_viewport_size({"width": 320, "height": 560})
    alice.page.get_by_role("button", name="List of conversations").click()
    assert alice.page.evaluate("document.documentElement.scrollWidth") <= 320
    alice.item("My name is Alice.").get_by_role("button").first.click()
    expect(alice.messages.last).to_be_visible()
