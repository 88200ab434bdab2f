"""What runners do without a server: driving plans, translating errors, keeping passwords out of messages."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import psycopg_pool
import pytest
import redis
from psycopg import errors as pg
from scripted import as_it_is

from langgraph_tiered_checkpoint import errors
from langgraph_tiered_checkpoint.hot.scripts import script
from langgraph_tiered_checkpoint.hot.writing import parse_write
from langgraph_tiered_checkpoint.io.connections import Connections
from langgraph_tiered_checkpoint.io.exchanges import ServerCheck, check_server, invoke
from langgraph_tiered_checkpoint.io.faults import translate
from langgraph_tiered_checkpoint.io.runners import AsyncRunner, SyncRunner
from langgraph_tiered_checkpoint.io.targets import ColdTarget, HotTarget
from langgraph_tiered_checkpoint.plans.binding import Layout
from langgraph_tiered_checkpoint.steps import Lanes, Lua, LuaBatch, Pause, Plan, Statements, Step, Tx

LAYOUT = Layout("hot").text.encode()
NOWHERE = "redis://:secret@localhost:1/0"
HOT = HotTarget(url=NOWHERE)
COLD = ColdTarget(url="postgresql://me:secret@localhost:1/db")

Run = Callable[[Plan[Any]], Any]


def tx(name: str = "fetch", thread: str = "t1") -> Tx[None]:
    def body() -> Statements[None]:
        yield from ()

    return Tx(name, thread, body)


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    connections = Connections(HOT, None)
    if request.param == "sync":
        return SyncRunner(connections).run
    return lambda plan: asyncio.run(AsyncRunner(connections).run(plan))


def test_run_returns_what_a_plan_without_steps_returns(run: Run) -> None:
    def plan() -> Plan[str]:
        yield from ()
        return "done"

    assert run(plan()) == "done"


def test_a_pause_waits_and_its_reply_is_none(run: Run) -> None:
    def plan() -> Plan[object]:
        return (yield Pause(0.05))

    before = time.monotonic()
    assert run(plan()) is None
    assert time.monotonic() - before >= 0.05


def test_lanes_run_at_once(run: Run) -> None:
    ended: list[str] = []

    def slow() -> Plan[None]:
        yield Pause(0.2)
        ended.append("slow")

    def fast() -> Plan[None]:
        yield Pause(0.05)
        ended.append("fast")

    def plan() -> Plan[object]:
        return (yield Lanes((slow(), fast())))

    assert run(plan()) is None
    assert ended == ["fast", "slow"]


@pytest.mark.parametrize("at_fault", [0, 1])
def test_an_error_in_a_lane_is_raised_when_the_others_have_ended(run: Run, at_fault: int) -> None:
    ended: list[bool] = []

    def lane() -> Plan[None]:
        yield Pause(0.1)
        ended.append(True)

    def failing() -> Plan[None]:
        yield from Lua("get", ("k",), (), "t1", as_it_is)

    def plan() -> Plan[str]:
        lanes = [lane(), lane()]
        lanes.insert(at_fault, failing())
        try:
            yield Lanes(tuple(lanes))
        except errors.HotTierError:
            return f"{len(ended)} ended"
        return "no error"

    assert run(plan()) == "2 ended"


def test_lanes_run_one_after_the_other_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    ended: list[str] = []

    def lane(name: str) -> Plan[None]:
        yield Pause(0)
        ended.append(name)

    def plan() -> Plan[None]:
        yield Lanes((lane("one"), lane("two"), lane("three")))

    monkeypatch.setattr(threading.Thread, "start", refuse)
    SyncRunner(Connections(HOT, None)).run(plan())
    assert ended == ["one", "two", "three"]


def test_a_plan_can_handle_the_error_of_a_step_and_go_on(run: Run) -> None:
    def plan() -> Plan[str]:
        try:
            yield from Lua("get", ("k",), (), "t1", as_it_is)
        except errors.HotTierError as exc:
            yield Pause(0)
            return f"handled {type(exc.__cause__).__name__}"
        return "no error"

    assert run(plan()) == "handled ConnectionError"


def test_an_error_that_the_plan_does_not_handle_is_raised_with_its_cause_and_the_plan_is_closed(run: Run) -> None:
    closed = []

    def plan() -> Plan[None]:
        try:
            yield from Lua("get", ("k",), (), "t1", as_it_is)
        finally:
            closed.append(True)

    with pytest.raises(errors.HotTierError, match=r"get of thread 't1'.*localhost:1") as caught:
        run(plan())
    assert isinstance(caught.value.__cause__, redis.ConnectionError)
    assert "secret" not in str(caught.value)
    assert closed == [True]


class SoftTimeLimitError(Exception):
    """What a task queue's signal handler raises."""


