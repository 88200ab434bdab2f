"""A Redis that will lose data although nothing fails is told of, once, when a saver with a cold tier opens on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from homes import at, put
from own_redis import OwnRedis

from langgraph_tiered_checkpoint import TieredSaver

Start = Callable[..., OwnRedis]

ALLKEYS = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
ON_NO_DISK = ("--save", "", "--appendonly", "no")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[OwnRedis] = []

    def starter(*options: str) -> OwnRedis:
        started.append(OwnRedis(tmp_path, *options))
        started[-1].start()
        return started[-1]

    yield starter
    for server in started:
        server.stop()


def told(saver: TieredSaver, *, times: int = 2) -> list[str]:
    """The warnings of a saver's first uses."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(times):
            put(saver, at("t"), {"a": n}, n + 1)
    assert all(issubclass(warning.category, RuntimeWarning) for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("options", "what"),
    [(ALLKEYS, "maxmemory-policy allkeys-lru"), (ON_NO_DISK, "keeps nothing on disk")],
    ids=["allkeys", "no disk"],
)
def test_a_saver_says_once_what_will_lose_data(
    start: Start, postgres_url: str, caplog: pytest.LogCaptureFixture, options: tuple[str, ...], what: str
) -> None:
    with TieredSaver.from_urls(start(*options).url, postgres_url, promoter="external") as saver:
        [said] = told(saver)
        assert what in said
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", said)]
        assert saver.stats().warnings == (said,)
        assert saver.explain("t").warnings == (said,)


async def test_it_is_said_to_async_callers_too(start: Start, postgres_url: str) -> None:
    async with TieredSaver.from_urls(start(*ALLKEYS).url, postgres_url, promoter="external") as saver:
        with pytest.warns(RuntimeWarning, match="allkeys-lru"):
            await saver.aget_tuple(at("t"))
        await saver.aget_tuple(at("t"))


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (("--maxmemory-policy", "allkeys-lru"), {}),  # without a limit nothing is evicted
        (("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"), {}),
        (("--save", "", "--appendonly", "yes"), {}),
        (ON_NO_DISK, {"cold_writes": "through"}),  # Postgres has what was acknowledged
        ((*ON_NO_DISK, "--rename-command", "CONFIG", ""), {}),  # it does not tell, so nothing is said
    ],
    ids=["no limit", "volatile", "append only", "through", "not told"],
)
def test_nothing_is_said_of_a_redis_that_keeps_what_it_should(
    start: Start, postgres_url: str, options: tuple[str, ...], settings: dict[str, Any]
) -> None:
    with TieredSaver.from_urls(start(*options).url, postgres_url, promoter="external", **settings) as saver:
        assert told(saver) == []
        assert saver.stats().warnings == ()


def test_nothing_is_said_to_a_saver_without_a_cold_tier(start: Start) -> None:
    """Its threads may go by policy."""
    with TieredSaver.from_urls(start(*ALLKEYS).url) as saver:
        assert told(saver) == []


def test_the_embedded_servers_give_no_cause(redis_url: str, postgres_url: str, redis_client: redis.Redis) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as saver:
        assert told(saver) == []
