"""Who comes late, with what it knew before: a write, a fill, a first copy or an acknowledgement does no harm."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis
from homes import at, make_checkpoint, put
from langgraph.checkpoint.base import Checkpoint
from stepping import Stepped, lease_of, reply_to

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import ThreadDeletedError
from langgraph_tiered_checkpoint.hot.flushing import Verdict
from langgraph_tiered_checkpoint.plans import flushing, reading, reshaping
from langgraph_tiered_checkpoint.steps import Plan


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", promotion=Promotion.never(), hot_checkpoints=1
    ) as made:
        yield made


def promoted(saver: TieredSaver) -> Any:
    """A thread with one checkpoint, in both tiers."""
    stored = put(saver, at("t"), {"a": 1})
    saver.promote("t")
    return stored


def put_plan(saver: TieredSaver, config: Any, made: Checkpoint) -> Plan[Any]:
    return saver._requests.put(config, made, {"source": "loop", "step": 1, "parents": {}}, made["channel_versions"])


def put_made(saver: TieredSaver, config: Any, made: Checkpoint) -> Any:
    return saver._sync.run(put_plan(saver, config, made))


def values_in_order(saver: TieredSaver) -> list[Any]:
    return [found.checkpoint["channel_values"]["a"] for found in saver.list(at("t"))]


def writes_of(saver: TieredSaver, config: Any) -> set[Any]:
    found = saver.get_tuple(config)
    assert found is not None
    return {value for _, _, value in found.pending_writes or ()}


# --- writes


def test_write_waits_while_a_prune_is_at_work_in_postgres(saver: TieredSaver) -> None:
    stored = put(saver, promoted(saver), {"a": 2}, 2)
    prune = Stepped(saver, reshaping.prune(saver._store, "t")).stop_before("evict").stop_before("drop")
    write = Stepped(saver, put_plan(saver, stored, make_checkpoint({"a": 3}, 3))).stop_before("pause")
    prune.finish()
    write.finish()
    saver.flush("t")
    saver.evict("t")
    assert values_in_order(saver) == [3, 2]


@pytest.mark.parametrize("cold", [True, False], ids=["both tiers", "hot tier only"])
def test_write_waits_while_a_copy_is_made_of_its_thread_id(
    redis_url: str,
    postgres_url: str,
    cold: bool,  # noqa: FBT001
) -> None:
    with TieredSaver.from_urls(
        redis_url, postgres_url if cold else None, promoter="external", promotion=Promotion.never()
    ) as saver:
        put(saver, at("source"), {"a": 1})
        copy = Stepped(saver, saver._requests.copy_thread("source", "t")).stop_before("land")
        write = Stepped(saver, put_plan(saver, at("t"), make_checkpoint({"a": 2}, 2))).stop_before("pause")
        copy.finish()
        write.finish()
        assert values_in_order(saver) == [2, 1]


@pytest.mark.parametrize("cold", [True, False], ids=["both tiers", "hot tier only"])
def test_write_of_a_run_whose_thread_has_expired_is_refused_though_it_is_known_to_be_nowhere(
    redis_url: str,
    postgres_url: str,
    redis_client: redis.Redis,
    cold: bool,  # noqa: FBT001
) -> None:
    with TieredSaver.from_urls(
        redis_url, postgres_url if cold else None, promoter="external", promotion=Promotion.never()
    ) as saver:
        stored = put(saver, at("t"), {"a": 1})
        assert saver.get_tuple(at("t")) is not None
        redis_client.delete(saver._store.hot.thread_key("t"))  # the end of its TTL
        assert contextvars.Context().run(saver.get_tuple, at("t")) is None
        with pytest.raises(ThreadDeletedError):
            put(saver, stored, {"a": 2}, 2)
        assert saver.explain("t").state == "absent"


def test_second_write_of_a_run_whose_incarnation_was_deleted_does_not_join_the_next_one(saver: TieredSaver) -> None:
    """A delete that was under way took the run's life along. Both writes had been sent before either was answered."""
    put(saver, at("t"), {"a": 1})
    saver._sync._perform(saver._store.hot.promote("t", reason="test", op="op"))
    delete = Stepped(saver, reshaping.delete(saver._store, "t")).take(1).stop_before("adopt")
    run = contextvars.Context()
    assert run.run(saver.get_tuple, at("t")) is None
    made = make_checkpoint({"a": 2}, 2)
    writes = saver._requests.put_writes(at("t", "", made["id"]), [("a", "late")], "task", "")
    late = run.run(Stepped, saver, writes)
    run.run(put_made, saver, at("t"), made)
    saver.promote("t")
    delete.finish()
    assert saver.explain("t").state == "absent"
    afresh = contextvars.Context()
    assert afresh.run(saver.get_tuple, at("t")) is None
    afresh.run(put, saver, at("t"), {"a": 3}, 3)
    with pytest.raises(ThreadDeletedError):
        run.run(late.finish)
    assert values_in_order(saver) == [3]


