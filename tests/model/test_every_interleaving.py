"""Every interleaving of the operations on one thread, and of what servers and workers may do, keeps every promise."""

from __future__ import annotations

import contextvars
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import redis
from homes import at, make_checkpoint
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from model.facts import Item
from model.interleaving import Budget, Exploration
from model.moments import Actor, Ids, Shared
from model.worlds import TABLES, World

from langgraph_tiered_checkpoint import EmbeddedServers, Promotion, TieredSaver, Timeouts, incarnations
from langgraph_tiered_checkpoint.calls import Requests
from langgraph_tiered_checkpoint.errors import (
    ColdRefusedError,
    HotTierError,
    NotPromotableError,
    ThreadBusyError,
    ThreadDeletedError,
)
from langgraph_tiered_checkpoint.plans import (
    archiving,
    copying,
    failover,
    flushing,
    promoting,
    reading,
    reshaping,
    writing,
)
from langgraph_tiered_checkpoint.plans.listing import PAGE
from langgraph_tiered_checkpoint.steps import Plan

THREAD = "t"
NOW_MS = int(time.time() * 1000)
MADE: list[Checkpoint] = [make_checkpoint({"a": [n], "b": n}, n) for n in range(1, 9)]
Say = Callable[[str, Any], None]


@pytest.fixture(scope="module")
def servers() -> Iterator[EmbeddedServers]:
    """In place of the session's: the model puts back all that they hold."""
    with EmbeddedServers() as running:
        with psycopg.connect(running.postgres_url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_commit = off")
            connection.execute("SELECT pg_reload_conf()")
        yield running


@pytest.fixture
def ids(monkeypatch: pytest.MonkeyPatch) -> Ids:
    made = Ids()
    for module in (archiving, copying, failover, flushing, incarnations, reading, reshaping, writing):
        monkeypatch.setattr(module, "new_id", made)
    monkeypatch.setattr(reshaping, "_ROUNDS", 4)
    monkeypatch.setattr(archiving, "_ROUNDS", 2)
    return made


class Cast(Shared):
    """Those who work on the thread."""

    def __init__(self, saver: TieredSaver) -> None:
        self.saver = saver
        self.requests = saver._requests
        store = self.requests.store
        through = replace(store, settings=replace(store.settings, cold_writes="through"))
        self.through = self.requests._replace(store=through)

    def store(self, number: int, parent: str | None, say: Say, requests: Requests | None = None) -> Plan[None]:
        """Put a checkpoint with all its values and a pending write of it."""
        requests = requests or self.requests
        made = MADE[number]
        metadata: Any = {"source": "loop", "step": number, "parents": {}}
        yield from requests.put(at(THREAD, "", parent), made, metadata, made["channel_versions"])
        say("stored", self._item(made["id"], ""))
        yield from requests.put_writes(at(THREAD, "", made["id"]), [("a", number)], f"task {number}", "")
        say("stored", self._item(made["id"], f"task {number}"))

    def latest(self) -> Plan[CheckpointTuple | None]:
        found = yield from self.requests.get_tuple(at(THREAD))
        if found:
            self._compare(found)
        return found

    def _compare(self, found: CheckpointTuple) -> None:
        """The values are those that were put, and so is the pending write's."""
        id_ = found.checkpoint["id"]
        number, made = next((n, one) for n, one in enumerate(MADE) if one["id"] == id_)
        assert found.checkpoint["channel_values"] == made["channel_values"], f"values of {id_}"
        assert found.pending_writes in ([], [(f"task {number}", "a", number)]), f"pending writes of {id_}"

    def _item(self, id_: str, task: str) -> Item:
        return Item(id_, task, incarnations.recall(self.requests.store.number, THREAD).incarnation)

    def writer(self, name: str, *numbers: int, requests: Requests | None = None) -> Actor:
        """A run: reads the latest checkpoint, and goes on from there."""

        def program(say: Say) -> Plan[None]:
            found = yield from self.latest()
            parent = found.checkpoint["id"] if found else None
            for number in numbers:
                yield from self.store(number, parent, say, requests)
                parent = MADE[number]["id"]

        may_raise = (ThreadDeletedError, ThreadBusyError, *((ColdRefusedError, HotTierError) if requests else ()))
        return Actor(name, program, may_raise)

    def flusher(self, name: str) -> Actor:
        return Actor(name, lambda _: self.requests.flush(THREAD), (ColdRefusedError, ThreadBusyError))

    def batch(self) -> Actor:
        """What a promoter does with the threads that are due."""

        def program(_: Say) -> Plan[None]:
            failed = yield from promoting.flush_due(self.requests.store, [THREAD])
            assert all(why.startswith(("ColdRefusedError", "ThreadBusyError")) for why in failed.values()), failed

        return Actor("batch", program)

    def evictor(self) -> Actor:
        may_raise = (NotPromotableError, ThreadBusyError, ColdRefusedError)
        return Actor("evictor", lambda _: self.requests.evict(THREAD), may_raise)

    def pruner(self) -> Actor:
        def program(say: Say) -> Plan[None]:
            say("pruning", None)
            yield from self.requests.prune([THREAD], "keep_latest")

        return Actor("pruner", program, (ThreadBusyError, ColdRefusedError))

    def archiver(self) -> Actor:
        may_raise = (NotPromotableError, ThreadBusyError, ColdRefusedError)
        return Actor("archiver", lambda _: self.requests.archive(THREAD), may_raise)

    def unarchiver(self) -> Actor:
        return Actor("unarchiver", lambda _: self.requests.unarchive(THREAD))

    def promoter(self) -> Actor:
        may_raise = (NotPromotableError, ColdRefusedError, ThreadBusyError)
        return Actor("promoter", lambda _: self.requests.promote(THREAD), may_raise)

    def reader(self) -> Actor:
        def program(say: Say) -> Plan[None]:
            say("reading", None)
            found = yield from self.latest()
            say("read", found and found.checkpoint["id"])

        return Actor("reader", program)

    def deleter(self) -> Actor:
        def program(say: Say) -> Plan[None]:
            say("deleting", None)
            yield from self.requests.delete_thread(THREAD)
            say("deleted", None)

        return Actor("deleter", program)

    def actor(self, what: str) -> Actor:
        """By its initial."""
        return {
            "W": self.writer("writer", 2),
            "N": self.writer("next writer", 3),
            "T": self.writer("writer through", 5, requests=self.through),
            "F": self.flusher("flusher"),
            "G": self.flusher("other flusher"),
            "B": self.batch(),
            "E": self.evictor(),
            "P": self.pruner(),
            "M": self.promoter(),
            "R": self.reader(),
            "D": self.deleter(),
            "A": self.archiver(),
            "U": self.unarchiver(),
        }[what]

    def last_check(self, run: Callable[[Plan[Any]], Any]) -> list[tuple[str, frozenset[str]]]:
        """Another worker flushes what is left; then what `list` gives must be what there is, and the head its first.

        Every value must be the one that was put, and all the same once Postgres alone has it.
        """
        run(self.requests.flush(THREAD))
        found = self._all(run)
        with suppress(NotPromotableError):
            run(self.requests.evict(THREAD))
            assert self._all(run) == found
        return found

    def _all(self, run: Callable[[Plan[Any]], Any]) -> list[tuple[str, frozenset[str]]]:
        head = run(self.latest())
        listing = self.requests.listing(at(THREAD), None, None, None)
        found = []
        while not listing.done:
            found += run(listing.next_page())
        assert len(found) < PAGE
        assert (head and head.checkpoint["id"]) == (found[0].checkpoint["id"] if found else None)
        for one in found:
            self._compare(one)
        return [(one.checkpoint["id"], frozenset(task for task, *_ in one.pending_writes)) for one in found]


def documented() -> frozenset[tuple[str, str, str]]:
    """The transitions in the design's table: before, by what, after."""
    page = (Path(__file__).parents[2] / "docs/design.md").read_text(encoding="utf-8")
    table = page.partition("| in Redis is | ")[2].partition("\n\n")[0]
    rows = ([cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines()[2:])
    return frozenset(
        (before, by, after)
        for befores, bys, after in rows
        for before in re.findall(r"\w+", befores)
        for by in re.findall(r"\w+", bys)
    )


TRANSITIONS = documented()

STATES = ("absent", "ephemeral", "promoted", "due", "dirty", "clean", "cold")
"""Of those that have not been flushed yet, one is due since its last change, the other since its first."""


class Stage(NamedTuple):
    """A thread in some state on servers of its own, and those who may work on it."""

    cast: Cast
    world: World
    stored: frozenset[Item]

    def run(self, plan: Plan[Any], run_id: str = "run 1") -> Any:
        return self.world.run(plan, run_id, NOW_MS)


@contextmanager
def stage(servers: EmbeddedServers, ids: Ids, state: str) -> Iterator[Stage]:
    """Set it."""
    redis_url, postgres_url = servers.redis_url, servers.postgres_url
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    with TieredSaver.from_urls(
        redis_url,
        postgres_url,
        promoter="external",
        promotion=Promotion(after=None, checkpoints={"due": 1, "ripe": 3}.get(state)),
        hot_checkpoints=1,
        timeouts=Timeouts(busy=timedelta(seconds=0.05)),
    ) as saver:
        saver.setup()
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"TRUNCATE {', '.join(TABLES)}".encode())
        cast, stored = Cast(saver), list[Item]()
        world = World(saver, redis_url, postgres_url, THREAD)
        ids.owner, ids.made = "begin", 0

        def run(plan: Plan[Any]) -> None:
            world.run(plan, "run 1", NOW_MS)

        def say(_: str, item: Item) -> None:
            stored.append(item)

        def begin() -> None:
            run(cast.requests.get_tuple(at(THREAD)))
            run(cast.store(0, None, say))
            run(cast.store(1, MADE[0]["id"], say))

        context = contextvars.Context()
        if state != "absent":
            context.run(begin)
        if state == "promoted":
            run(promoted(saver))
        elif state in ("dirty", "clean", "cold"):
            run(cast.requests.promote(THREAD))
        if state == "dirty":
            context.run(run, cast.store(4, MADE[1]["id"], say))
        if state == "cold":
            run(cast.requests.evict(THREAD))
        if state == "archived":
            run(cast.requests.promote(THREAD))
            run(cast.requests.archive(THREAD))
        try:
            yield Stage(cast, world, frozenset(stored))
        finally:
            world.close()
        assert world.transitions <= TRANSITIONS, "beside what the design's table of transitions says"


def explore(
    servers: EmbeddedServers, ids: Ids, state: str, actors: str, budget: Budget, *, by_history: bool = False
) -> Exploration:
    """Every path from a thread in that state."""
    with stage(servers, ids, state) as (cast, world, stored):
        exploration = Exploration(
            world,
            ids,
            [cast.actor(one) for one in actors],
            stored,
            lambda: cast.requests.delete_thread(THREAD),
            cast.last_check,
            by_history=by_history,
        )
        exploration.explore(budget, NOW_MS)
        return exploration


def promoted(saver: TieredSaver) -> Plan[None]:
    """Promoted by a write's own script, and not flushed yet."""
    yield from saver._store.hot.promote(THREAD, reason="test", op="op")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("state", "actors", "budget"),
    [
        ("dirty", "WFG", Budget()),
        ("dirty", "FED", Budget()),
        ("clean", "WE", Budget(lapses=1)),
        ("clean", "RD", Budget(lapses=1)),
        ("cold", "WD", Budget(crashes=1)),
        ("ephemeral", "MD", Budget(failovers=1)),
        ("ephemeral", "WP", Budget(failovers=1)),
        ("dirty", "WF", Budget(repeats=1)),
        ("promoted", "WB", Budget(crashes=1)),
        ("promoted", "ED", Budget(failovers=1)),
        ("clean", "TR", Budget(crashes=1)),
        ("clean", "TF", Budget(losses=1)),
        ("dirty", "TW", Budget()),
        ("due", "WB", Budget(crashes=1)),
        ("due", "WFG", Budget()),
        ("due", "FD", Budget(failovers=1)),
        ("clean", "AD", Budget()),
        ("archived", "WE", Budget()),
        ("archived", "PD", Budget()),
    ],
)
def test_some_operations(servers: EmbeddedServers, ids: Ids, state: str, actors: str, budget: Budget) -> None:
    assert explore(servers, ids, state, actors, budget).ends > 0


