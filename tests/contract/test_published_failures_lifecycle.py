"""Expiry, deletion, outages, connections: ways in which published savers broke as time went by."""

from __future__ import annotations

import asyncio
import contextvars
import operator
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
import redis
from homes import HOMES, at, make_checkpoint, put, settle, values_of
from langgraph.graph import START, StateGraph
from waiting import wait_until

from langgraph_tiered_checkpoint import (
    ColdTierError,
    EmbeddedServers,
    HotTierError,
    Promotion,
    ThreadDeletedError,
    TieredSaver,
    Timeouts,
)

pytestmark = pytest.mark.bare

QUICK = Timeouts(hot=timedelta(seconds=2), cold=timedelta(seconds=2))


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    never = Promotion.never()
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=never) as made:
        yield made


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own_servers() -> Iterator[EmbeddedServers]:
    with EmbeddedServers() as running:
        yield running


class Total(TypedDict):
    done: Annotated[list[str], operator.add]


def one_node(saver: TieredSaver, node: Any) -> Any:
    builder = StateGraph(Total)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(checkpointer=saver)


def test_write_after_expiry_is_refused_and_creates_nothing(
    redis_url: str, postgres_url: str, redis_client: redis.Redis
) -> None:
    """Failure 6: it created a key without TTL that was read back as a bogus checkpoint."""
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as saver:
        config = put(saver, at("t"), {"a": 1})
        assert saver.get_tuple(at("t")) is not None
        assert redis_client.pexpire(saver._store.hot.thread_key("t"), 1)  # the same expiry, only sooner
        wait_until(lambda: saver.explain("t").state == "absent", "the thread to expire")
        with pytest.raises(ThreadDeletedError, match="'t'"):
            saver.put_writes(config, [("a", 2)], "task")
        with pytest.raises(ThreadDeletedError, match="'t'"):
            put(saver, config, {"a": 2}, 2)
        assert [k for k in redis_client.scan_iter("*:t:*") if redis_client.hexists(k, "m")] == []
        assert saver.get_tuple(at("t")) is None
        put(saver, at("t"), {"a": 3}, 3)
        assert values_of(saver, at("t")) == {"a": 3}


def test_channel_that_does_not_change_lives_as_long_as_its_thread(redis_url: str, redis_client: redis.Redis) -> None:
    """Failure 7: unchanged channels expired out of an active thread."""
    with TieredSaver.from_urls(redis_url, ttl=timedelta(hours=1)) as saver:
        config = put(saver, at("t"), {"old": ["value"], "n": 0})
        for n in range(2, 8):
            made = make_checkpoint({"old": ["value"], "n": n}, n)
            made["channel_versions"]["old"] = f"{1:032}.0001"
            keys = [key for key in redis_client.scan_iter() if b":t:" in key]
            for key in keys:
                redis_client.pexpire(key, 1_000_000)
            config = saver.put(config, made, {"step": n}, {"n": made["channel_versions"]["n"]})
            assert all(redis_client.pttl(key) > 1_000_000 for key in keys)
        assert values_of(saver, at("t")) == {"old": ["value"], "n": 7}


def test_every_write_leaves_its_ttl_behind_atomically(redis_url: str, redis_client: redis.Redis) -> None:
    """Failure 8: one EXPIRE in a pipeline failed, and the key became immortal or the write was lost."""
    with TieredSaver.from_urls(redis_url, ttl=timedelta(hours=1)) as saver:
        saver.put_writes(at("t", "", "early"), [("a", 1)], "task")
        (key,) = redis_client.scan_iter("*:t:t")
        for n in range(1, 4):
            assert 3_500_000 < redis_client.pttl(key) <= 3_600_000
            redis_client.pexpire(key, 3_000_000)
            put(saver, at("t"), {"a": n}, n)


def test_server_that_is_down_is_an_error_and_not_an_empty_thread(own_servers: EmbeddedServers) -> None:
    """Failure 9."""
    urls = own_servers.redis_url, own_servers.postgres_url
    with TieredSaver.from_urls(*urls, promoter="external", timeouts=QUICK) as saver:
        put(saver, at("hot"), {"a": 1})
        put(saver, at("cold"), {"a": 2})
        settle(saver, "cold", "evicted")
        own_servers.kill_postgres()
        assert values_of(saver, at("hot")) == {"a": 1}
        for question in (
            lambda: saver.get_tuple(at("cold")),
            lambda: list(saver.list(at("cold"))),
            lambda: saver.get_tuple(at("nobody")),
            lambda: put(saver, at("cold"), {"a": 3}, 3),
        ):
            with pytest.raises(ColdTierError):
                question()
        own_servers.restart_postgres()
        assert values_of(saver, at("cold")) == {"a": 2}
        own_servers.kill_redis()
        for question in (lambda: saver.get_tuple(at("hot")), lambda: list(saver.list(at("hot")))):
            with pytest.raises(HotTierError):
                question()
        own_servers.restart_redis()
        assert values_of(saver, at("cold")) == {"a": 2}


async def test_cancelled_put_is_done_or_not_done(redis_url: str) -> None:
    """Failure 13: half a checkpoint was left."""
    async with TieredSaver.from_urls(redis_url) as saver:
        config: Any = at("t")
        whole = 0
        await saver.aget_tuple(config)
        for n in range(1, 80):
            made = make_checkpoint({"a": ["x" * 2000] * n, "b": [n]}, n)
            task = asyncio.create_task(saver.aput(config, made, {"step": n}, made["channel_versions"]))
            for _ in range(n % 4):
                await asyncio.sleep(0)
            await asyncio.wait({task}, timeout=(n % 16) / 4000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            found = await saver.aget_tuple(at("t", "", made["id"]))
            if found is not None:
                whole += 1
                assert found.checkpoint["channel_values"] == made["channel_values"]
        assert whole > 0


def test_open_listing_holds_nothing(saver: TieredSaver, home: str) -> None:
    """Failure 16: a list generator held the only connection, and get_tuple in its loop deadlocked."""
    config: Any = at("t")
    for n in range(1, 121):
        config = put(saver, config, {"a": n}, n)
    settle(saver, "t", home)
    listings = [saver.list(at("t")) for _ in range(30)]
    for listing in listings:
        first = next(iter(listing))
        assert values_of(saver, first.config) == {"a": 120}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: values_of(saver, at("t"))["a"] + n, range(64)))
    assert found == [120 + n for n in range(64)]


