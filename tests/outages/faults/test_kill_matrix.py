"""A worker is killed before, after and during every step of every operation, and another one finishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import psycopg
import pytest
import redis
from faults.killing import die_at
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver
from homes import at
from key_rules import broken_rules
from stepping import lease_of, reply_to

from langgraph_tiered_checkpoint import ConfigurationError, TieredSaver
from langgraph_tiered_checkpoint.hot import flushing
from langgraph_tiered_checkpoint.hot.flushing import Compared
from langgraph_tiered_checkpoint.hot.keys import BUCKETS
from langgraph_tiered_checkpoint.plans import copying, promoting, reshaping
from langgraph_tiered_checkpoint.steps import Plan

HOLD_MS = 150
DELAYS_US = (0, 100, 200, 400, 600, 900, 1300, 2000)


class Scene:
    """One thread as it stands when the worker takes it up, and what the parent knows of it."""

    def __init__(self, saver: TieredSaver, postgres_url: str, thread_id: str) -> None:
        self.saver = saver
        self.postgres_url = postgres_url
        self.thread_id = thread_id
        self.copy_id = f"{thread_id} (copy)"
        self.ledger = Ledger(Caller(saver, None), thread_id)

    def write(self, checkpoints: int = 3) -> None:
        for number in range(checkpoints):
            self.ledger.put("x" * 300)
            self.ledger.put_writes("task", number, "y" * 300)

    def rows(self, thread_id: str) -> int:
        """How many rows of any table speak of a thread."""
        with psycopg.connect(self.postgres_url) as connection:
            tables = connection.execute(
                "SELECT table_name FROM information_schema.columns "
                "WHERE table_schema = 'public' AND column_name = 'thread_id'"
            ).fetchall()
            counts = [
                connection.execute(f"SELECT count(*) FROM {table} WHERE thread_id = %s", (thread_id,)).fetchone()
                for (table,) in tables
            ]
        assert len(counts) >= 4
        return sum(count[0] for count in counts if count)


def ephemeral(scene: Scene) -> None:
    scene.write()


def due(scene: Scene) -> None:
    """Promoted by a write's own script, and not flushed yet."""
    scene.write()
    scene.saver._sync._perform(scene.saver._store.hot.promote(scene.thread_id, reason="test", op="op"))


def dirty(scene: Scene) -> None:
    clean(scene)
    scene.write()


def clean(scene: Scene) -> None:
    scene.write()
    scene.saver.promote(scene.thread_id)


def archived(scene: Scene) -> None:
    """With as many checkpoints in the archive as there are in Redis and the official tables since."""
    clean(scene)
    scene.saver.archive(scene.thread_id)
    scene.write()
    scene.saver.flush(scene.thread_id)


def cold(scene: Scene) -> None:
    clean(scene)
    scene.saver.evict(scene.thread_id)


def to_be_uploaded_again(scene: Scene) -> None:
    """As after a restart of Redis that Postgres does not agree with."""
    dirty(scene)
    store = scene.saver._store
    lease = lease_of(scene.saver, scene.thread_id)
    rebase = store.hot.rebase(
        scene.thread_id, incarnation=lease.incarnation, flushed=lease.flushed, op="op", whole=True
    )
    assert reply_to(scene.saver, rebase) is Compared.DONE


Arrange = Callable[[Scene], None]
Act = Callable[[TieredSaver, str], Any]


def nothing_else(scene: Scene) -> None:
    scene.ledger.settle(scene.postgres_url)


def deleted(scene: Scene) -> None:
    """Until the delete is repeated, the thread may be there, whole or not; then, nothing is left of it."""
    scene.saver.delete_thread(scene.thread_id)
    assert scene.rows(scene.thread_id) == 0
    assert scene.saver.get_tuple(at(scene.thread_id)) is None
    assert list(scene.saver.list(at(scene.thread_id))) == []
    fresh = Ledger(scene.ledger.call, scene.thread_id)
    fresh.put("a new life")
    fresh.settle(scene.postgres_url)


def pruned(scene: Scene) -> None:
    _after_the_hold()
    scene.saver.prune([scene.thread_id])
    ledger = scene.ledger
    assert ledger.head is not None
    ledger.acknowledged = {ledger.head}
    ledger.parents[ledger.head] = None
    ledger.check(ledger.call)
    assert [one.checkpoint["id"] for one in scene.saver.list(at(scene.thread_id))] == [ledger.head]
    ledger.settle(scene.postgres_url)


