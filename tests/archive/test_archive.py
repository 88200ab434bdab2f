"""What is archived is read as before, from wherever it is, and comes back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from sameness import difference
from scenarios.driving import plain, play
from scenarios.graphs import CORPUS, History, Saver, Scenario
from scenarios.threads import THREAD, assert_same_thread, checkpoint_id, config, everything, put, steps, wait_until

from langgraph_tiered_checkpoint import Archive, DamagedThreadError, Promotion, TieredSaver, promoter
from langgraph_tiered_checkpoint.cold.segments import Opened, inflated

corpus = pytest.mark.parametrize("scenario", CORPUS, ids=lambda scenario: scenario.name)


@pytest.fixture
def ours(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """Promotes at once, flushes only when told to."""
    with TieredSaver.from_urls(
        redis_url, postgres_url, promotion=Promotion(checkpoints=1), promoter="external"
    ) as saver:
        yield saver


def history(scenario: Scenario, saver: Saver, thread_id: str = THREAD) -> Any:
    return plain(History(), list(scenario.build(saver).get_state_history(scenario.config(thread_id))))


def rows(postgres_url: str, thread_id: str = THREAD) -> dict[str, list[Any]]:
    """All that the official tables have of a thread, our columns included."""
    tables = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
    with psycopg.connect(postgres_url) as conn:
        query = "SELECT t::text FROM {} AS t WHERE thread_id = %s ORDER BY 1"
        return {t: conn.execute(query.format(t).encode(), [thread_id]).fetchall() for t in tables}


def segments(postgres_url: str, thread_id: str = THREAD) -> list[int]:
    """How many checkpoints there are in each segment."""
    with psycopg.connect(postgres_url) as conn:
        query = "SELECT packed FROM tiered_segments WHERE thread_id = %s ORDER BY segment"
        return [count for (count,) in conn.execute(query, [thread_id])]


def due_to_be_archived(postgres_url: str) -> bool:
    with psycopg.connect(postgres_url) as conn:
        [[due]] = conn.execute("SELECT unarchived > 0 OR archive_due IS NOT NULL FROM tiered_threads").fetchall()
        return bool(due)


def export(saver: TieredSaver) -> list[str]:
    """The checkpoints of an export, without the order of values and writes, which means nothing."""
    return sorted("".join(sorted(line)) for line in saver.export(THREAD) if line.startswith('{"checkpoint"'))


@corpus
def test_archived_thread_is_read_as_before_and_comes_back_as_it_was(
    scenario: Scenario, ours: TieredSaver, postgres_url: str
) -> None:
    play(scenario, ours, THREAD, scenario.script())
    ours.flush()
    with PostgresSaver.from_conn_string(postgres_url) as official:
        before, as_before, listed = rows(postgres_url), everything(official), history(scenario, official)
        ours.evict(THREAD)
        exported = export(ours)
        ours.archive(THREAD)
        assert sum(segments(postgres_url)) > 0
        assert export(ours) == exported
        kept = everything(official)
        assert_same_thread({name: found for name, found in as_before.items() if name in kept}, kept)
        assert len(kept) < len(as_before)
        assert_same_thread(everything(ours), as_before)
        assert not difference(history(scenario, ours), listed)
        status = ours.explain(THREAD)
        assert (status.cold_checkpoints or 0) + status.archived == sum(1 for n in as_before if n[0] == "listed")
        ours.evict(THREAD)
        assert_same_thread(everything(ours), as_before)
        ours.unarchive(THREAD)
        assert rows(postgres_url) == before
        assert segments(postgres_url) == []


@corpus
def test_archived_thread_goes_on(scenario: Scenario, ours: TieredSaver, postgres_url: str) -> None:
    play(scenario, ours, THREAD, scenario.script())
    memory = InMemorySaver()
    play(scenario, memory, THREAD, scenario.script())
    ours.flush()
    ours.archive(THREAD)
    done = play(scenario, ours, THREAD, scenario.sequel(), between=lambda: ours.archive(THREAD))
    assert not difference(done, play(scenario, memory, THREAD, scenario.sequel()))
    assert not difference(history(scenario, ours), history(scenario, memory))


def chain(saver: Saver, last: int, first: int = 1) -> None:
    """Checkpoints by three runs, each with a write; every third one belongs to a run."""
    for number in range(first, last + 1):
        parent = checkpoint_id(number - 1) if number > 1 else ""
        put(saver, number, parent, run_id=f"run {number % 3}")
        saver.put_writes(config(THREAD, "", checkpoint_id(number)), [("items", [f"(write {number})"])], "task")


def test_fork_from_an_archived_checkpoint_has_its_values_and_so_has_the_official_saver(
    ours: TieredSaver, postgres_url: str
) -> None:
    chain(ours, 5)
    ours.archive(THREAD)
    assert segments(postgres_url) == [4]
    with PostgresSaver.from_conn_string(postgres_url) as official:
        head = official.get_tuple(config(THREAD, ""))
    assert head is not None
    assert head.checkpoint["channel_values"]["base"] == ["from the first"]  # which is archived, and needed
    put(ours, 6, checkpoint_id(2))  # names no new version for "base", which is from the first checkpoint
    ours.flush()
    with PostgresSaver.from_conn_string(postgres_url) as official:
        assert_same_thread(
            {"latest": official.get_tuple(config(THREAD, ""))}, {"latest": ours.get_tuple(config(THREAD, ""))}
        )
        found = official.get_tuple(config(THREAD, ""))
    assert found is not None
    assert found.checkpoint["channel_values"]["base"] == ["from the first"]
    assert found.parent_config == config(THREAD, "", checkpoint_id(2))


def test_list_pages_through_tables_and_segments(ours: TieredSaver, postgres_url: str) -> None:
    memory = InMemorySaver()
    chain(ours, 40)
    chain(memory, 60)
    ours.archive(THREAD)
    chain(ours, 60, 41)
    put(ours, 7, checkpoint_id(6), run_id="run 1", again=True)  # what is archived is put again
    put(memory, 7, checkpoint_id(6), run_id="run 1", again=True)
    for _ in range(2):
        for search in (
            {},
            {"limit": 7},
            {"before": config(THREAD, "", checkpoint_id(30)), "limit": 25},
            {"filter": {"run_id": "run 2"}},
            {"filter": {"run_id": "run 1"}, "limit": 3, "before": config(THREAD, "", checkpoint_id(39))},
        ):
            theirs = list(memory.list(config(THREAD, ""), **search))
            mine = list(ours.list(config(THREAD, ""), **search))
            assert steps_of(mine) == steps_of(theirs)
            assert_same_thread(dict(enumerate(mine)), dict(enumerate(theirs)))
        ours.archive(THREAD)
    assert sum(segments(postgres_url)) == 59


def steps_of(listed: list[Any]) -> list[int]:
    return [found.metadata["step"] for found in listed]


def test_runs_are_deleted_from_segments(ours: TieredSaver, postgres_url: str) -> None:
    chain(ours, 10)
    ours.archive(THREAD)
    ours.evict(THREAD)
    left = list(range(10, 0, -1))
    for run in ("run 1", "run 0"):  # the latest and others; others
        ours.delete_for_runs([run])
        left = [n for n in left if f"run {n % 3}" != run]
        assert steps(ours) == left
        parents = [found.parent_config for found in ours.list(config(THREAD))]
        assert [at and at["configurable"]["checkpoint_id"] for at in parents] == [
            checkpoint_id(n - 1) if n - 1 in left else None for n in left
        ]
        assert not planted(postgres_url, [n for n in range(1, 11) if n not in left])
        assert planted(postgres_url, left) == left
        with PostgresSaver.from_conn_string(postgres_url) as official:
            assert steps(official) == left[:1]
    ours.delete_for_runs(["run 2"])
    assert segments(postgres_url) == []
    assert ours.explain(THREAD).tier is None


def planted(postgres_url: str, numbers: list[int]) -> list[int]:
    """Of which checkpoints there are writes in any segment, or in the tables."""
    with psycopg.connect(postgres_url) as conn:
        packed = conn.execute("SELECT segment, contents, frame FROM tiered_segments").fetchall()
        written = conn.execute("SELECT blob FROM checkpoint_writes").fetchall()
    found = [w.data for row in packed for entry in Opened(THREAD, *row).entries() for w in entry.writes]
    found += [inflated(frame) for *_, frame in packed] + [data for (data,) in written]
    return [n for n in numbers if any(f"(write {n})".encode() in data for data in found)]


def test_prune_and_delete_leave_nothing_archived(ours: TieredSaver, postgres_url: str) -> None:
    chain(ours, 6)
    ours.archive(THREAD)
    assert segments(postgres_url) == [5]
    ours.prune([THREAD])
    assert segments(postgres_url) == []
    assert steps(ours) == [6]
    chain(ours, 9, 7)
    ours.archive(THREAD)
    assert segments(postgres_url) == [3]
    ours.delete_thread(THREAD)
    assert segments(postgres_url) == []
    assert ours.get_tuple(config(THREAD, "", checkpoint_id(7))) is None


@corpus
def test_copy_of_an_archived_thread_is_as_it_and_has_its_own_id(scenario: Scenario, ours: TieredSaver) -> None:
    play(scenario, ours, THREAD, scenario.script())
    ours.flush()
    ours.copy_thread(THREAD, "copy of what is not archived")
    ours.archive(THREAD)
    ours.copy_thread(THREAD, "copy")
    copies = [everything(ours, name) for name in ("copy", "copy of what is not archived")]
    for copy, name in zip(copies, ("copy", "copy of what is not archived"), strict=True):
        for found in copy.values():
            assert found is not None
            assert found.metadata.get("thread_id", name) == name
            found.metadata.pop("thread_id", None)  # type: ignore[typeddict-item]
            for at in (found.config, found.parent_config):
                (at or {"configurable": {}})["configurable"]["thread_id"] = THREAD
    assert_same_thread(*copies)
    ours.delete_for_runs([str(f.metadata["run_id"]) for f in everything(ours).values() if f and "run_id" in f.metadata])
    assert len(everything(ours, "copy")) == len(copies[0])


def test_damaged_segment_is_named_and_the_head_reads(ours: TieredSaver, postgres_url: str) -> None:
    chain(ours, 5)
    ours.archive(THREAD)
    ours.evict(THREAD)
    with psycopg.connect(postgres_url) as conn:
        conn.execute("UPDATE tiered_segments SET frame = substring(frame FROM 1 FOR 40)")
    assert steps_of([ours.get_tuple(config(THREAD))]) == [5]
    for ask in (
        lambda: ours.get_tuple(config(THREAD, "", checkpoint_id(3))),
        lambda: list(ours.list(config(THREAD))),
        lambda: ours.unarchive(THREAD),
    ):
        with pytest.raises(DamagedThreadError, match=r"segment 1 of its archive.*from a backup"):
            ask()
    assert segments(postgres_url) == [4]
    ours.delete_thread(THREAD)
    assert segments(postgres_url) == []


def test_promoter_archives_what_is_idle_and_what_is_long(
    redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoter, "SWEEP_S", 0.05)
    settings: dict[str, Any] = {
        "promotion": Promotion(checkpoints=1),
        "hot_checkpoints": 2,
        "archive": Archive(idle=timedelta(hours=1), checkpoints=6),
    }
    with TieredSaver.from_urls(redis_url, postgres_url, **settings, promoter="external") as writer:
        chain(writer, 7)
        writer.flush()
    with TieredSaver.from_urls(redis_url, postgres_url, **settings) as saver:
        wait_until(lambda: segments(postgres_url) == [5])  # all but the newest two
        assert steps(saver) == [7, 6, 5, 4, 3, 2, 1]
        wait_until(lambda: saver.explain(THREAD).hot_checkpoints == 1)  # resident again, but for what is archived
        with psycopg.connect(postgres_url) as conn:
            conn.execute("UPDATE tiered_threads SET last_write_at = last_write_at - interval '2 hours'")
        wait_until(lambda: sum(segments(postgres_url)) == 6)
        wait_until(lambda: not due_to_be_archived(postgres_url))
        assert steps(saver) == [7, 6, 5, 4, 3, 2, 1]
        saver.unarchive(THREAD)
        chain(saver, 8, 8)
        saver.flush()
        assert segments(postgres_url) == []  # it is not idle any more


def test_thread_that_cannot_be_archived_keeps_no_other_from_it(
    redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(promoter, "SWEEP_S", 0.05)
    with TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion(checkpoints=1), promoter="external") as one:
        for name in ("a", "b", "c"):
            put(one, 1, thread_id=name)
            put(one, 2, checkpoint_id(1), thread_id=name)
        one.flush()
    with psycopg.connect(postgres_url) as conn:
        conn.execute("UPDATE checkpoints SET metadata = '[1]' WHERE thread_id = 'a'")
        conn.execute("""UPDATE checkpoints SET checkpoint = '{"channel_versions": 7}' WHERE thread_id = 'a'""")
    archive = Archive(idle=timedelta(0), checkpoints=None)
    with TieredSaver.from_urls(redis_url, postgres_url, archive=archive) as saver:
        wait_until(lambda: segments(postgres_url, "b") == segments(postgres_url, "c") == [1])
        assert segments(postgres_url, "a") == []
        saver.delete_thread("a")
    assert "thread 'a' could not be archived, nothing is lost" in caplog.text
