"""The runners against a real Redis: what is lost heals, what hangs ends in time, nothing gets mixed up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
import redis.asyncio
from connections.runners.driving import Make, ask, hot, lua
from own_redis import OwnRedis, cluster_of_one
from waiting import AT_ONCE_S, wait_until

from langgraph_tiered_checkpoint.errors import ConfigurationError, HotTierError
from langgraph_tiered_checkpoint.io.connections import Connections
from langgraph_tiered_checkpoint.io.redis_sync import SyncRedis
from langgraph_tiered_checkpoint.io.runners import AsyncRunner, SyncRunner
from langgraph_tiered_checkpoint.io.targets import HotTarget
from langgraph_tiered_checkpoint.plans.binding import Layout
from langgraph_tiered_checkpoint.steps import LuaBatch


def test_replies_are_raw_bytes(make: Make, redis_url: str) -> None:
    assert make(hot(redis_url))(lua("echo", "ключ", b"\x00\xff")) == ["ключ".encode(), b"\x00\xff"]


def test_a_batch_is_answered_in_order_and_loads_unknown_scripts(make: Make, redis_url: str) -> None:
    run = make(hot(redis_url))
    calls = tuple(lua("echo", f"k{i}", i) for i in range(300))
    for _ in range(2):
        assert run(LuaBatch(calls)) == [[b"k%d" % i, b"%d" % i] for i in range(300)]


def test_scripts_are_loaded_again_after_script_flush(make: Make, redis_url: str, redis_client: redis.Redis) -> None:
    run = make(hot(redis_url))
    assert run(lua("count")) == 1
    redis_client.script_flush()
    assert run(lua("count")) == 2


def test_an_error_reply_is_a_hot_tier_error_and_leaves_the_connection_usable(make: Make, redis_url: str) -> None:
    run = make(hot(redis_url))
    with pytest.raises(HotTierError, match=r"fail of thread 't1'.*on purpose"):
        run(lua("fail"))
    with pytest.raises(HotTierError, match="on purpose"):
        run(LuaBatch((lua("echo", "k", 1), lua("fail"), lua("echo", "k", 2))))
    assert run(lua("echo", "k", 3)) == [b"k", b"3"]


def test_lost_connections_heal(make: Make, redis_url: str, redis_client: redis.Redis) -> None:
    run = make(hot(redis_url))
    run.together([lua("count")] * 8)
    redis_client.client_kill_filter(_type="normal", skipme=True)
    run.together([lua("count")] * 8)
    assert redis_client.get("k") == b"16"


def test_a_restarted_redis_heals_and_one_that_is_down_is_a_quick_error(make: Make, own_redis: OwnRedis) -> None:
    run = make(hot(own_redis.url))
    run.together([lua("count")] * 4)
    own_redis.stop()
    before = time.monotonic()
    with pytest.raises(HotTierError, match=f"cannot be reached.*{own_redis.port}"):
        run(lua("count"))
    assert time.monotonic() - before < AT_ONCE_S
    own_redis.start()
    assert len(run.together([lua("count")] * 4)) == 4


def test_a_redis_that_hangs_is_an_error_in_time(make: Make, own_redis: OwnRedis) -> None:
    run = make(hot(own_redis.url, timeout_s=0.5))
    assert run(lua("count")) == 1
    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    for _ in range(2):  # the second time while connecting
        before = time.monotonic()
        with pytest.raises(HotTierError, match=r"count of thread 't1'.*in time"):
            run(lua("count"))
        assert 0.4 < time.monotonic() - before < AT_ONCE_S
    own_redis.process.send_signal(signal.SIGCONT)
    assert run(lua("echo", "k", 1)) == [b"k", b"1"]


def test_a_full_redis_is_named_as_such(make: Make, own_redis: OwnRedis) -> None:
    run = make(hot(own_redis.url))
    run(lua("count"))
    with redis.Redis(port=own_redis.port) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(HotTierError, match=r"out of memory.*maxmemory"):
            run(lua("fill"))


def test_a_full_redis_that_holds_our_layout_can_be_used_for_what_frees_memory(make: Make, own_redis: OwnRedis) -> None:
    make(hot(own_redis.url))(lua("count"))
    with redis.Redis(port=own_redis.port) as client:
        client.config_set("maxmemory", 1)
    assert make(hot(own_redis.url))(lua("echo", "k", 1)) == [b"k", b"1"]


def test_another_layout_under_the_prefix_is_refused(make: Make, redis_url: str, redis_client: redis.Redis) -> None:
    make(hot(redis_url, key_prefix="p"))(lua("count"))
    assert redis_client.get("p:layout") == Layout("hot").text.encode()
    redis_client.set("q:layout", "1:16")
    run = make(hot(redis_url, key_prefix="q"))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="key_prefix"):
            run(lua("count"))


def test_a_wrong_password_is_a_configuration_error_that_does_not_show_it(make: Make, own_redis: OwnRedis) -> None:
    with redis.Redis(port=own_redis.port) as client:
        client.config_set("requirepass", "right")
    with pytest.raises(ConfigurationError, match="refused the user or password") as caught:
        make(hot(f"redis://:s3cret@127.0.0.1:{own_redis.port}"))(lua("count"))
    assert "s3cret" not in str(caught.value)
    assert make(hot(f"redis://:right@127.0.0.1:{own_redis.port}"))(lua("count")) == 1


def test_ready_clients_lend_their_settings(make: Make, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True, db=3)
    async_client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True, db=3, protocol=3)
    run = make(Connections(HotTarget(sync_client=client, async_client=async_client), None))
    assert run(lua("echo", "k", b"\xff")) == [b"k", b"\xff"]
    assert run(lua("count", "where")) == 1
    assert client.get("where") == "1"
    client.close()


@pytest.mark.parametrize("given", ["a URL", "a client"])
def test_sync_connections_are_no_more_than_allowed(redis_url: str, redis_client: redis.Redis, given: str) -> None:
    if given == "a URL":
        target = HotTarget(url=f"{redis_url}?max_connections=3")
    else:
        target = HotTarget(sync_client=redis.Redis.from_url(redis_url, max_connections=3))
    run = SyncRunner(Connections(target, None)).run
    before = redis_client.info("stats")["total_connections_received"]
    redis_client.client_pause(300)
    with ThreadPoolExecutor(40) as threads:
        counted = list(threads.map(lambda _: run(ask(lua("count"))), range(40)))
    assert sorted(counted) == list(range(1, 41))
    assert redis_client.info("stats")["total_connections_received"] - before <= 3


def test_sync_connections_have_a_limit_of_their_own(redis_url: str) -> None:
    assert HotTarget(url=redis_url).max_connections == 64
    unlimited = redis.Redis.from_url(redis_url, max_connections=2**31)
    assert HotTarget(sync_client=unlimited).max_connections == 64


def test_waiting_in_vain_for_a_connection_is_an_error_that_names_the_limit(redis_url: str) -> None:
    connections = hot(f"{redis_url}?max_connections=1", timeout_s=0.5)
    run = SyncRunner(connections).run
    port = connections.sync_ports().hot
    assert isinstance(port, SyncRedis)
    enough = threading.Event()
    holder = threading.Thread(target=port._slots.run, args=(enough.wait,))
    holder.start()
    wait_until(lambda: port._slots.taken, "the other thread")
    with pytest.raises(HotTierError, match=r"no connection became free.*all 1 were in use for 0.5 s.*max_connections"):
        run(ask(lua("count")))
    enough.set()
    holder.join()
    assert run(ask(lua("count"))) == 1


async def test_a_missing_side_is_a_configuration_error(redis_url: str) -> None:
    connections = Connections(HotTarget(sync_client=redis.Redis.from_url(redis_url)), None)
    assert SyncRunner(connections).run(ask(lua("count"))) == 1
    with pytest.raises(ConfigurationError, match="pass a URL, or a pair"):
        await AsyncRunner(connections).run(ask(lua("count")))
    connections.close()


async def test_a_cluster_client_that_closes_its_connections_under_a_task_is_asked_again(tmp_path: Path) -> None:
    """As it does for all tasks when one of them finds the cluster changed."""
    with cluster_of_one(tmp_path) as server:
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=server.port)
        run = AsyncRunner(Connections(HotTarget(async_client=client), None)).run

        async def closes() -> None:
            for _ in range(30):
                await asyncio.sleep(0.002)
                await client.aclose()

        async def asks(k: int) -> list[object]:
            return [await run(ask(lua("echo", f"k{k}", n))) for n in range(5)]

        *replies, _ = await asyncio.gather(*(asks(k) for k in range(30)), closes())
        assert replies == [[[b"k%d" % k, b"%d" % n] for n in range(5)] for k in range(30)]
        await client.aclose()


def test_a_cluster_is_used_through_its_client(make: Make, tmp_path: Path) -> None:
    with (
        cluster_of_one(tmp_path) as server,
        contextlib.closing(redis.RedisCluster(host="127.0.0.1", port=server.port, decode_responses=True)) as client,
    ):
        async_client = redis.asyncio.RedisCluster(host="127.0.0.1", port=server.port, decode_responses=True)
        run = make(Connections(HotTarget(sync_client=client, async_client=async_client), None))
        calls = tuple(lua("echo", f"k{i}", b"\xff") for i in range(20))
        for _ in range(2):
            assert run(LuaBatch(calls)) == [[b"k%d" % i, b"\xff"] for i in range(20)]
        with pytest.raises(HotTierError, match="on purpose"):
            run(lua("fail"))
        if run._loop is not None:
            run._loop.run_until_complete(async_client.aclose())


async def test_cancelled_tasks_leave_the_replies_of_others_in_order(redis_url: str) -> None:
    run = AsyncRunner(hot(redis_url)).run
    await run(ask(lua("echo", "warm", 0)))
    for lead in range(4):
        tasks = [asyncio.create_task(run(ask(lua("echo", f"k{i}", b"x" * (i % 50))))) for i in range(2000)]
        for _ in range(lead):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [[b"k%d" % i, b"x" * (i % 50)] for i in range(1, 2000, 2)]
        assert await run(ask(lua("echo", "after", lead))) == [b"after", b"%d" % lead]


async def test_large_values_of_many_tasks_do_not_block_each_other(redis_url: str) -> None:
    run = AsyncRunner(hot(redis_url)).run
    value = os.urandom(1_000_000)
    replies = await asyncio.gather(*(run(ask(lua("echo", f"k{i}", value))) for i in range(64)))
    assert replies == [[b"k%d" % i, value] for i in range(64)]


async def test_the_tasks_of_a_loop_share_one_connection(redis_url: str, redis_client: redis.Redis) -> None:
    redis_client.client_kill_filter(_type="normal", skipme=True)  # of tests before, on their way out
    before = redis_client.info("clients")["connected_clients"]
    runner = AsyncRunner(hot(redis_url))
    await asyncio.gather(*(runner.run(ask(lua("count"))) for _ in range(500)))
    assert redis_client.info("clients")["connected_clients"] == before + 1
    await runner.aclose()
    assert await runner.run(ask(lua("count"))) == 501, "it opens again on demand"


async def test_all_tasks_in_flight_survive_the_loss_of_the_connection(
    redis_url: str, redis_client: redis.Redis
) -> None:
    run = AsyncRunner(hot(redis_url)).run
    await run(ask(lua("count")))
    tasks = [asyncio.create_task(run(ask(lua("echo", f"k{i}", i)))) for i in range(200)]
    redis_client.client_kill_filter(_type="normal", skipme=True)
    assert await asyncio.gather(*tasks) == [[b"k%d" % i, b"%d" % i] for i in range(200)]