def stored_away(scene: Scene) -> None:
    """Whatever is archived, and whatever not, everything is read as before and can be archived."""
    _after_the_hold()
    ledger = scene.ledger
    ledger.check(ledger.call)
    scene.saver.archive(scene.thread_id)
    ledger.check(ledger.call)
    _brought_back(scene)


def _brought_back(scene: Scene) -> None:
    scene.saver.unarchive(scene.thread_id)
    assert scene.saver.explain(scene.thread_id).archived == 0
    scene.ledger.settle(scene.postgres_url)


def copied(scene: Scene) -> None:
    _after_the_hold()
    try:
        scene.saver.copy_thread(scene.thread_id, scene.copy_id)
    except ConfigurationError:
        assert scene.saver.get_tuple(at(scene.copy_id)) is not None
    for thread_id in (scene.thread_id, scene.copy_id):
        scene.ledger.thread_id = thread_id
        scene.saver.unarchive(thread_id)
        scene.ledger.settle(scene.postgres_url)


def written(scene: Scene) -> None:
    scene.write(1)
    expected = scene.ledger
    unseen = {one.checkpoint["id"] for one in scene.saver.list(at(scene.thread_id))} - set(expected.made)
    assert len(unseen) <= 1, "of what was not acknowledged, at most that one put"


def _after_the_hold() -> None:
    """What a dead worker held is free after its deadline."""
    time.sleep(1.2 * HOLD_MS / 1000)


def swept(saver: TieredSaver) -> Plan[None]:
    """What a promoter does for threads that others have left."""
    due = yield from promoting.lease_due(saver._store, range(BUCKETS), 2)
    failed = yield from promoting.flush_many(saver._store, due)
    assert due
    assert not failed


PROMOTE: Act = lambda saver, thread_id: saver.promote(thread_id)  # noqa: E731
FLUSH: Act = lambda saver, thread_id: saver.flush(thread_id)  # noqa: E731
FLUSH_ALL: Act = lambda saver, _: saver.flush()  # noqa: E731
SWEEP: Act = lambda saver, _: saver._sync.run(swept(saver))  # noqa: E731
READ: Act = lambda saver, thread_id: saver.get_tuple(at(thread_id))  # noqa: E731
LIST: Act = lambda saver, thread_id: list(saver.list(at(thread_id)))  # noqa: E731
EVICT: Act = lambda saver, thread_id: saver.evict(thread_id)  # noqa: E731
DELETE: Act = lambda saver, thread_id: saver.delete_thread(thread_id)  # noqa: E731
PRUNE: Act = lambda saver, thread_id: saver.prune([thread_id])  # noqa: E731
ARCHIVE: Act = lambda saver, thread_id: saver.archive(thread_id)  # noqa: E731
UNARCHIVE: Act = lambda saver, thread_id: saver.unarchive(thread_id)  # noqa: E731
COPY: Act = lambda saver, thread_id: saver.copy_thread(thread_id, f"{thread_id} (copy)")  # noqa: E731
PUT: Act = lambda saver, thread_id: Ledger(Caller(saver, None), thread_id).put("of the dead")  # noqa: E731

