"""Many tasks, OS threads, processes and event loops on one memory; calls that are cancelled; fork after use."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from faults.ledger import Caller, Ledger
from faults.outages import MakeSaver
from faults.writers import QUICK, converse, metadata, versions
from homes import at, make_checkpoint, put, values_of
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.postgres import PostgresSaver

from langgraph_tiered_checkpoint import Promotion, TieredSaver


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
    saver = TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion(checkpoints=3), flush_interval=QUICK)

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
    written = [id_ for _ in workers for id_ in results.get(timeout=60)]
    for worker in workers:
        worker.join(30)
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


Operation = Callable[[TieredSaver, Checkpoint], Any]
OPERATIONS: dict[str, Operation] = {
    "put": lambda saver, made: saver.aput(at("t"), made, metadata(9), made["channel_versions"]),
    "put_writes": lambda saver, _: saver.aput_writes(at("t", checkpoint_id="x"), [("n", 1), ("n", 2)], "task"),
    "get_tuple": lambda saver, _: saver.aget_tuple(at("t")),
    "flush": lambda saver, _: saver.aflush("t"),
    "evict": lambda saver, _: saver.aevict("t"),
    "prune": lambda saver, _: saver.aprune(["t"]),
    "delete": lambda saver, _: saver.adelete_thread("t"),
    "copy": lambda saver, _: saver.acopy_thread("t", "copy"),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled_operation_has_happened_or_has_not(
    make_saver: MakeSaver, redis_url: str, redis_client: redis.Redis, postgres_url: str, name: str
) -> None:
    """Cancelled after each number of turns of the loop, and afterwards the thread is as before or as after."""
    saver: TieredSaver = make_saver(redis_url, postgres_url, promoter="external", promotion=Promotion.never())
    for turns in (*range(12), *(int(12 * 1.3**n) for n in range(1, 40))):
        await saver.adelete_thread("t")
        await saver.adelete_thread("copy")
        first, second, third = (make_checkpoint({"n": [n]}, n) for n in (1, 2, 3))
        for made in (first, second):
            await saver.aput(at("t"), made, metadata(1), made["channel_versions"])
        await saver.apromote("t")
        task = asyncio.ensure_future(OPERATIONS[name](saver, third))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        finished = (await asyncio.gather(task, return_exceptions=True))[0].__class__ is not asyncio.CancelledError
        if name in ("prune", "copy") and not finished:
            await _release(saver, redis_client)
        ids = [one.checkpoint["id"] async for one in saver.alist(at("t"))]
        before, kept = [second["id"], first["id"]], [second["id"]]
        after = {"put": [third["id"], *before], "prune": kept, "delete": list[str]()}.get(name, before)
        assert ids in ([after] if finished else [before, after])
        if name == "copy":
            assert [one.checkpoint["id"] async for one in saver.alist(at("copy"))] in ([], before)
        if name == "delete":  # cut off, it is completed by repeating it
            await saver.adelete_thread("t")
            assert [one async for one in saver.alist(at("t"))] == []
        elif ids:
            await saver.aput(at("t"), third, metadata(9), third["channel_versions"])
            found = await saver.aget_tuple(at("t"))
            assert found is not None
            assert found.checkpoint["channel_values"] == {"n": [3]}
        if finished:
            break
    else:
        raise AssertionError("the operation never finished: the test has cancelled nothing at its end")
    await saver.aclose()


async def _release(saver: TieredSaver, client: redis.Redis) -> None:
    """Let the marker's deadline pass that a structural operation leaves when it is cut off."""
    hot = saver._store.hot
    for thread_id in ("t", "copy"):
        marker = await saver._async._perform(hot.status(thread_id))
        if marker[0] == b"marker":
            client.delete(hot.thread_key(thread_id))


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
