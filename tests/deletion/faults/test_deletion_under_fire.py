"""A thread is deleted while others work on it: nothing of it is left in either tier, however late they go on."""

from __future__ import annotations

import asyncio
import contextvars
import operator
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any, TypedDict, cast

import pytest
import redis
from faults.ledger import Caller
from faults.outages import MakeSaver, refused
from faults.proxy import Proxy
from homes import at, make_checkpoint, put
from langgraph.graph import START, StateGraph
from stepping import Stepped
from traces import traces
from waiting import HANGS_S, wait_until

from langgraph_tiered_checkpoint import (
    ColdTierError,
    HotTierError,
    NotPromotableError,
    Promotion,
    ThreadBusyError,
    ThreadDeletedError,
    TieredSaver,
)
from langgraph_tiered_checkpoint.errors import ColdRefusedError
from langgraph_tiered_checkpoint.hot.keys import bucket_of
from langgraph_tiered_checkpoint.io.faults import DRIVER_ERRORS
from langgraph_tiered_checkpoint.plans import promoting, reshaping
from langgraph_tiered_checkpoint.steps import Plan

NIGHTLY = pytest.mark.nightly
HOMES: list[Any] = ["dirty", "cold", *(pytest.param(home, marks=NIGHTLY) for home in ("ephemeral", "due", "clean"))]
MARKER_MS = 60_000
LAYOUT = "lgt:layout"
OF_PROMOTERS = ("lgt:turn", "lgt:workers")  # for some time after they have swept, and said that they are alive
AGED_MS = 601_000
"""As old as no tombstone needs to be."""


def left(client: redis.Redis, postgres_url: str, *words: str) -> list[str]:
    """What is left of threads after all there were have been deleted: traces of them, and keys beyond tombstones."""
    keys = {key.decode() for key in cast("Iterator[bytes]", client.scan_iter("*"))}
    own = [key for key in keys if key not in {LAYOUT, *OF_PROMOTERS} and not key.endswith(":gone")]
    return traces(client, postgres_url, *words) + sorted(own)


def age_tombstones(client: redis.Redis) -> None:
    """As if they had been there for more than ten minutes."""
    aged = 0
    for key in cast("Iterator[bytes]", client.scan_iter("*:gone")):
        for member in cast("list[bytes]", client.zrange(key, 0, -1)):
            client.zincrby(key, -AGED_MS, member)
            aged += 1
    assert aged


def lapse_markers(client: redis.Redis) -> None:
    """What a read after the delete leaves: that Postgres was asked for this id. It is gone within a minute."""
    for key in cast("Iterator[bytes]", client.scan_iter("*:t:*")):
        if client.hkeys(key) == [b"x"]:
            assert 0 <= client.pttl(key) <= MARKER_MS
            client.delete(key)


class Victim:
    """A thread that is to be deleted. Everything about it has a word in it by which it would be found."""

    def __init__(self, saver: TieredSaver, number: int, home: str) -> None:
        self.saver = saver
        self.word = f"secret-{number}-"
        self.thread_id = self.word + "thread"
        self.run = contextvars.Context()
        self.run.run(saver.get_tuple, at(self.thread_id))
        self.number = 0
        self.config = at(self.thread_id)
        self._write()
        if home == "due":
            saver._sync.run(_due(saver, self.thread_id))
        elif home != "ephemeral":
            saver.promote(self.thread_id)
        if home == "dirty":
            self._write()
        self.run.run(saver.get_tuple, at(self.thread_id))
        if home == "cold":
            saver.evict(self.thread_id)
        assert saver.explain(self.thread_id).state == {"due": "dirty"}.get(home, home)

    def _write(self) -> None:
        for ns in ("", f"{self.word}sub:call"):
            self.config = self.run.run(self.saver._sync.run, self.put(ns))
            self.run.run(self.saver._sync.run, self.put_writes(ns))

    def put(self, ns: str = "") -> Plan[Any]:
        self.number += 1
        made = make_checkpoint({f"{self.word}channel": [self.word] * 20, "plain": self.word}, self.number)
        given: Any = {"source": "loop", "step": self.number, "parents": {}, "run_id": f"{self.word}run {self.number}"}
        return self.saver._requests.put(at(self.thread_id, ns), made, given, made["channel_versions"])

    def put_writes(self, ns: str = "") -> Plan[Any]:
        id_ = self.config["configurable"]["checkpoint_id"]
        writes = [(f"{self.word}channel", self.word)]
        return self.saver._requests.put_writes(at(self.thread_id, ns, id_), writes, f"{self.word}task", self.word)

    def delete(self) -> Stepped:
        return Stepped(self.saver, reshaping.delete(self.saver._store, self.thread_id))

    def listing(self) -> Plan[None]:
        listing = self.saver._requests.listing({"configurable": {"thread_id": self.thread_id}}, None, None, None)
        while not listing.done:
            yield from listing.next_page()


