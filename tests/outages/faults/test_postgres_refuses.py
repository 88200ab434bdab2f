"""Postgres answers, and refuses: read-only, out of disk, out of connections, locked. Dirty threads wait, then drain."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver, refused
from homes import at
from psycopg import sql
from waiting import wait_until

from langgraph_tiered_checkpoint import ColdTierError, ColdTimeoutError, EmbeddedServers, Promotion, SchemaError

READ_ONLY = "read-only transaction"


@pytest.fixture
def admin(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection to the test's database that is exempt from what is done to others."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        yield connection


def name_of(admin: psycopg.Connection) -> sql.Identifier:
    return sql.Identifier(admin.info.dbname)


def disconnect_others(admin: psycopg.Connection) -> None:
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def set_read_only(admin: psycopg.Connection, value: str) -> None:
    """As a standby, or an instance whose provider found it out of storage; new connections only."""
    admin.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(name_of(admin), sql.SQL(value))
    )


@pytest.fixture
def promoted(call: Caller) -> list[Ledger]:
    """Threads that are dirty, clean and evicted."""
    ledgers = [Ledger(call, thread_id) for thread_id in ("dirty", "clean", "evicted")]
    for ledger in ledgers:
        ledger.put("first")
        ledger.put_writes("task", 1)
        call("promote", ledger.thread_id)
    ledgers[0].put("not flushed")
    call("evict", "evicted")
    return ledgers


def test_read_only_postgres_is_read_and_dirty_threads_wait(
    promoted: list[Ledger], call: Caller, admin: psycopg.Connection, postgres_url: str
) -> None:
    set_read_only(admin, "on")
    disconnect_others(admin)
    for ledger in promoted:
        ledger.check(call)
    promoted[0].put("on")
    promoted[1].put("on")
    with refused(ColdTierError, remedy=f"clean, dirty.*{READ_ONLY}"):
        call("flush")
    with refused(ColdTierError, "dirty", READ_ONLY):
        call("flush", "dirty")
    with refused(ColdTierError, "dirty", READ_ONLY):
        call("delete_thread", "dirty")
    for thread_id in ("clean", "evicted"):
        with refused(ColdTierError, thread_id, READ_ONLY):
            call("pin", thread_id)
    assert [call("explain", ledger.thread_id).state for ledger in promoted[1:]] == ["dirty", "clean"]
    told = call("stats")
    assert (told.due_threads, told.cold_threads, told.parked_threads) == (1, 3, ())
    set_read_only(admin, "off")
    call("delete_thread", "dirty")
    call("flush")
    for ledger in promoted[1:]:
        ledger.put("afterwards")
        ledger.settle(postgres_url)


def test_the_refusal_of_a_read_only_postgres_comes_with_a_remedy(
    promoted: list[Ledger], call: Caller, admin: psycopg.Connection
) -> None:
    set_read_only(admin, "on")
    disconnect_others(admin)
    with refused(ColdTierError, "dirty", READ_ONLY + ".*Point the URL at the primary, or make room"):
        call("flush")


def test_a_connection_that_turned_read_only_is_replaced(
    promoted: list[Ledger], call: Caller, admin: psycopg.Connection, postgres_url: str
) -> None:
    """After a failover of Postgres, old connections lead to what is now a standby, and new ones do not."""
    set_read_only(admin, "on")
    disconnect_others(admin)
    call("list", at("clean"))
    call("explain", "clean")
    set_read_only(admin, "off")
    call("flush")
    for ledger in promoted:
        ledger.settle(postgres_url)


def out_of_disk(admin: psycopg.Connection, *tables: str) -> None:
    """What the server says when it has no space, without taking any."""
    admin.execute("""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
        END $$
    """)
    for table in tables:
        admin.execute(
            sql.SQL("CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON {} EXECUTE FUNCTION fail()").format(
                sql.Identifier(table)
            )
        )


@pytest.mark.parametrize("table", ["checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads"])
def test_disk_full_at_any_statement_of_a_flush_changes_nothing(
    promoted: list[Ledger], call: Caller, admin: psycopg.Connection, postgres_url: str, table: str
) -> None:
    dirty = promoted[0]
    dirty.put_writes("other", 2)
    out_of_disk(admin, table)
    for _ in range(2):
        with refused(ColdTierError, "dirty", "is out of storage.*DiskFull.*Make room"):
            call("flush")
    told = call("explain", "dirty")
    assert (told.state, told.expires_at, told.cold_checkpoints) == ("dirty", None, 1)
    assert call("stats").parked_threads == ()
    dirty.check(call)
    admin.execute("DROP FUNCTION fail CASCADE")
    call("flush")
    dirty.settle(postgres_url)


def test_first_promotions_wait_for_disk_space(
    redis_url: str,
    postgres_url: str,
    admin: psycopg.Connection,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    call = Caller(make_saver(redis_url, postgres_url, promotion=Promotion(checkpoints=1)), loop)
    call("setup")
    ledgers = [Ledger(call, f"t{n}") for n in range(5)]
    for ledger in ledgers:
        call("get_tuple", at(ledger.thread_id))
    out_of_disk(admin, "checkpoints", "tiered_threads")
    for ledger in ledgers:
        ledger.put()
    with refused(ColdTierError, remedy="out of storage.*DiskFull.*Make room"):
        call("flush")
    told = call("stats")
    assert (told.hot_threads, told.due_threads, told.cold_threads, told.parked_threads) == (5, 5, 0, ())
    admin.execute("DROP FUNCTION fail CASCADE")
    call("flush")
    for ledger in ledgers:
        ledger.settle(postgres_url)


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that Postgres can enter; pytest's own are out of reach for those that are not root."""
    with tempfile.TemporaryDirectory(prefix="lgt-disk-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@contextmanager
def small_disk(directory: Path, owner: int) -> Iterator[None]:
    directory.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    try:
        os.chown(directory, owner, owner)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_disk_that_is_really_full_is_survived(
    redis_url: str, servers: EmbeddedServers, directory: Path, make_saver: MakeSaver
) -> None:
    with psycopg.connect(servers.postgres_url, autocommit=True) as root:
        [(data,)] = root.execute("SHOW data_directory").fetchall()
    disk = directory / "disk"
    with small_disk(disk, Path(data).stat().st_uid), psycopg.connect(servers.postgres_url, autocommit=True) as root:
        place = sql.Literal(str(disk))
        root.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(place))
        root.execute("CREATE DATABASE small TABLESPACE small")
        try:
            postgres_url = servers.postgres_url.replace("/app?", "/small?")
            saver = make_saver(redis_url, postgres_url, promotion=Promotion(checkpoints=1), promoter="embedded")
            ledger = Ledger(Caller(saver, None), "t")
            with refused(ColdTierError, "t", "No space left on device", within_s=30):
                for _ in range(200):
                    ledger.put(os.urandom(200_000))
                    saver.flush()
            assert saver.explain("t").state == "dirty"
            ledger.put("goes on")
            subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
            wait_until(lambda: saver.explain("t").state == "clean", "the backlog to drain")
            ledger.settle(postgres_url)
            saver.close()
        finally:
            root.execute("DROP DATABASE IF EXISTS small WITH (FORCE)")
            root.execute("DROP TABLESPACE small")


