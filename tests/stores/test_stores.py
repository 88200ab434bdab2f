"""Which Redis and which Postgres make a store, and what is refused because its data would go to the wrong place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import redis
from homes import at, put, values_of
from psycopg import sql

from langgraph_tiered_checkpoint import ColdRefusedError, ConfigurationError, TieredSaver

pytestmark = pytest.mark.bare

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads")


@pytest.fixture
def admin(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


class Stores:
    """Savers of a test, closed at its end."""

    def __init__(self, redis_url: str, postgres_url: str) -> None:
        self._urls = redis_url, postgres_url
        self._open: list[TieredSaver] = []

    def __call__(self, postgres_url: str | None = "", **settings: Any) -> TieredSaver:
        redis_url, own = self._urls
        postgres = own if postgres_url == "" else postgres_url
        chosen = {"promoter": "external", **settings}
        self._open.append(TieredSaver.from_urls(redis_url, postgres, **chosen))
        return self._open[-1]

    def close(self) -> None:
        for saver in self._open:
            saver.close()


@pytest.fixture
def saver_of(redis_url: str, postgres_url: str) -> Iterator[Stores]:
    stores = Stores(redis_url, postgres_url)
    yield stores
    stores.close()


@pytest.fixture
def other_postgres(postgres_url: str, admin: psycopg.Connection) -> Iterator[str]:
    """Another database on the same server."""
    name = f"{admin.info.dbname}_other"
    admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield postgres_url.replace(f"/{admin.info.dbname}?", f"/{name}?")
    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def promoted(saver: TieredSaver, thread_id: str, value: int = 1) -> None:
    put(saver, at(thread_id), {"a": value}, value)
    saver.promote(thread_id)


def layout_of(client: redis.Redis, prefix: str = "lgt") -> bytes:
    said = client.get(f"{prefix}:layout")
    assert isinstance(said, bytes)
    return said


NOT_ONE_STORE = r"key_prefix '(\w+)'.*do not belong together.*setup\(take_over=True\)"


def test_two_prefixes_cannot_share_the_tables(saver_of: Stores) -> None:
    prod, staging = saver_of(key_prefix="prod"), saver_of(key_prefix="staging")
    promoted(prod, "t")
    uses: list[Callable[[], object]] = [
        lambda: put(staging, at("t"), {"a": 2}, 2),
        lambda: staging.get_tuple(at("t")),
        lambda: staging.delete_thread("t"),
        lambda: staging.promote("t"),
        lambda: list(staging.list(None)),
        staging.stats,
        staging.setup,
    ]
    for use in uses:
        with pytest.raises(ConfigurationError, match=NOT_ONE_STORE) as refused:
            use()
        assert "key_prefix 'prod'" in str(refused.value)
        assert "key_prefix 'staging'" in str(refused.value)
    prod.evict("t")
    assert values_of(prod, at("t")) == {"a": 1}


def test_one_redis_cannot_have_two_databases(saver_of: Stores, other_postgres: str) -> None:
    """Threads that are resident are not served either, and the other's promoter takes none up."""
    first, second = saver_of(), saver_of(other_postgres)
    promoted(first, "t")
    put(first, at("t"), {"a": 2}, 2)
    uses: list[Callable[[], object]] = [lambda: second.get_tuple(at("t")), second.setup, second._promoter._sweep]
    for use in uses:
        with pytest.raises(ConfigurationError, match=NOT_ONE_STORE) as refused:
            use()
        assert "_other" in str(refused.value)
    assert not first.explain("t").lease
    with psycopg.connect(other_postgres) as connection:
        assert connection.execute("SELECT count(*) FROM checkpoints").fetchone() == (0,)


def test_one_redis_cannot_have_two_schemas(saver_of: Stores) -> None:
    promoted(saver_of(schema="one"), "t")
    with pytest.raises(ConfigurationError, match=NOT_ONE_STORE):
        saver_of(schema="two").get_tuple(at("t"))


