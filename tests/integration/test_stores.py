"""Which Redis and which Postgres make a store, and what is refused because its data would go to the wrong place."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import redis
from homes import at, put
from psycopg import sql

from langgraph_tiered_checkpoint import ConfigurationError, TieredSaver


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
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads"):
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