def _due(saver: TieredSaver, thread_id: str) -> Plan[None]:
    """Promoted by a write's own script, and not copied yet."""
    yield from saver._store.hot.promote(thread_id, reason="test", op="op")


OTHERS: dict[str, Callable[[Victim], Plan[Any]]] = {
    "put": lambda victim: victim.put(),
    "put in a subgraph": lambda victim: victim.put(f"{victim.word}sub:call"),
    "put_writes": lambda victim: victim.put_writes(),
    "get_tuple": lambda victim: victim.saver._requests.get_tuple(at(victim.thread_id)),
    "list": lambda victim: victim.listing(),
    "promote": lambda victim: victim.saver._requests.promote(victim.thread_id),
    "pin": lambda victim: victim.saver._requests.pin(victim.thread_id, pinned=True),
    "flush": lambda victim: victim.saver._requests.flush(victim.thread_id),
    "flush of all": lambda victim: victim.saver._requests.flush(None),
    "evict": lambda victim: victim.saver._requests.evict(victim.thread_id),
    "prune": lambda victim: victim.saver._requests.prune([victim.thread_id], "keep_latest"),
    "delete": lambda victim: victim.saver._requests.delete_thread(victim.thread_id),
    "delete_for_runs": lambda victim: victim.saver._requests.delete_for_runs([f"{victim.word}run 1"]),
    "copy": lambda victim: victim.saver._requests.copy_thread(victim.thread_id, "the copy"),
}
EXPECTED = (ThreadDeletedError, ThreadBusyError, NotPromotableError, ColdRefusedError)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("other", OTHERS)
def test_nothing_is_left_whatever_was_half_way(
    saver: TieredSaver, redis_client: redis.Redis, postgres_url: str, other: str, home: str
) -> None:
    """Another operation is stopped before each of its steps, and goes on after the delete; then the other way round."""
    number = 0
    for deleter_first in (False, True):
        steps, ended = 0, False
        while not ended:
            number += 1
            victim = Victim(saver, number, home)
            operation = victim.run.run(Stepped, saver, OTHERS[other](victim))
            delete = victim.delete()
            outer, inner = (delete, operation) if deleter_first else (operation, delete)
            with suppress(*EXPECTED):
                victim.run.run(outer.take, steps)
            ended = outer.done
            with suppress(*EXPECTED):
                victim.run.run(inner.finish)
            with suppress(*EXPECTED):
                victim.run.run(outer.finish)
            assert delete.done
            if other == "copy":  # it is a thread of its own
                saver.delete_thread("the copy")
            assert saver.get_tuple(at(victim.thread_id)) is None, f"stopped before step {steps}"
            lapse_markers(redis_client)
            steps += 1
        assert steps > 1
    assert left(redis_client, postgres_url, "secret") == []


# The tombstones have gone, too


@pytest.mark.parametrize("home", ["ephemeral", "due", "dirty", "clean", "cold"])
def test_tombstones_are_all_that_is_left_and_go_with_the_first_sweep_after_ten_minutes(
    saver: TieredSaver, redis_client: redis.Redis, postgres_url: str, home: str
) -> None:
    victim = Victim(saver, 1, home)
    saver.delete_thread(victim.thread_id)
    gone = saver._store.hot.bucket_key(bucket_of(victim.thread_id), "gone")
    assert set(redis_client.keys()) == {LAYOUT.encode(), gone.encode()}
    saver._sync.run(promoting.sweep(saver._store))
    assert redis_client.zcard(gone) > 0
    age_tombstones(redis_client)
    saver._sync.run(promoting.sweep(saver._store))
    assert redis_client.keys() == [LAYOUT.encode()]
    assert traces(redis_client, postgres_url, "secret") == []


def test_old_tombstones_go_with_the_next_delete_in_their_bucket(saver: TieredSaver, redis_client: redis.Redis) -> None:
    put(saver, at("t"), {"n": 1})
    saver.delete_thread("t")
    gone = saver._store.hot.bucket_key(bucket_of("t"), "gone")
    assert redis_client.zcard(gone) == 3  # the thread, the call, the incarnation
    age_tombstones(redis_client)
    saver.delete_thread("t")
    assert redis_client.zcard(gone) == 2


