"""Many tasks, OS threads, processes and event loops on one memory; fork after use."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver
from faults.writers import QUICK, converse, metadata, versions
from homes import at, make_checkpoint, put, values_of
from langgraph.checkpoint.postgres import PostgresSaver
from waiting import HANGS_S, wait_until

from langgraph_tiered_checkpoint import Promotion, TieredSaver, Timeouts, promoter


@pytest.fixture
def saver(make_saver: MakeSaver, redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """Promotes early, flushes often, keeps little: everything is under way while the tests write."""
    made: TieredSaver = make_saver(
        redis_url,
        postgres_url,
        promoter="embedded",
        promotion=Promotion(checkpoints=3),
        flush_interval=QUICK,
        hot_checkpoints=3,
    )
    yield made
    made.close()


async def test_two_thousand_tasks_of_one_loop(redis_url: str, postgres_url: str) -> None:
    patience = timedelta(minutes=1)  # a busy machine takes its time for all of them
    saver = TieredSaver.from_urls(
        redis_url,
        postgres_url,
        promotion=Promotion(checkpoints=3),
        flush_interval=QUICK,
        timeouts=Timeouts(hot=patience, cold=patience, busy=patience),
    )

    async def session(number: int) -> int:
        thread_id = f"t{number % 500}"
        made = versions(make_checkpoint({"n": [number]}, number + 1), number)
        await saver.aput(at(thread_id), made, metadata(1), made["channel_versions"])
        await saver.aput_writes(at(thread_id, checkpoint_id=made["id"]), [("n", number)], "task")
        found = await saver.aget_tuple(at(thread_id, checkpoint_id=made["id"]))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"n": [number]}
        return int((found.pending_writes or [])[0][2])

    assert await asyncio.gather(*map(session, range(2_000))) == list(range(2_000))
    await saver.aclose()
    await asyncio.to_thread(saver.close)


def test_sixty_four_os_threads_on_eight_conversations(saver: TieredSaver, postgres_url: str) -> None:
    """Every checkpoint and write of every writer is there, though they trim, flush and evict under each other."""

    def writer(number: int) -> list[tuple[str, str]]:
        kept = []
        thread_id = f"t{number % 8}"
        for step in range(1, 6):
            made = versions(make_checkpoint({"n": [number, step]}, step), number)
            saver.put(at(thread_id), made, metadata(step), made["channel_versions"])
            saver.put_writes(at(thread_id, checkpoint_id=made["id"]), [("n", [number, step])], "task")
            kept.append((thread_id, made["id"]))
            if step % 2:
                saver.get_tuple(at(thread_id))
        return kept

    with ThreadPoolExecutor(64) as pool:
        kept = [place for places in pool.map(writer, range(64)) for place in places]
    saver.flush()
    for thread_id in {thread_id for thread_id, _ in kept}:
        saver.promote(thread_id)
        saver.evict(thread_id)
    with PostgresSaver.from_conn_string(postgres_url) as official:
        found = {
            (f"t{number}", one.checkpoint["id"]): [value for _, _, value in one.pending_writes or ()]
            for number in range(8)
            for one in official.list(at(f"t{number}"))
        }
    assert sorted(found) == sorted(kept)
    assert all(len(writes) == 1 for writes in found.values())


def test_saver_serves_several_event_loops_and_their_threads_at_once(saver: TieredSaver) -> None:
    async def converse(loop: int) -> None:
        for step in range(1, 20):
            made = versions(make_checkpoint({"n": step}, step), loop)
            await saver.aput(at(f"t{loop}"), made, metadata(step), made["channel_versions"])
            found = await saver.aget_tuple(at(f"t{loop}"))
            assert found is not None
            assert found.checkpoint["id"] == made["id"]
            await asyncio.to_thread(saver.put_writes, found.config, [("n", step)], "task")
        await saver.aclose()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda loop: asyncio.run(converse(loop)), range(6)))


def test_eight_processes_write_to_one_thread(redis_url: str, postgres_url: str, saver: TieredSaver) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(target=converse, args=((redis_url, postgres_url), number, results)) for number in range(8)
    ]
    for worker in workers:
        worker.start()
    written = [id_ for _ in workers for id_ in results.get(timeout=HANGS_S)]
    for worker in workers:
        worker.join(HANGS_S)
        assert worker.exitcode == 0
    saver.flush()
    assert sorted(one.checkpoint["id"] for one in saver.list(at("shared"))) == sorted(written)
    latest = saver.get_tuple(at("shared"))
    assert latest is not None
    assert latest.checkpoint["id"] == max(written)


def test_saver_goes_on_in_parent_and_child_after_a_fork(saver: TieredSaver) -> None:
    config = put(saver, at("t"), {"n": 1})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            put(saver, config, {"n": 2}, 2)
            put(saver, at("of the child"), {"n": 3})
            code = 0
        finally:
            os._exit(code)
    for step in range(10):
        put(saver, at("of the parent"), {"n": step}, step + 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert values_of(saver, at("t")) == {"n": 2}
    assert values_of(saver, at("of the child")) == {"n": 3}


def test_promoter_of_a_forked_child_flushes_what_the_child_writes(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the parent has used the saver before, with a promoter of its own, and in a loop that is still there."""
    monkeypatch.setattr(promoter, "SWEEP_S", 3_600)  # a later sweep of the parent would find it, too
    loop = asyncio.new_event_loop()
    for step in range(1, 4):
        made = make_checkpoint({"n": step}, step)
        put(saver, at("of the parent"), {"n": step}, step)
        loop.run_until_complete(saver.aput(at("of the loop"), made, metadata(step), made["channel_versions"]))
    wait_until(lambda: saver.explain("of the parent").state == "clean", "the parent's promoter")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for step in range(1, 4):
                put(saver, at("of the child"), {"n": step}, step)
            wait_until(lambda: saver.explain("of the child").state == "clean", "the child's promoter")
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert saver.explain("of the child").cold_checkpoints == 3
    put(saver, at("of the parent"), {"n": 4}, 4)
    wait_until(lambda: saver.explain("of the parent").state == "clean", "the parent's promoter")
    loop.run_until_complete(saver.aclose())
    loop.close()


