"""What happens between two steps of an operation: a delete, a lapse or a trim at the worst moment loses nothing."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import pytest
import redis
from homes import at, make_checkpoint, put, values_of
from langgraph.checkpoint.base import Checkpoint
from layout import with_run
from stepping import Stepped, lease_of, reply_to

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import FlushError, ThreadDeletedError
from langgraph_tiered_checkpoint.hot.replies import State
from langgraph_tiered_checkpoint.plans import flushing, reading, reshaping
from langgraph_tiered_checkpoint.plans.promoting import flush_due
from langgraph_tiered_checkpoint.steps import Plan


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", promotion=Promotion.never(), hot_checkpoints=1
    ) as made:
        yield made


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as made:
        yield made


def checkpoint(n: int) -> Checkpoint:
    return make_checkpoint({"a": [n]}, n)


def store(saver: TieredSaver, config: Any, made: Checkpoint, **metadata: Any) -> Any:
    given: Any = {"source": "loop", "step": 1, "parents": {}, **metadata}
    return saver.put(config, made, given, made["channel_versions"])


def promoted(saver: TieredSaver, thread_id: str = "t", **first: Any) -> Any:
    """A thread with one checkpoint, in both tiers."""
    config = store(saver, at(thread_id), checkpoint(1), **first)
    saver.promote(thread_id)
    return config


# --- evict


def test_reader_that_fills_after_an_eviction_fills_nothing(saver: TieredSaver) -> None:
    """Another saver may write to Postgres by then, which a hot copy would not know."""
    promoted(saver)
    saver.evict("t")
    read = Stepped(saver, reading.get(saver._store, "t", "", "")).stop_before("fill")
    saver.evict("t")
    read.finish()
    assert saver.explain("t").tier == "cold"


def test_writer_that_an_eviction_overtakes_asks_postgres_again(saver: TieredSaver) -> None:
    config = promoted(saver)
    saver.evict("t")
    made = make_checkpoint({"a": 2}, 2)
    write = Stepped(saver, saver._requests.put(config, made, {"step": 2}, made["channel_versions"])).stop_before(
        "adopt"
    )
    saver.evict("t")
    write.finish()
    assert values_of(saver, at("t")) == {"a": 2}


# --- delete


def test_reader_that_fills_after_a_delete_brings_nothing_back(saver: TieredSaver) -> None:
    promoted(saver)
    saver.evict("t")
    delete = Stepped(saver, reshaping.delete(saver._store, "t")).stop_before("delete", 2)
    read = Stepped(saver, reading.get(saver._store, "t", "", "")).stop_before("fill")
    delete.finish()
    read.finish()
    assert saver.get_tuple(at("t")) is None
    assert saver.explain("t").state == "absent"


@pytest.mark.parametrize("has_read", [False, True], ids=["fresh run", "run of before"])
def test_writer_that_found_the_thread_in_postgres_before_a_delete(saver: TieredSaver, has_read: bool) -> None:  # noqa: FBT001
    config = promoted(saver)
    context = contextvars.Context()
    if has_read:
        context.run(saver.get_tuple, at("t"))
    saver.evict("t")
    delete = Stepped(saver, reshaping.delete(saver._store, "t")).stop_before("delete", 2)

    def write() -> Stepped:
        made = checkpoint(2)
        metadata: Any = {"source": "loop", "step": 2, "parents": {}}
        parent = config if has_read else at("t")
        return Stepped(saver, saver._requests.put(parent, made, metadata, made["channel_versions"]))

    late = context.run(write)
    context.run(late.stop_before, "put", 2)
    delete.finish()
    if has_read:
        with pytest.raises(ThreadDeletedError):
            context.run(late.finish)
        assert saver.explain("t").state == "absent"
    else:
        context.run(late.finish)
        assert saver.explain("t").hot_checkpoints == 1
        saver.promote("t")
    assert len(list(saver.list(at("t")))) == (0 if has_read else 1)


def test_run_that_found_no_thread_does_not_create_it_after_a_delete(saver: TieredSaver) -> None:
    """`durability="exit"`: the run's only write comes at its end."""
    run = contextvars.Context()
    assert run.run(saver.get_tuple, at("t")) is None
    saver.delete_thread("t")
    with pytest.raises(ThreadDeletedError):
        run.run(put, saver, at("t"), {"a": 1})
    afresh = contextvars.Context()
    assert afresh.run(saver.get_tuple, at("t")) is None
    afresh.run(put, saver, at("t"), {"a": 2})
    assert [t.checkpoint["channel_values"] for t in saver.list(at("t"))] == [{"a": 2}]