@pytest.mark.parametrize("home", ["ephemeral", "due", "dirty", "clean", "cold"])
@pytest.mark.parametrize("write", ["put", "put_writes"])
def test_run_that_had_read_the_thread_is_told_after_the_tombstones_have_gone(
    saver: TieredSaver, redis_client: redis.Redis, postgres_url: str, home: str, write: str
) -> None:
    victim = Victim(saver, 1, home)
    saver.delete_thread(victim.thread_id)
    age_tombstones(redis_client)
    saver._sync.run(promoting.sweep(saver._store))
    with pytest.raises(ThreadDeletedError):
        victim.run.run(saver._sync.run, getattr(victim, write)())
    lapse_markers(redis_client)
    assert redis_client.keys() == [LAYOUT.encode()]
    assert left(redis_client, postgres_url, "secret") == []
    fresh = put(saver, at(victim.thread_id), {"n": "fresh"})
    with pytest.raises(ThreadDeletedError):  # also beside a new life
        victim.run.run(saver._sync.run, getattr(victim, write)())
    assert [one.config for one in saver.list(at(victim.thread_id))] == [fresh]


@pytest.mark.parametrize("home", ["ephemeral", "cold"])
@pytest.mark.parametrize("write", ["put", "put_writes"])
def test_run_that_had_found_no_thread_is_told_only_while_there_are_tombstones(
    saver: TieredSaver, redis_client: redis.Redis, home: str, write: str
) -> None:
    """A limit, and documented: nothing but the tombstone tells its first write from that of a new run."""
    late = contextvars.Context()
    late.run(saver.get_tuple, at("secret-1-thread"))
    victim = Victim(saver, 1, home)
    saver.delete_thread(victim.thread_id)
    with pytest.raises(ThreadDeletedError):
        late.run(saver._sync.run, getattr(victim, write)())
    age_tombstones(redis_client)
    saver._sync.run(promoting.sweep(saver._store))
    late.run(saver._sync.run, getattr(victim, write)())
    told = saver.explain(victim.thread_id)
    assert (told.state, told.hot_checkpoints) == ("ephemeral", int(write == "put"))


# Runs of real graphs that go on


class Words(TypedDict):
    words: Annotated[list[str], operator.add]


