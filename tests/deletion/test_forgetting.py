"""What was removed, or is somebody else's, is in no message and in no memory of the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from homes import at, put, values_of

from langgraph_tiered_checkpoint import ColdTierError, FlushError, TieredCheckpointError, TieredSaver

SECRET = "4711-words-that-nobody-else-is-to-read"
LONG = {"text": [SECRET] * 200}


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
        made.setup()
        yield made


def remembered(saver: TieredSaver) -> set[str]:
    """The threads of which the process keeps values."""
    return {thread for thread, _ in saver._store.known_values._values}


@pytest.mark.parametrize(
    "remove",
    [
        lambda saver: saver.delete_thread("t"),
        lambda saver: asyncio.run(saver.adelete_thread("t")),
        lambda saver: saver.prune(["t"], strategy="delete"),
        lambda saver: saver.prune(["t"]),
        lambda saver: saver.delete_for_runs(["run"]),
    ],
    ids=["delete_thread", "adelete_thread", "prune to nothing", "prune", "delete_for_runs"],
)
@pytest.mark.parametrize("tenant", ["", "tenant"])
def test_values_are_forgotten_with_what_held_them(
    saver: TieredSaver, remove: Callable[[TieredSaver], None], tenant: str
) -> None:
    own = saver.scoped(tenant) if tenant else saver
    for name in ("t", "other"):
        put(own, put(own, at(name), LONG), LONG, 2, run_id="run" if name == "t" else "another")
        values_of(own, at(name))
    assert len(remembered(saver)) == 2
    remove(own)
    assert [name[-5:] for name in remembered(saver)] == ["other"]
    own.get_tuple(at("t"))
    put(own, at("t"), LONG, 3)
    assert values_of(own, at("t")) == LONG


@pytest.mark.parametrize("close", [TieredSaver.close, lambda saver: asyncio.run(saver.aclose())])
def test_all_values_are_forgotten_when_the_saver_is_closed(
    saver: TieredSaver, close: Callable[[TieredSaver], None]
) -> None:
    put(saver, at("t"), LONG)
    assert remembered(saver) == {"t"}
    close(saver)
    assert remembered(saver) == set()
    assert values_of(saver, at("t")) == LONG


@pytest.mark.parametrize("state", ["", "23514", "42P01", "57014", "53200", "XX000", "AB123"])
def test_what_a_trigger_raises_reaches_no_message(
    saver: TieredSaver, postgres_url: str, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    """An audit's trigger puts into its words whatever it likes, under any SQLSTATE."""
    raised = f"USING ERRCODE = '{state}'" if state else ""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE 'audit of %: %', new.thread_id, encode(new.blob, 'escape') {raised}; END $$"
        )
        admin.execute("CREATE TRIGGER audited BEFORE INSERT ON checkpoint_blobs FOR EACH ROW EXECUTE FUNCTION audit()")
    with caplog.at_level(logging.DEBUG):
        told = refusal(saver)
    assert "audit()" in told, "says where it was raised"
    assert SECRET not in told + caplog.text


def test_what_a_constraint_refuses_reaches_no_message(
    saver: TieredSaver, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("ALTER TABLE checkpoints ADD CONSTRAINT unwanted CHECK (metadata ->> 'mail' IS NULL)")
    with caplog.at_level(logging.DEBUG):
        told = refusal(saver, mail=SECRET)
    assert "unwanted" in told
    assert SECRET not in told + caplog.text


def refusal(saver: TieredSaver, **metadata: Any) -> str:
    """All that is said when Postgres does not take a thread."""
    put(saver, at("t"), LONG, **metadata)
    operations: list[Callable[[], None]] = [lambda: saver.promote("t"), lambda: saver.flush("t"), saver.flush]
    said = []
    for operation in operations:
        with pytest.raises(TieredCheckpointError) as caught:
            operation()
        said.append(caught.value)
    told = saver.explain("t")
    assert told.state == "dirty"
    if isinstance(said[-1], FlushError):
        assert told.last_error
    return " ".join(map(str, [*said, told]))


def test_figures_of_a_tenant_tell_nothing_of_others(saver: TieredSaver, postgres_url: str) -> None:
    ours, theirs = saver.scoped("ours"), saver.scoped("theirs")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("ALTER TABLE checkpoints ADD CONSTRAINT no CHECK (thread_id NOT LIKE '%case%')")
    for tenant, name in ((ours, "case 1"), (theirs, "case 2"), (theirs, "harmless"), (saver, "case 3")):
        put(tenant, at(name), {"a": "b"})
        try:
            tenant.promote(name)
        except ColdTierError:
            assert name.startswith("case")
    assert (ours.stats().parked_threads, theirs.stats().parked_threads) == (("case 1",), ("case 2",))
    told = theirs.stats()
    assert (told.hot_threads, told.due_threads, told.overdue_threads) == (None, None, None)
    assert (told.oldest_due_age, told.cold_threads, told.cold_error) == (None, None, None)
    whole = saver.stats()
    assert (whole.hot_threads, len(whole.parked_threads), whole.cold_threads) == (4, 3, 1 + 3)
    for name in whole.parked_threads:
        assert saver.explain(name).last_error, "the ids can be used"
