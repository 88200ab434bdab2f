"""Which Redis and which Postgres make a store, and what is refused because its data would go to the wrong place."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import redis
from homes import at, put, values_of
from psycopg import sql

from langgraph_tiered_checkpoint import ColdRefusedError, ConfigurationError, TieredSaver

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads")


@pytest.fixture
def admin(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


class TestRowLevelSecurity:
    @pytest.fixture
    def tenant_url(self, redis_url: str, postgres_url: str, admin: psycopg.Connection) -> Iterator[str]:
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
        self, redis_url: str, tenant_url: str, redis_client: redis.Redis, *, auto_setup: bool
    ) -> None:
        with TieredSaver.from_urls(redis_url, tenant_url, promoter="external", auto_setup=auto_setup) as saver:
            for use in (saver.setup, lambda: put(saver, at("t"), {"a": 1}), lambda: saver.get_tuple(at("t"))):
                with pytest.raises(ConfigurationError, match=r"row-level security .*tiered_threads.*BYPASSRLS"):
                    use()
            assert list(redis_client.scan_iter("*:threads")) == []

    def test_the_owner_of_the_tables_sees_all_rows_and_is_not_refused(
        self, redis_url: str, postgres_url: str, tenant_url: str
    ) -> None:
        with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as owner:
            put(owner, at("t"), {"a": 1})
            owner.promote("t")
            owner.evict("t")
            assert owner.get_tuple(at("t")) is not None


class TestWhatPostgresIsTakenToHold:
    """A hot copy is dropped only if Postgres confirms that it has it, and nothing is said of Postgres unasked."""

    @pytest.fixture
    def saver(self, redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
        with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
            put(made, put(made, at("t"), {"a": 1}), {"a": 2}, 2)
            made.promote("t")
            assert made.explain("t").why.endswith("Postgres holds everything, the hot copy may lapse at any time")
            yield made

    def test_a_hot_copy_whose_rows_somebody_removed_is_not_evicted(
        self, saver: TieredSaver, admin: psycopg.Connection
    ) -> None:
        for table in TABLES:
            admin.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        assert "Postgres does not hold this life of the thread any more" in saver.explain("t").why
        assert saver.explain("t").tier == "hot"
        with pytest.raises(ColdRefusedError, match=r"'t' was not evicted.*Restore its rows"):
            saver.evict("t")
        assert values_of(saver, at("t")) == {"a": 2}

    def test_a_hot_copy_whose_rows_are_of_another_life_is_not_evicted(
        self, saver: TieredSaver, admin: psycopg.Connection
    ) -> None:
        admin.execute("UPDATE tiered_threads SET incarnation = 'another'")
        assert "Postgres does not hold this life of the thread any more" in saver.explain("t").why
        with pytest.raises(ColdRefusedError, match="'t' was not evicted"):
            saver.evict("t")
        put(saver, at("t"), {"a": 3}, 3)
        with pytest.raises(ColdRefusedError, match="another life of that id") as refused:
            saver.flush("t")
        assert "delete" not in str(refused.value)
        assert values_of(saver, at("t")) == {"a": 3}

    def test_evict_uploads_what_postgres_has_lost_first(self, saver: TieredSaver, admin: psycopg.Connection) -> None:
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
        self, saver: TieredSaver, admin: psycopg.Connection
    ) -> None:
        put(saver, at("t"), {"a": 3}, 3)
        admin.execute("DELETE FROM tiered_threads")
        with pytest.raises(ColdRefusedError, match="Restore the row from a backup") as refused:
            saver.flush("t")
        assert "delete" not in str(refused.value).replace("nobody deleted", "")
        assert "Postgres holds everything" not in saver.explain("t").why
