"""Scripts that hold Redis up for no longer than what they were given is worth, whatever the thread holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import redis
from homes import at, make_checkpoint, put, settle
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from stepping import Stepped, lease_of
from turns import Counted, count_turns

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.steps import Lua


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        yield made


def next_script(stepped: Stepped) -> Lua[Any]:
    assert isinstance(stepped._step, Lua)
    return stepped._step


STEPS_A_CHANNEL = 40
"""Turns of the interpreter, at most, for each channel whose value changes."""


@pytest.mark.parametrize("held", ["whole", "lost"])
def test_put_of_many_differences_costs_as_many_steps_as_channels(
    saver: TieredSaver, redis_client: redis.Redis, held: str
) -> None:
    """Also where their predecessors are lost, and all has to be sent again."""

    def turns(channels: int) -> Counted:
        thread_id = f"{channels}"
        values = {f"channel {n}": "x" * 3_000 + str(n) for n in range(channels)}
        config = put(saver, at(thread_id), values)
        if held == "lost":
            saver.promote(thread_id)
            saver.evict(thread_id)
        made = make_checkpoint({name: value + "!" for name, value in values.items()}, 2)
        metadata: Any = {"source": "loop", "step": 2, "parents": {}}
        plan = saver._requests.put(config, made, metadata, made["channel_versions"])
        stepped = Stepped(saver, plan).stop_before("put")
        if held == "lost":
            stepped.take(1).stop_before("put")
        return count_turns(redis_client, next_script(stepped))

    few, many = turns(50), turns(500)
    assert few.reply[0] == many.reply[0] == (b"missing" if held == "lost" else b"ok")
    assert few.turns < 50 * STEPS_A_CHANNEL
    assert many.turns < 500 * STEPS_A_CHANNEL


def script_of(saver: TieredSaver, plan: Any, name: str) -> Lua[Any]:
    return next_script(Stepped(saver, plan).stop_before(name))


def many(count: int, first: int = 0) -> list[tuple[str, Any]]:
    return [(f"channel {n % 7}", n) for n in range(first, first + count)]


def pending(saver: TieredSaver, config: RunnableConfig) -> list[tuple[str, Any]]:
    found = saver.get_tuple(config)
    assert found is not None
    return [(channel, value) for _, channel, value in found.pending_writes or ()]


def test_many_writes_are_stored_read_and_dropped_in_few_steps(saver: TieredSaver, redis_client: redis.Redis) -> None:
    config = put(saver, at("t"), {"n": 1})
    saver.put_writes(config, many(20_000), "task")
    assert pending(saver, config) == many(20_000)
    requests = saver._requests
    for plan, name in (
        (requests.put_writes(config, many(20_000), "other", ""), "put_writes"),
        (requests.get_tuple(config), "get"),
        (requests.get_delta_channel_history(put(saver, config, {"n": 2}, 2), ["channel 1"]), "delta"),
        (requests.prune(["t"], "keep_latest"), "drop"),
    ):
        assert count_turns(redis_client, script_of(saver, plan, name)).turns < 500, name


def test_many_writes_are_filled_in_in_few_steps(saver: TieredSaver, redis_client: redis.Redis) -> None:
    config = put(saver, at("t"), {"n": 1})
    saver.put_writes(config, many(20_000), "task")
    saver.promote("t")
    saver.evict("t")
    fill = script_of(saver, saver._requests.get_tuple(at("t")), "fill")
    assert count_turns(redis_client, fill).turns < 500
    assert pending(saver, config) == many(20_000)


@pytest.mark.parametrize("home", ["ephemeral", "promoted", "evicted"])
def test_first_of_many_writes_wins_and_the_last_special_one(saver: TieredSaver, home: str) -> None:
    """However the calls overlap: each write is decided on by itself, as by the in-memory saver."""
    yardstick = InMemorySaver()
    made = make_checkpoint({"n": 1})
    metadata: Any = {"source": "loop", "step": 1, "parents": {}}
    config = at("t", checkpoint_id=made["id"])
    for each in (yardstick, saver):
        each.put(at("t"), made, metadata, made["channel_versions"])
        if each is saver and home == "promoted":
            saver.promote("t")
        for writes in (
            many(3, 500),
            [("__error__", "first"), *many(1_800)],
            many(2_600, 7),
            [("__error__", "last"), *many(40, 90_000)],
        ):
            each.put_writes(config, writes, "task")
            each.put_writes(config, many(2), "other")
    if home != "ephemeral":
        settle(saver, "t", home)
    found = yardstick.get_tuple(config)
    assert found is not None
    expected = [(channel, value) for task, channel, value in found.pending_writes or () if task == "task"]
    got = saver.get_tuple(config)
    assert got is not None
    assert sorted(map(str, [(c, v) for t, c, v in got.pending_writes or () if t == "task"])) == sorted(
        map(str, expected)
    )


def test_call_with_many_writes_that_is_repeated_stores_nothing_twice(
    saver: TieredSaver, redis_client: redis.Redis
) -> None:
    config = put(saver, at("t"), {"n": 1})
    stepped = Stepped(saver, saver._requests.put_writes(config, many(3_000), "task", ""))
    stepped.repeat()
    [key] = redis_client.scan_iter("*:t:t")
    before = redis_client.hlen(key)
    stepped.finish()
    assert redis_client.hlen(key) == before
    assert pending(saver, config) == many(3_000)


def test_page_of_a_flush_is_bounded_by_its_changes(saver: TieredSaver, redis_client: redis.Redis) -> None:
    config = put(saver, at("t"), {"n": 1})
    saver.promote("t")
    for number in range(2_300):
        saver.put_writes(config, [("a", number)], f"task {number}")
    changes = script_of(saver, saver._requests.flush("t"), "changes")
    page = count_turns(redis_client, changes)
    assert page.turns < 15_000
    assert page.reply[4] == b"1"
    saver.flush()
    saver.evict("t")
    assert len(pending(saver, config)) == 2_300


def states_of(saver: TieredSaver, thread_id: str) -> list[Any]:
    return [(found.checkpoint, found.pending_writes) for found in saver.list(at(thread_id))]


def large(saver: TieredSaver) -> RunnableConfig:
    """A thread of some 12 MB, in which no value has anything in common with another."""
    config = at("t")
    for number in range(60):
        config = put(saver, config, {"a": os.urandom(100_000).hex(), "b": [number]}, number, run_id=f"run {number}")
        saver.put_writes(config, [("a", number)], "task")
    return config


def test_copy_of_a_large_thread_goes_in_pages(saver: TieredSaver, redis_client: redis.Redis) -> None:
    large(saver)
    copying = Stepped(saver, saver._requests.copy_thread("t", "copy"))
    pages = 0
    while not copying.done:
        step = copying._step
        if isinstance(step, Lua) and step.script in ("stage", "land"):
            pages += 1
            assert sum(map(len, step.args)) < 6_000_000
            assert saver.get_tuple(at("copy")) is None
        copying.take(1)
    assert pages >= 3
    assert states_of(saver, "copy") == states_of(saver, "t")
    saver.delete_for_runs(["run 5"])
    assert len(states_of(saver, "t")) == 59
    assert len(states_of(saver, "copy")) == 60


def test_copy_of_a_large_thread_is_of_one_moment(saver: TieredSaver) -> None:
    config = large(saver)
    copying = Stepped(saver, saver._requests.copy_thread("t", "copy")).stop_before("stage", 2)
    put(saver, config, {"a": "later", "b": [99]}, 99)
    copying.stop_before("stage", 2)
    saver.prune(["t"])
    copying.finish()
    assert states_of(saver, "copy") == states_of(saver, "t")
    assert len(states_of(saver, "copy")) == 1


def test_copy_that_was_cut_off_leaves_no_thread(saver: TieredSaver, redis_client: redis.Redis) -> None:
    large(saver)
    Stepped(saver, saver._requests.copy_thread("t", "copy")).stop_before("stage", 2)
    [key] = redis_client.scan_iter("*:t:copy")
    assert redis_client.hlen(key) > 1
    left = redis_client.pttl(key)
    assert isinstance(left, int)
    assert 0 < left < 30_000
    assert "copy" not in list(saver.thread_ids())
    redis_client.pexpire(key, 0)
    saver.copy_thread("t", "copy")
    assert states_of(saver, "copy") == states_of(saver, "t")


def test_prune_of_checkpoints_with_many_values_goes_in_pages(saver: TieredSaver, redis_client: redis.Redis) -> None:
    config = at("t")
    for number in range(40):
        config = put(saver, config, {f"channel {n}": [n] for n in range(400)}, number)
    pruning = Stepped(saver, saver._requests.prune(["t"], "keep_latest")).stop_before("drop")
    page = count_turns(redis_client, next_script(pruning))
    assert page.reply[0] == b"more"
    assert page.turns < 100_000
    saver.prune(["t"])
    assert len(states_of(saver, "t")) == 1


def test_trim_of_checkpoints_with_many_values_goes_in_pages(
    redis_url: str, postgres_url: str, redis_client: redis.Redis
) -> None:
    settings: Any = {"hot_checkpoints": 1, "promotion": Promotion.never(), "promoter": "external"}
    with TieredSaver.from_urls(redis_url, postgres_url, **settings) as saver:
        config = at("t")
        for number in range(40):
            config = put(saver, config, {f"channel {n}": [n] for n in range(400)}, number)
        flushing = Stepped(saver, saver._requests.promote("t")).stop_before("drop")
        page = count_turns(redis_client, next_script(flushing))
        assert page.reply[0] == b"more"
        assert page.turns < 100_000
        flushing.finish()
        assert saver.explain("t").hot_checkpoints == 1


@pytest.mark.parametrize("way", ["delete_thread", "delete_for_runs"])
def test_thread_of_many_runs_goes_in_pages(saver: TieredSaver, redis_client: redis.Redis, way: str) -> None:
    put(saver, at("t"), {"n": 1}, run_id="run")
    [index] = redis_client.scan_iter("*:runs")
    redis_client.zadd(index, {member: 0 for n in range(5_000) for member in (f"r{n}\0t", f"\0t\0r{n}")})
    put(saver, at("u"), {"n": 1}, run_id="run")
    requests = saver._requests
    plan = requests.delete_thread("t") if way == "delete_thread" else requests.delete_for_runs(["run"])
    removing = Stepped(saver, plan).stop_before("delete" if way == "delete_thread" else "drop")
    page = count_turns(redis_client, next_script(removing))
    assert page.reply[0] == b"more"
    assert page.turns < 10_000
    saver.delete_thread("t")
    left: Any = redis_client.zrange(index, 0, -1)
    assert [member for member in left if b"t" in member.split(b"\0")] == []
    assert "t" not in list(saver.thread_ids())


def test_acknowledgement_does_not_look_at_what_it_does_not_acknowledge(
    saver: TieredSaver, redis_client: redis.Redis
) -> None:
    """A page at a time of a long log would else look through the rest of it with each page."""
    config = put(saver, at("t"), {"n": 1})
    saver.promote("t")
    for number in range(300):
        saver.put_writes(config, [("a", number)], f"task {number}")
    lease = lease_of(saver, "t")
    [key] = redis_client.scan_iter("*:t:t")
    first = lease.flushed_number + 1
    logged: Any = redis_client.hget(key, f"g{first}")
    through = f"{first}.{msgpack.unpackb(logged)[0]}"
    acknowledged = count_turns(redis_client, saver._store.hot.ack("t", incarnation=lease.incarnation, through=through))
    assert acknowledged.reply == [b"dirty", b"0"]
    assert acknowledged.turns < 50