@pytest.mark.parametrize("reads", [True, False], ids=["run", "bare write"])
def test_claim_of_a_worker_that_died_while_the_thread_was_deleted_is_in_nobodys_way(
    saver: TieredSaver,
    reads: bool,  # noqa: FBT001
) -> None:
    """It holds nothing of the thread, and the thread's next life is promoted over it."""
    store(saver, at("t"), checkpoint(1))
    saver._sync.run(iter_promote(saver))
    flush = Stepped(saver, flushing.flush(saver._store, "t")).stop_before("claim")
    saver.delete_thread("t")
    flush.take(1)
    assert saver.explain("t").state == "absent"
    run = contextvars.Context()
    if reads:
        assert run.run(saver.get_tuple, at("t")) is None
    afresh = checkpoint(2)
    run.run(store, saver, at("t"), afresh)
    saver.promote("t")
    saver.evict("t")
    assert [t.checkpoint["id"] for t in saver.list(at("t"))] == [afresh["id"]]


@pytest.mark.parametrize("first", ["alone", "in a batch"])
@pytest.mark.parametrize("then", ["alone", "in a batch"])
def test_first_copy_of_a_deleted_thread_is_not_committed_behind_a_later_claim(
    saver: TieredSaver, first: str, then: str
) -> None:
    def flush(how: str) -> Stepped:
        plan: Plan[Any] = flushing.flush(saver._store, "t") if how == "alone" else flush_due(saver._store, ["t"])
        return Stepped(saver, plan)

    store(saver, at("t"), checkpoint(1))
    saver._sync.run(iter_promote(saver))
    stalled = flush(first).stop_before("commit")
    late = flush(then).stop_before("claim")
    saver.delete_thread("t")
    late.take(1)
    stalled.finish()
    late.finish()
    assert saver.explain("t").state == "absent"
    assert list(saver.list(at("t"))) == []


def test_delete_of_an_incarnation_that_is_repeated_says_what_the_first_one_did(saver: TieredSaver) -> None:
    """Or a delete whose connection was cut would not look once more for what a worker has flushed meanwhile."""
    promoted(saver)
    incarnation = saver.explain("t").incarnation
    assert incarnation
    bury = saver._store.hot.bury("t", op="op", incarnations=(incarnation,))
    assert [reply_to(saver, bury).was_here for _ in range(2)] == [True, True]
    again = saver._store.hot.bury("t", op="another op", incarnations=(incarnation,))
    assert not reply_to(saver, again).was_here
    saver.delete_thread("t")


def test_first_copy_does_not_take_what_a_reader_has_filled_in_before_a_delete(
    saver: TieredSaver, client: redis.Redis
) -> None:
    """A worker that had begun when Postgres did not have the thread yet."""
    store(saver, at("t"), checkpoint(1))
    saver._sync._perform(saver._store.hot.promote("t", reason="test", op="op"))
    late = Stepped(saver, flushing.flush(saver._store, "t")).stop_before("claim")
    saver.flush()
    client.delete(saver._store.hot.thread_key("t"))  # the end of its TTL
    delete = Stepped(saver, reshaping.delete(saver._store, "t")).stop_before("delete", 3)
    read = Stepped(saver, reading.get(saver._store, "t", "", "")).stop_before("fill")
    delete.take(1)
    late.stop_before("scan")
    read.finish()
    late.finish()
    delete.finish()
    assert saver.explain("t").state == "absent"


