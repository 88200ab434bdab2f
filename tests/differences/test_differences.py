"""Values that share most of their bytes with the one before: what travels, what Redis keeps, and what comes back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import redis
from homes import at, make_checkpoint, put, values_of
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph
from stepping import Stepped, lease_of, reply_to

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.steps import Lua


def line(number: int) -> str:
    return f"{number:06}" + os.urandom(60).hex()


def lines(count: int) -> list[str]:
    return [line(n) for n in range(count)]


LONG = lines(400)


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        made.get_tuple(at("warm"))
        yield made


@pytest.fixture
def hash_of(redis_client: redis.Redis) -> Callable[[str], dict[bytes, bytes]]:
    def read(thread_id: str) -> dict[bytes, bytes]:
        [key] = [key for key in redis_client.scan_iter("*:t:*") if key.endswith(b":t:" + thread_id.encode())]
        found: Any = redis_client.hgetall(key)
        return dict(found)

    return read


def kinds(fields: dict[bytes, bytes]) -> str:
    """W for each value that is stored whole, R for each that is made of an arena, in the order of versions."""
    return "".join(fields[name][:1].decode() for name in sorted(fields) if name[:1] == b"b")


def size(fields: dict[bytes, bytes]) -> int:
    return sum(len(name) + len(value) for name, value in fields.items())


def traffic(client: redis.Redis, way: str, work: Callable[[], object]) -> int:
    """Bytes that Redis gets ("input") or gives ("output") meanwhile; of the latter INFO itself is some 10,000."""
    before: Any = client.info("stats")
    work()
    after: Any = client.info("stats")
    return int(after[f"total_net_{way}_bytes"] - before[f"total_net_{way}_bytes"])


def sent_by(client: redis.Redis, work: Callable[[], object]) -> int:
    return traffic(client, "input", work)


def received_by(client: redis.Redis, work: Callable[[], object]) -> int:
    return traffic(client, "output", work)


def chain(saver: TieredSaver, thread_id: str, states: list[Any]) -> list[RunnableConfig]:
    """Put one state after the other; the configs."""
    saver.get_tuple(at(thread_id))
    configs = [at(thread_id)]
    for number, state in enumerate(states, 1):
        configs.append(put(saver, configs[-1], {"a": state}, number))
    return configs[1:]


def test_put_sends_what_is_new(saver: TieredSaver, redis_client: redis.Redis) -> None:
    config = put(saver, at("t"), {"a": LONG}, 1)
    assert sent_by(redis_client, lambda: put(saver, config, {"a": [*LONG, line(400)]}, 2)) < 2_000
    assert values_of(saver, at("t"))["a"][:400] == LONG


def test_put_of_a_process_that_only_read_the_thread_sends_what_is_new(
    saver: TieredSaver, redis_url: str, postgres_url: str, redis_client: redis.Redis
) -> None:
    put(saver, at("t"), {"a": LONG}, 1)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as other:
        found = other.get_tuple(at("t"))
        assert found is not None
        assert sent_by(redis_client, lambda: put(other, found.config, {"a": [*LONG, line(400)]}, 2)) < 2_000


def test_put_after_rehydration_sends_what_is_new(saver: TieredSaver, redis_client: redis.Redis) -> None:
    put(saver, at("t"), {"a": LONG}, 1)
    saver.promote("t")
    saver.evict("t")
    found = saver.get_tuple(at("t"))
    assert found is not None
    more = [*LONG, line(400)]
    assert sent_by(redis_client, lambda: put(saver, found.config, {"a": more}, 2)) < 2_000
    assert values_of(saver, at("t")) == {"a": more}


def test_redis_keeps_what_versions_share_once(saver: TieredSaver, hash_of: Callable[[str], dict[bytes, bytes]]) -> None:
    states = [LONG[:n] for n in range(50, 400, 5)]
    configs = chain(saver, "t", states)
    fields = hash_of("t")
    assert kinds(fields) == "R" * len(states)
    assert size(fields) < 1.2 * len(JsonPlusSerializer().dumps_typed(LONG)[1]) + 1_000 * len(states)
    assert [values_of(saver, config)["a"] for config in configs] == states


def test_without_memory_of_predecessors_every_value_travels_whole(
    redis_url: str, hash_of: Callable[[str], dict[bytes, bytes]]
) -> None:
    with TieredSaver.from_urls(redis_url, remembered_bytes=0) as saver:
        chain(saver, "t", [LONG[:n] for n in (50, 60, 70)])
        assert kinds(hash_of("t")) == "WWW"


def test_predecessor_that_is_gone_costs_one_more_round_trip(saver: TieredSaver, redis_client: redis.Redis) -> None:
    [config] = chain(saver, "t", [LONG])
    saver.promote("t")
    saver.evict("t")
    redis_client.config_resetstat()
    put(saver, config, {"a": [*LONG, "more"]}, 2)
    assert values_of(saver, at("t")) == {"a": [*LONG, "more"]}
    assert values_of(saver, config) == {"a": LONG}


def test_predecessor_that_another_process_has_replaced_is_noticed(
    saver: TieredSaver, redis_url: str, postgres_url: str
) -> None:
    theirs = [line(n) for n in range(400)]
    checkpoint = make_checkpoint({"a": LONG}, 1)
    step: Any = {"source": "loop", "step": 1, "parents": {}}
    saver.get_tuple(at("t"))
    config = saver.put(at("t"), checkpoint, step, checkpoint["channel_versions"])
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as other:
        other.get_tuple(at("t"))
        other.put(at("t"), {**checkpoint, "channel_values": {"a": theirs}}, step, checkpoint["channel_versions"])
    latest = put(saver, config, {"a": [*LONG, "more"]}, 2)
    assert values_of(saver, config) == {"a": theirs}
    assert values_of(saver, latest) == {"a": [*LONG, "more"]}


def test_branches_of_one_checkpoint_extend_it_apart(saver: TieredSaver) -> None:
    [trunk] = chain(saver, "t", [LONG])
    tips = {}
    for number in range(8):
        saver.get_tuple(trunk)  # what the next put takes its value from
        state = [*LONG, *(f"branch {number}: {line(n)}" for n in range(number))]
        tips[number] = put(saver, trunk, {"a": state}, 2 + number), state
    for config, state in tips.values():
        assert values_of(saver, config) == {"a": state}
    assert values_of(saver, trunk) == {"a": LONG}


def test_repeated_put_stores_nothing_twice(saver: TieredSaver, hash_of: Callable[[str], dict[bytes, bytes]]) -> None:
    [config] = chain(saver, "t", [LONG])
    more = make_checkpoint({"a": [*LONG, line(400)]}, 2)
    plan = saver._requests.put(config, more, {"source": "loop", "step": 2, "parents": {}}, more["channel_versions"])
    stepped = Stepped(saver, plan)
    repeated = stepped._step
    assert isinstance(repeated, Lua)
    stepped.finish()
    before = {name: value for name, value in hash_of("t").items() if name[:1] in b"aAbr"}
    saver._sync._perform(repeated)
    assert {name: value for name, value in hash_of("t").items() if name[:1] in b"aAbr"} == before
    assert kinds(before) == "RR"


def test_value_that_shrinks_leaves_the_arena(saver: TieredSaver, hash_of: Callable[[str], dict[bytes, bytes]]) -> None:
    states = [LONG, LONG[:300], LONG[100:300], LONG[150:300], LONG[200:290], LONG[210:290]]
    configs = chain(saver, "t", states)
    assert sum(name[:1] == b"A" for name in hash_of("t")) == 2
    assert [values_of(saver, config)["a"] for config in configs] == states


def test_window_that_moves_on_keeps_an_arena_within_bounds(
    saver: TieredSaver, hash_of: Callable[[str], dict[bytes, bytes]]
) -> None:
    everything = lines(600)
    chain(saver, "t", [everything[n : n + 50] for n in range(550)])
    saver.prune(["t"])
    whole = len(JsonPlusSerializer().dumps_typed(everything[:50])[1])
    assert size(hash_of("t")) < 4 * whole + 50_000
    assert values_of(saver, at("t")) == {"a": everything[549:599]}


def test_large_value_has_few_pieces(saver: TieredSaver, hash_of: Callable[[str], dict[bytes, bytes]]) -> None:
    states = [lines(20_000)]
    for _ in range(12):
        states.append([*states[-1], *lines(2_000)])
    chain(saver, "t", states)
    fields = hash_of("t")
    assert sum(name[:1] == b"a" for name in fields) <= 2 * 512
    assert values_of(saver, at("t")) == {"a": states[-1]}


def test_pruning_removes_the_arena_with_the_last_value_made_of_it(
    saver: TieredSaver, hash_of: Callable[[str], dict[bytes, bytes]]
) -> None:
    chain(saver, "t", [LONG[:200], LONG[:210], ["other"] * 3])
    assert kinds(hash_of("t")) == "RRW"
    saver.prune(["t"])
    assert {name[:1] for name in hash_of("t")} & {b"a", b"A"} == set()
    assert values_of(saver, at("t")) == {"a": ["other"] * 3}


def test_trimming_keeps_what_newer_values_are_made_of(redis_url: str, postgres_url: str) -> None:
    settings: Any = {"hot_checkpoints": 2, "promotion": Promotion(checkpoints=1), "promoter": "external"}
    with TieredSaver.from_urls(redis_url, postgres_url, **settings) as saver:
        states = [LONG[:n] for n in range(100, 120)]
        configs = chain(saver, "t", states)
        saver.flush()
        assert saver.explain("t").hot_checkpoints == 2
        assert [values_of(saver, config)["a"] for config in configs] == states


def test_postgres_gets_the_bytes_of_the_serde(saver: TieredSaver, postgres_url: str) -> None:
    states = [LONG[:n] for n in (100, 150, 149, 200)]
    configs = chain(saver, "t", states[:3])
    saver.promote("t")
    put(saver, configs[-1], {"a": states[3]}, 4)
    saver.flush()
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute(
            "SELECT type, blob FROM checkpoint_blobs WHERE thread_id = 't' ORDER BY version"
        ).fetchall()
    assert [(kind, bytes(data)) for kind, data in rows] == [JsonPlusSerializer().dumps_typed(s) for s in states]


def test_encrypted_values_travel_whole(
    redis_url: str, postgres_url: str, hash_of: Callable[[str], dict[bytes, bytes]]
) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0" * 16)
    with TieredSaver.from_urls(redis_url, postgres_url, serde=serde) as saver:
        states = [LONG[:n] for n in (100, 101, 102)]
        configs = chain(saver, "t", states)
        assert kinds(hash_of("t")) == "WWW"
        assert [values_of(saver, config)["a"] for config in configs] == states


def test_copy_of_a_thread_goes_on_by_itself(saver: TieredSaver) -> None:
    chain(saver, "t", [LONG[:n] for n in (100, 110, 120)])
    saver.copy_thread("t", "copy")
    found = saver.get_tuple(at("copy"))
    assert found is not None
    put(saver, found.config, {"a": [*LONG[:120], "of the copy"]}, 9)
    saver.delete_thread("t")
    assert values_of(saver, at("copy")) == {"a": [*LONG[:120], "of the copy"]}
    assert [f.checkpoint["channel_values"]["a"] for f in saver.list(at("copy"))][1:] == [
        LONG[:120],
        LONG[:110],
        LONG[:100],
    ]


def test_value_that_was_read_or_written_before_does_not_travel_again(
    saver: TieredSaver, redis_url: str, postgres_url: str, redis_client: redis.Redis
) -> None:
    whole = len(JsonPlusSerializer().dumps_typed(LONG)[1])
    [config] = chain(saver, "t", [LONG])
    assert received_by(redis_client, lambda: saver.get_tuple(at("t"))) < whole / 2
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as other:
        assert received_by(redis_client, lambda: other.get_tuple(config)) > whole
        assert received_by(redis_client, lambda: other.get_tuple(config)) < whole / 2
        more = put(other, config, {"a": [*LONG, "theirs"]}, 2)
        assert values_of(other, more) == {"a": [*LONG, "theirs"]}
    assert values_of(saver, at("t")) == {"a": [*LONG, "theirs"]}
    assert values_of(saver, config) == {"a": LONG}


def test_what_is_read_twice_is_made_of_fresh_objects(saver: TieredSaver) -> None:
    chain(saver, "t", [LONG])
    values_of(saver, at("t"))["a"].append("changed in place")
    assert values_of(saver, at("t")) == {"a": LONG}


@pytest.mark.parametrize("before", [0, 1, 4, 7, 8])
def test_value_whose_type_lies_in_two_pieces_of_its_arena_comes_back(saver: TieredSaver, before: int) -> None:
    """What is new at the front of a value, with the type, goes to the end of the arena."""
    state = [*LONG[:100], "x" * 300]
    type_, data = JsonPlusSerializer().dumps_typed(state)
    state[-1] += "x" * ((-len(type_ + "\0") - len(data)) % 8192 - before)  # to the end of a piece
    longer = [line(999), *state]
    chain(saver, "t", [state, longer])
    assert next(saver.list(at("t"))).checkpoint["channel_values"] == {"a": longer}


def test_listing_gives_what_versions_share_once(saver: TieredSaver, redis_client: redis.Redis) -> None:
    states = [LONG[:n] for n in range(390, 400)]
    chain(saver, "t", states)
    listed: list[Any] = []
    received = received_by(redis_client, lambda: listed.extend(saver.list(at("t"), limit=10)))
    assert [found.checkpoint["channel_values"]["a"] for found in listed] == states[::-1]
    whole = len(JsonPlusSerializer().dumps_typed(LONG)[1])
    assert received < 1.5 * whole + 10_000


def test_page_of_a_flush_is_bounded_by_the_bytes_that_values_come_to(saver: TieredSaver) -> None:
    """Not by those that travel: what versions share travels once, and Postgres gets each whole."""
    [config] = chain(saver, "t", [LONG[:380]])
    saver.promote("t")
    for number in range(1, 20):
        config = put(saver, config, {"a": LONG[: 380 + number]}, 1 + number)
    lease = lease_of(saver, "t")
    whole = len(JsonPlusSerializer().dumps_typed(LONG)[1])
    call = saver._store.hot.changes("t", lease, lease.flushed_number)
    page = reply_to(saver, replace(call, args=(*call.args[:-2], str(5 * whole), call.args[-1])))
    assert page is not None
    assert page.more
    assert 4 * whole < sum(len(blob.data) for blob in page.rows.blobs) < 7 * whole


def test_page_of_a_first_copy_is_bounded_likewise(saver: TieredSaver) -> None:
    chain(saver, "t", [LONG[: 300 + number] for number in range(100)])
    saver._sync._perform(saver._store.hot.promote("t", reason="test", op="op"))
    whole = len(JsonPlusSerializer().dumps_typed(LONG)[1])
    lease = lease_of(saver, "t")
    seen, pages, cursor = set[str](), 0, "0"
    while pages == 0 or cursor != "0":
        page = reply_to(saver, saver._store.hot.scan("t", lease, cursor, 10 * whole))
        assert page is not None
        cursor, pages, blobs = page.cursor, pages + 1, page.base.rows.blobs
        seen.update(blob.version for blob in blobs)
        assert sum(len(blob.data) for blob in blobs) < 30 * whole  # what one step of HSCAN gives, beyond the bound
    assert len(seen) == 100
    assert 3 < pages < 12


def answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"Answer {len(state['messages'])}: " + os.urandom(100).hex())]}


@pytest.mark.parametrize("state", ["ephemeral", "promoted"])
def test_long_conversation_costs_what_is_new_in_it(
    state: str, redis_url: str, postgres_url: str, redis_client: redis.Redis
) -> None:
    turns = 200
    promotion = Promotion(checkpoints=100) if state == "promoted" else Promotion.never()
    with TieredSaver.from_urls(redis_url, postgres_url, promotion=promotion, promoter="external") as saver:
        graph = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile(checkpointer=saver)

        def talk() -> None:
            for turn in range(turns):
                graph.invoke({"messages": [HumanMessage(f"Question {turn}: " + os.urandom(50).hex())]}, at("t"))

        sent = sent_by(redis_client, talk)
        saver.flush()
        found = saver.get_tuple(at("t"))
        assert found is not None
        live = len(saver.serde.dumps_typed(found.checkpoint["channel_values"]["messages"])[1])
        status = saver.explain("t")
        assert len(found.checkpoint["channel_values"]["messages"]) == 2 * turns
        calls = 3 * turns * 2  # checkpoints, and as many calls with pending writes
        assert sent < 5 * live + 2_048 * calls
        if state == "promoted":
            assert status.hot_bytes < 4 * live
        else:
            assert status.hot_bytes < 2 * live + 2_048 * status.hot_checkpoints


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, list[str]]]:
    """States, each with the number of the one it follows."""
    states: list[tuple[int, list[str]]] = [(0, LONG[:40])]
    for number in range(draw(st.integers(1, 12))):
        parent = draw(st.integers(0, number) | st.just(number))
        state = list(states[parent][1])
        for _ in range(draw(st.integers(1, 2))):
            match draw(st.sampled_from(["append", "append", "cut", "drop", "edit", "double", "other"])):
                case "append":
                    state += LONG[: draw(st.integers(1, 30))]
                case "cut":
                    state = state[: draw(st.integers(0, len(state)))]
                case "drop":
                    state = state[draw(st.integers(0, 5)) :]
                case "edit" if state:
                    state[draw(st.integers(0, len(state) - 1))] = "edited" * draw(st.integers(0, 50))
                case "double":
                    state = (state + state)[:200]
                case _:
                    state = LONG[draw(st.integers(0, 300)) :][:60]
        states.append((parent, state))
    return states


_threads = iter(range(10**9))


@given(history=histories(), promote_at=st.integers(0, 12), reread=st.sampled_from([0, 1]))
def test_any_history_comes_back_as_it_went_in(
    history: list[tuple[int, list[str]]], promote_at: int, reread: int, saver: TieredSaver
) -> None:
    thread_id = f"h{next(_threads)}"
    yardstick = InMemorySaver()
    saver.get_tuple(at(thread_id))
    configs: list[RunnableConfig] = []
    for number, (parent, state) in enumerate(history):
        config = configs[parent] if configs else at(thread_id)
        if reread and configs:
            saver.get_tuple(config)
        made = make_checkpoint({"a": state}, number + 1)
        step: Any = {"source": "loop", "step": number, "parents": {}}
        yardstick.put(config, made, step, made["channel_versions"])
        configs.append(saver.put(config, made, step, made["channel_versions"]))
        if number == promote_at:
            saver.promote(thread_id)
    expected = [found.checkpoint for found in yardstick.list(at(thread_id))]
    assert [found.checkpoint for found in saver.list(at(thread_id))] == expected
    if promote_at < len(history):
        saver.evict(thread_id)
        assert [found.checkpoint for found in saver.list(at(thread_id))] == expected


def test_of_very_many_values_the_largest_travel_as_differences(saver: TieredSaver) -> None:
    """Each costs the script more than to store it whole; of small ones little is saved."""
    values = {f"channel {n}": line(n) * (20 + n % 7) for n in range(300)}
    config = put(saver, at("t"), values, 1)
    made = make_checkpoint({name: value + "!" for name, value in values.items()}, 2)
    metadata: Any = {"source": "loop", "step": 2, "parents": {}}
    stepped = Stepped(saver, saver._requests.put(config, made, metadata, made["channel_versions"])).stop_before("put")
    assert isinstance(stepped._step, Lua)
    sent = [arg for arg in stepped._step.args if isinstance(arg, bytes)]
    assert sum(arg[:1] == b"B" for arg in sent) == 200
    assert sum(len(arg) for arg in sent if arg[:1] == b"W") < 100 * 23 * 126 + 100 * 40
    stepped.finish()
    assert values_of(saver, at("t")) == made["channel_values"]
