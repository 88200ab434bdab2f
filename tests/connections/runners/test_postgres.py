"""The runners against a real Postgres: what is lost heals, what hangs ends in time, what is given up is undone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import psycopg
import psycopg_pool
import pytest
from connections.runners.driving import BACKEND, Make, ask, both, tx
from waiting import AT_ONCE_S, wait_until

from langgraph_tiered_checkpoint.errors import (
    ColdTierError,
    ColdTimeoutError,
    ConfigurationError,
    SchemaError,
    ThreadDeletedError,
)
from langgraph_tiered_checkpoint.io.connections import Connections
from langgraph_tiered_checkpoint.io.postgres_sync import SyncPostgres
from langgraph_tiered_checkpoint.io.runners import AsyncRunner, SyncRunner
from langgraph_tiered_checkpoint.io.targets import ColdTarget, HotTarget
from langgraph_tiered_checkpoint.steps import Alone, Sql, Statements, Tx

pytestmark = pytest.mark.bare


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
    with pytest.raises(ColdTierError, match="SerializationFailure"):
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
        assert time.monotonic() - before < AT_ONCE_S
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
    assert time.monotonic() - before < AT_ONCE_S
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
    pool: Any = port._pool
    [connection] = pool.idle
    waits = []
    plain = connection.wait

    def counting(gen: Any, *args: Any, **kwargs: Any) -> Any:
        waits.append(gen.__name__)
        return plain(gen, *args, **kwargs)

    connection.wait = counting
    port.transact(tx(("SELECT 1",), timeout_ms=1000))
    assert len([name for name in waits if "enter" not in name and "execute" not in name]) <= 3, waits
    port.close()


def alone(*statements: str, patience_s: float = 60) -> Alone:
    """Statements under a lock of this test's."""

    def work() -> Statements[list[str]]:
        rows = yield Sql("SELECT 1 FROM pg_indexes WHERE indexname = 'x_n'")
        return [] if rows else list(statements)

    return Alone("setup", Sql("SELECT pg_try_advisory_xact_lock(%s)", (42,)), Tx("setup", "*", work), patience_s)


def test_statements_outside_transactions_are_run_by_one_at_a_time(
    make: Make, redis_url: str, postgres_url: str
) -> None:
    run = make(both(redis_url, postgres_url))
    run(tx(("CREATE TABLE x (n int)",)))
    build = alone("CREATE INDEX CONCURRENTLY x_n ON x (n)")
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(42)")
        assert not any(run.together([build] * 4))
    assert any(run.together([build] * 8))
    assert run(tx(("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",))) == [(0,)]
    assert run(tx(("SELECT indexname FROM pg_indexes WHERE tablename = 'x'",))) == [("x_n",)]


def test_a_statement_that_fails_gives_the_lock_back(make: Make, redis_url: str, postgres_url: str) -> None:
    run = make(both(redis_url, postgres_url))
    for _ in range(2):
        with pytest.raises(SchemaError, match="absent"):
            run(alone("CREATE INDEX CONCURRENTLY x_n ON absent (n)"))


def test_an_index_that_takes_too_long_is_left_to_the_server(make: Make, redis_url: str, postgres_url: str) -> None:
    run = make(both(redis_url, postgres_url))
    run(tx(("CREATE TABLE x (n int)",)))
    valid = tx(("SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('x_n') AND indisvalid",))
    with psycopg.connect(postgres_url) as other:
        other.execute("INSERT INTO x VALUES (1)")
        with pytest.raises(ColdTimeoutError, match=r"not done after 0\.2 s"):
            run(alone("CREATE INDEX CONCURRENTLY x_n ON x (n)", patience_s=0.2))
        assert run(valid) == [(0,)]
    wait_until(lambda: run(valid) == [(1,)], "the index")