@pytest.mark.parametrize("reads", [True, False], ids=["run", "bare write"])
def test_first_copy_is_not_committed_behind_a_new_incarnation_after_half_a_delete(
    saver: TieredSaver,
    reads: bool,  # noqa: FBT001
) -> None:
    """Or the delete, when it is repeated, would look for the new life alone."""
    store(saver, at("t"), checkpoint(1))
    saver._sync.run(iter_promote(saver))
    stalled = Stepped(saver, flushing.flush(saver._store, "t")).stop_before("commit")
    Stepped(saver, reshaping.delete(saver._store, "t")).take(1)
    run = contextvars.Context()
    if reads:
        assert run.run(saver.get_tuple, at("t")) is None
    run.run(store, saver, at("t"), checkpoint(2))
    stalled.finish()
    assert len(list(saver.list(at("t")))) == 1
    saver.delete_thread("t")
    assert saver.explain("t").state == "absent"


@pytest.mark.parametrize("repeated", [False, True], ids=["once", "sent again"])
@pytest.mark.parametrize("begins_before", ["adopt", "delete"])
def test_life_that_begins_under_a_delete_is_taken_along_or_spared_but_not_in_part(
    saver: TieredSaver,
    begins_before: str,
    repeated: bool,  # noqa: FBT001
) -> None:
    """It is promoted and flushed at once, and the connection of the delete may be cut."""
    store(saver, at("t"), checkpoint(1))
    saver._sync._perform(saver._store.hot.promote("t", reason="test", op="op"))
    delete = Stepped(saver, reshaping.delete(saver._store, "t")).take(1).stop_before(begins_before)
    run = contextvars.Context()
    assert run.run(saver.get_tuple, at("t")) is None
    config = run.run(promoted, saver)
    delete.stop_before("delete")
    if repeated:
        delete.repeat()
    delete.finish()
    saver.flush()
    if begins_before == "adopt":
        assert saver.explain("t").state == "absent"
        with pytest.raises(ThreadDeletedError):
            run.run(store, saver, config, checkpoint(2))
    else:
        run.run(store, saver, config, checkpoint(2))
        saver.evict("t")
        assert len(list(saver.list(at("t")))) == 2


def test_life_that_is_taken_along_is_not_flushed_any_more(saver: TieredSaver, client: redis.Redis) -> None:
    """One worker has committed it before it is deleted, another finds it due, and its hot copy lapses."""
    delete = Stepped(saver, reshaping.delete(saver._store, "t")).stop_before("adopt")
    assert saver.get_tuple(at("t")) is None
    store(saver, at("t"), checkpoint(1))
    saver._sync._perform(saver._store.hot.promote("t", reason="test", op="op"))
    flush = Stepped(saver, flushing.flush(saver._store, "t")).stop_before("ack")
    delete.stop_before("delete", 2).take(1)
    late = Stepped(saver, flushing.flush(saver._store, "t")).take(4)
    flush.finish()
    client.delete(saver._store.hot.thread_key("t"))
    delete.finish()
    late.finish()
    assert saver.get_tuple(at("t")) is None


# --- writes that come before their checkpoint


EARLY = [("a", "precious"), ("__interrupt__", "please answer")]


