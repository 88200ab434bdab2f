"""When a thread is promoted, and what each tier holds from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import redis
from homes import make_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.types import INTERRUPT
from scenarios.driving import play
from scenarios.graphs import CORPUS, Invoke, Script
from scenarios.threads import (
    THREAD,
    assert_same_thread,
    checkpoint_id,
    config,
    everything,
    put,
    put_chain,
    steps,
    wait_until,
)

from langgraph_tiered_checkpoint import ConfigurationError, NotPromotableError, Promotion, TieredSaver

APPROVALS = next(scenario for scenario in CORPUS if scenario.name == "interrupts")
NEVER: dict[str, Any] = {"after": None, "checkpoints": None, "on_interrupt": False}

Open = Callable[..., TieredSaver]


@pytest.fixture
def open_saver(redis_url: str, postgres_url: str) -> Iterator[Open]:
    """Opens savers on the test's servers; nothing is promoted or flushed by itself unless the test says so."""
    with ExitStack() as opened:

        def open_one(**settings: Any) -> TieredSaver:
            defaults = {"promotion": Promotion.never(), "promoter": "external", "postgres": postgres_url}
            return opened.enter_context(TieredSaver(redis=redis_url, **{**defaults, **settings}))

        yield open_one


@pytest.fixture
def official(postgres_url: str) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(postgres_url) as saver:
        yield saver


def put_big(saver: TieredSaver) -> None:
    saver.put_writes(config(ns="", checkpoint_id=checkpoint_id(2)), [("big", b"x" * 5_000)], "task")


# What promotes


@pytest.mark.parametrize(
    ("promotion", "reason"),
    [
        (Promotion(**{**NEVER, "after": timedelta(0)}), "age"),
        (Promotion(**{**NEVER, "checkpoints": 2}), "checkpoints"),
        (Promotion(**{**NEVER, "bytes": 4_000}), "bytes"),
        (Promotion(**NEVER, when=lambda candidate: candidate.metadata["step"] == 2), "when"),
    ],
    ids=["after", "checkpoints", "bytes", "when"],
)
def test_thread_that_meets_a_condition_is_due_and_loses_its_ttl_with_that_write(
    promotion: Promotion, reason: str, open_saver: Open, official: PostgresSaver, redis_client: redis.Redis
) -> None:
    saver = open_saver(promotion=promotion)
    if reason != "age":
        put(saver, 1)
        assert saver.explain(THREAD).state == "ephemeral"
        assert saver.explain(THREAD).expires_at is not None
    put(saver, 2, checkpoint_id(1) if reason != "age" else "")
    if reason == "bytes":
        assert saver.explain(THREAD).state == "ephemeral"
        put_big(saver)
    status = saver.explain(THREAD)
    assert (status.tier, status.state, status.expires_at) == ("hot", "dirty", None)
    assert f"({reason})" in status.why
    assert status.unflushed_age is not None
    assert status.due_at is not None
    assert [redis_client.ttl(key) for key in redis_client.scan_iter() if b":t:" in key] == [-1]
    saver.flush()
    assert_same_thread(everything(saver), everything(official))


def test_thread_is_promoted_by_a_later_write_once_it_is_old_enough(open_saver: Open) -> None:
    saver = open_saver(promotion=Promotion(**{**NEVER, "after": timedelta(milliseconds=300)}))
    put(saver, 1)
    assert saver.explain(THREAD).state == "ephemeral"
    created = saver.explain(THREAD).created_at
    assert created is not None
    wait_until(lambda: datetime.now(timezone.utc) - created > timedelta(milliseconds=400))
    assert saver.explain(THREAD).state == "ephemeral"  # judged on writes
    put(saver, 2, checkpoint_id(1))
    assert saver.explain(THREAD).state == "dirty"


@pytest.mark.parametrize(
    "promotion",
    [Promotion(**{**NEVER, "after": timedelta(hours=1)}), Promotion(**{**NEVER, "checkpoints": 4}), Promotion.never()],
    ids=["after", "checkpoints", "never"],
)
def test_thread_below_every_threshold_stays_ephemeral(promotion: Promotion, open_saver: Open) -> None:
    saver = open_saver(promotion=promotion)
    put_chain(saver, 3)
    saver.flush()
    status = saver.explain(THREAD)
    assert (status.tier, status.state, status.cold_checkpoints) == ("hot", "ephemeral", 0)


def asked() -> Script:
    yield Invoke({"log": ["asked"]})


def test_interrupted_thread_is_promoted_with_its_question(open_saver: Open, official: PostgresSaver) -> None:
    saver = open_saver(promotion=Promotion(after=None, checkpoints=None))
    play(APPROVALS, saver, THREAD, asked())
    status = saver.explain(THREAD)
    assert (status.state, status.interrupted, status.expires_at) == ("dirty", True, None)
    saver.evict(THREAD)
    for either in (saver, official):
        state = APPROVALS.build(either).get_state(APPROVALS.config(THREAD))
        assert [i.value for i in state.interrupts] == ["really?"]


