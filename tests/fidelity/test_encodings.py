"""Any text reaches Postgres, whatever encoding clients have by default; a database that cannot hold it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from homes import at, put, values_of
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langgraph_tiered_checkpoint import ConfigurationError, TieredSaver

TEXT = "né à Łódź, 東京 😀"
VALUES = {"short": TEXT, "long": [TEXT * 200]}


@pytest.fixture
def encoded(postgres_url: str) -> Iterator[Callable[[str], str]]:
    """Makes databases of an encoding, and gives their URL."""
    name = str(psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"])
    made: list[str] = []

    def create(encoding: str) -> str:
        made.append(f"{name}_{encoding.lower()}")
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            locale = "LC_COLLATE 'C' LC_CTYPE 'C'"
            admin.execute(f"CREATE DATABASE {made[-1]} TEMPLATE template0 ENCODING '{encoding}' {locale}".encode())
        return postgres_url.replace(f"/{name}", f"/{made[-1]}")

    yield create
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        for database in made:
            admin.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())


def used(saver: TieredSaver) -> None:
    put(saver, at(f"thread {TEXT}"), VALUES, title=TEXT)
    saver.promote(f"thread {TEXT}")
    saver.evict(f"thread {TEXT}")
    assert values_of(saver, at(f"thread {TEXT}")) == VALUES


@pytest.mark.parametrize("by", ["url", "role", "database"])
def test_every_text_is_carried_where_clients_speak_latin1_by_default(
    redis_url: str, postgres_url: str, by: str
) -> None:
    url = postgres_url
    if by == "url":
        url += "&client_encoding=latin1"
    else:
        whose = "ROLE CURRENT_USER" if by == "role" else f"DATABASE {psycopg.conninfo.conninfo_to_dict(url)['dbname']}"
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"ALTER {whose} SET client_encoding TO 'LATIN1'".encode())
    try:
        with TieredSaver.from_urls(redis_url, url, promoter="external") as saver:
            used(saver)

        async def main() -> None:
            async with TieredSaver.from_urls(redis_url, url, promoter="external") as saver:
                found = await saver.aget_tuple(at(f"thread {TEXT}"))
                assert found is not None
                assert found.metadata["title"] == TEXT  # type: ignore[typeddict-item]
                await saver.adelete_thread(f"thread {TEXT}")

        asyncio.run(main())
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute("ALTER ROLE CURRENT_USER RESET client_encoding")


def test_database_that_holds_bytes_as_they_come_will_do(redis_url: str, encoded: Callable[[str], str]) -> None:
    with TieredSaver.from_urls(redis_url, encoded("SQL_ASCII"), promoter="external") as saver:
        used(saver)


def test_database_that_cannot_hold_every_text_is_refused(redis_url: str, encoded: Callable[[str], str]) -> None:
    url = encoded("LATIN1")

    async def asynchronously() -> None:
        async with TieredSaver.from_urls(redis_url, url, promoter="external") as saver:
            await saver.aget_tuple(at("t"))

    with TieredSaver.from_urls(redis_url, url, promoter="external") as saver:
        uses: list[Callable[[], Any]] = [
            saver.setup,
            lambda: put(saver, at("t"), {"a": "only ASCII"}),
            lambda: asyncio.run(asynchronously()),
        ]
        for use in uses:
            with pytest.raises(ConfigurationError, match=r"LATIN1.*ENCODING 'UTF8'"):
                use()


def test_given_pool_that_cannot_carry_every_text_is_refused(redis_url: str, postgres_url: str) -> None:
    narrow = {"client_encoding": "latin1"}

    async def asynchronously() -> None:
        async with (
            AsyncConnectionPool(postgres_url, kwargs=narrow, open=False) as pool,
            TieredSaver(redis=redis_url, postgres=pool, promoter="external") as saver,
        ):
            await saver.aget_tuple(at("t"))

    with (
        ConnectionPool(postgres_url, kwargs=narrow, open=True) as pool,
        TieredSaver(redis=redis_url, postgres=pool, promoter="external") as saver,
        pytest.raises(ConfigurationError, match="'client_encoding': 'utf8'"),
    ):
        put(saver, at("t"), VALUES)
    with pytest.raises(ConfigurationError, match="'client_encoding': 'utf8'"):
        asyncio.run(asynchronously())
