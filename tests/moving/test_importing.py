"""Threads come from other savers as they were, checked by reading them back."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from homes import at, make_checkpoint, put, settle, values_of
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command
from sameness import difference
from scenarios.asking import THREADS, conversation, converse, everything
from scenarios.driving import play
from scenarios.graphs import CORPUS
from stepping import Stepped

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.moving.importing import ImportedThread
from langgraph_tiered_checkpoint.moving.incoming import incoming
from langgraph_tiered_checkpoint.moving.work import Call, Run

KINDS = ["memory", "sqlite", "postgres"]


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(
        redis_url, postgres_url, schema="ours", promoter="external", promotion=Promotion.never()
    ) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "threads.sqlite")


@contextmanager
def source_of(kind: str, path: str, postgres_url: str) -> Iterator[BaseCheckpointSaver[str]]:
    with ExitStack() as stack:
        match kind:
            case "memory":
                yield InMemorySaver()
            case "sqlite":
                yield stack.enter_context(SqliteSaver.from_conn_string(path))
            case _:
                made = stack.enter_context(PostgresSaver.from_conn_string(postgres_url))
                made.setup()
                yield made


@asynccontextmanager
async def async_source_of(kind: str, path: str, postgres_url: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    if kind == "sqlite":
        async with AsyncSqliteSaver.from_conn_string(path) as sqlite:
            yield sqlite
    else:
        async with AsyncPostgresSaver.from_conn_string(postgres_url) as postgres:
            yield postgres


@pytest.mark.parametrize("kind", KINDS)
def test_threads_come_as_they_were(saver: TieredSaver, kind: str, path: str, postgres_url: str) -> None:
    done: list[ImportedThread] = []
    with source_of(kind, path, postgres_url) as source:
        converse(source)
        assert saver.import_threads(source, dry_run=True).imported == 3
        assert list(saver.thread_ids()) == []
        report = saver.import_threads(source, on_thread=done.append)
        assert (report.imported, report.refused) == (3, ())
        assert report.checkpoints == sum(one.checkpoints for one in done) > 20
        for thread in THREADS:
            assert everything(saver, thread) == everything(source, thread)
            assert saver.explain(thread).state == "clean"
        again = saver.import_threads(source)
        assert (again.imported, again.already_there, again.checkpoints) == (0, 3, 0)
    settle(saver, "t", "evicted")
    with psycopg.connect(postgres_url) as conn:
        paths = conn.execute("SELECT DISTINCT task_path FROM ours.checkpoint_writes").fetchall()
        assert {path.partition(",")[0] for (path,) in paths} >= {"~__pregel_pull"}
    graph = conversation(saver)
    assert graph.get_state(at("t")).interrupts[0].value == "age?"
    assert graph.invoke(Command(resume="36"), at("t")) == {"asked": "age", "answered": "36", "count": 2}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_async_savers_are_read_by_their_own_methods(
    saver: TieredSaver, kind: str, path: str, postgres_url: str
) -> None:
    with source_of(kind, path, postgres_url) as source:
        await asyncio.to_thread(converse, source)
        expected = [await asyncio.to_thread(everything, source, thread) for thread in THREADS]
    async with async_source_of(kind, path, postgres_url) as source:
        report = await saver.aimport_threads(source)
        assert (report.imported, report.refused) == (3, ())
    assert [await asyncio.to_thread(everything, saver, thread) for thread in THREADS] == expected


class Plain(BaseCheckpointSaver[str]):
    """A saver of which nothing is known."""

    def __init__(self, inner: InMemorySaver) -> None:
        super().__init__(serde=inner.serde)
        self.list = inner.list  # type: ignore[method-assign]
        self.get_tuple = inner.get_tuple  # type: ignore[method-assign]


@pytest.mark.parametrize("known", [True, False])
def test_every_kind_of_graph_goes_on_as_it_would_have(saver: TieredSaver, *, known: bool) -> None:
    source: InMemorySaver = InMemorySaver()
    for scenario in CORPUS:
        play(scenario, source, scenario.name, scenario.script())
    report = saver.import_threads(source if known else Plain(source))
    assert (report.imported, report.refused) == (len(CORPUS), ())
    saver.evict("deltas")
    for scenario in CORPUS:
        assert difference(everything(saver, scenario.name), everything(source, scenario.name)) == ""
        seen = play(scenario, saver, scenario.name, scenario.sequel())
        assert difference(seen, play(scenario, source, scenario.name, scenario.sequel())) == ""


def test_import_that_was_cut_short_goes_on(saver: TieredSaver) -> None:
    source: InMemorySaver = InMemorySaver()
    converse(source)
    for before in ("put_writes", "promote"):
        Stepped(saver, _plans_of(saver, source)).stop_before(before)
        report = contextvars.Context().run(saver.import_threads, source)
        assert (report.refused, report.imported + report.already_there) == ((), 3)
        assert saver.explain("t").state == "clean"
        assert everything(saver, "t") == everything(source, "t")
        saver.delete_thread("t")


def _plans_of(saver: TieredSaver, source: InMemorySaver) -> Any:
    """The import as one plan, which holds because nobody else is asked anything in steps."""
    work = incoming(saver._requests, source, ["t"], None, promote=True, dry_run=False, asynchronous=False)
    reply = None
    while True:
        try:
            step = work.send(reply)
        except StopIteration:
            return
        match step:
            case Run(plan):
                reply = yield from plan
            case Call(function, args):
                reply = function(*args)
            case _:
                raise AssertionError(step)


def test_what_cannot_come_is_told_and_keeps_nobody_else_from_coming(saver: TieredSaver) -> None:
    source: InMemorySaver = InMemorySaver()
    for thread in ("fine", "n" * 1001, "continued here", "another"):
        put(source, at(thread), {"a": [1]})
    saver.import_threads(source, thread_ids=["continued here"])
    config = saver.get_tuple(at("continued here"))
    assert config is not None
    put(saver, config.config, {"a": [2]}, 2)
    put(saver, at("another"), {"a": [3]})
    report = saver.import_threads(source)
    told = {refused.thread_id[:14]: refused.why for refused in report.refused}
    assert report.imported == 1
    assert values_of(saver, at("fine")) == {"a": [1]}
    assert "1001 bytes" in told["n" * 14]
    assert "exists" in told["continued here"]
    assert "exists" in told["another"]
    assert values_of(saver, at("another")) == {"a": [3]}


def test_values_that_share_a_version_are_refused(saver: TieredSaver, path: str) -> None:
    with SqliteSaver.from_conn_string(path) as source:
        for value in (1, 2):
            source.put(at("t"), make_checkpoint({"a": [value]}), {"source": "loop", "step": 1, "parents": {}}, {})
        [refused] = saver.import_threads(source).refused
    assert "'a'" in refused.why
    assert "versions are not unique" in refused.why


def test_import_is_no_late_write_of_what_was_deleted(saver: TieredSaver) -> None:
    source: InMemorySaver = InMemorySaver()
    put(source, at("t"), {"a": [1]})
    saver.import_threads(source)
    contextvars.Context().run(saver.delete_thread, "t")
    assert contextvars.Context().run(saver.import_threads, source).imported == 1
    assert values_of(saver, at("t")) == {"a": [1]}


def test_what_lives_for_ever_is_not_left_to_expire(redis_url: str) -> None:
    source: InMemorySaver = InMemorySaver()
    put(source, at("t"), {"a": [1]})
    with TieredSaver.from_urls(redis_url) as hot:
        assert "promote=False" in hot.import_threads(source).refused[0].why
        assert hot.import_threads(source, promote=False).imported == 1
        assert hot.explain("t").expires_at is not None


def test_source_that_is_down_ends_the_import(saver: TieredSaver, path: str) -> None:
    with SqliteSaver.from_conn_string(path) as source:
        put(source, at("t"), {"a": [1]})
    with pytest.raises(sqlite3.ProgrammingError):
        saver.import_threads(source)


async def test_sync_source_of_an_async_import_says_so(saver: TieredSaver, path: str) -> None:
    class Other(BaseCheckpointSaver[str]):
        pass

    with pytest.raises(ConfigurationError, match="use import_threads"):
        await saver.aimport_threads(Other())
    nonsense: list[Any] = ["a string", 5]
    for source in nonsense:
        with pytest.raises(ConfigurationError, match="source"):
            saver.import_threads(source)