def test_savers_of_one_store_find_each_other_however_they_name_it(
    saver_of: Stores, postgres_url: str, redis_client: redis.Redis
) -> None:
    promoted(saver_of(), "t")
    assert values_of(saver_of(f"{postgres_url}&user=postgres&application_name=other"), at("t")) == {"a": 1}
    assert values_of(saver_of(), at("t")) == {"a": 1}


def test_many_that_start_at_once_agree(saver_of: Stores, redis_client: redis.Redis) -> None:
    saver_of().setup()
    savers = [saver_of() for _ in range(8)]
    redis_client.flushall()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda saver: promoted(saver, f"t{id(saver)}"), savers))
    for saver in savers:
        saver.flush()
        assert saver.stats().cold_threads == 8


def test_no_password_is_in_what_is_stored_or_said(
    saver_of: Stores, redis_client: redis.Redis, admin: psycopg.Connection, other_postgres: str
) -> None:
    password = redis_client.connection_pool.connection_kwargs["password"]
    secret = other_postgres.replace("postgres@", "postgres:sesame@")
    promoted(saver_of(secret), "t")
    with pytest.raises(ConfigurationError) as refused:
        saver_of().get_tuple(at("t"))
    with psycopg.connect(other_postgres) as connection:
        told = connection.execute("SELECT redis FROM tiered_migrations").fetchall()
    texts = f"{refused.value} {layout_of(redis_client)!r} {told}"
    assert "sesame" not in texts
    assert password not in texts


def test_a_saver_without_postgres_is_refused_on_a_store_that_has_one(saver_of: Stores) -> None:
    tiered = saver_of()
    promoted(tiered, "t")
    tiered.evict("t")
    hot_only = saver_of(None)
    for use in (lambda: hot_only.get_tuple(at("t")), lambda: put(hot_only, at("t"), {"a": 2}, 2), hot_only.setup):
        with pytest.raises(ConfigurationError, match=r"is of a store with a Postgres.*key_prefix"):
            use()
    with pytest.raises(ConfigurationError, match="is of a store with a Postgres"):
        hot_only.setup(take_over=True)
    assert values_of(tiered, at("t")) == {"a": 1}


def test_a_store_without_postgres_gets_one_by_taking_it_over(saver_of: Stores) -> None:
    hot_only = saver_of(None)
    put(hot_only, at("t"), {"a": 1})
    tiered = saver_of()
    uses: list[Callable[[], object]] = [lambda: tiered.get_tuple(at("t")), tiered.setup]
    for use in uses:
        with pytest.raises(ConfigurationError, match=r"is of a store without Postgres.*take_over"):
            use()
    tiered.setup(take_over=True)
    tiered.promote("t")
    tiered.evict("t")
    assert values_of(tiered, at("t")) == {"a": 1}
    with pytest.raises(ConfigurationError, match="is of a store with a Postgres"):
        saver_of(None).get_tuple(at("t"))


async def test_taking_over_stops_those_who_still_use_either_with_the_other(
    saver_of: Stores, other_postgres: str
) -> None:
    """Running workers, too: what they have in hand is not flushed to tables that are somebody else's by now."""
    old = saver_of(key_prefix="old")
    promoted(old, "t")
    config = put(old, at("t"), {"a": 2}, 2)
    await old.aget_tuple(at("t"))
    new = saver_of(key_prefix="new")
    await new.asetup(take_over=True)
    uses: list[Callable[[], object]] = [
        lambda: old.flush("t"),
        lambda: old.evict("t"),
        lambda: old.delete_thread("t"),
        lambda: put(old, at("another"), {"a": 1}),
        lambda: old.copy_thread("t", "copy"),
        lambda: old.get_tuple(at("cold")),
    ]
    for use in uses:
        with pytest.raises(ConfigurationError, match=NOT_ONE_STORE):
            use()
    with pytest.raises(ConfigurationError, match=NOT_ONE_STORE):
        await old.aget_tuple(config)
    assert values_of(new, at("t")) == {"a": 1}
    await new.aclose()
    await old.aclose()


