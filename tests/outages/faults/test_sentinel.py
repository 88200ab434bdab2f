"""Redis behind Sentinel: a saver over a client for the service follows a failover, and nothing flushed is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver
from own_redis import OwnRedis, OwnSentinel
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel
from waiting import wait_until

from langgraph_tiered_checkpoint import HotTierError

SERVICE = "memory"


class Watched(NamedTuple):
    """A primary, its replica, and the sentinel that watches over them."""

    primary: OwnRedis
    replica: OwnRedis
    sentinel: OwnSentinel

    def fail_over(self) -> bool:
        """Ask for it, whether the primary answers or not; False while the sentinel knows too little of the replica."""
        with redis.Redis(port=self.sentinel.port) as client, contextlib.suppress(redis.ResponseError):
            return bool(client.sentinel_failover(SERVICE))
        return False

    def failed_over(self) -> bool:
        """Whether the sentinel says so to those who ask as redis-py does."""
        with redis.Redis(port=self.sentinel.port) as client:
            return bool(client.sentinel_master(SERVICE)["port"] == self.replica.port)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    for name in ("primary", "replica", "sentinel"):
        (tmp_path / name).mkdir()
    with contextlib.ExitStack() as stack:

        def started(server: OwnRedis) -> Any:
            stack.callback(server.stop)
            server.start()
            return server

        primary = started(OwnRedis(tmp_path / "primary"))
        replica = started(OwnRedis(tmp_path / "replica", "--replicaof", "127.0.0.1", str(primary.port)))
        with redis.Redis.from_url(replica.url) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica to catch up")
        sentinel = started(OwnSentinel(tmp_path / "sentinel", SERVICE, primary))
        with redis.Redis(port=sentinel.port) as client:
            wait_until(lambda: client.sentinel_slaves(SERVICE), "the sentinel to find the replica")
        yield Watched(primary, replica, sentinel)


@pytest.fixture
def behind_sentinel(
    watched: Watched, postgres_url: str, make_saver: MakeSaver, loop: asyncio.AbstractEventLoop | None
) -> Iterator[Caller]:
    known = [("127.0.0.1", watched.sentinel.port)]
    kinds: list[Any] = [Sentinel, AsyncSentinel]
    of_threads, of_loops = [kind(known) for kind in kinds]
    clients = [sentinel.master_for(SERVICE) for sentinel in (of_threads, of_loops)]
    yield Caller(make_saver(clients, postgres_url), loop)
    for sentinel in of_loops.sentinels:
        if loop is not None:
            loop.run_until_complete(sentinel.aclose())


def in_the_replica(watched: Watched) -> None:
    """All that the primary has acknowledged has got there."""
    with redis.Redis.from_url(watched.primary.url) as client:
        client.set("mark", "1")
        assert client.wait(1, 5_000) == 1


def test_a_failover_is_followed(behind_sentinel: Caller, watched: Watched, postgres_url: str) -> None:
    call = behind_sentinel
    promoted, dirty, ephemeral = (Ledger(call, name) for name in ("promoted", "dirty", "ephemeral"))
    for ledger in (promoted, dirty, ephemeral):
        ledger.put("before")
    call("promote", "promoted")
    call("promote", "dirty")
    dirty.put("not flushed")
    in_the_replica(watched)
    watched.primary.stop()
    with pytest.raises(HotTierError, match="'promoted'"):
        promoted.put("while there is none")
    wait_until(watched.failed_over, "the failover", 40)
    for ledger in (promoted, dirty, ephemeral):
        ledger.check(call)
        ledger.put("after")
        ledger.settle(postgres_url)
    with redis.Redis.from_url(watched.replica.url) as client:
        assert client.dbsize() > 0


def test_a_primary_that_was_put_back_to_replica_is_left_for_the_new_one(
    behind_sentinel: Caller, watched: Watched, postgres_url: str
) -> None:
    """A failover by hand: the old primary goes on answering, and refuses writes."""
    call = behind_sentinel
    ledger = Ledger(call, "t")
    ledger.put("before")
    call("promote", "t")
    in_the_replica(watched)
    wait_until(watched.fail_over, "the sentinel to trust the replica")
    wait_until(watched.failed_over, "the failover", 40)
    with redis.Redis.from_url(watched.primary.url) as client:
        wait_until(lambda: client.info("replication")["role"] == "slave", "the old primary to be told")
    ledger.put("after")
    ledger.check(call)
    ledger.settle(postgres_url)