@pytest.mark.parametrize("reader", ["latest", "by id", "list", "list of all namespaces"])
@pytest.mark.parametrize("between", ["evicted", "lapsed and read", "pruned"])
def test_early_writes_find_their_checkpoint_after_the_hot_copy_is_gone(
    saver: TieredSaver, redis_url: str, between: str, reader: str
) -> None:
    config = promoted(saver)
    made = checkpoint(2)
    saver.put_writes(at("t", "", made["id"]), EARLY, "task")
    saver.flush("t")
    match between:
        case "evicted":
            saver.evict("t")
        case "pruned":
            saver.prune(["t"])
        case _:
            with redis.Redis.from_url(redis_url) as client:
                client.delete(saver._store.hot.thread_key("t"))
            saver.get_tuple(at("t"))
    stored = store(saver, config, made)
    match reader:
        case "latest":
            found = saver.get_tuple(at("t"))
        case "by id":
            found = saver.get_tuple(stored)
        case "list":
            found = next(iter(saver.list(at("t"))))
        case _:
            found = next(iter(saver.list({"configurable": {"thread_id": "t"}})))
    assert found is not None
    assert {value for _, _, value in found.pending_writes or ()} == {"precious", "please answer"}
    saver.flush("t")
    latest = saver.get_tuple(at("t"))
    assert latest is not None
    assert len(latest.pending_writes or ()) == 2


def test_early_writes_are_found_although_a_later_checkpoint_is_the_latest(redis_url: str, postgres_url: str) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", hot_checkpoints=None) as saver:
        config = promoted(saver)
        saver.evict("t")
        made, later = checkpoint(2), checkpoint(3)
        saver.put_writes(at("t", "", made["id"]), EARLY, "task")
        saver.flush("t")
        stored = store(saver, config, made)
        store(saver, stored, later)
        saver.flush("t")
        latest = saver.get_tuple(at("t"))
        assert latest is not None
        assert latest.checkpoint["id"] == later["id"]
        found = saver.get_tuple(stored)
        assert found is not None
        assert {value for _, _, value in found.pending_writes or ()} == {"precious", "please answer"}


def test_namespace_of_a_call_stays_while_it_holds_early_writes(saver: TieredSaver) -> None:
    config = store(saver, at("t"), checkpoint(1))
    root = config["configurable"]["checkpoint_id"]
    ns = "sub:task"
    sub = store(saver, at("t", ns), checkpoint(1), parents={"": root})
    for n in range(2, 5):
        config = store(saver, config, checkpoint(n))
    saver._sync.run(iter_promote(saver))
    flush = Stepped(saver, flushing.flush(saver._store, "t")).stop_before("ack")
    made = checkpoint(2)
    saver.put_writes(at("t", ns, made["id"]), [("a", "precious")], "task")
    flush.finish()
    stored = store(saver, sub, made, parents={"": root})
    saver.flush("t")
    found = saver.get_tuple(stored)
    assert found is not None
    assert [value for _, _, value in found.pending_writes or ()] == ["precious"]
    assert saver.explain("t").state == "clean"


def iter_promote(saver: TieredSaver) -> Any:
    """Make the thread due, and leave the flush to the caller."""
    yield from saver._store.hot.promote("t", reason="test", op="op")


# --- trimming


def test_subgraph_of_a_kept_root_checkpoint_is_found_after_its_own_were_trimmed(saver: TieredSaver) -> None:
    """The horizon counts the roots of trimmed calls too: a kept root may have been older than a trimmed call."""
    counters = {"counters_since_delta_snapshot": {"d": [1, 5]}}
    config = store(saver, at("t"), checkpoint(1))
    root = config["configurable"]["checkpoint_id"]
    store(saver, at("t", "sub:task"), checkpoint(1), parents={"": root})
    for n in range(2, 5):
        config = store(saver, config, checkpoint(n), **counters)
    query: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "sub:task", "checkpoint_map": {"": root}}}
    assert saver.get_tuple(query) is not None
    saver.promote("t")
    assert saver.get_tuple(query) is not None


def test_parents_that_a_delta_channel_needs_outlive_a_trim(saver: TieredSaver) -> None:
    """Redis answers alone, as it did before."""
    config = at("t")
    for n in range(1, 6):
        config = store(saver, config, checkpoint(n), counters_since_delta_snapshot={"a": [1, 1]})
    saver.promote("t")
    assert saver.explain("t").hot_checkpoints == 2
    walk = reading.delta_history(saver._store, "t", "", config["configurable"]["checkpoint_id"], ["a"])
    assert Stepped(saver, walk).take(1).done