@pytest.mark.timeout(600)
def test_every_transition_of_the_design_happens(servers: EmbeddedServers, ids: Ids) -> None:
    """That no other does is looked at wherever a thread has been on the stage."""
    seen = set[tuple[str, str, str]]()
    for state, actors, budget in (
        ("absent", "WR", Budget(lapses=1)),
        ("ephemeral", "MR", Budget(lapses=1)),
        ("ephemeral", "MD", Budget(failovers=1)),
        ("promoted", "PR", Budget(lapses=1)),
        ("dirty", "TF", Budget(lapses=1)),
        ("absent", "RD", Budget()),
        ("clean", "FD", Budget(failovers=1)),
        ("clean", "PD", Budget()),
        ("clean", "WD", Budget(lapses=1)),
        ("clean", "WE", Budget(lapses=1)),
        ("ripe", "W", Budget()),
        ("due", "F", Budget()),
    ):
        seen |= explore(servers, ids, state, actors, budget).world.transitions
    for scene in (interrupted, copied, undone, postgres_falls_back, written_before_the_first_checkpoint):
        seen |= scene(servers, ids)
    assert seen == TRANSITIONS


def interrupted(servers: EmbeddedServers, ids: Ids) -> set[tuple[str, str, str]]:
    with stage(servers, ids, "ephemeral") as on:
        on.run(on.cast.requests.put_writes(at(THREAD, "", MADE[1]["id"]), [("__interrupt__", "?")], "task", ""))
        return on.world.transitions