CASES: dict[str, tuple[Arrange, Act, Callable[[Scene], None]]] = {
    "first promotion": (ephemeral, PROMOTE, nothing_else),
    "first promotion, together": (due, FLUSH_ALL, nothing_else),
    "first promotion, swept": (due, SWEEP, nothing_else),
    "later changes": (dirty, FLUSH, nothing_else),
    "later changes, together": (dirty, FLUSH_ALL, nothing_else),
    "upload of everything again": (to_be_uploaded_again, FLUSH, nothing_else),
    "fill": (cold, READ, nothing_else),
    "listing": (cold, LIST, nothing_else),
    "eviction": (dirty, EVICT, nothing_else),
    "put, ephemeral": (ephemeral, PUT, written),
    "put, cold": (cold, PUT, written),
    "deletion, ephemeral": (ephemeral, DELETE, deleted),
    "deletion, dirty": (dirty, DELETE, deleted),
    "deletion, clean": (clean, DELETE, deleted),
    "deletion, cold": (cold, DELETE, deleted),
    "pruning, ephemeral": (ephemeral, PRUNE, pruned),
    "pruning, dirty": (dirty, PRUNE, pruned),
    "pruning, cold": (cold, PRUNE, pruned),
    "archiving": (clean, ARCHIVE, stored_away),
    "archiving, dirty": (dirty, ARCHIVE, stored_away),
    "archiving, cold": (cold, ARCHIVE, stored_away),
    "archiving, again": (archived, ARCHIVE, stored_away),
    "unarchiving": (archived, UNARCHIVE, stored_away),
    "listing, archived": (archived, LIST, stored_away),
    "deletion, archived": (archived, DELETE, deleted),
    "pruning, archived": (archived, PRUNE, pruned),
    "copy, archived": (archived, COPY, copied),
    "copy, ephemeral": (ephemeral, COPY, copied),
    "copy, dirty": (dirty, COPY, copied),
    "copy, cold": (cold, COPY, copied),
}


@pytest.fixture(autouse=True)
def small_pages_and_short_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pages for a thread of three checkpoints. Workers are forks, so this holds for them, too."""
    monkeypatch.setattr(copying, "PAGE_BYTES", 1_000)
    monkeypatch.setattr(flushing, "SCAN_FIELDS", 4)
    monkeypatch.setattr(reshaping, "HOLD_MS", HOLD_MS)


@pytest.fixture
def scenes(saver: TieredSaver, postgres_url: str) -> Iterator[Scene]:
    return (Scene(saver, postgres_url, f"t{number}") for number in range(1_000_000))


def kill_at_every_step(
    case: str,
    moments: Sequence[str],
    scenes: Iterator[Scene],
    make_saver: MakeSaver,
    urls: tuple[str, str],
    client: redis.Redis,
) -> int:
    """Kill a worker at these moments of each step of an operation, until it has no more steps; how many were killed."""
    arrange, act, verify = CASES[case]
    kills = 0
    for step in count():
        for moment in moments:
            scene = next(scenes)
            arrange(scene)
            when, _, delay = moment.partition(":")
            failpoint = f"{when}:{step}:{delay}"
            fate = die_at(failpoint, lambda: make_saver(*urls), lambda saver, scene=scene: act(saver, scene.thread_id))  # type: ignore[misc]
            assert broken_rules(client) == [], failpoint
            if verify is nothing_else:
                scene.ledger.check(scene.ledger.call)  # before anybody has mended anything
            verify(scene)
            assert scene.saver.stats().parked_threads == (), failpoint
            if fate == "never there":
                return kills
            kills += fate == "killed"
    raise AssertionError


OFTEN = tuple(case for case in CASES if not (case.startswith("archiving,") or case.endswith(", archived")))
"""The others only with the killing in mid-step."""


@pytest.mark.parametrize("case", OFTEN)
def test_another_worker_finishes_what_a_killed_one_began(
    scenes: Iterator[Scene],
    make_saver: MakeSaver,
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    case: str,
) -> None:
    urls = (redis_url, postgres_url)
    assert kill_at_every_step(case, ("before", "after"), scenes, make_saver, urls, redis_client) > 1


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_no_kill_before_in_or_after_any_step_loses_anything(
    saver: TieredSaver,
    scenes: Iterator[Scene],
    make_saver: MakeSaver,
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
) -> None:
    """In mid-step, the request may have been sent or not, arrived or not, and its transaction may still be running."""
    moments = ("before", "after", *(f"during:{delay}" for delay in DELAYS_US))
    kills: dict[str, int] = {}
    for case in CASES:
        saver.flush()  # so that no worker meets what the case before has left
        try:
            kills[case] = kill_at_every_step(case, moments, scenes, make_saver, (redis_url, postgres_url), redis_client)
        except Exception as exc:
            raise AssertionError(f"{case!r} failed, after {kills}") from exc
        print(f"{case}: {kills[case]} kills")  # noqa: T201 - `pytest -rA` shows it
    print(f"{sum(kills.values())} kills")  # noqa: T201
    assert min(kills.values()) > 1, kills
    assert sum(kills.values()) >= 500, kills