def test_taking_over_what_belongs_together_changes_nothing(saver_of: Stores, redis_client: redis.Redis) -> None:
    saver = saver_of()
    promoted(saver, "t")
    before = layout_of(redis_client)
    saver.setup(take_over=True)
    assert layout_of(redis_client) == before


def test_a_store_that_was_taken_over_is_found_by_savers_of_both_its_servers(saver_of: Stores) -> None:
    """They had the old id in mind: the one who took over renewed it, and nothing else has changed for them."""
    running = saver_of(key_prefix="a")
    promoted(running, "t")
    saver_of(key_prefix="b").setup(take_over=True)
    saver_of(key_prefix="a").setup(take_over=True)
    put(running, at("t"), {"a": 2}, 2)
    running.flush("t")
    assert running.explain("t").state == "clean"


def test_an_empty_database_is_not_taken_for_the_one_that_was_there(saver_of: Stores, admin: psycopg.Connection) -> None:
    promoted(saver_of(), "t")
    admin.execute("DROP SCHEMA public CASCADE")
    admin.execute("CREATE SCHEMA public")
    with pytest.raises(ConfigurationError, match="is of no store yet"):
        saver_of().get_tuple(at("unknown"))
    after = saver_of()
    after.setup(take_over=True)
    assert after.get_tuple(at("unknown")) is None


def test_a_database_that_is_replaced_under_a_running_saver_is_not_believed(
    saver_of: Stores, admin: psycopg.Connection
) -> None:
    saver = saver_of()
    promoted(saver, "t")
    saver.evict("t")
    admin.execute("UPDATE tiered_migrations SET store = 'another'")
    for use in (lambda: saver.get_tuple(at("t")), lambda: put(saver, at("new"), {"a": 1})):
        with pytest.raises(ConfigurationError, match="store another"):
            use()


def test_a_running_saver_heals_a_redis_that_has_lost_its_data(
    saver_of: Stores, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    saver = saver_of()
    promoted(saver, "t")
    before = layout_of(redis_client)
    redis_client.flushall()
    redis_client.client_kill_filter(_type="normal", skipme=True)
    assert values_of(saver, at("t")) == {"a": 1}
    assert layout_of(redis_client) == before
    assert caplog.records == []


def test_a_new_process_heals_a_redis_that_has_lost_its_data_and_says_so(
    saver_of: Stores, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Those who run meanwhile go on: that the id was renewed, they find out by themselves."""
    running = saver_of()
    promoted(running, "t")
    before = layout_of(redis_client)
    redis_client.flushall()
    assert values_of(saver_of(), at("t")) == {"a": 1}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "was bound to it anew" in caplog.text
    assert layout_of(redis_client) != before
    put(running, at("t"), {"a": 2}, 2)
    running.flush()
    assert running.explain("t").state == "clean"
    redis_client.client_kill_filter(_type="normal", skipme=True)
    assert values_of(running, at("t")) == {"a": 2}


def test_a_new_process_does_not_heal_a_redis_at_another_place(saver_of: Stores, redis_url: str) -> None:
    promoted(saver_of(), "t")
    elsewhere = TieredSaver.from_urls(redis_url.removesuffix("/0") + "/1", saver_of._urls[1], promoter="external")
    with elsewhere, pytest.raises(ConfigurationError, match=r"holds nothing yet.*take_over"):
        elsewhere.get_tuple(at("t"))


async def test_another_redis_under_a_running_saver_is_not_served(
    saver_of: Stores, redis_client: redis.Redis, other_postgres: str
) -> None:
    """As after a change of an address: its threads are another store's, although they are there."""
    saver = saver_of()
    promoted(saver, "t")
    await saver.aget_tuple(at("t"))
    redis_client.flushall()
    promoted(saver_of(other_postgres), "t", 7)
    redis_client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(ConfigurationError, match=NOT_ONE_STORE):
        saver.get_tuple(at("t"))
    with pytest.raises(ConfigurationError, match=NOT_ONE_STORE):
        await saver.aget_tuple(at("t"))
    await saver.aclose()


@pytest.fixture
def tenant_url(redis_url: str, postgres_url: str, admin: psycopg.Connection) -> Iterator[str]:
    """Postgres as a role that sees no row, although it may do everything with the tables."""
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as owner:
        owner.setup()
    role = sql.Identifier(f"tenant_{admin.info.dbname}")
    for table in TABLES:
        admin.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(sql.Identifier(table)))
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    admin.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(role))
    admin.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(role))
    yield postgres_url.replace("postgres@", f"tenant_{admin.info.dbname}@")
    admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
    admin.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.mark.parametrize("auto_setup", [True, False])