def copied(servers: EmbeddedServers, ids: Ids) -> set[tuple[str, str, str]]:
    made = MADE[0]
    metadata: Any = {"source": "loop", "step": 0, "parents": {}}
    with stage(servers, ids, "absent") as on:
        on.run(on.cast.requests.put(at("other"), made, metadata, made["channel_versions"]))
        on.run(on.cast.requests.get_tuple(at(THREAD)))
        on.run(on.cast.requests.copy_thread("other", THREAD))
        return on.world.transitions


def undone(servers: EmbeddedServers, ids: Ids) -> set[tuple[str, str, str]]:
    made = MADE[0]
    metadata: Any = {"source": "loop", "step": 0, "parents": {}, "run_id": "run"}
    with stage(servers, ids, "absent") as on:
        on.run(on.cast.requests.put(at(THREAD), made, metadata, made["channel_versions"]))
        on.run(on.cast.requests.delete_for_runs(["run"]))
        return on.world.transitions


def postgres_falls_back(servers: EmbeddedServers, ids: Ids) -> set[tuple[str, str, str]]:
    """Which the explorations leave out."""
    with stage(servers, ids, "clean") as on:
        before = on.world.cold()
        on.run(on.cast.store(4, MADE[1]["id"], lambda *_: None))
        on.run(on.cast.requests.flush(THREAD))
        on.world.put_cold(before)
        on.run(on.cast.latest(), "run 2")
        return on.world.transitions