@pytest.mark.parametrize("question_first", [False, True])
def test_question_that_is_stored_before_its_checkpoint_is_a_question_too(
    open_saver: Open, *, question_first: bool
) -> None:
    """As LangGraph's background threads may do with `durability="async"`."""
    saver = open_saver(promotion=Promotion())
    made = make_checkpoint({"a": ["b"]})
    calls: list[Callable[[], object]] = [
        lambda: saver.put(config(ns=""), made, {"source": "loop", "step": 1}, made["channel_versions"]),
        lambda: saver.put_writes(config(ns="", checkpoint_id=made["id"]), [(INTERRUPT, "really?")], "task"),
    ]
    for call in reversed(calls) if question_first else calls:
        call()
    status = saver.explain(THREAD)
    assert (status.state, status.interrupted) == ("dirty", True)
    calls[0]()  # again, as after a lost reply
    assert saver.explain(THREAD).interrupted
    after = make_checkpoint({"a": ["c"]}, 2)
    saver.put(config(ns="", checkpoint_id=made["id"]), after, {"source": "loop", "step": 2}, after["channel_versions"])
    assert not saver.explain(THREAD).interrupted, "it was answered"


def test_interrupted_thread_expires_if_the_user_wants_it_so(open_saver: Open) -> None:
    saver = open_saver()
    play(APPROVALS, saver, THREAD, asked())
    status = saver.explain(THREAD)
    assert (status.state, status.interrupted) == ("ephemeral", True)
    assert status.expires_at is not None


def test_thread_about_to_expire_is_promoted_instead(open_saver: Open) -> None:
    saver = open_saver(promotion=Promotion(**NEVER, before_expiry=True), ttl=timedelta(milliseconds=400))
    put_chain(saver, 2)
    status = saver.explain(THREAD)
    assert status.expires_at is None
    assert status.due_at is not None
    assert status.last_write_at is not None
    assert timedelta(0) < status.due_at - status.last_write_at < timedelta(milliseconds=400)
    wait_until(lambda: saver.stats().overdue_threads == 1)
    promoter = open_saver(promoter="embedded", flush_interval=timedelta(milliseconds=10))
    wait_until(lambda: promoter.explain(THREAD).state == "clean")
    assert steps(promoter) == [2, 1]


def test_promote_copies_at_once(open_saver: Open, official: PostgresSaver) -> None:
    saver = open_saver()
    put_chain(saver, 2)
    saver.promote(THREAD)
    assert saver.explain(THREAD).state == "clean"
    assert_same_thread(everything(saver), everything(official))
    saver.promote(THREAD)
    with pytest.raises(NotPromotableError, match="'nobody' does not exist"):
        saver.promote("nobody")
    assert saver.explain("nobody").state == "absent"


def test_pin_promotes_and_unpin_leaves_the_thread_promoted(open_saver: Open) -> None:
    saver = open_saver()
    put(saver, 1)
    saver.pin(THREAD)
    assert (saver.explain(THREAD).state, saver.explain(THREAD).pinned) == ("clean", True)
    saver.evict(THREAD)
    assert (saver.explain(THREAD).state, saver.explain(THREAD).pinned) == ("cold", True)
    assert steps(saver) == [1]
    assert saver.get_tuple(config()) is not None
    assert (saver.explain(THREAD).tier, saver.explain(THREAD).pinned) == ("both", True)
    saver.unpin(THREAD)
    assert (saver.explain(THREAD).state, saver.explain(THREAD).pinned) == ("clean", False)
    saver.evict(THREAD)
    assert not saver.explain(THREAD).pinned


def test_unpin_promotes_nothing(open_saver: Open) -> None:
    saver = open_saver()
    put(saver, 1)
    saver.unpin(THREAD)
    assert saver.explain(THREAD).state == "ephemeral"
    assert saver.explain(THREAD).expires_at is not None


# When it is copied


def test_embedded_promoter_flushes_by_itself(open_saver: Open, official: PostgresSaver) -> None:
    interval = timedelta(milliseconds=50)
    saver = open_saver(promoter="embedded", flush_interval=interval, promotion=Promotion(checkpoints=1))
    for number in range(1, 4):
        put(saver, number, checkpoint_id(number - 1) if number > 1 else "")
        wait_until(lambda: saver.explain(THREAD).state == "clean")
        assert steps(official) == list(range(number, 0, -1))


async def test_embedded_promoter_serves_async_writes(open_saver: Open) -> None:
    interval = timedelta(milliseconds=20)
    saver = open_saver(promoter="embedded", flush_interval=interval, promotion=Promotion(checkpoints=1))
    checkpoint = InMemorySaver()
    put(checkpoint, 1)
    found = checkpoint.get_tuple(config())
    assert found is not None
    await saver.aput(config(ns=""), found.checkpoint, found.metadata, dict(found.checkpoint["channel_versions"]))
    wait_until(lambda: saver.explain(THREAD).state == "clean")


def test_closing_drains_what_the_process_dirtied(
    redis_url: str, postgres_url: str, open_saver: Open, official: PostgresSaver
) -> None:
    with TieredSaver.from_urls(
        redis_url, postgres_url, promotion=Promotion(checkpoints=1), flush_interval=timedelta(hours=1)
    ) as saver:
        put_chain(saver, 3)
        assert saver.explain(THREAD).state == "dirty"
    assert steps(official) == [3, 2, 1]
    assert open_saver().explain(THREAD).state == "clean"