@pytest.mark.parametrize("late", ["put", "put_writes"])
def test_write_of_a_run_whose_thread_was_deleted_and_restored_is_refused(saver: TieredSaver, late: str) -> None:
    """What it writes on top of is there again, and it is the head."""
    stored = put(saver, at("t"), {"a": 1})
    before = list(saver.list(at("t")))
    run = contextvars.Context()
    run.run(saver.get_tuple, at("t"))
    other = contextvars.Context()
    other.run(saver.delete_thread, "t")
    other.run(saver.restore, "t", before)
    args: Any = (put, saver, stored, {"a": 2}, 2)
    if late == "put_writes":
        args = (saver.put_writes, stored, [("a", "late")], "task")
    with pytest.raises(ThreadDeletedError):
        run.run(*args)
    assert values_in_order(saver) == [1]
    assert not writes_of(saver, stored)


# --- fills


def test_reader_that_asked_postgres_before_a_later_flush_does_not_hide_what_that_has_trimmed(
    saver: TieredSaver,
) -> None:
    stored = promoted(saver)
    saver.evict("t")
    saver.put_writes(stored, [("a", "early")], "task")  # the thread is there again, without its checkpoint
    read = Stepped(saver, reading.get(saver._store, "t", "", "")).stop_before("fill")
    second = put(saver, stored, {"a": 2}, 2)
    put(saver, second, {"a": 3}, 3)
    saver.flush("t")
    read.take(1)
    assert values_in_order(saver) == [3, 2, 1]
    assert saver.get_tuple(second) is not None


def test_reader_does_not_vouch_for_a_checkpoint_from_a_slow_clock_that_came_after_it_asked_postgres(
    saver: TieredSaver,
) -> None:
    """The pending writes of that one are in Postgres, and older than those that the reader asked for."""
    slow, first, second, last = (make_checkpoint({"a": n}, n) for n in range(4))
    stored = put_made(saver, at("t"), first)
    saver.promote("t")
    saver.put_writes(at("t", "", slow["id"]), [("b", "early")], "task")
    saver.flush("t")
    saver.evict("t")
    put_made(saver, stored, second)
    read = Stepped(saver, reading.get(saver._store, "t", "", "")).stop_before("fill")
    behind = put_made(saver, stored, slow)
    read.take(1)
    head = put_made(saver, behind, last)
    found = saver.get_delta_channel_history(config=head, channels=["b"])
    assert [value for _, _, value in found["b"]["writes"]] == ["early"]


def test_reader_does_not_fill_under_the_token_of_another(saver: TieredSaver) -> None:
    stored = promoted(saver)
    saver.evict("t")
    late = Stepped(saver, reading.get(saver._store, "t", "", "")).stop_before("fill")
    saver.evict("t")
    put(saver, stored, {"a": 2}, 2)
    saver.evict("t")
    read = Stepped(saver, reading.get(saver._store, "t", "", "")).stop_before("fill")
    late.finish()
    assert saver.explain("t").tier == "cold"
    read.finish()
    assert saver.explain("t").tier == "both"
    assert values_in_order(saver) == [2, 1]


# --- prunes and evictions


def test_prune_does_not_leave_in_postgres_what_it_takes_from_a_thread_that_is_just_promoted(saver: TieredSaver) -> None:
    put(saver, put(saver, at("t"), {"a": 1}), {"a": 2}, 2)
    prune = Stepped(saver, reshaping.prune(saver._store, "t")).stop_before("drop")
    saver._sync._perform(saver._store.hot.promote("t", reason="test", op="op"))
    saver.flush("t")
    prune.finish()
    saver.evict("t")
    assert values_in_order(saver) == [2]


