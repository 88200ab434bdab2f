"""`make bench`: how fast workers bring a backlog to Postgres, beside putting it there with AsyncPostgresSaver.

Only the ratios mean anything, and only on a machine that has nothing else to do: a worker, Redis and Postgres share it.
"""

from __future__ import annotations

import multiprocessing
import time
from datetime import timedelta
from multiprocessing.synchronize import Event
from typing import Any

import psycopg
import pytest
from benchmarks.peers import Chat, Superstep
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row

from langgraph_tiered_checkpoint import Promotion, TieredSaver

THREADS = 512
CHECKPOINTS = 10
MESSAGES = 20
SAMPLE = 400


def work(redis_url: str, postgres_url: str, ready: Event, go: Event, done: Event) -> None:
    """A worker process."""
    saver = TieredSaver.from_urls(redis_url, postgres_url)
    saver.stats()
    ready.set()
    go.wait()
    with saver:
        done.wait()


def backlog(saver: TieredSaver, prefix: str, *, first: bool) -> list[Superstep]:
    """Threads that Postgres lacks the whole of, or all but the first checkpoint of."""
    chats = [Chat(f"{prefix} {n}", MESSAGES) for n in range(THREADS)]
    steps = []
    for number in range(CHECKPOINTS + 1):
        for chat in chats:
            step = chat.superstep()
            saver.put(step.config, step.checkpoint, step.metadata, step.new_versions)
            steps.append(step)
        if number == 0 and not first:
            for chat in chats:
                saver.promote(chat.latest["configurable"]["thread_id"])
            steps.clear()
    if first:
        for chat in chats:
            saver._sync.run(mark_due(saver, chat.latest["configurable"]["thread_id"]))
    return steps


def mark_due(saver: TieredSaver, thread_id: str) -> Any:
    yield saver._store.hot.promote(thread_id, "benchmark", thread_id)


def drained_in(redis_url: str, postgres_url: str, saver: TieredSaver, workers: int) -> float:
    """Seconds that so many workers take for all that is due."""
    spawn = multiprocessing.get_context("spawn")
    go, done = spawn.Event(), spawn.Event()
    readies = [spawn.Event() for _ in range(workers)]
    running = [spawn.Process(target=work, args=(redis_url, postgres_url, ready, go, done)) for ready in readies]
    for process in running:
        process.start()
    for ready in readies:
        ready.wait()
    begun = time.perf_counter()
    go.set()
    while saver.stats().due_threads:
        time.sleep(0.005)
    elapsed = time.perf_counter() - begun
    done.set()
    for process in running:
        process.join()
    return elapsed


@pytest.mark.benchmark
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", [False, True], ids=["later flushes", "first copies"])
async def test_flushing(redis_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str], *, first: bool) -> None:
    rates: dict[str, float] = {}
    steps: list[Superstep] = []
    with TieredSaver.from_urls(
        redis_url,
        postgres_url,
        promoter="external",
        promotion=Promotion.never(),
        flush_interval=timedelta(milliseconds=1),
        hot_checkpoints=None,
    ) as saver:
        saver.setup()
        for workers in (1, 2):
            steps = backlog(saver, f"{workers} workers", first=first)
            rates[f"{workers} worker{'s' * (workers > 1)}"] = len(steps) / drained_in(
                redis_url, postgres_url, saver, workers
            )
    async with await psycopg.AsyncConnection.connect(
        postgres_url, autocommit=True, prepare_threshold=0, row_factory=dict_row
    ) as connection:
        official = AsyncPostgresSaver(connection)
        begun = time.perf_counter()
        for step in steps[:SAMPLE]:
            config: Any = {"configurable": {**step.config["configurable"], "thread_id": "official"}}
            await official.aput(config, step.checkpoint, step.metadata, step.new_versions)
        rates["AsyncPostgresSaver.aput"] = SAMPLE / (time.perf_counter() - begun)
    one = rates["AsyncPostgresSaver.aput"]
    with capsys.disabled():
        print(f"\n\n{THREADS} threads, {CHECKPOINTS} checkpoints of {MESSAGES} messages each")  # noqa: T201
        for name, rate in rates.items():
            print(f"{name:<24}{rate:>8.0f} checkpoints/s {rate / one:>6.1f}x")  # noqa: T201
    assert min(rates.values()) > 0
