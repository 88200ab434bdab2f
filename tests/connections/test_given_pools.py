"""Pools and databases that are not as ours would be: everything still goes in and comes out."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import redis
import redis.asyncio
from homes import at, make_checkpoint, put
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from langgraph_tiered_checkpoint import ConfigurationError, Promotion, TieredSaver

VALUES = {"bytes": b"\x00\xff", "quoted": ['"{}\\,', "", "NULL"], "text": "na\u00efve"}


def goes_in_and_comes_out(redis_url: str, postgres: Any) -> None:
    with TieredSaver(redis=redis_url, postgres=postgres, promoter="external", cold_writes="through") as saver:
        config = put(saver, at("t\u00e9"), VALUES)
        saver.promote("t\u00e9")
        config = put(saver, config, VALUES, 2)
        saver.put_writes(config, [("bytes", b"\x00\xff"), ("text", "\u00e9")], "task")
        saver.evict("t\u00e9")
        found = saver.get_tuple(at("t\u00e9"))
        assert found is not None
        assert found.checkpoint["channel_values"] == VALUES
        assert found.pending_writes == [("task", "bytes", b"\x00\xff"), ("task", "text", "\u00e9")]
        assert len(list(saver.list(at("t\u00e9")))) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"cursor_factory": psycopg.ClientCursor},
        {"cursor_factory": psycopg.ClientCursor, "autocommit": True},
        {"autocommit": True, "prepare_threshold": None},
        {"row_factory": dict_row},
    ],
    ids=["client-side cursors", "client-side cursors in autocommit", "autocommit, never prepared", "rows as dicts"],
)
def test_a_pool_is_used_as_it_is(redis_url: str, postgres_url: str, settings: dict[str, Any]) -> None:
    with ConnectionPool(postgres_url, kwargs=settings, min_size=1, max_size=2, open=True) as pool:
        goes_in_and_comes_out(redis_url, pool)


@pytest.mark.parametrize("given", ["client", "pool", "both"])
async def test_promoter_flushes_by_the_settings_of_an_async_client_or_pool(
    redis_url: str, postgres_url: str, given: str
) -> None:
    """Which is what an async web application passes; the sync methods, which it does not call, stay refused."""
    client = redis.asyncio.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 1), decode_responses=True)
    pool = AsyncConnectionPool(
        postgres_url, kwargs={"row_factory": dict_row, "application_name": "mine"}, min_size=1, open=False
    )
    async with pool, client:
        saver = TieredSaver(
            redis=redis_url if given == "pool" else client,
            postgres=postgres_url if given == "client" else pool,
            promotion=Promotion(checkpoints=1),
            flush_interval=timedelta(milliseconds=10),
        )
        async with saver:
            made = make_checkpoint({"n": 1})
            await saver.aput(at("t"), made, {"step": 1}, made["channel_versions"])
            deadline = asyncio.get_running_loop().time() + 60
            while (await saver.aexplain("t")).state != "clean":
                assert asyncio.get_running_loop().time() < deadline, "the promoter has not flushed"
                await asyncio.sleep(0.02)
            with pytest.raises(ConfigurationError, match="only an async"):
                saver.get_tuple(at("nobody"))


class OwnConnection(redis.asyncio.Connection):
    """One that nobody knows a sync twin of."""


async def configure(_: object) -> None:
    """What a pool does to each connection."""


@pytest.mark.parametrize("given", [
    {"redis": lambda: Sentinel([("127.0.0.1", 1)]).master_for("m")},  # type: ignore[no-untyped-call]
    {"redis": lambda: redis.asyncio.RedisCluster(host="127.0.0.1", port=1)},
    {"redis": lambda: redis.asyncio.Redis(
        connection_pool=redis.asyncio.ConnectionPool(connection_class=OwnConnection)
    )},
    {"postgres": lambda: AsyncConnectionPool("host=nowhere", configure=configure, open=False)},
], ids=["sentinel", "cluster", "own class", "configured"])  # fmt: skip
async def test_async_side_whose_settings_do_not_suffice_for_the_promoter_is_refused(given: dict[str, Any]) -> None:
    passed = {"redis": "redis://127.0.0.1:1", "postgres": "postgresql://127.0.0.1:2/x"}
    passed |= {what: make() for what, make in given.items()}
    [what] = given
    with pytest.raises(ConfigurationError, match=rf"{what}: only an async.*Pass a pair, {what}=\(the sync"):
        TieredSaver(**passed)  # type: ignore[arg-type]
    TieredSaver(**passed, promoter="external")  # type: ignore[arg-type]