def test_prune_leaves_the_only_checkpoint_of_a_redis_that_has_gone_back_in_time(
    saver: TieredSaver, redis_client: redis.Redis
) -> None:
    key = saver._store.hot.thread_key("t")
    stored = put(saver, at("t"), {"a": 1})
    before = cast("bytes", redis_client.dump(key))
    put(saver, stored, {"a": 2}, 2)
    prune = Stepped(saver, reshaping.prune(saver._store, "t")).stop_before("drop")
    redis_client.restore(key, 3_600_000, before, replace=True)
    prune.finish()
    assert values_in_order(saver) == [1]


def test_reader_fills_nothing_while_a_delete_is_on_its_way_to_postgres(saver: TieredSaver) -> None:
    promoted(saver)
    delete = Stepped(saver, reshaping.delete(saver._store, "t")).take(1)
    read = Stepped(saver, reading.get(saver._store, "t", "", "")).stop_before("fill")
    read.take(1)
    assert saver._sync._perform(saver._store.hot.lease("t"))[0] == b"absent"
    delete.finish()
    assert saver.explain("t").state == "absent"


def test_eviction_leaves_a_thread_that_was_written_since_its_flush(saver: TieredSaver) -> None:
    stored = promoted(saver)
    evict = Stepped(saver, reshaping.evict(saver._store, "t")).stop_before("evict")
    put(saver, stored, {"a": 2}, 2)
    evict.finish()
    assert values_in_order(saver) == [2, 1]


# --- first copies


@pytest.mark.parametrize("before", ["scan", "changes"])
def test_first_copy_commits_nothing_once_another_worker_has_flushed(saver: TieredSaver, before: str) -> None:
    put(saver, at("t"), {"a": 1})
    saver._sync._perform(saver._store.hot.promote("t", reason="test", op="op"))
    late = Stepped(saver, flushing.flush(saver._store, "t")).stop_before(before)
    saver.flush()
    with pytest.raises(AssertionError, match="ended before commit"):
        late.stop_before("commit")
    assert late.done
    assert saver.explain("t").state == "clean"


# --- acknowledgements


def test_acknowledgement_of_a_change_that_redis_has_lost_is_not_taken_for_one_of_the_same_number(
    saver: TieredSaver, redis_client: redis.Redis
) -> None:
    key = saver._store.hot.thread_key("t")
    first = promoted(saver)
    before = cast("bytes", redis_client.dump(key))
    put(saver, first, {"a": 2}, 2)
    flush = Stepped(saver, flushing.flush(saver._store, "t")).stop_before("ack")
    redis_client.restore(key, 0, before, replace=True)
    put(saver, first, {"a": 3}, 3)
    flush.take(1)
    saver.flush("t")
    saver.evict("t")
    assert values_in_order(saver) == [3, 2, 1]


def test_acknowledgement_is_not_taken_for_another_one_of_the_same_number(saver: TieredSaver) -> None:
    """As when Redis has gone back in time, and others have flushed since."""
    promoted(saver)
    hot = saver._store.hot
    before = lease_of(saver, "t")
    through = f"{before.flushed_number}.another"
    acknowledged = reply_to(saver, hot.ack("t", incarnation=before.incarnation, through=through))
    assert acknowledged.verdict is Verdict.DIVERGED
    assert lease_of(saver, "t") == before


def test_late_writes_stay_while_a_newer_change_names_their_checkpoint(saver: TieredSaver) -> None:
    stored = promoted(saver)
    saver.evict("t")
    saver.put_writes(stored, [("a", "first")], "task")  # the checkpoint is not here
    flush = Stepped(saver, flushing.flush(saver._store, "t")).stop_before("ack")
    saver.put_writes(stored, [("a", "second")], "another task")
    flush.take(1)
    assert saver.explain("t").state == "dirty"
    assert writes_of(saver, stored) == {"first", "second"}
    saver.flush("t")
    saver.evict("t")
    assert writes_of(saver, stored) == {"first", "second"}