@pytest.mark.parametrize("step", [Pause(0), Lua("get", ("k",), (), "t1", as_it_is), None])
def test_an_exception_from_elsewhere_comes_out_as_it_is(step: Step | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in a call it is raised: it is the caller's own, who waits for it."""
    runner = SyncRunner(Connections(HOT, None))

    def plan() -> Plan[None]:
        if step is None:
            raise SoftTimeLimitError
        yield step

    def perform(_: Step) -> None:
        raise SoftTimeLimitError

    monkeypatch.setattr(runner, "_perform", perform)
    with pytest.raises(SoftTimeLimitError):
        runner.run(plan())


@pytest.mark.parametrize(("step", "kind"), [(Pause(0), errors.UnexpectedError), (None, errors.ConfigurationError)])
def test_whatever_comes_out_of_a_plan_is_an_error_of_ours(run: Run, step: Pause | None, kind: type[Exception]) -> None:
    """Before its first step, it has nothing but its arguments."""

    def plan() -> Plan[None]:
        if step:
            yield step
        raise KeyError("mine")

    with pytest.raises(kind, match="KeyError: 'mine'") as caught:
        run(plan())
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_transaction_without_a_cold_tier_is_a_configuration_error(run: Run) -> None:
    def plan() -> Plan[None]:
        yield tx()

    with pytest.raises(errors.ConfigurationError, match=r"fetch of thread 't1' needs Postgres.*postgres_url"):
        run(plan())


async def test_a_cancelled_plan_is_closed() -> None:
    begun = asyncio.Event()
    closed = []

    def plan() -> Plan[None]:
        begun.set()
        try:
            yield Pause(60)
        finally:
            closed.append(True)

    task = asyncio.create_task(AsyncRunner(Connections(HOT, None)).run(plan()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == [True]


LUA = Lua("put", ("k",), (), "t1", parse_write)


@pytest.mark.parametrize(
    ("raised", "step", "kind", "says"),
    [
        (redis.TimeoutError("slow"), LUA, errors.HotTierError, r"in time.*timeouts\.hot"),
        (redis.AuthenticationError("no"), LUA, errors.ConfigurationError, "refused the user or password"),
        (redis.ConnectionError("gone"), LuaBatch((LUA, LUA)), errors.HotTierError, r"'t1' and 1 more.*reached"),
        (pg.UndefinedTable("no table"), tx(), errors.SchemaError, r"fetch of thread 't1'.*setup\(\)"),
        (pg.UniqueViolation("twice"), tx(), errors.ColdRefusedError, "refused the data"),
        (psycopg.DataError("NUL"), tx(), errors.ColdRefusedError, "refused the data"),
        (pg.QueryCanceled("statement timeout"), tx(), errors.ColdTimeoutError, "in time"),
        (psycopg.OperationalError("Connection refused"), tx(), errors.ColdTierError, "reached.*refused"),
        (psycopg.OperationalError('FATAL: password authentication failed for user "me"'), tx(),
         errors.ConfigurationError, "refused the login"),
        (psycopg_pool.PoolTimeout("30 s"), tx(), errors.ColdTierError, "max_size"),
        (psycopg_pool.PoolClosed("x"), tx(), errors.ConfigurationError, "not open"),
    ],
)  # fmt: skip
def test_driver_errors_become_ours(
    raised: Exception, step: Lua[Any] | LuaBatch[Any] | Tx[None], kind: type[Exception], says: str
) -> None:
    error = translate(raised, step, HOT, COLD)
    assert type(error) is kind
    with pytest.raises(kind, match=says):
        raise error
    assert "secret" not in str(error)


@pytest.mark.parametrize("raised", [errors.ThreadDeletedError("x"), MemoryError()])
def test_our_own_errors_are_not_translated(raised: Exception) -> None:
    assert translate(raised, tx(), HOT, COLD) is raised


@pytest.mark.parametrize(("step", "kind"), [(LUA, errors.HotTierError), (tx(), errors.UnexpectedError)])
def test_bugs_of_a_client_or_of_a_transaction_s_body_become_ours(
    step: Lua[Any] | Tx[None], kind: type[Exception]
) -> None:
    error = translate(AttributeError("'NoneType' object has no attribute 'writelines'"), step, HOT, COLD)
    assert type(error) is kind
    assert re.search("'t1'.*AttributeError", str(error))


@pytest.mark.parametrize("reply", [[b"gome"], [], None, b"ok", [None]])
def test_a_reply_that_no_plan_knows_is_an_error_of_its_own(reply: object) -> None:
    runner = SyncRunner(Connections(HOT, None))

    def plan() -> Plan[None]:
        yield from LUA

    going = plan()
    asked = runner._next(going, None, None, None)
    with pytest.raises(errors.UnexpectedError, match=r"put of thread 't1'.*explain\(\)"):
        runner._next(going, asked, reply, None)


@pytest.mark.parametrize("make", [
    lambda: HotTarget(url="localhost:6379?password=s3cret"),
    lambda: HotTarget(url="redis://u:s3cret@h:port/0"),
    lambda: ColdTarget(url="mysql+x://u:s3cret@h/d"),
    lambda: ColdTarget(url="host=h password='s3cret"),
])  # fmt: skip
def test_a_wrong_url_is_a_configuration_error_without_the_password(make: Callable[[], object]) -> None:
    with pytest.raises(errors.ConfigurationError, match="looks like") as caught:
        make()
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_client_of_the_missing_side_is_a_configuration_error() -> None:
    target = HotTarget(sync_client=redis.Redis())
    assert "localhost:6379" in target.display_url
    with pytest.raises(errors.ConfigurationError, match=r"only a sync client.*pass a URL, or a pair"):
        _ = target.async_pool
    with pytest.raises(errors.ConfigurationError, match=r"is not a redis\.Redis"):
        HotTarget(sync_client="what")  # type: ignore[arg-type]


def test_a_script_contains_its_includes() -> None:
    text, sha = script("put")
    assert b"-- include" not in text
    assert text.count(b"local T = KEYS[1]") == 1
    assert len(sha) == 40
    assert script("put") is script("put")


def test_unknown_scripts_are_sent_again_with_their_text_once_per_script() -> None:
    calls = [Lua("get", (str(i),), (), "t", as_it_is) for i in range(3)]
    exchange = invoke(calls)
    assert [command[0] for command in next(exchange)] == ["EVALSHA"] * 3
    unknown = redis.exceptions.NoScriptError("No matching script")
    assert [command[0] for command in exchange.send([unknown, b"1", unknown])] == ["EVAL", "EVALSHA"]
    with pytest.raises(StopIteration) as done:
        exchange.send([b"0", b"2"])
    assert done.value.value == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ([b"# Server\r\nredis_version:6.2.14\r\nx:y", b"OK", LAYOUT], None),
        ([{"redis_version": "7.2.4"}, None, LAYOUT.decode()], None),
        ([{"n1": {"redis_version": "7.2.4"}}, None, LAYOUT], None),
        ([redis.exceptions.NoPermissionError("INFO"), None, LAYOUT], None),
        ([b"redis_version:7.0", redis.ResponseError("OOM"), LAYOUT], None),
        ([b"redis_version:7.0", redis.ResponseError("OOM command not allowed"), None], redis.ResponseError),
        ([b"redis_version:6.0.16", b"OK", LAYOUT], errors.ConfigurationError),
        ([b"redis_version:7.0", None, b"1:512"], errors.ConfigurationError),
        ([b"redis_version:7.0", None, Layout("bound", "id", "host=db").text.encode()], errors.ConfigurationError),
    ],
)
def test_a_server_is_checked_for_its_version_and_layout(replies: list[Any], error: type[Exception] | None) -> None:
    exchange = check_server(HOT, ServerCheck(None))
    next(exchange)
    with pytest.raises(error or StopIteration):
        exchange.send(replies)