def test_writes_that_came_before_their_checkpoint_outlive_the_trim_of_its_namespace(saver: TieredSaver) -> None:
    """A subgraph's namespace without a checkpoint left here vouches for nothing, so Postgres is asked for the rest."""
    config = store(saver, at("t", "sub:task"), checkpoint(1))
    for n in (1, 2):
        store(saver, at("t"), checkpoint(n))
    for n, upload in ((2, saver.promote), (3, saver.flush)):
        made = checkpoint(n)
        saver.put_writes(at("t", "sub:task", made["id"]), [("a", n)], "task")
        upload("t")
        config = store(saver, config, made)
        assert saver.get_tuple(at("t", "sub:task")).pending_writes == [("task", "a", n)]  # type: ignore[union-attr]


@pytest.mark.parametrize("reader", ["by id", "list", "list of all namespaces"])
def test_early_writes_of_a_checkpoint_from_a_slow_clock_are_found(saver: TieredSaver, reader: str) -> None:
    """Its id is below all that is here, and its writes were flushed and trimmed before it came."""
    slow = checkpoint(9)
    for n in (1, 2, 3):
        store(saver, at("t"), checkpoint(n))
    saver.promote("t")
    saver.put_writes(at("t", "", slow["id"]), EARLY, "task")
    saver.flush("t")
    stored = store(saver, at("t"), slow)
    match reader:
        case "by id":
            found = saver.get_tuple(stored)
        case "list":
            found = next(one for one in saver.list(at("t")) if one.checkpoint["id"] == slow["id"])
        case _:
            everything = saver.list({"configurable": {"thread_id": "t"}})
            found = next(one for one in everything if one.checkpoint["id"] == slow["id"])
    assert found is not None
    assert {value for _, _, value in found.pending_writes or ()} == {"precious", "please answer"}


def test_checkpoint_put_again_gives_back_the_values_that_it_no_longer_uses(
    saver: TieredSaver, redis_client: redis.Redis
) -> None:
    made = checkpoint(1)
    for n in range(1, 6):
        made["channel_values"], made["channel_versions"] = {"a": [n] * 50}, {"a": f"{n:032}.5"}
        store(saver, at("t"), made)
    fields = cast("list[bytes]", redis_client.hkeys(saver._store.hot.thread_key("t")))
    assert sum(field[:1] == b"b" for field in fields) == 1


# --- many writers at once


@pytest.mark.parametrize("evicted", [True, False], ids=["evicted thread", "new thread"])
async def test_tasks_that_meet_a_thread_that_is_not_resident_all_get_through(
    saver: TieredSaver,
    evicted: bool,  # noqa: FBT001
) -> None:
    if evicted:
        promoted(saver)
        saver.evict("t")
    made = [checkpoint(n) for n in range(2, 130)]
    metadata: Any = {"source": "loop", "step": 1, "parents": {}}
    await asyncio.gather(*(saver.aput(at("t"), one, metadata, one["channel_versions"]) for one in made))
    assert {t.checkpoint["id"] async for t in saver.alist(at("t"))} >= {one["id"] for one in made}
    await saver.aclose()


def test_os_threads_that_meet_an_evicted_thread_all_get_through(saver: TieredSaver) -> None:
    config = promoted(saver)
    saver.evict("t")
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda i: saver.put_writes(config, [("a", i)], f"task {i}"), range(64)))
    found = saver.get_tuple(at("t"))
    assert found is not None
    assert {value for _, _, value in found.pending_writes or ()} == set(range(64))


# --- an older Redis, unnoticed


def goes_back(saver: TieredSaver, client: redis.Redis) -> Plan[None]:
    """A flush of a thread that Postgres has later changes of, ready to have all of it uploaded again."""
    key = saver._store.hot.thread_key("t")
    first = promoted(saver)
    before = cast("bytes", client.dump(key))
    store(saver, first, checkpoint(2))
    saver.flush()
    client.restore(key, 0, before, replace=True)
    store(saver, first, checkpoint(3))
    return flushing.flush(saver._store, "t")


