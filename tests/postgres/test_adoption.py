"""How production users come: with tables that the official saver has filled, and that others are using meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from homes import at, put, settle, values_of
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import sql
from waiting import wait_until

from langgraph_tiered_checkpoint import (
    ColdLockedError,
    ColdTierError,
    ColdTimeoutError,
    ConfigurationError,
    TieredSaver,
    Timeouts,
)

pytestmark = pytest.mark.bare

IMPATIENT = Timeouts(cold=timedelta(seconds=1))
INDEXES = """
    SELECT c.relname, x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
    WHERE c.relname IN ('tiered_run_id_idx', 'tiered_order_idx') ORDER BY 1
"""
BUILT = [("tiered_order_idx", True), ("tiered_run_id_idx", True)]

Admin = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def admin(postgres_url: str) -> Iterator[Admin]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def adopted(postgres_url: str, admin: Admin) -> str:
    """The tables of the official saver, with a thread of one checkpoint. Their URL."""
    with PostgresSaver.from_conn_string(postgres_url) as official:
        official.setup()
        put(official, at("old"), {"a": 1})
    return postgres_url


@contextmanager
def in_use(url: str, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """A session in the middle of a transaction: a backup, or a program that has forgotten one."""
    with psycopg.connect(url, application_name="nightly backup") as session:
        for statement in statements:
            session.execute(statement.encode())
        yield session
        session.rollback()


def backup(url: str) -> Any:
    return in_use(url, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 'secret' FROM pg_class LIMIT 1")


def used_role(admin: Admin, *grants: str) -> str:
    """A role of the test's, with some privileges; the options that make a URL use it."""
    admin.execute("DROP ROLE IF EXISTS adopter")
    admin.execute("CREATE ROLE adopter LOGIN")
    for grant in grants:
        admin.execute(f"GRANT {grant} TO adopter".encode())
    return "-c role=adopter"


@pytest.fixture
def drop_role(admin: Admin) -> Iterator[None]:
    yield
    admin.execute("DROP OWNED BY adopter")
    admin.execute("DROP ROLE adopter")


def with_options(url: str, options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}options={quote(options)}"


def test_no_request_waits_for_an_index_and_the_promoter_builds_them_when_it_can(
    redis_url: str, adopted: str, admin: Admin
) -> None:
    with TieredSaver.from_urls(redis_url, adopted, flush_interval=timedelta(milliseconds=10)) as saver:
        with backup(adopted):
            assert values_of(saver, at("old")) == {"a": 1}
            assert [item.config["configurable"]["thread_id"] for item in saver.list(None)] == ["old"]
            put(saver, at("new"), {"a": 2})
            settle(saver, "new", "evicted")
            saver.delete_for_runs(["nobody's"])
            put(saver, at("new"), {"a": 3}, 2)
            wait_until(lambda: saver.explain("new").state == "clean", "the flush")
        wait_until(lambda: admin.execute(INDEXES).fetchall() == BUILT, "the indexes")


def test_setup_names_those_whom_an_index_waits_for_and_leaves_it_to_be_built(
    redis_url: str, adopted: str, admin: Admin
) -> None:
    with TieredSaver.from_urls(redis_url, adopted, promoter="external") as saver:
        with backup(adopted) as session:
            says = rf"tiered_order_idx.*not there after 0\.5 s.*session {session.info.backend_pid} .*'nightly backup'"
            with pytest.raises(ColdTimeoutError, match=says) as caught:
                saver.setup(timeout=timedelta(seconds=0.5))
            assert "secret" not in str(caught.value)
        saver.setup()
    assert admin.execute(INDEXES).fetchall() == BUILT
    assert admin.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


async def test_asetup_names_them_too(redis_url: str, adopted: str, admin: Admin) -> None:
    async with TieredSaver.from_urls(redis_url, adopted, promoter="external") as saver:
        with backup(adopted), pytest.raises(ColdTimeoutError, match="nightly backup"):
            await saver.asetup(timeout=timedelta(seconds=0.5))
        await saver.asetup()
    assert admin.execute(INDEXES).fetchall() == BUILT


def test_a_table_that_others_hold_is_waited_for_briefly_and_they_are_named(
    redis_url: str, adopted: str, admin: Admin
) -> None:
    with TieredSaver.from_urls(redis_url, adopted, promoter="external", timeouts=IMPATIENT) as saver:
        with in_use(adopted, "SELECT 'secret' FROM checkpoints") as session:
            says = rf"lacks .*for 1 s.*session {session.info.backend_pid} .*'nightly backup'.*idle in transaction"
            with pytest.raises(ColdLockedError, match=says) as caught:
                saver.get_tuple(at("old"))
            assert "secret" not in str(caught.value)
            assert admin.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,)
        assert values_of(saver, at("old")) == {"a": 1}