def test_forked_child_that_enters_the_saver_flushes_what_others_left(
    saver: TieredSaver, make_saver: MakeSaver, redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a pre-fork server, though the parent has a promoter, and a thread of it was just telling it something."""
    monkeypatch.setattr(promoter, "SWEEP_S", 3_600)
    for step in range(1, 4):
        put(saver, at("of the parent"), {"n": step}, step)
    wait_until(lambda: saver.explain("of the parent").state == "clean", "the parent's promoter")
    other: TieredSaver = make_saver(redis_url, postgres_url, promoter="external", promotion=Promotion(checkpoints=1))
    put(other, at("left"), {"n": 1})
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with saver._promoter._lock:
            held.set()
            forked.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            monkeypatch.setattr(promoter, "SWEEP_S", 0.1)
            with saver:
                wait_until(lambda: saver.explain("left").state == "clean", "the child's promoter")
            code = 0
        finally:
            os._exit(code)
    forked.set()
    holder.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert saver.explain("left").state == "clean"


@pytest.mark.parametrize("savers", [1, 2])
def test_two_os_threads_that_write_to_one_thread_at_once_keep_all_values(
    saver: TieredSaver, make_saver: MakeSaver, redis_url: str, postgres_url: str, savers: int
) -> None:
    other = saver if savers == 1 else make_saver(redis_url, postgres_url)
    ledgers = [Ledger(Caller(one, None), "t", name) for one, name in ((saver, "a"), (other, "b"))]
    ledgers[0].put("the root")
    ledgers[1].head = ledgers[0].head
    together = threading.Barrier(2)

    def write(ledger: Ledger) -> None:
        for number in range(20):
            together.wait(HANGS_S)
            ledger.put([ledger.writer, number])
            ledger.put_writes(f"task of {ledger.writer}", [ledger.writer, number], "second")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ledgers))
    ledgers[0].take_over(ledgers[1])
    ledgers[0].settle(postgres_url)


def test_two_writers_on_one_thread_keep_both_branches(
    saver: TieredSaver, make_saver: MakeSaver, redis_url: str, postgres_url: str
) -> None:
    other: TieredSaver = make_saver(redis_url, postgres_url, promoter="external")
    root = put(saver, at("t"), {"n": 0})
    ledgers = [Ledger(Caller(one, None), "t") for one in (saver, other)]
    order = [0, 1] * 10
    random.Random(7).shuffle(order)
    for ledger in ledgers:
        ledger.head = root["configurable"]["checkpoint_id"]
    for index in order:
        ledgers[index].put(index)
    saver.flush()
    listed = {one.checkpoint["id"]: one for one in saver.list(at("t"))}
    assert set(listed) == {root["configurable"]["checkpoint_id"], *ledgers[0].made, *ledgers[1].made}
    for ledger in ledgers:
        for id_, parent in ledger.parents.items():
            assert (listed[id_].parent_config or {})["configurable"]["checkpoint_id"] == parent
