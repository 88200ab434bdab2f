"""No lock-in: `langgraph-checkpoint-postgres` reads what we promote, and we serve and continue what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.types import TASKS
from sameness import difference
from scenarios.driving import aplay, plain, play
from scenarios.graphs import CORPUS, History, Saver, Scenario
from scenarios.threads import THREAD, aeverything, assert_same_thread, config, everything, put

from langgraph_tiered_checkpoint import ConfigurationError, Promotion, TieredSaver

pytestmark = pytest.mark.bare

corpus = pytest.mark.parametrize("scenario", CORPUS, ids=lambda scenario: scenario.name)


@pytest.fixture
def ours(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """Promotes at once, trims to two checkpoints, flushes only when told to."""
    with fresh(redis_url, postgres_url) as saver:
        yield saver


def fresh(redis_url: str, postgres_url: str) -> TieredSaver:
    return TieredSaver.from_urls(
        redis_url, postgres_url, promotion=Promotion(checkpoints=1), hot_checkpoints=2, promoter="external"
    )


@pytest.fixture
def official(postgres_url: str) -> Iterator[PostgresSaver]:
    """On the same database; its tables are there only once somebody has called setup()."""
    with PostgresSaver.from_conn_string(postgres_url) as saver:
        yield saver


@contextmanager
def official_thread(scenario: Scenario, official: PostgresSaver, *, setup: bool = True) -> Iterator[None]:
    if setup:
        official.setup()
    play(scenario, official, THREAD, scenario.script())
    yield


def history(scenario: Scenario, saver: Saver, thread_id: str = THREAD) -> Any:
    return plain(History(), list(scenario.build(saver).get_state_history(scenario.config(thread_id))))


# The official saver reads ours


@corpus
def test_official_saver_reads_every_promoted_checkpoint_as_we_do(
    scenario: Scenario, ours: TieredSaver, official: PostgresSaver, redis_url: str, postgres_url: str
) -> None:
    play(scenario, ours, THREAD, scenario.script())
    assert ours.explain(THREAD).state == "dirty"
    hot = everything(ours)
    assert not ours.explain(THREAD).cold_checkpoints
    ours.flush()
    theirs = everything(official)
    assert_same_thread(hot, theirs)
    assert_same_thread(everything(ours), theirs)
    assert difference(history(scenario, ours), history(scenario, official)) == ""
    ours.evict(THREAD)
    assert_same_thread(everything(ours), theirs)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    with fresh(redis_url, postgres_url) as newcomer:
        assert_same_thread(everything(newcomer), theirs)
        assert difference(history(scenario, newcomer), history(scenario, official)) == ""


@corpus
async def test_async_official_saver_reads_every_promoted_checkpoint_as_we_do(
    scenario: Scenario, redis_url: str, postgres_url: str
) -> None:
    async with fresh(redis_url, postgres_url) as ours:
        await aplay(scenario, ours, THREAD, scenario.script(), between=ours.aflush)
        async with AsyncPostgresSaver.from_conn_string(postgres_url) as official:
            theirs = await aeverything(official)
            assert_same_thread(await aeverything(ours), theirs)
            await ours.aevict(THREAD)
            assert_same_thread(await aeverything(ours), theirs)


def test_official_setup_finds_nothing_to_do_on_our_tables(ours: TieredSaver, postgres_url: str) -> None:
    ours.setup()

    def migrations() -> list[Any]:
        with psycopg.connect(postgres_url) as conn:
            return conn.execute("SELECT v FROM checkpoint_migrations ORDER BY v").fetchall()

    before = migrations()
    with PostgresSaver.from_conn_string(postgres_url) as official:
        official.setup()
    assert migrations() == before
    assert before


# We serve the official saver's


@corpus
def test_official_only_thread_is_served_and_continued_in_turns(
    scenario: Scenario, ours: TieredSaver, official: PostgresSaver
) -> None:
    with official_thread(scenario, official):
        assert_same_thread(everything(ours), everything(official))
        assert difference(history(scenario, ours), history(scenario, official)) == ""
        assert ours.explain(THREAD).tier in {"cold", "both"}

        play(scenario, ours, THREAD, scenario.sequel())
        ours.flush()
        assert_same_thread(everything(ours), everything(official))

        ours.evict(THREAD)
        play(scenario, official, THREAD, scenario.sequel())
        assert_same_thread(everything(ours), everything(official))

        play(scenario, ours, THREAD, scenario.sequel())
        ours.flush()
        assert_same_thread(everything(ours), everything(official))
        assert difference(history(scenario, ours), history(scenario, official)) == ""


def test_first_write_of_ours_to_an_official_thread_needs_no_read_before_it(
    ours: TieredSaver, official: PostgresSaver
) -> None:
    official.setup()
    first = put(official, 1, "")
    ours.put_writes(config(ns="", checkpoint_id=first), [("late", "write")], "task")
    second = put(ours, 2, first)
    latest = ours.get_tuple(config())
    assert latest is not None
    assert latest.config == config(ns="", checkpoint_id=second)
    ours.flush()
    assert_same_thread(everything(ours), everything(official))
    found = official.get_tuple(config(ns="", checkpoint_id=first))
    assert found is not None
    assert found.pending_writes == [("task", "late", "write")]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_sends_of_formats_before_v4_are_served_as_the_official_saver_does(
    version: int, ours: TieredSaver, official: PostgresSaver
) -> None:
    official.setup()
    parent = ""
    for number in range(1, 5):
        checkpoint_id = put(official, number, parent, version if number < 4 else 4)
        at = config(ns="", checkpoint_id=checkpoint_id)
        official.put_writes(at, [(TASKS, {"send": number}), ("items", [9])], f"task {number}", "~b")
        official.put_writes(at, [(TASKS, ("second", number))], f"another {number}", "~a")
        parent = checkpoint_id
    theirs = everything(official)
    assert any(t and TASKS in t.checkpoint["channel_values"] for t in theirs.values())
    assert_same_thread(everything(ours), theirs)
    newest = put(ours, 5, parent)
    ours.flush()
    assert_same_thread(everything(ours), everything(official))
    ours.evict(THREAD)
    assert_same_thread(everything(ours), everything(official))
    ours.evict(THREAD)
    put(official, 6, newest, version)
    assert_same_thread(everything(ours), everything(official))


def test_latest_of_an_old_format_keeps_its_sends_when_read_twice(ours: TieredSaver, official: PostgresSaver) -> None:
    official.setup()
    first = put(official, 1, "", 3)
    official.put_writes(config(ns="", checkpoint_id=first), [(TASKS, "send")], "task")
    put(official, 2, first, 3)
    for _ in range(3):
        assert_same_thread(everything(ours), everything(official))


@pytest.mark.parametrize("version", [1, 3, 4])
def test_prune_keeps_the_sends_that_a_format_before_v4_reads_from_its_parent(
    version: int, ours: TieredSaver, official: PostgresSaver
) -> None:
    official.setup()
    ids = [put(official, 1, "", version)]
    ids += [put(official, 2, ids[0], version)]
    for number, id_ in enumerate(ids):
        official.put_writes(config(ns="", checkpoint_id=id_), [(TASKS, f"send {number}")], "task")
    ids += [put(official, 3, ids[1], version)]
    before = official.get_tuple(config())
    assert before is not None
    assert before.checkpoint["channel_values"].get(TASKS) == (["send 1"] if version < 4 else None)
    ours.prune([THREAD])
    kept = [item.config["configurable"]["checkpoint_id"] for item in ours.list(config())]
    assert kept == (ids[:0:-1] if version < 4 else ids[2:])
    for saver in (ours, official):
        found = saver.get_tuple(config())
        assert found is not None
        assert found.checkpoint["channel_values"] == before.checkpoint["channel_values"]


# Structural operations of ours on threads that only the official saver wrote


def rows_of(postgres_url: str, thread_id: str) -> int:
    tables = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
    query = " + ".join(f"(SELECT count(*) FROM {table} WHERE thread_id = %(thread)s)" for table in tables)
    with psycopg.connect(postgres_url) as conn:
        row = conn.execute(f"SELECT {query}".encode(), {"thread": thread_id}).fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("touch", [lambda _: None, lambda saver: saver.get_tuple(config())], ids=["unread", "read"])
@pytest.mark.parametrize(
    "remove",
    [
        lambda saver: saver.delete_thread(THREAD),
        lambda saver: saver.prune([THREAD], strategy="delete"),
        lambda saver: saver.prune([THREAD], strategy="delete_all"),
    ],
    ids=["delete_thread", "prune delete", "prune delete_all"],
)
def test_official_only_thread_is_deleted_whole(
    remove: Callable[[TieredSaver], None],
    touch: Callable[[TieredSaver], object],
    ours: TieredSaver,
    official: PostgresSaver,
    postgres_url: str,
) -> None:
    with official_thread(CORPUS[3], official):
        put(official, 1, "", thread_id=THREAD.upper())
        neighbours = rows_of(postgres_url, THREAD.upper())
        touch(ours)
        remove(ours)
        assert rows_of(postgres_url, THREAD) == 0
        assert rows_of(postgres_url, THREAD.upper()) == neighbours
        assert ours.get_tuple(config()) is None
        assert list(ours.list(config())) == []
        assert ours.explain(THREAD).state == "absent"


@corpus
def test_official_only_thread_is_pruned_to_what_its_state_needs(
    scenario: Scenario, ours: TieredSaver, official: PostgresSaver, postgres_url: str
) -> None:
    with official_thread(scenario, official):
        before = history(scenario, official)
        rows = rows_of(postgres_url, THREAD)
        ours.prune([THREAD], strategy="keep_latest")
        after = history(scenario, official)
        assert difference(after[0]["values"], before[0]["values"]) == ""
        assert difference(after[0]["tasks"], before[0]["tasks"]) == ""
        assert len(after) < len(before)
        assert rows_of(postgres_url, THREAD) < rows
        assert_same_thread(everything(ours), everything(official))
        continued = play(scenario, ours, THREAD, scenario.sequel())[-1]
        memory = InMemorySaver()
        play(scenario, memory, THREAD, scenario.script())
        expected = play(scenario, memory, THREAD, scenario.sequel())[-1]
        assert difference(continued[0]["values"], expected[0]["values"]) == ""


@corpus
def test_official_only_thread_is_copied_with_its_history(
    scenario: Scenario, ours: TieredSaver, official: PostgresSaver
) -> None:
    with official_thread(scenario, official):
        ours.copy_thread(THREAD, "copy")
        assert difference(history(scenario, official, "copy"), history(scenario, official)) == ""
        assert_same_thread(everything(ours, "copy"), everything(official, "copy"))
        with pytest.raises(ConfigurationError, match="exists"):
            ours.copy_thread(THREAD, "copy")
        ours.delete_thread(THREAD)
        assert difference(history(scenario, ours, "copy"), history(scenario, official, "copy")) == ""


def test_runs_are_removed_from_official_only_threads(ours: TieredSaver, official: PostgresSaver) -> None:
    official.setup()
    for thread_id in ("one", "two", "only"):
        first = put(official, 1, "", thread_id=thread_id, run_id="unwanted" if thread_id == "only" else "kept")
        if thread_id != "only":
            second = put(official, 2, first, thread_id=thread_id, run_id="unwanted")
            put(official, 3, second, thread_id=thread_id, run_id="kept too")
    ours.get_tuple(config("one"))
    ours.delete_for_runs(["unwanted", "never seen"])
    for thread_id in ("one", "two"):
        left = list(ours.list(config(thread_id)))
        assert [t.metadata["step"] for t in left] == [3, 1]
        assert_same_thread(everything(ours, thread_id), everything(official, thread_id))
    assert ours.get_tuple(config("only")) is None
    assert official.get_tuple(config("only")) is None