def test_a_role_that_rows_are_hidden_from_is_refused_before_it_writes(
    redis_url: str, tenant_url: str, redis_client: redis.Redis, *, auto_setup: bool
) -> None:
    with TieredSaver.from_urls(redis_url, tenant_url, promoter="external", auto_setup=auto_setup) as saver:
        for use in (saver.setup, lambda: put(saver, at("t"), {"a": 1}), lambda: saver.get_tuple(at("t"))):
            with pytest.raises(ConfigurationError, match=r"row-level security .*tiered_threads.*BYPASSRLS"):
                use()
        assert list(redis_client.scan_iter("*:threads")) == []


def test_the_owner_of_the_tables_sees_all_rows_and_is_not_refused(
    redis_url: str, postgres_url: str, tenant_url: str
) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as owner:
        put(owner, at("t"), {"a": 1})
        owner.promote("t")
        owner.evict("t")
        assert owner.get_tuple(at("t")) is not None


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
        put(made, put(made, at("t"), {"a": 1}), {"a": 2}, 2)
        made.promote("t")
        assert made.explain("t").why.endswith("Postgres holds everything, the hot copy may lapse at any time")
        yield made


def test_a_hot_copy_whose_rows_somebody_removed_is_not_evicted(saver: TieredSaver, admin: psycopg.Connection) -> None:
    for table in TABLES:
        admin.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
    assert "Postgres does not hold this incarnation of the thread any more" in saver.explain("t").why
    assert saver.explain("t").tier == "hot"
    with pytest.raises(ColdRefusedError, match=r"'t' was not evicted.*Restore its rows"):
        saver.evict("t")
    assert values_of(saver, at("t")) == {"a": 2}


def test_a_hot_copy_whose_rows_are_of_another_incarnation_is_not_evicted(
    saver: TieredSaver, admin: psycopg.Connection
) -> None:
    admin.execute("UPDATE tiered_threads SET incarnation = 'another'")
    assert "Postgres does not hold this incarnation of the thread any more" in saver.explain("t").why
    with pytest.raises(ColdRefusedError, match="'t' was not evicted"):
        saver.evict("t")
    put(saver, at("t"), {"a": 3}, 3)
    with pytest.raises(ColdRefusedError, match="another incarnation of that id") as refused:
        saver.flush("t")
    assert "delete" not in str(refused.value)
    assert values_of(saver, at("t")) == {"a": 3}


def test_evict_uploads_what_postgres_has_lost_first(saver: TieredSaver, admin: psycopg.Connection) -> None:
    [(then,)] = admin.execute("SELECT flushed FROM tiered_threads").fetchall()
    put(saver, at("t"), {"a": 3}, 3)
    saver.flush("t")
    admin.execute("UPDATE tiered_threads SET flushed = %s", [then])
    admin.execute("DELETE FROM checkpoints WHERE metadata ->> 'step' = '3'")
    assert "Postgres has gone back in time" in saver.explain("t").why
    saver.evict("t")
    assert saver.explain("t").tier == "cold"
    assert values_of(saver, at("t")) == {"a": 3}


def test_explain_does_not_vouch_for_a_row_that_is_gone_while_the_thread_is_dirty(
    saver: TieredSaver, admin: psycopg.Connection
) -> None:
    put(saver, at("t"), {"a": 3}, 3)
    admin.execute("DELETE FROM tiered_threads")
    with pytest.raises(ColdRefusedError, match="Restore the row from a backup") as refused:
        saver.flush("t")
    assert "delete" not in str(refused.value).replace("nobody deleted", "")
    assert "Postgres holds everything" not in saver.explain("t").why
