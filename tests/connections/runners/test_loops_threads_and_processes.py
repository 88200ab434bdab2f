"""Runners shared by threads, event loops and forked processes, closed, or forgotten."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from connections.runners.driving import BACKEND, ask, both, lua
from waiting import HANGS_S

from langgraph_tiered_checkpoint.io.runners import AsyncRunner, SyncRunner

pytestmark = pytest.mark.bare


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
from langgraph_tiered_checkpoint.io import exchanges
from langgraph_tiered_checkpoint.io.connections import Connections
from langgraph_tiered_checkpoint.io.runners import AsyncRunner, SyncRunner
from langgraph_tiered_checkpoint.steps import Lua, Sql, Tx
from langgraph_tiered_checkpoint.hot.scripts import Script
from langgraph_tiered_checkpoint.io.targets import ColdTarget, HotTarget

TEXT = b"return redis.call('INCR', KEYS[1])"
exchanges.script = lambda name: Script(TEXT, hashlib.sha1(TEXT).hexdigest())

def body():
    rows = yield Sql("SELECT pg_backend_pid()")
    return rows

def plan():
    yield Lua("count", ("k",), (), "t1", int)
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
        check=False, capture_output=True, text=True, timeout=HANGS_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


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