def test_write_through_returns_after_postgres_has_it(open_saver: Open, official: PostgresSaver) -> None:
    saver = open_saver(cold_writes="through", promotion=Promotion(**{**NEVER, "checkpoints": 2}))
    put(saver, 1)
    assert saver.explain(THREAD).state == "ephemeral"
    for number in range(2, 5):
        put(saver, number, checkpoint_id(number - 1))
        assert steps(official) == list(range(number, 0, -1))
        saver.put_writes(config(ns="", checkpoint_id=checkpoint_id(number)), [("items", {number})], "task")
        found = official.get_tuple(config())
        assert found is not None
        assert found.pending_writes == [("task", "items", {number})]
    assert saver.explain(THREAD).state == "clean"


def test_flush_is_a_barrier_for_all_threads_or_one(open_saver: Open, official: PostgresSaver) -> None:
    saver = open_saver(promotion=Promotion(checkpoints=1))
    names = [f"thread {number}" for number in range(40)]
    for name in names:
        put_chain(saver, 2, thread_id=name)
    saver.flush(names[7])
    assert [name for name in names if saver.explain(name).state == "clean"] == [names[7]]
    saver.flush()
    assert {saver.explain(name).state for name in names} == {"clean"}
    assert all(steps(official, name) == [2, 1] for name in names)
    saver.flush("nobody")


# Hot, both, cold


def test_explain_and_stats_tell_every_stage_of_a_life(open_saver: Open) -> None:
    saver = open_saver()
    absent = saver.explain(THREAD)
    assert (absent.tier, absent.state, absent.incarnation) == (None, "absent", None)
    assert saver.get_tuple(config()) is None
    assert saver.explain(THREAD).state == "absent"
    assert saver.stats().hot_threads == 0

    put_chain(saver, 2)
    ephemeral = saver.explain(THREAD)
    assert (ephemeral.tier, ephemeral.state, ephemeral.hot_checkpoints) == ("hot", "ephemeral", 2)
    assert ephemeral.hot_bytes > 0
    assert ephemeral.created_at is not None
    assert ephemeral.last_write_at is not None
    assert ephemeral.created_at <= ephemeral.last_write_at
    assert (saver.stats().hot_threads, saver.stats().due_threads, saver.stats().cold_threads) == (1, 0, 0)

    saver.promote(THREAD)
    clean = saver.explain(THREAD)
    assert (clean.tier, clean.state, clean.hot_checkpoints, clean.cold_checkpoints) == ("both", "clean", 2, 2)
    assert clean.expires_at is not None
    assert (saver.stats().due_threads, saver.stats().cold_threads) == (0, 1)

    put(saver, 3, checkpoint_id(2))
    dirty = saver.explain(THREAD)
    assert (dirty.tier, dirty.state, dirty.hot_checkpoints, dirty.cold_checkpoints) == ("both", "dirty", 3, 2)
    assert dirty.expires_at is None
    assert saver.stats().due_threads == 1

    saver.evict(THREAD)
    cold = saver.explain(THREAD)
    assert (cold.tier, cold.state, cold.hot_checkpoints, cold.cold_checkpoints) == ("cold", "cold", 0, 3)
    assert (saver.stats().hot_threads, saver.stats().cold_threads) == (0, 1)

    assert saver.get_tuple(config()) is not None
    both = saver.explain(THREAD)
    assert (both.tier, both.state, both.hot_checkpoints, both.cold_checkpoints) == ("both", "clean", 1, 3)
    assert {s.incarnation for s in (ephemeral, clean, dirty, cold, both)} == {ephemeral.incarnation}

    saver.delete_thread(THREAD)
    assert saver.explain(THREAD).state == "absent"
    assert (saver.stats().hot_threads, saver.stats().cold_threads) == (0, 0)


def test_evict_refuses_an_ephemeral_thread_and_ignores_an_absent_one(open_saver: Open) -> None:
    saver = open_saver()
    put(saver, 1)
    with pytest.raises(NotPromotableError, match="is ephemeral"):
        saver.evict(THREAD)
    assert steps(saver) == [1]
    saver.evict("nobody")


def test_hot_tier_alone_keeps_everything_and_promotes_nothing(open_saver: Open) -> None:
    saver = open_saver(postgres=None, promotion=Promotion(checkpoints=1))
    put_chain(saver, 3)
    status = saver.explain(THREAD)
    assert (status.tier, status.state) == ("hot", "ephemeral")
    assert steps(saver) == [3, 2, 1]
    assert saver.stats().cold_threads is None
    saver.flush()
    for refused in (saver.promote, saver.pin, saver.evict):
        with pytest.raises(NotPromotableError, match="postgres"):
            refused(THREAD)
    with pytest.raises(ConfigurationError):
        open_saver(postgres=None, cold_writes="through")
    saver.delete_thread(THREAD)
    assert saver.get_tuple(config()) is None
