"""What a call leaves behind when it returns: the fill of a first read, the acknowledgement of a write through.

In an event loop nobody waits for it. Whatever happens to it must be as good as having waited, or as not having begun.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver, frozen, in_time, refused
from homes import at, make_checkpoint
from key_rules import broken_rules
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from waiting import wait_until

from langgraph_tiered_checkpoint import EmbeddedServers, HotTierError, TieredSaver
from langgraph_tiered_checkpoint.steps import Behind, Step

LIMIT_S = 0.5
"""The timeouts of the savers."""

CALLS = ("write", "read")


class Scene:
    """A promoted thread, and a saver whose loop is known to both servers."""

    def __init__(self, saver: TieredSaver, loop: asyncio.AbstractEventLoop) -> None:
        self.saver, self.loop = saver, loop
        self.ledger = Ledger(Caller(saver, loop), "t")
        self.ledger.put("first")
        self.ledger.call("promote", "t")
        self.ledger.put("second")
        self.quiet()

    def quiet(self) -> None:
        """Until nothing is unanswered."""

        def answered() -> bool:
            self.loop.run_until_complete(asyncio.sleep(0))
            return not self.unanswered()

        wait_until(answered, "the replies")

    def unanswered(self) -> int:
        """How many plans are."""
        ports = self.saver._async._connections._process.async_ports[self.loop]
        return len(ports.unanswered._open)

    def before_behind(self, act: Callable[[], object]) -> None:
        """Do something just before the next step that is left behind, once."""
        perform: Any = self.saver._async._perform
        done: list[bool] = []

        async def acting(step: Step) -> Any:
            if isinstance(step, Behind) and not done:
                done.append(True)
                if inspect.isawaitable(acted := act()):
                    await acted
            return await perform(step)

        self.saver._async._perform = acting  # type: ignore[method-assign]

    @contextmanager
    def made_before_a_freeze(self, call: str, redis_pid: int | None) -> Iterator[None]:
        """The call has been made, and what it has left behind has gone to a Redis that answers nothing for now."""
        with ExitStack() as stack:
            self.before_behind(lambda: stack.enter_context(frozen(redis_pid)))
            self.make(call)
            assert self.unanswered() == 1
            yield

    def prepare(self, call: str) -> None:
        self.quiet()
        if call == "read":
            self.saver.evict("t")

    def make(self, call: str) -> None:
        """The call that leaves something behind."""
        if call == "write":
            self.ledger.put("third")
        else:
            found = self.ledger.call("get_tuple", at("t"))
            assert found.checkpoint["channel_values"]["value"] == "second"


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    if not made.is_closed():
        made.run_until_complete(made.shutdown_asyncgens())
        made.close()


@pytest.fixture
def saver(redis_url: str, postgres_url: str, make_saver: MakeSaver) -> TieredSaver:
    return make_saver(redis_url, postgres_url, cold_writes="through")


@pytest.fixture
def scene(saver: TieredSaver, loop: asyncio.AbstractEventLoop) -> Scene:
    return Scene(saver, loop)


@pytest.fixture
def other(redis_url: str, postgres_url: str, make_saver: MakeSaver) -> TieredSaver:
    """Another process, as it were."""
    return make_saver(redis_url, postgres_url)


def test_what_the_loop_asks_next_comes_after_it(scene: Scene, redis_client: redis.Redis) -> None:
    scene.prepare("read")
    scene.make("read")  # with all its scripts
    scene.prepare("read")

    async def run() -> None:
        saver, config = scene.saver, scene.ledger.config
        await saver.aget_tuple(at("t"))
        for made in [make_checkpoint({"n": [n]}, n) for n in range(10, 15)]:
            config = await saver.aput(config, made, {"step": 1}, made["channel_versions"])
            await saver.aput_writes(config, [("n", 1)], "task")

    redis_client.config_resetstat()
    scene.loop.run_until_complete(run())
    scene.quiet()
    stats: Any = redis_client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 22, "a read and its fill, ten writes and their acknowledgements"
    assert scene.saver.explain("t").state == "clean"


@pytest.mark.parametrize("call", CALLS)
def test_redis_that_freezes_is_an_error_for_the_next_call_in_time_and_nothing_is_lost(
    scene: Scene,
    other: TieredSaver,
    servers: EmbeddedServers,
    postgres_url: str,
    call: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene.prepare(call)
    with scene.made_before_a_freeze(call, servers.redis_pid):
        with refused(HotTierError, "t", "did not answer in time", LIMIT_S):
            scene.ledger.call("get_tuple", at("t"))
        with in_time(4 * LIMIT_S):
            scene.loop.run_until_complete(scene.saver.aclose())
    gc.collect()
    assert caplog.text == "", "an error that nobody has heard of"
    scene.ledger.call = Caller(other, None)
    other.flush()
    scene.ledger.settle(postgres_url)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", ["aclose", "end of the loop"])
def test_closing_waits_for_it(scene: Scene, other: TieredSaver, redis_client: redis.Redis, call: str, how: str) -> None:
    scene.prepare(call)
    scene.before_behind(redis_client.script_flush)  # so that one reply is not all
    scene.make(call)
    assert scene.unanswered() == 1
    end = scene.saver.aclose() if how == "aclose" else scene.loop.shutdown_asyncgens()
    scene.loop.run_until_complete(end)
    assert other.explain("t").state == "clean"
    assert not scene.saver._async._connections._process.async_ports


def test_closing_that_is_cancelled_while_it_waits_closes_all_the_same(scene: Scene, servers: EmbeddedServers) -> None:
    async def cancelled() -> None:
        closing = asyncio.create_task(scene.saver.aclose())
        await asyncio.sleep(0.1)
        assert scene.unanswered() == 1
        closing.cancel()
        await asyncio.wait((closing,))

    with scene.made_before_a_freeze("write", servers.redis_pid):
        scene.loop.run_until_complete(cancelled())
    assert not scene.saver._async._connections._process.async_ports


@pytest.mark.parametrize("call", CALLS)
def test_loop_that_is_closed_meanwhile_says_nothing(
    scene: Scene, other: TieredSaver, servers: EmbeddedServers, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene.prepare(call)
    with scene.made_before_a_freeze(call, servers.redis_pid):
        scene.loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # whose connections are open, whoever closed it
            scene.saver._async._connections._process.async_ports.clear()
            gc.collect()
    assert caplog.text == ""
    other.flush()
    assert other.explain("t").state in ("clean", "cold")


def test_acknowledgement_that_is_refused_is_nobodys_error_and_the_promoter_makes_up_for_it(
    redis_url: str, postgres_url: str, make_saver: MakeSaver, loop: asyncio.AbstractEventLoop, redis_client: redis.Redis
) -> None:
    scene = Scene(make_saver(redis_url, postgres_url, cold_writes="through", promoter="embedded"), loop)
    scene.before_behind(lambda: redis_client.config_set("min-replicas-to-write", 1))
    scene.make("write")
    scene.ledger.check(scene.ledger.call)
    scene.quiet()
    assert scene.saver.explain("t").state == "dirty"
    redis_client.config_set("min-replicas-to-write", 0)
    wait_until(lambda: scene.saver.explain("t").state == "clean", "the promoter")
    scene.ledger.settle(postgres_url)


def test_connection_that_is_lost_with_it_is_made_again(scene: Scene, redis_client: redis.Redis) -> None:
    scene.before_behind(lambda: redis_client.client_kill_filter(_type="normal", skipme=True))
    scene.make("write")
    scene.quiet()
    assert scene.saver.explain("t").state == "clean"


def test_another_run_of_redis_is_told_before_the_write_returns(scene: Scene, servers: EmbeddedServers) -> None:
    """It may have lost the write, and be vouched for since: its head would be an older one."""

    async def restarted() -> None:
        servers.restart_redis()
        await scene.saver.astats()  # somebody else has made a connection

    scene.before_behind(restarted)
    scene.make("write")
    assert scene.unanswered() == 0


KILLS = {"before it is sent": 0, "after it was sent": 2}
"""Rounds of the loop."""


@pytest.mark.parametrize("when", KILLS)
@pytest.mark.parametrize("call", CALLS)
def test_process_that_is_killed_when_the_call_has_returned_loses_nothing(
    scene: Scene,
    redis_url: str,
    postgres_url: str,
    make_saver: MakeSaver,
    other: TieredSaver,
    redis_client: redis.Redis,
    call: str,
    when: str,
) -> None:
    scene.prepare(call)
    ledger, third = scene.ledger, make_checkpoint({"n": [3], "value": "third"}, 3)
    ledger.made[third["id"]], ledger.parents[third["id"]] = third, ledger.head
    child = os.fork()
    if child == 0:
        try:
            saver = make_saver(redis_url, postgres_url, cold_writes="through")
            asyncio.run(_call_and_die(saver, ledger.config, third if call == "write" else None, KILLS[when]))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert broken_rules(redis_client) == []
    if call == "write":
        ledger.acknowledged.add(third["id"])
        ledger.head = third["id"]
        with PostgresSaver.from_conn_string(postgres_url) as official:
            ledger.check(official)
        assert other.explain("t").state == "dirty" or when != "before it is sent"
    ledger.call = Caller(other, None)
    ledger.check(other)
    other.flush()
    ledger.put("by another worker")
    ledger.settle(postgres_url)


async def _call_and_die(saver: TieredSaver, config: RunnableConfig, made: Checkpoint | None, rounds: int) -> None:
    """Die in the very tick of the loop in which the call returns, or later."""
    await saver.astats()  # so that there is a connection
    if made is None:
        await saver.aget_tuple(at("t"))
    else:
        await saver.aput(config, made, {"step": 3}, made["channel_versions"])
    for _ in range(rounds):
        await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)


def test_thread_is_not_locked_up_by_a_fill_that_never_came(scene: Scene, other: TieredSaver) -> None:
    """Its marker lapses by itself, and the next read fills."""
    scene.prepare("read")
    fill = reading_until_fill(scene)
    assert fill is not None
    assert other.explain("t").tier == "cold"
    key = other._store.hot.thread_key("t")
    with redis.Redis.from_url(str(other._sync._connections.hot.url)) as client:
        assert 0 < client.pttl(key) <= 10_000
        assert other.get_tuple(at("t")) is not None
        assert other.explain("t").tier == "cold"
        client.pexpire(key, 1)
        wait_until(lambda: not client.exists(key), "the end of the marker")
    assert other.get_tuple(at("t")) is not None
    assert other.explain("t").tier == "both"


def reading_until_fill(scene: Scene) -> Behind | None:
    """A read that dies before its fill; that step."""
    plan = scene.saver._requests.get_tuple(at("t"))
    step: Step = next(plan)
    while not isinstance(step, Behind):
        step = plan.send(scene.saver._sync._perform(step))
    plan.close()
    return step