SETUP = """
import sys
from langgraph_tiered_checkpoint import TieredSaver
with TieredSaver.from_urls(*sys.argv[1:]) as saver:
    saver.setup()
"""


def test_many_setups_at_once_on_an_empty_database(redis_url: str, postgres_url: str) -> None:
    """Failure 17: seven of eight failed."""
    start = threading.Barrier(8)

    def setup(_: int) -> None:
        start.wait()
        with TieredSaver.from_urls(redis_url, postgres_url) as saver:
            saver.setup()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(setup, range(8)))
    command = [sys.executable, "-c", SETUP, redis_url, postgres_url]
    workers = [subprocess.Popen(command) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    with psycopg.connect(postgres_url) as conn:
        assert conn.execute("SELECT count(*) FROM checkpoint_migrations").fetchone() == (10,)


def test_pool_heals_at_once_after_postgres_was_restarted(own_servers: EmbeddedServers) -> None:
    """Failure 18: a single connection never came back, a pool of N failed N times."""
    urls = own_servers.redis_url, own_servers.postgres_url
    with TieredSaver.from_urls(*urls, promoter="external") as saver:
        for n in range(8):
            put(saver, at(f"t{n}"), {"a": n})
            settle(saver, f"t{n}", "evicted")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: list(saver.list(at(f"t{n}"))), range(8)))
        own_servers.kill_postgres()
        own_servers.restart_postgres()
        for n in range(8):
            saver.evict(f"t{n}")
            assert values_of(saver, at(f"t{n}")) == {"a": n}


def test_first_of_many_checkpoints_costs_one_page(saver: TieredSaver, redis_client: redis.Redis, home: str) -> None:
    """Failure 19: everything was fetched before the first was yielded."""
    config: Any = at("t")
    for n in range(1, 301):
        config = put(saver, config, {"a": n}, n)
    settle(saver, "t", home)
    redis_client.config_resetstat()
    assert next(iter(saver.list(at("t")))).checkpoint["channel_values"] == {"a": 300}
    stats: Any = redis_client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] <= 2


async def test_sync_method_on_the_loops_own_thread_does_not_deadlock(saver: TieredSaver) -> None:
    """Failure 20."""
    made = make_checkpoint({"a": 1})
    await saver.aput(at("t"), made, {"step": 1}, made["channel_versions"])
    assert values_of(saver, at("t")) == {"a": 1}
    put(saver, at("t"), {"a": 2}, 2)
    found = await saver.aget_tuple(at("t"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": 2}
    await saver.aclose()


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_late_writes_do_not_bring_a_deleted_thread_back(
    saver: TieredSaver, home: str, durability: Any, postgres_url: str, redis_client: redis.Redis
) -> None:
    """Failure 21."""

    def node(state: Total) -> Total:
        saver.delete_thread("t")
        return {"done": ["node"]}

    put(saver, at("t"), {"done": ["before"]})
    settle(saver, "t", home)
    with pytest.raises(ThreadDeletedError):
        one_node(saver, node).invoke({"done": ["in"]}, at("t"), durability=durability)
    assert saver.get_tuple(at("t")) is None
    assert [k for k in redis_client.scan_iter("*:t:*") if redis_client.hexists(k, "m")] == []
    with psycopg.connect(postgres_url) as conn:
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads"):
            assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    afresh = one_node(saver, lambda _: {"done": ["afresh"]}).invoke({"done": ["in"]}, at("t"))
    assert afresh["done"] == ["in", "afresh"]


def test_late_write_does_not_land_in_the_thread_that_came_after(saver: TieredSaver, home: str) -> None:
    """Failure 21, with a successor of the same id."""
    config = put(saver, at("t"), {"a": "first life"})
    settle(saver, "t", home)
    read = contextvars.Context()
    assert read.run(saver.get_tuple, at("t")) is not None
    saver.delete_thread("t")
    put(saver, at("t"), {"a": "second life"}, 2)
    settle(saver, "t", home)
    with pytest.raises(ThreadDeletedError):
        read.run(saver.put_writes, config, [("a", "late")], "task")
    with pytest.raises(ThreadDeletedError):
        read.run(put, saver, config, {"a": "late"}, 3)
    assert [t.checkpoint["channel_values"] for t in saver.list(at("t"))] == [{"a": "second life"}]


def test_thread_that_turned_out_long_lived_is_promoted_by_itself(redis_url: str, postgres_url: str) -> None:
    """Failure 23, the saver's part: an interrupted run must not wait for its completion to be flushed."""
    quick = timedelta(milliseconds=50)
    promotion = Promotion(checkpoints=2)
    with TieredSaver.from_urls(redis_url, postgres_url, promotion=promotion, flush_interval=quick) as saver:
        config = put(saver, at("t"), {"a": 1})
        assert saver.explain("t").state == "ephemeral"
        put(saver, config, {"a": 2}, 2)
        wait_until(lambda: saver.explain("t").state == "clean", "the promoter")
        saver.evict("t")
        assert values_of(saver, at("t")) == {"a": 2}