class Gate:
    """Where a run waits, in a node, until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.open.wait(HANGS_S)


def graph_of(saver: TieredSaver, gate: Gate, word: str) -> Any:
    """Two steps, in the second of which a subgraph has two more; the run waits at the gate between these."""

    def waits(state: Words) -> Words:
        gate.pass_through()
        return {"words": [f"{word} waited"]}

    inner = StateGraph(Words)
    inner.add_node("first", lambda _: {"words": [f"{word} inner"]})
    inner.add_node("waits", waits)
    inner.add_edge(START, "first")
    inner.add_edge("first", "waits")
    outer = StateGraph(Words)
    outer.add_node("begin", lambda _: {"words": [f"{word} begin"]})
    outer.add_node("inner", inner.compile())
    outer.add_node("end", lambda _: {"words": [f"{word} end"]})
    outer.add_edge(START, "begin")
    outer.add_edge("begin", "inner")
    outer.add_edge("inner", "end")
    return outer.compile(checkpointer=saver)


def run_in_a_thread(pool: ThreadPoolExecutor, graph: Any, config: Any, durability: Any, *, sync: bool) -> Any:
    given = {"words": ["secret input"]}
    if sync:
        return pool.submit(graph.invoke, given, config, durability=durability)

    async def ainvoke() -> Any:
        try:
            return await graph.ainvoke(given, config, durability=durability)
        finally:
            await graph.checkpointer.aclose()

    return pool.submit(lambda: asyncio.run(ainvoke()))


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("home", ["new", *HOMES])
def test_run_that_goes_on_is_told_and_another_starts_afresh_at_once(
    saver: TieredSaver,
    make_saver: MakeSaver,
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    home: str,
    durability: Any,
    *,
    sync: bool,
) -> None:
    other = make_saver(redis_url, postgres_url)  # as of another server
    thread_id = "secret thread"
    old, new = Gate(), Gate()
    new.open.set()
    if home != "new":
        first = Gate()
        first.open.set()
        graph_of(saver, first, "secret before").invoke({"words": ["secret input"]}, at(thread_id))
    if home == "due":
        saver._sync.run(_due(saver, thread_id))
    elif home not in ("new", "ephemeral"):
        saver.promote(thread_id)
    if home == "dirty":
        saver.put_writes(saver.get_tuple(at(thread_id)).config, [("words", ["secret"])], "secret")  # type: ignore[union-attr]
    if home == "cold":
        saver.evict(thread_id)
    with ThreadPoolExecutor(1) as pool:
        run = run_in_a_thread(pool, graph_of(saver, old, "secret"), at(thread_id), durability, sync=sync)
        assert old.reached.wait(HANGS_S)
        other.delete_thread(thread_id)
        assert durability == "exit" or left(redis_client, postgres_url, "secret") == []
        fresh = graph_of(other, new, "fresh").invoke({"words": ["fresh input"]}, at(thread_id))
        assert {word.split()[0] for word in fresh["words"]} == {"fresh"}
        assert fresh["words"][-1] == "fresh end"
        old.open.set()
        with pytest.raises(ThreadDeletedError):
            run.result(HANGS_S)
    told = [found.checkpoint["channel_values"].get("words", []) for found in other.list(at(thread_id))]
    assert told
    assert not [word for words in told for word in words if "fresh" not in word]
    other.delete_thread(thread_id)
    lapse_markers(redis_client)
    assert left(redis_client, postgres_url, "secret", "fresh") == []


def test_nothing_is_left_of_a_thread_that_everybody_works_on(
    make_saver: MakeSaver, redis_url: str, postgres_url: str, redis_client: redis.Redis
) -> None:
    """A promoter flushes all the time, the hot copy lapses and is evicted, two runs write and others read."""
    quick = timedelta(milliseconds=10)
    saver = make_saver(
        redis_url,
        postgres_url,
        promoter="embedded",
        promotion=Promotion(checkpoints=2),
        flush_interval=quick,
        hot_ttl=timedelta(milliseconds=40),
        hot_checkpoints=2,
    )
    stop = threading.Event()

    def write(number: int) -> str:
        saver.get_tuple(at("secret"))
        for step in range(1, 10_000):
            made = make_checkpoint({f"secret {number}": [step] * 50}, step)
            given: Any = {"source": "loop", "step": step, "parents": {}, "run_id": f"secret {number}"}
            try:
                config = saver.put(at("secret"), made, given, made["channel_versions"])
                saver.put_writes(config, [("secret", "secret")], "secret")
            except ThreadDeletedError:
                return "told"
        return "not told"

    def keep_on(work: Callable[[], Any]) -> None:
        while not stop.is_set():
            with suppress(*EXPECTED):
                work()

    others: list[Callable[[], Any]] = [
        lambda: saver.get_tuple(at("secret")),
        lambda: list(saver.list(at("secret"))),
        lambda: saver.evict("secret"),
        lambda: saver.flush("secret"),
    ]
    for _ in range(5):
        stop.clear()
        with ThreadPoolExecutor(6) as pool:
            runs = [pool.submit(contextvars.Context().run, write, number) for number in range(2)]
            wait_until(lambda: (saver.explain("secret").cold_checkpoints or 0) > 0, "the first promotion")
            working = [pool.submit(contextvars.Context().run, keep_on, work) for work in others]
            wait_until(lambda: (saver.explain("secret").cold_checkpoints or 0) > 10, "more work")
            saver.delete_thread("secret")
            assert [run.result(HANGS_S) for run in runs] == ["told", "told"]
            stop.set()
            for one in working:
                one.result(HANGS_S)
        lapse_markers(redis_client)
        assert left(redis_client, postgres_url, "secret") == []


# One of the tiers is out of reach


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("tier", ["redis", "postgres"])
def test_delete_that_could_not_be_completed_raises_and_is_completed_by_repeating_it(
    proxied: Caller,
    saver: TieredSaver,
    redis_proxy: Proxy,
    postgres_proxy: Proxy,
    redis_client: redis.Redis,
    postgres_url: str,
    tier: str,
    home: str,
) -> None:
    """The tier goes away before each step of the delete that needs it."""
    proxy, error = {"redis": (redis_proxy, HotTierError), "postgres": (postgres_proxy, ColdTierError)}[tier]
    proxied("get_tuple", at("anything"))
    raised = 0
    for steps in range(6):
        victim = Victim(saver, steps, home)
        delete = Stepped(proxied.saver, reshaping.delete(proxied.saver._store, victim.thread_id)).take(steps)
        proxy.refuse()
        if delete.done:
            proxy.heal()
            break
        with suppress(*DRIVER_ERRORS):
            delete.finish()
        if not delete.done:
            raised += 1
            with refused(error, victim.thread_id, within_s=3):
                proxied("delete_thread", victim.thread_id)
        proxy.heal()
        proxied("delete_thread", victim.thread_id)
        assert proxied("get_tuple", at(victim.thread_id)) is None
        with pytest.raises(ThreadDeletedError):
            victim.run.run(saver._sync.run, victim.put())
        lapse_markers(redis_client)
        assert left(redis_client, postgres_url, "secret") == [], f"gone before step {steps}"
    assert raised > 0 or (tier, home) == ("postgres", "ephemeral")