@pytest.mark.bare
def test_too_many_connections_are_an_error_until_there_are_fewer(
    redis_url: str,
    postgres_url: str,
    admin: psycopg.Connection,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    role = sql.Identifier(f"modest_{admin.info.dbname}")
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    admin.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(role))
    try:
        call = Caller(make_saver(redis_url, postgres_url.replace("postgres@", f"modest_{admin.info.dbname}@")), loop)
        ledger = Ledger(call, "t")
        ledger.put("first")
        call("promote", "t")
        admin.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 0").format(role))
        disconnect_others(admin)
        ledger.put("second")
        for _ in range(2):
            with refused(ColdTierError, "t", "too many connections.*Check that it runs, and its log"):
                call("flush")
        admin.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 5").format(role))
        ledger.settle(postgres_url)
    finally:
        admin.execute(sql.SQL("DROP OWNED BY {}").format(role))
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_lock_that_somebody_holds_ends_in_an_error_in_time(
    promoted: list[Ledger], call: Caller, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as holder:
        holder.execute("LOCK TABLE checkpoints")
        for _ in range(2):
            with refused(ColdTimeoutError, "dirty", r"did not answer in time.*timeouts\.cold"):
                call("flush")
            with refused(ColdTimeoutError, "evicted", r"did not answer in time.*timeouts\.cold"):
                call("get_tuple", at("evicted"))
        promoted[0].put("runs on")
    call("flush")
    for ledger in promoted:
        ledger.settle(postgres_url)


def test_backends_that_are_terminated_are_nobodys_business(
    promoted: list[Ledger], call: Caller, admin: psycopg.Connection, postgres_url: str
) -> None:
    for number in range(3):
        promoted[0].put(number)
        disconnect_others(admin)
        call("flush")
        call("evict", "dirty")
        disconnect_others(admin)
        promoted[0].check(call)
    for ledger in promoted:
        ledger.settle(postgres_url)


def test_tables_that_are_gone_are_named_and_dirty_threads_wait(
    promoted: list[Ledger], call: Caller, admin: psycopg.Connection, postgres_url: str
) -> None:
    admin.execute("ALTER TABLE checkpoint_blobs RENAME TO mislaid")
    with refused(SchemaError, "dirty", r"Run setup\(\)"):
        call("flush")
    admin.execute("ALTER TABLE mislaid RENAME TO checkpoint_blobs")
    call("flush")
    for ledger in promoted:
        ledger.settle(postgres_url)