def written_before_the_first_checkpoint(servers: EmbeddedServers, ids: Ids) -> set[tuple[str, str, str]]:
    seen = set[tuple[str, str, str]]()
    for looked, channel in ((False, "a"), (True, "a"), (True, "__interrupt__")):
        with stage(servers, ids, "absent") as on:
            if looked:
                on.run(on.cast.requests.get_tuple(at(THREAD)))
            on.run(on.cast.requests.put_writes(at(THREAD, "", MADE[0]["id"]), [(channel, 1)], "task", ""))
            seen |= on.world.transitions
    return seen


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("state", "actors", "budget"),
    [
        ("dirty", "WFG", Budget()),
        pytest.param("clean", "WE", Budget(lapses=1), marks=pytest.mark.nightly),
        pytest.param("dirty", "ED", Budget(failovers=1), marks=pytest.mark.nightly),
    ],
)
def test_plans_that_have_come_equally_far_do_the_same(
    servers: EmbeddedServers, ids: Ids, state: str, actors: str, budget: Budget
) -> None:
    """Or the enumerations would miss what comes of the difference."""
    explored = explore(servers, ids, state, actors, budget)
    by_history = explore(servers, ids, state, actors, budget, by_history=True)
    assert explored.nodes < by_history.nodes
    assert explored.ends == by_history.ends
    assert explored.reached == by_history.reached