def test_worker_that_comes_late_does_not_begin_an_upload_that_others_have_finished(
    saver: TieredSaver, client: redis.Redis
) -> None:
    late = Stepped(saver, goes_back(saver, client)).stop_before("rebase")
    saver.flush()
    latest = store(saver, at("t"), checkpoint(4))
    late.take(1)
    lease = lease_of(saver, "t")
    assert (lease.state, lease.rebase) == (State.DIRTY, 0)
    late.finish()
    found = [one.config["configurable"]["checkpoint_id"] for one in saver.list(at("t"))]
    assert len(found) == 4
    assert found[0] == latest["configurable"]["checkpoint_id"]


def test_thread_that_is_deleted_while_it_is_uploaded_again_is_gone(saver: TieredSaver, client: redis.Redis) -> None:
    key = saver._store.hot.thread_key("t")
    flush = Stepped(saver, goes_back(saver, client)).stop_before("rebase").take(1)
    uploading = cast("bytes", client.dump(key))
    delete = Stepped(saver, reshaping.delete(saver._store, "t")).stop_before("adopt")
    client.restore(key, 0, uploading, replace=True)  # and once more
    delete.stop_before("delete", 2)
    flush.finish()
    assert saver.get_tuple(at("t")) is None
    delete.finish()
    assert saver.explain("t").state == "absent"


def test_new_thread_is_not_dropped_for_the_claim_of_an_incarnation_that_has_ended(
    saver: TieredSaver, client: redis.Redis
) -> None:
    """A worker died before the first commit of a thread that was deleted since; then Redis was restarted."""
    store(saver, at("t"), checkpoint(1))
    cold = saver._store.need_cold("claimed", "t")
    saver._sync.run(iter(cold.claim([("t", "an incarnation that has ended", "test")], "claim")))
    key = saver._store.hot.thread_key("t")
    client.hset(key, "s", with_run(cast("bytes", client.hget(key, "s")), "before"))
    before = saver.get_tuple(at("t"))
    assert before is not None
    saver.promote("t")
    saver.evict("t")
    assert saver.get_tuple(at("t")) == before


def test_reader_that_fills_after_a_commit_fills_nothing(saver: TieredSaver, client: redis.Redis) -> None:
    """Redis lost the thread in between, and the reader had asked Postgres before the commit."""
    store(saver, promoted(saver), checkpoint(2))
    flush = Stepped(saver, flushing.flush(saver._store, "t")).stop_before("commit")
    client.delete(saver._store.hot.thread_key("t"))
    read = Stepped(saver, reading.get(saver._store, "t", "", "")).stop_before("fill")
    flush.finish()
    read.finish()
    assert [found.checkpoint["channel_values"] for found in saver.list(at("t"))] == [{"a": [2]}, {"a": [1]}]
    assert saver.explain("t").state == "cold"


# --- a damaged thread


def test_damaged_thread_does_not_keep_the_others_from_postgres(redis_url: str, postgres_url: str) -> None:
    with (
        TieredSaver.from_urls(
            redis_url, postgres_url, promotion=Promotion.never(), flush_interval=timedelta(hours=1)
        ) as saver,
        redis.Redis.from_url(redis_url) as client,
    ):
        good = [f"good {n}" for n in range(10)]
        for thread_id in (*good, "bad"):
            config = promoted(saver, thread_id)
            store(saver, config, checkpoint(2))
        key = saver._store.hot.thread_key("bad")
        client.hset(key, "m", b"\x81\xa1i\xa1i")
        with pytest.raises(FlushError, match="'bad'"):
            saver.flush()
        assert {saver.explain(thread_id).state for thread_id in good} == {"clean"}
        client.delete(key)