def test_the_application_that_is_running_goes_on_while_a_table_is_waited_for(redis_url: str, adopted: str) -> None:
    """Whoever comes after an ALTER TABLE waits with it; so it gives way each time, and they pass."""
    patience = Timeouts(cold=timedelta(seconds=30))
    with (
        TieredSaver.from_urls(redis_url, adopted, promoter="external", timeouts=patience) as saver,
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(adopted, autocommit=True) as running,
    ):
        with in_use(adopted, "SELECT 1 FROM checkpoints"):
            answer = pool.submit(saver.get_tuple, at("old"))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
            wait_until(lambda: running.execute(waiting).fetchone() == (1,), "the ALTER TABLE")
            assert running.execute("SELECT count(*) FROM checkpoints").fetchone() == (1,)
            assert not answer.done()
        found = answer.result()
        assert found is not None


def test_requests_that_wait_for_the_same_preparation_fail_with_it(redis_url: str, adopted: str) -> None:
    """One after the other, each would wait as long again."""
    with (
        TieredSaver.from_urls(redis_url, adopted, promoter="external", timeouts=IMPATIENT) as saver,
        ThreadPoolExecutor(8) as pool,
        in_use(adopted, "SELECT 1 FROM checkpoints"),
    ):
        cold, made = saver._store.cold, []
        assert cold is not None
        make = cold.make

        def counting(lock_timeout_s: float) -> Any:
            made.append(lock_timeout_s)
            return make(lock_timeout_s)

        cold.make = counting  # type: ignore[method-assign]
        for asked in [pool.submit(saver.get_tuple, at(f"t{n}")) for n in range(8)]:
            with pytest.raises(ColdLockedError):
                asked.result()
    assert len(made) < 8


def test_a_role_that_may_only_read_gets_answers_where_nothing_is_missing(
    redis_url: str, postgres_url: str, admin: Admin, drop_role: None
) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url) as saver:
        put(saver, at("t"), {"a": 1})
        settle(saver, "t", "evicted")
    options = used_role(admin, "SELECT ON ALL TABLES IN SCHEMA public")
    with TieredSaver.from_urls(redis_url, with_options(postgres_url, options), promoter="external") as saver:
        saver.setup()
        assert values_of(saver, at("t")) == {"a": 1}


@pytest.mark.parametrize("schema", [None, "elsewhere"])
def test_a_role_that_may_not_make_the_tables_is_told_what_it_needs(
    redis_url: str, postgres_url: str, admin: Admin, drop_role: None, schema: str | None
) -> None:
    admin.execute("REVOKE CREATE ON SCHEMA public FROM public")
    url = with_options(postgres_url, used_role(admin))
    with (
        TieredSaver.from_urls(redis_url, url, promoter="external", schema=schema) as saver,
        pytest.raises(ColdTierError, match=r"setup: .*denied.*CREATE on the schema.*let their owner run what"),
    ):
        saver.setup()


def test_a_search_path_without_a_schema_is_named_with_the_remedy(redis_url: str, postgres_url: str) -> None:
    url = with_options(postgres_url, "-c search_path=nowhere")
    with (
        TieredSaver.from_urls(redis_url, url, promoter="external") as saver,
        pytest.raises(ConfigurationError, match=r"search_path.*Pass schema="),
    ):
        saver.setup()


def test_the_indexes_of_partitioned_tables_are_left_to_their_owner(redis_url: str, adopted: str, admin: Admin) -> None:
    admin.execute("ALTER TABLE checkpoints RENAME TO plain")
    admin.execute("CREATE TABLE checkpoints (LIKE plain INCLUDING DEFAULTS, PRIMARY KEY (thread_id, checkpoint_ns, "
                  "checkpoint_id)) PARTITION BY HASH (thread_id)")  # fmt: skip
    for part in range(2):
        text = "CREATE TABLE part_{} PARTITION OF checkpoints FOR VALUES WITH (MODULUS 2, REMAINDER {})"
        admin.execute(sql.SQL(text).format(sql.SQL(str(part)), part))
    admin.execute("INSERT INTO checkpoints SELECT * FROM plain")
    with TieredSaver.from_urls(redis_url, adopted, promoter="external") as saver:
        saver.setup()
        assert values_of(saver, at("old")) == {"a": 1}
        put(saver, at("new"), {"a": 2})
        settle(saver, "new", "evicted")
        assert [item.config["configurable"]["thread_id"] for item in saver.list(None)] == ["new", "old"]


def test_who_adopts_one_schema_waits_for_nobody_who_adopts_another(redis_url: str, postgres_url: str) -> None:
    with (
        TieredSaver.from_urls(redis_url, postgres_url, schema="one", promoter="external", key_prefix="one") as one,
        TieredSaver.from_urls(redis_url, postgres_url, schema="two", promoter="external", timeouts=IMPATIENT) as two,
        psycopg.connect(postgres_url) as session,
    ):
        assert one._store.cold is not None
        lock = one._store.cold._try_lock(0x4C47_5449_4552_01)
        session.execute(lock.text.encode(), lock.params)
        two.setup()
        put(two, at("t"), {"a": 1})
        settle(two, "t", "evicted")
