"""Which call slides which TTL, in every state of a thread: a table, as Redis has it after the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
import redis
from homes import at, put

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import NotPromotableError
from langgraph_tiered_checkpoint.hot.keys import bucket_of

TTL = timedelta(hours=10)
HOT_TTL = timedelta(hours=20)
LEFT_MS = 3_600_000
"""What is left of the TTL before the call: of no TTL at all, nobody could say whether a call has slid it."""

LATE_MS = 4_000_000_000_000
"""A due time that no call would set."""

STATES = ("ephemeral", "dirty", "clean", "waiting")


class Call(NamedTuple):
    """What is called, and what Redis has afterwards: "ttl" or "hot_ttl" anew, "left" as it was, "never", or "gone"."""

    name: str
    make: Callable[[TieredSaver, Any], object]
    ephemeral: str
    dirty: str
    clean: str
    waiting: str
    slides_wait: bool = False
    """Whether a thread that is to be flushed before it would expire has that put off."""


def evict(saver: TieredSaver, _: Any) -> None:
    with suppress(NotPromotableError):
        saver.evict("t")


def get_delta_channel_history(saver: TieredSaver, stored: Any) -> None:
    saver.get_delta_channel_history(config=stored, channels=["a"])


def put_writes(saver: TieredSaver, stored: Any) -> None:
    saver.put_writes(stored, [("a", 2)], "task")


CALLS = (
    # what is called                                                     ephemeral  dirty      clean      waiting
    Call("get the latest", lambda saver, _: saver.get_tuple(at("t")), "ttl", "never", "hot_ttl", "never"),
    Call("get by id", lambda saver, stored: saver.get_tuple(stored), "left", "never", "left", "never"),
    Call("list", lambda saver, _: list(saver.list(at("t"))), "left", "never", "left", "never"),
    Call("list all", lambda saver, _: list(saver.list(None)), "left", "never", "left", "never"),
    Call("follow deltas", get_delta_channel_history, "left", "never", "left", "never"),
    Call("put", lambda saver, stored: put(saver, stored, {"a": 2}, 2), "ttl", "never", "never", "never", True),  # noqa: FBT003
    Call("put writes", put_writes, "ttl", "never", "never", "never", True),  # noqa: FBT003
    Call("explain", lambda saver, _: saver.explain("t"), "left", "never", "left", "never"),
    Call("stats", lambda saver, _: saver.stats(), "left", "never", "left", "never"),
    Call("thread ids", lambda saver, _: list(saver.thread_ids()), "left", "never", "left", "never"),
    Call("flush", lambda saver, _: saver.flush("t"), "left", "hot_ttl", "left", "hot_ttl"),
    Call("flush all", lambda saver, _: saver.flush(), "left", "hot_ttl", "left", "hot_ttl"),
    Call("promote", lambda saver, _: saver.promote("t"), "hot_ttl", "hot_ttl", "hot_ttl", "hot_ttl"),
    Call("copy", lambda saver, _: saver.copy_thread("t", "copy"), "left", "hot_ttl", "left", "hot_ttl"),
    Call("prune", lambda saver, _: saver.prune(["t"]), "left", "gone", "gone", "gone"),
    Call("evict", evict, "left", "gone", "gone", "gone"),
)
READS_LATEST = "get the latest"


@contextmanager
def opened(redis_url: str, postgres_url: str, state: str, *, refresh: bool) -> Iterator[tuple[TieredSaver, Any]]:
    """A saver, and what its thread "t" of that state has stored."""
    with TieredSaver.from_urls(
        redis_url,
        postgres_url,
        ttl=TTL,
        hot_ttl=HOT_TTL,
        refresh_on_read=refresh,
        promoter="external",
        promotion=Promotion(after=None, checkpoints=None, on_interrupt=False, before_expiry=state == "waiting"),
    ) as saver:
        stored = put(saver, at("t"), {"a": 1})
        if state in ("clean", "dirty"):
            saver.promote("t")
        if state == "dirty":
            stored = put(saver, stored, {"a": 2}, 2)
        yield saver, stored


def shorten(client: redis.Redis, key: str) -> None:
    if client.pttl(key) > 0:
        client.pexpire(key, LEFT_MS)


def ttl_of(client: redis.Redis, key: str) -> str:
    """Which TTL a key has, by the name that the table has for it."""
    ttl_ms = client.pttl(key)
    if ttl_ms < 0:
        return {-1: "never", -2: "gone"}[ttl_ms]
    most = {"left": LEFT_MS, "ttl": TTL.total_seconds() * 1000, "hot_ttl": HOT_TTL.total_seconds() * 1000}
    return next(name for name, upper_ms in most.items() if upper_ms - LEFT_MS < ttl_ms <= upper_ms)


@pytest.mark.parametrize("refresh", [True, False], ids=["refresh on read", "no refresh"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_call_slides_the_ttl_that_the_table_says(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    call: Call,
    state: str,
    refresh: bool,  # noqa: FBT001
) -> None:
    with opened(redis_url, postgres_url, state, refresh=refresh) as (saver, stored):
        key, due = saver._store.hot.thread_key("t"), saver._store.hot.bucket_key(bucket_of("t"), "due")
        shorten(redis_client, key)
        if state == "waiting":
            redis_client.zadd(due, {"t": LATE_MS})
        call.make(saver, stored)
        expected = getattr(call, state)
        if call.name == READS_LATEST and not refresh and expected != "never":
            expected = "left"
        assert ttl_of(redis_client, key) == expected
        if state == "waiting" and expected == "never":
            put_off = redis_client.zscore(due, "t") != LATE_MS
            assert put_off == call.slides_wait


@pytest.mark.parametrize("refresh", [True, False], ids=["refresh on read", "no refresh"])
def test_thread_that_is_filled_in_begins_with_the_hot_ttl(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    refresh: bool,  # noqa: FBT001
) -> None:
    with opened(redis_url, postgres_url, "clean", refresh=refresh) as (saver, _):
        saver.evict("t")
        saver.get_tuple(at("t"))
        assert ttl_of(redis_client, saver._store.hot.thread_key("t")) == "hot_ttl"


@pytest.mark.parametrize("refresh", [True, False], ids=["refresh on read", "no refresh"])
def test_fill_of_a_thread_that_is_there_slides_what_its_read_does(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    refresh: bool,  # noqa: FBT001
) -> None:
    """Only the namespace that was asked for is filled in at first; the next one joins it."""
    with opened(redis_url, postgres_url, "clean", refresh=refresh) as (saver, _):
        put(saver, at("t", "sub"), {"a": 1})
        saver.flush("t")
        saver.evict("t")
        saver.get_tuple(at("t"))
        key = saver._store.hot.thread_key("t")
        shorten(redis_client, key)
        assert saver.get_tuple(at("t", "sub")) is not None
        assert ttl_of(redis_client, key) == ("hot_ttl" if refresh else "left")


@pytest.mark.parametrize("state", ["ephemeral", "clean"])
def test_thread_without_a_ttl_never_gets_one(
    redis_url: str, postgres_url: str, redis_client: redis.Redis, state: str
) -> None:
    with TieredSaver.from_urls(
        redis_url, postgres_url, ttl=None, hot_ttl=None, promoter="external", promotion=Promotion.never()
    ) as saver:
        stored = put(saver, at("t"), {"a": 1})
        if state == "clean":
            saver.promote("t")
        saver.get_tuple(at("t"))
        put_writes(saver, stored)
        if state == "clean":
            saver.flush("t")
        assert saver.explain("t").state == state
        assert ttl_of(redis_client, saver._store.hot.thread_key("t")) == "never"