PAIRS = (
    *("WN", "WF", "WE", "WP", "WR", "WD", "FG", "FE", "FP", "FR", "FD"),
    *("EP", "ER", "ED", "PR", "PD", "RD", "DN", "MW", "MD", "ME"),
    *("WB", "BF", "BE", "BP", "BR", "BD", "BM"),
    *("TW", "TF", "TB", "TE", "TP", "TR"),
)
TRIPLES = ("WFD", "FGD", "WFG", "WBD", "BFD", "WED", "WPD", "RED")
ARCHIVING = ("AW", "AF", "AB", "AE", "AP", "AR", "AD", "AM", "AT", "AU", "UW", "UF", "UE", "UP", "UR", "UD")
MISHAPS = (Budget(), *(Budget(**{one: 1}) for one in ("lapses", "crashes", "repeats", "losses")))
FALL_BACK = Budget(failovers=1)
"""At any moment, to any moment before: many times the nodes of the other mishaps."""


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("budget", [*MISHAPS, FALL_BACK], ids=repr)
@pytest.mark.parametrize("state", STATES)
def test_pairs_of_operations_from_every_state(servers: EmbeddedServers, ids: Ids, state: str, budget: Budget) -> None:
    explore_all(servers, ids, state, PAIRS, budget)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("budget", [*MISHAPS, FALL_BACK], ids=repr)
@pytest.mark.parametrize("state", [*STATES, "archived"])
def test_archiving_beside_every_operation(servers: EmbeddedServers, ids: Ids, state: str, budget: Budget) -> None:
    explore_all(servers, ids, state, ARCHIVING, budget)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("budget", [*MISHAPS, FALL_BACK], ids=repr)
def test_pairs_of_operations_on_an_archived_thread(servers: EmbeddedServers, ids: Ids, budget: Budget) -> None:
    explore_all(servers, ids, "archived", PAIRS, budget)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("budget", MISHAPS, ids=repr)
@pytest.mark.parametrize("state", ["dirty", "clean", "archived"])
def test_archiving_beside_two_operations(servers: EmbeddedServers, ids: Ids, state: str, budget: Budget) -> None:
    explore_all(servers, ids, state, ("AWF", "AFD", "AWD", "APD", "AAF", "AUW"), budget)


def explore_all(servers: EmbeddedServers, ids: Ids, state: str, casts: Sequence[str], budget: Budget) -> None:
    for actors in casts:
        explored = explore(servers, ids, state, actors, budget)
        print(f"{state} {actors} {budget}: {explored.nodes} nodes, {explored.edges} edges, {explored.ends} ends")  # noqa: T201
        assert explored.ends > 0


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("budget", MISHAPS, ids=repr)
@pytest.mark.parametrize("state", ["promoted", "due", "dirty", "clean"])
def test_three_operations(servers: EmbeddedServers, ids: Ids, state: str, budget: Budget) -> None:
    explore_all(servers, ids, state, TRIPLES, budget)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("actors", ["WFD", "FGD", "WFG", "WBD", "BFD"])
@pytest.mark.parametrize("state", ["promoted", "dirty", "clean"])
def test_redis_falls_back_under_three_operations(servers: EmbeddedServers, ids: Ids, state: str, actors: str) -> None:
    explore_all(servers, ids, state, [actors], FALL_BACK)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("budget", MISHAPS, ids=repr)
@pytest.mark.parametrize("state", ["promoted", "due", "dirty", "clean"])
def test_two_workers_a_writer_and_a_deleter(servers: EmbeddedServers, ids: Ids, state: str, budget: Budget) -> None:
    explore_all(servers, ids, state, ["WFGD"], budget)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("state", STATES)
def test_two_mishaps_in_a_pair_of_operations(servers: EmbeddedServers, ids: Ids, state: str) -> None:
    explore_all(servers, ids, state, ("WF", "FD", "RD"), Budget(crashes=1, lapses=1))
