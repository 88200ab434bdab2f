"""A failover or a restored snapshot takes Redis back: nothing that Postgres acknowledged is lost, hidden or revived."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver
from homes import at
from langgraph.checkpoint.postgres import PostgresSaver
from stepping import Stepped
from waiting import wait_until

from langgraph_tiered_checkpoint import EmbeddedServers, Promotion, TieredSaver
from langgraph_tiered_checkpoint.plans import flushing, promoting


class Snapshot:
    """What a replica that lags, or a backup, would have of Redis."""

    def __init__(self, servers: EmbeddedServers, copy: Path) -> None:
        self._servers = servers
        with redis.Redis.from_url(servers.redis_url) as client:
            # While the disk is busy, Redis holds its log back for up to two seconds, unless told otherwise.
            client.config_set("appendfsync", "always")
            client.config_set("appendfsync", "everysec")
            self._data = Path(client.config_get("dir")["dir"])
        self._copy = copy
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._data, self._copy)

    def restore(self) -> None:
        """Redis crashes, and comes back as of the snapshot."""
        self._servers.kill_redis()
        for file in self._copy.rglob("*"):
            if file.is_file():  # since Redis 7 the log is in a directory
                shutil.copyfile(file, self._data / file.relative_to(self._copy))  # keeps the owner
        self._servers.restart_redis()


@pytest.fixture
def take(redis_url: str, servers: EmbeddedServers, tmp_path: Path) -> Callable[[], Snapshot]:
    return lambda: Snapshot(servers, tmp_path / "snapshot")


def heads_in(saver: PostgresSaver, thread_id: str) -> set[str]:
    return {found.checkpoint["id"] for found in saver.list(at(thread_id))}


def test_what_was_not_flushed_is_lost_and_nothing_else(
    call: Caller, take: Callable[[], Snapshot], postgres_url: str
) -> None:
    """The documented loss of "behind": the last seconds of promoted threads, and of ephemeral ones."""
    promoted, ephemeral = Ledger(call, "promoted"), Ledger(call, "ephemeral")
    for ledger in (promoted, ephemeral):
        ledger.put("kept")
    call("promote", "promoted")
    snapshot = take()
    lost = [ledger.put("lost") for ledger in (promoted, ephemeral)]
    snapshot.restore()
    for ledger, checkpoint_id in zip((promoted, ephemeral), lost, strict=True):
        ledger.acknowledged.remove(checkpoint_id)
        ledger.head = min(ledger.made)
        ledger.check(call)
        ledger.put("after")
        ledger.settle(postgres_url)


def test_an_empty_redis_serves_promoted_threads_from_postgres(
    call: Caller, take: Callable[[], Snapshot], postgres_url: str
) -> None:
    snapshot = take()
    promoted, ephemeral = Ledger(call, "promoted"), Ledger(call, "ephemeral")
    for ledger in (promoted, ephemeral):
        ledger.put("first")
    call("promote", "promoted")
    promoted.put_writes("task", 1)
    call("flush")
    snapshot.restore()
    assert call("explain", "promoted").state == "cold"
    assert call("get_tuple", at("ephemeral")) is None
    promoted.check(call)
    promoted.put("second")
    promoted.settle(postgres_url)


@pytest.mark.parametrize("together", [False, True], ids=["alone", "with others"])
def test_first_copy_that_a_failover_cuts_in_two_is_begun_again(
    saver: TieredSaver, take: Callable[[], Snapshot], postgres_url: str, *, together: bool
) -> None:
    """Or Postgres would hold what Redis has lost, behind a hot copy that counts as clean."""
    ledger = Ledger(Caller(saver, None), "t")
    ledger.put("kept")
    saver._sync._perform(saver._store.hot.promote("t", reason="test", op="op"))
    snapshot = take()
    lost = ledger.put("lost")
    plan = promoting.flush_due(saver._store, ["t"]) if together else flushing.flush(saver._store, "t")
    copying = Stepped(saver, plan).stop_before("changes")
    snapshot.restore()
    copying.finish()
    ledger.acknowledged.remove(lost)
    ledger.head = min(ledger.made)
    hot = [found.checkpoint["id"] for found in saver.list(at("t"))]
    saver.evict("t")
    assert [found.checkpoint["id"] for found in saver.list(at("t"))] == hot == [ledger.head]
    ledger.settle(postgres_url)


@pytest.mark.parametrize("first_flushed", [True, False], ids=["clean then", "never flushed then"])
def test_both_branches_survive_the_next_flush_and_the_higher_id_is_head(
    redis_url: str,
    postgres_url: str,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
    take: Callable[[], Snapshot],
    *,
    first_flushed: bool,
) -> None:
    call = Caller(make_saver(redis_url, postgres_url, promotion=Promotion(checkpoints=1)), loop)
    ledger = Ledger(call, "t")
    root = ledger.put("root")
    if first_flushed:
        call("flush")
    snapshot = take()
    ledger.put("flushed, then forgotten")
    ledger.put_writes("task", 1)
    call("flush")
    snapshot.restore()
    ledger.head = root
    ledger.put("another branch")
    ledger.put_writes("task", 2)
    call("flush")
    assert call("stats").due_threads == 0
    assert call("stats").parked_threads == ()
    ledger.settle(postgres_url)


@pytest.mark.parametrize("state", ["clean", "dirty", "ephemeral"])
def test_a_head_that_postgres_has_superseded_is_not_served(
    call: Caller, take: Callable[[], Snapshot], postgres_url: str, state: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("old")
    if state != "ephemeral":
        call("promote", "t")
    if state == "dirty":
        ledger.put("old, too")
    assert call("explain", "t").state == state
    snapshot = take()
    ledger.put("new")
    ledger.put_writes("task", 1)
    call("promote", "t")
    call("flush")
    snapshot.restore()
    ledger.check(call)
    ledger.put("newer")
    ledger.check(call)
    ledger.settle(postgres_url)


def test_pending_writes_that_postgres_has_are_served(
    call: Caller, take: Callable[[], Snapshot], postgres_url: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    call("promote", "t")
    snapshot = take()
    ledger.put_writes("task", 1, 2)
    call("flush")
    snapshot.restore()
    ledger.check(call)
    ledger.settle(postgres_url)


def test_a_listing_has_what_postgres_has(call: Caller, take: Callable[[], Snapshot]) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    call("promote", "t")
    snapshot = take()
    ledger.put("second")
    call("flush")
    snapshot.restore()
    assert [found.checkpoint["id"] for found in call("list", at("t"))] == sorted(ledger.made, reverse=True)
    assert call("get_tuple", at("t", checkpoint_id=ledger.head)) is not None


def test_a_promoted_thread_does_not_get_a_ttl_back(call: Caller, take: Callable[[], Snapshot]) -> None:
    """It was ephemeral in the snapshot; what is written to it afterwards must not expire with it."""
    ledger = Ledger(call, "t")
    ledger.put("ephemeral then")
    snapshot = take()
    call("promote", "t")
    snapshot.restore()
    ledger.put("after")
    told = call("explain", "t")
    assert (told.state, told.expires_at) == ("dirty", None)


def test_a_thread_that_began_after_the_snapshot_is_not_called_vacant(
    call: Caller, take: Callable[[], Snapshot], postgres_url: str
) -> None:
    """A read had left word that Postgres has nothing, just before the thread began."""
    ledger = Ledger(call, "t")
    assert call("get_tuple", at("t")) is None
    snapshot = take()
    ledger.put("first")
    call("promote", "t")
    snapshot.restore()
    ledger.check(call)
    ledger.settle(postgres_url)


def test_a_write_after_the_failover_joins_the_thread_that_postgres_has(
    redis_url: str,
    postgres_url: str,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
    take: Callable[[], Snapshot],
) -> None:
    """As above, but the next call is a write, by another process."""
    call = Caller(make_saver(redis_url, postgres_url), loop)
    ledger = Ledger(call, "t")
    assert call("get_tuple", at("t")) is None
    snapshot = take()
    ledger.put("first")
    call("promote", "t")
    snapshot.restore()
    ledger.call = call = Caller(make_saver(redis_url, postgres_url), loop)
    ledger.put("second")
    call("promote", "t")
    assert call("stats").parked_threads == ()
    ledger.settle(postgres_url)


@pytest.mark.parametrize("state", ["clean", "dirty"])
def test_a_deleted_thread_does_not_come_back(
    redis_url: str,
    postgres_url: str,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
    take: Callable[[], Snapshot],
    state: str,
) -> None:
    call = Caller(make_saver(redis_url, postgres_url), loop)
    ledger = Ledger(call, "t")
    ledger.put("first")
    call("promote", "t")
    if state == "dirty":
        ledger.put("second")
    snapshot = take()
    call("delete_thread", "t")
    snapshot.restore()
    try:
        assert call("get_tuple", at("t")) is None
        assert call("list", at("t")) == []
        assert call("explain", "t").state == "absent"
        call("flush")
        with PostgresSaver.from_conn_string(postgres_url) as official:
            assert not heads_in(official, "t")
    finally:
        call("delete_thread", "t")


def test_checkpoints_that_were_pruned_do_not_come_back(
    call: Caller, take: Callable[[], Snapshot], postgres_url: str
) -> None:
    ledger = Ledger(call, "t")
    ledger.put("first")
    ledger.put("second")
    call("promote", "t")
    snapshot = take()
    call("prune", ["t"])
    snapshot.restore()
    assert [found.checkpoint["id"] for found in call("list", at("t"))] == [ledger.head]
    ledger.put("third")
    call("flush")
    with PostgresSaver.from_conn_string(postgres_url) as official:
        assert len(heads_in(official, "t")) == 2


def test_a_write_through_is_never_lost(
    redis_url: str,
    postgres_url: str,
    make_saver: MakeSaver,
    loop: asyncio.AbstractEventLoop | None,
    take: Callable[[], Snapshot],
) -> None:
    call = Caller(make_saver(redis_url, postgres_url, cold_writes="through", promotion=Promotion(checkpoints=1)), loop)
    ledger = Ledger(call, "t")
    snapshot = take()
    ledger.put("first")
    ledger.put_writes("task", 1)
    snapshot.restore()
    ledger.check(call)
    ledger.put("second")
    ledger.put_writes("task", 2)
    ledger.settle(postgres_url)


def test_an_interrupted_thread_that_was_flushed_can_be_resumed(
    redis_url: str, postgres_url: str, make_saver: MakeSaver, take: Callable[[], Snapshot]
) -> None:
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.types import Command, interrupt

    def ask(state: MessagesState) -> dict[str, list[tuple[str, str]]]:
        return {"messages": [("ai", interrupt("sure?"))]}

    snapshot = take()
    saver = make_saver(redis_url, postgres_url, promotion=Promotion())
    graph = StateGraph(MessagesState).add_node(ask).add_edge(START, "ask").compile(checkpointer=saver)
    first: Any = {"messages": [("user", "go")]}
    graph.invoke(first, at("t"))
    saver.flush()
    snapshot.restore()
    done = graph.invoke(Command(resume="yes"), at("t"))
    assert [message.content for message in done["messages"]] == ["go", "yes"]


@pytest.mark.nightly
def test_many_failovers_under_load_lose_nothing_that_was_flushed(
    redis_url: str, postgres_url: str, make_saver: MakeSaver, take: Callable[[], Snapshot]
) -> None:
    saver = make_saver(redis_url, postgres_url, promotion=Promotion(checkpoints=1), promoter="embedded")
    call = Caller(saver, None)
    ledgers = [Ledger(call, f"t{n}") for n in range(8)]
    for _ in range(10):
        snapshot = take()
        for ledger in ledgers:
            for _ in range(3):
                ledger.put()
            ledger.put_writes("task", 1)
        call("flush")
        snapshot.restore()
    for ledger in ledgers:
        ledger.put()
    wait_until(lambda: saver.stats().due_threads == 0, "the backlog to drain", 60)
    for ledger in ledgers:
        ledger.settle(postgres_url)
