"""Bytes that somebody else has planted in a thread hurt that thread alone: no script does as they say unseen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgpack
import pytest
import redis
from homes import at, make_checkpoint, put, values_of
from stepping import Stepped
from turns import count_turns

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import TieredCheckpointError
from langgraph_tiered_checkpoint.steps import Lua

LINES = [os.urandom(60).hex() for _ in range(100)]
HUGE = 2**52

RECIPES: dict[str, Any] = {
    "a stretch that never ends": ["it", 8192, [[0, HUGE]], HUGE],
    "a stretch far off": ["it", 8192, [[HUGE, 1]], HUGE],
    "a stretch that begins before the arena": ["it", 8192, [[-HUGE, HUGE + 5]], 8192],
    "pieces of no size": ["it", 0, [[0, 9]], 9],
    "pieces of a size below none": ["it", -1, [[0, 9]], 9],
    "tiny pieces": ["it", 1, [[0, HUGE]], HUGE],
    "a size that is no number": ["it", "x", [[0, 9]], 9],
    "a size that is not a number": ["it", float("nan"), [[0, 9]], 9],
    "an endless size": ["it", float("inf"), [[0, HUGE]], HUGE],
    "an arena that is not there": ["other", 8192, [[0, 9]], 9],
    "an arena without a name": [1, 8192, [[0, 9]], 9],
    "countless items": ["it", 8192, [[0, 9]] * 100_000, 9],
    "items of other kinds": ["it", 8192, [7, True], 9],
    "no items": ["it", 8192],
    "more than the arena has": ["it", 8192, ["msgpack\0", [500_000, 100_000]], 8192],
    "more than there is": ["it", 8192, ["msgpack\0", [500_000, 100_000]], 600_000],
    "a length that is no number": ["it", 8192, [[0, 9]], "x"],
}


@pytest.fixture
def saver(redis_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, promotion=Promotion.never()) as made:
        yield made


@pytest.fixture
def plant(redis_client: redis.Redis) -> Iterator[Callable[[Callable[[dict[bytes, bytes]], dict[Any, Any]]], None]]:
    """Overwrite fields of the thread, and take it away in the end."""

    def change(made: Callable[[dict[bytes, bytes]], dict[Any, Any]]) -> None:
        [key] = redis_client.scan_iter("*:t:t")
        fields: Any = redis_client.hgetall(key)
        redis_client.hset(key, mapping=made(fields))

    yield change
    redis_client.flushall()


def two_versions(saver: TieredSaver) -> Any:
    """Of a value, that share an arena."""
    first = put(saver, at("t"), {"a": LINES}, 1)
    return put(saver, first, {"a": [*LINES, "more" * 20]}, 2)


def recipes(made: Any) -> Callable[[dict[bytes, bytes]], dict[Any, Any]]:
    """The same in place of each recipe, of the arena that is there."""

    def plant(fields: dict[bytes, bytes]) -> dict[Any, Any]:
        [arena] = [name[1:].decode() for name in fields if name[:1] == b"A"]
        packed = msgpack.packb([arena if made[0] == "it" else made[0], *made[1:]], use_bin_type=False)
        return {f: v[:17] + packed for f, v in fields.items() if f[:1] == b"b" and v[:1] == b"R"}

    return plant


def every_read(saver: TieredSaver, config: Any) -> list[tuple[str, Any]]:
    requests = saver._requests
    return [
        ("get", requests.get_tuple(config)),
        ("list", requests.listing(config, None, None, 1).next_page()),
        ("delta", requests.get_delta_channel_history(put(saver, config, {"b": 1}, 3), ["a"])),
    ]


def turns_until_it_is_seen(client: redis.Redis, call: Lua[Any]) -> int:
    """0 if the script has answered with the error at once."""
    try:
        return count_turns(client, call).turns
    except redis.ResponseError as refused:
        if "LGTDAMAGED" not in str(refused):
            raise
        return 0


@pytest.mark.parametrize("made", RECIPES.values(), ids=RECIPES)
def test_recipe_that_makes_no_sense_is_an_error_at_once(
    saver: TieredSaver, redis_url: str, redis_client: redis.Redis, plant: Any, made: Any
) -> None:
    config = two_versions(saver)
    put(saver, at("other"), {"a": LINES})
    plant(recipes(made))
    with TieredSaver.from_urls(redis_url, promotion=Promotion.never()) as reader:
        for name, plan in every_read(reader, config):
            step = Stepped(reader, plan).stop_before(name)._step
            assert isinstance(step, Lua)
            assert turns_until_it_is_seen(redis_client, step) < 5_000
        with pytest.raises(TieredCheckpointError, match="'t'"):
            reader.get_tuple(config)
        assert values_of(reader, at("other")) == {"a": LINES}


@pytest.mark.parametrize("made", RECIPES.values(), ids=RECIPES)
def test_put_after_a_predecessor_that_makes_no_sense_goes_on_without_it(
    saver: TieredSaver, plant: Any, made: Any
) -> None:
    config = two_versions(saver)
    plant(recipes(made))
    latest = [*LINES, "another" * 20]
    assert values_of(saver, put(saver, config, {"a": latest}, 3)) == {"a": latest}


ARENAS = [f"{HUGE} 1", f"{HUGE} 8192", "9 0", "9 -8192", "9", "x y", ""]


@pytest.mark.parametrize("made", ARENAS)
def test_arena_that_makes_no_sense_is_an_error_at_once(
    saver: TieredSaver, redis_client: redis.Redis, plant: Any, made: str
) -> None:
    two_versions(saver)
    plant(lambda fields: {f: made for f in fields if f[:1] == b"A"})
    call = Stepped(saver, saver._requests.prune(["t"], "keep_latest")).stop_before("made_of")._step
    assert isinstance(call, Lua)
    with pytest.raises(redis.ResponseError, match="LGTDAMAGED"):
        count_turns(redis_client, call)


@pytest.mark.parametrize("made", ARENAS)
def test_put_after_an_arena_that_makes_no_sense_goes_on_without_it(saver: TieredSaver, plant: Any, made: str) -> None:
    config = two_versions(saver)
    plant(lambda fields: {f: made for f in fields if f[:1] == b"A"})
    latest = [*LINES, "another" * 20]
    assert values_of(saver, put(saver, config, {"a": latest}, 3)) == {"a": latest}


def test_count_of_pending_writes_that_cannot_be_is_an_error_at_once(saver: TieredSaver, plant: Any) -> None:
    config = two_versions(saver)
    saver.put_writes(config, [("a", 1)], "task")
    for count in (HUGE, -1, 1.5, "x", 10_000):
        plant(partial(_with_writes, count))
        with pytest.raises(TieredCheckpointError, match="'t'"):
            saver.get_tuple(config)


def _with_writes(count: Any, fields: dict[bytes, bytes]) -> dict[bytes, Any]:
    return {field: count for field in fields if field[:1] == b"y"}


def test_piece_that_was_cut_short_is_an_error_and_no_shorter_value(saver: TieredSaver, plant: Any) -> None:
    config = two_versions(saver)
    plant(lambda fields: {f: v[:-5] for f, v in fields.items() if f[:1] == b"a"})
    saver._store.known_values.forget()
    with pytest.raises(TieredCheckpointError, match="'t'"):
        saver.get_tuple(config)


def test_link_that_leads_to_itself_is_an_error_at_once(
    saver: TieredSaver, redis_client: redis.Redis, plant: Any
) -> None:
    configs = [put(saver, at("t"), {"a": n}, n) for n in (1, 2, 4)]
    latest = configs[-1]["configurable"]["checkpoint_id"]
    link = msgpack.packb([latest, f"\0{latest}", ""], use_bin_type=False)
    plant(lambda _: {f"l\0{latest}": link})
    late = make_checkpoint({"a": 3}, 3)
    late["id"] = configs[1]["configurable"]["checkpoint_id"] + "0"
    step: Any = {"source": "loop", "step": 3, "parents": {}}
    call = Stepped(saver, saver._requests.put(at("t"), late, step, late["channel_versions"])).stop_before("put")._step
    assert isinstance(call, Lua)
    assert turns_until_it_is_seen(redis_client, call) < 5_000
