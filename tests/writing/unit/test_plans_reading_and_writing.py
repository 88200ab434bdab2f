"""Which tier a read or a write asks, in which order, and when it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from scripted import name_of, play

from langgraph_tiered_checkpoint.cold.pages import ColdPage
from langgraph_tiered_checkpoint.cold.rows import merge_writes
from langgraph_tiered_checkpoint.cold.writes import ColdAnswer
from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.errors import ColdTierError, HotTierError, ThreadBusyError, ThreadDeletedError
from langgraph_tiered_checkpoint.hot.replies import State
from langgraph_tiered_checkpoint.incarnations import KnownIncarnation
from langgraph_tiered_checkpoint.plans import reading, reshaping, writing
from langgraph_tiered_checkpoint.plans.listing import FILTERED_PAGE, Query, ThreadListing
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.plans.writing import Written
from langgraph_tiered_checkpoint.records import (
    BlobRow,
    CheckpointRow,
    Origin,
    StoredCheckpoint,
    ThreadBatch,
    WriteRow,
)
from langgraph_tiered_checkpoint.steps import Lua, Step, Tx

STORE = Store.of(Settings())
HOT_ONLY = Store.of(Settings(cold=False))

ROW = CheckpointRow("", "c1", "", b"{}", b"{}", None, (("a", "1"), ("b", "2")), (), "", "c1", 0)
STORED = StoredCheckpoint(ROW, [], [])


def answer(stored: StoredCheckpoint | None, origin: Origin | None, *, heads_exist: bool | None = None) -> ColdAnswer:
    exists = stored is not None if heads_exist is None else heads_exist
    return ColdAnswer(origin=origin, stored=stored, early=[], sends=[], heads_exist=exists)


def test_absence_is_only_reported_after_postgres_was_asked() -> None:
    played = play(
        reading.get(STORE, "t", "", ""),
        [("get", [b"absent", b"token", b"1.5"]), ("fetch", answer(None, None)), ("fill", [b"ok"])],
    )
    assert played.result.stored is None


def test_outage_of_postgres_is_raised_and_not_an_empty_answer() -> None:
    with pytest.raises(ColdTierError):
        play(
            reading.get(STORE, "t", "", ""), [("get", [b"absent", b"token", b"1.5"]), ("fetch", ColdTierError("down"))]
        )


def test_thread_that_redis_knows_to_be_absent_costs_no_query() -> None:
    assert play(reading.get(STORE, "t", "", ""), [("get", [b"none", b"", b"1.5"])]).result.stored is None


def test_without_cold_tier_redis_answers_alone() -> None:
    assert play(reading.get(HOT_ONLY, "t", "", ""), [("get", [b"none", b"", b"1.5"])]).result.incarnation == ""


def test_miss_is_filled_with_the_token_that_the_script_gave() -> None:
    origin = Origin("life", "3.op", pinned=False)
    played = play(
        reading.get(STORE, "t", "", ""),
        [("get", [b"absent", b"token", b"1.5"]), ("fetch", answer(STORED, origin)), ("fill", [b"ok"])],
    )
    assert played.result.stored == STORED
    assert played.result.incarnation == "life"
    fill = played.steps[2]
    assert isinstance(fill, Lua)
    assert fill.args[1:4] == ("token", "life", "3.op")


def test_read_has_its_answer_though_the_fill_fails() -> None:
    origin = Origin("life", "3.op", pinned=False)
    played = play(
        reading.get(STORE, "t", "", ""),
        [("get", [b"absent", b"token", b"1.5"]), ("fetch", answer(STORED, origin)), ("fill", HotTierError("down"))],
    )
    assert played.result.stored == STORED


def test_reader_that_meets_a_fill_reads_postgres_and_fills_nothing() -> None:
    origin = Origin("life", "3.op", pinned=False)
    played = play(reading.get(STORE, "t", "", ""), [("get", [b"busy", b"", b"1.5"]), ("fetch", answer(STORED, origin))])
    assert played.result.stored == STORED


def test_thread_of_the_official_saver_is_adopted_with_its_first_read() -> None:
    play(
        reading.get(STORE, "t", "", ""),
        [
            ("get", [b"absent", b"token", b"1.5"]),
            ("fetch", answer(STORED, None)),
            ("adopt", Origin("fresh", "0.fresh", pinned=False)),
            ("fill", [b"ok"]),
        ],
    )


def test_first_write_wins_and_special_writes_are_overwritten_when_tiers_merge() -> None:
    def write(idx: int, data: bytes) -> WriteRow:
        return WriteRow("", "c1", "task", idx, "ch", "bytes", data, "")

    merged = merge_writes([write(0, b"cold"), write(-4, b"cold")], [write(0, b"hot"), write(-4, b"hot")])
    assert {(w.idx, w.data) for w in merged} == {(0, b"cold"), (-4, b"hot")}


def rows_asked_for(step: Step) -> int:
    """The limit of a page of Postgres."""
    assert isinstance(step, Tx)
    limit: int = next(step.body()).params[-1]
    return limit


def test_list_asks_postgres_for_no_more_than_its_limit() -> None:
    listing = ThreadListing(STORE, "t", Query(ns="", limit=10))
    played = play(listing.next_page(), [("list", [b"absent"]), ("page", ColdPage([], more=False))])
    assert rows_asked_for(played.steps[-1]) == 10


def test_pages_of_postgres_grow_while_a_filter_wants_more() -> None:
    listing = ThreadListing(STORE, "t", Query(ns="", limit=10, wanted=lambda _: False))
    absent: list[tuple[str, Any]] = [("list", [b"absent"])]
    for limit in (10, 20, 40, 80, 160, FILTERED_PAGE, FILTERED_PAGE):
        played = play(listing.next_page(), [*absent, ("page", ColdPage([(STORED, [])] * limit, more=True))])
        assert rows_asked_for(played.steps[-1]) == limit
        absent = []


def put(store: Store, life: KnownIncarnation, blobs: Sequence[BlobRow] = ()) -> Any:
    def supply(wanted: Sequence[tuple[str, str]]) -> list[BlobRow]:
        return [BlobRow("", channel, version, "bytes", b"again") for channel, version in wanted]

    return writing.put(store, life, "t", ROW, blobs, [0, 1], named="", promote="", supply=supply)


def test_write_confirms_the_incarnation_that_it_joined() -> None:
    life = KnownIncarnation("mine", confirmed=False)
    assert play(put(STORE, life), [("put", [b"ok", b"theirs", b"e", b"run"])]).result == Written(
        State.EPHEMERAL, None, "run"
    )
    assert (life.incarnation, life.confirmed) == ("theirs", True)


def test_put_sends_again_what_is_not_resident() -> None:
    stored = [b"ok", b"i", b"d", b"run"]
    played = play(put(STORE, KnownIncarnation("i", confirmed=True)), [("put", [b"missing", [1]]), ("put", stored)])
    again = played.steps[1]
    assert isinstance(again, Lua)
    assert again.args[-3:-1] == ("b\0b\x002", b"W%bbytes\0again" % str(again.args[1]).encode())


def test_write_knows_what_postgres_lacks_if_that_is_itself_alone() -> None:
    stored = [b"ok", b"i", b"d", b"run", b"4.theirs", b"5.mine", 1_700_000_000_000, b"age"]
    played = play(put(STORE, KnownIncarnation("i", confirmed=True)), [("put", [b"missing", [1]]), ("put", stored)])
    blobs = [BlobRow("", "b", "2", "bytes", b"again")]
    lacking = ThreadBatch("t", "i", "4.theirs", "5.mine", [ROW], blobs, [], 1_700_000_000_000, "age")
    assert played.result == Written(State.DIRTY, lacking, "run")


def test_write_that_finds_no_thread_goes_on_when_another_one_of_its_run_has_begun_it_meanwhile() -> None:
    life = KnownIncarnation("mine", confirmed=False)
    plan = put(STORE, life)
    next(plan)
    assert name_of(plan.send([b"origin", b"token"])) == "adopt"
    life.confirm("mine")
    assert name_of(plan.send(None)) == "put"
    with pytest.raises(StopIteration):
        plan.send([b"ok", b"mine", b"e", b"run"])


def test_write_to_an_evicted_thread_learns_its_origin_from_postgres() -> None:
    life = KnownIncarnation("life", confirmed=True)
    played = play(
        put(STORE, life),
        [
            ("put", [b"origin", b"token"]),
            ("adopt", Origin("life", "7.op", pinned=True)),
            ("put", [b"ok", b"life", b"d", b"run"]),
        ],
    )
    again = played.steps[2]
    assert isinstance(again, Lua)
    assert again.args[6:10] == ("cold", "token", "7.op", "1")


def test_write_of_a_run_whose_thread_is_nowhere_is_refused() -> None:
    with pytest.raises(ThreadDeletedError, match="'t'"):
        play(
            put(STORE, KnownIncarnation("life", confirmed=True)),
            [("put", [b"origin", b"token"]), ("adopt", None), ("reopen", [b"ok"])],
        )


def test_write_of_a_run_whose_thread_lives_on_as_another_is_refused() -> None:
    with pytest.raises(ThreadDeletedError):
        play(
            put(STORE, KnownIncarnation("life", confirmed=True)),
            [
                ("put", [b"origin", b"token"]),
                ("adopt", Origin("next life", "1.op", pinned=False)),
                ("reopen", [b"ok"]),
            ],
        )


def test_write_waits_for_a_structural_operation_but_not_for_ever() -> None:
    closed = [("put", [b"closed", 30_000]), ("pause", None)]
    life = KnownIncarnation("life", confirmed=True)
    assert play(put(STORE, life), [*closed, ("put", [b"ok", b"life", b"c", b"run"])]).result.state is State.CLEAN
    with pytest.raises(ThreadBusyError):
        play(put(STORE, life), [*closed * 1501, ("put", [b"closed", 30_000])])


def test_write_goes_on_when_the_thread_is_read_back_and_evicted_under_it_but_not_for_ever() -> None:
    life = KnownIncarnation("life", confirmed=True)
    origin = Origin("life", "7.op", pinned=False)
    asked: list[tuple[str, Any]] = [("put", [b"origin", b"token"]), ("adopt", origin)]
    again: list[tuple[str, Any]] = [("put", [b"origin", b"token"]), ("pause", None), ("adopt", origin)]
    stored = ("put", [b"ok", b"life", b"c", b"run"])
    assert play(put(STORE, life), [*asked, *again * 20, stored]).result.state is State.CLEAN
    with pytest.raises(ThreadBusyError, match="evicted it again"):
        play(put(STORE, life), [*asked, *again * 1501, ("put", [b"origin", b"token"])])


def test_structural_operation_takes_its_marker_away_when_postgres_fails() -> None:
    clean = [b"thread", b"life", b"c", b"3.op", 3, 3, 0, b"age", 0, 0, 0, b"", b"run"]
    with pytest.raises(ColdTierError):
        play(
            reshaping.prune(STORE, "t"),
            [
                ("lease", clean),
                ("lease", clean),
                ("lease", clean),
                ("evict", [b"ok"]),
                ("drop", ColdTierError("down")),
                ("reopen", [b"ok"]),
            ],
        )


def test_delete_of_an_ephemeral_thread_is_one_step() -> None:
    play(reshaping.delete(STORE, "t"), [("delete", [b"ok", b"0", b"life", b"run", b"1.5"])])


def test_delete_of_a_promoted_thread_clears_postgres_after_redis() -> None:
    play(
        reshaping.delete(STORE, "t"),
        [
            ("delete", [b"ok", b"1", b"life", b"run", b"1.5"]),
            ("adopt", Origin("life", "1.a", pinned=False)),
            ("delete", None),
            ("delete", [b"ok", b"0", b"", b"run"]),
        ],
    )


def test_delete_of_a_cold_thread_tells_redis_which_incarnation_is_over_before_postgres_forgets_it() -> None:
    """The transaction may be repeated, and would not know any more what it has deleted."""
    played = play(
        reshaping.delete(STORE, "t"),
        [
            ("delete", [b"ok", b"1", b"", b"run", b"1.5"]),
            ("adopt", Origin("life", "1.a", pinned=False)),
            ("delete", [b"ok", b"0", b"", b"run"]),
            ("delete", None),
            ("delete", [b"ok", b"0", b"", b"run"]),
        ],
    )
    for step in played.steps[2], played.steps[-1]:
        assert isinstance(step, Lua)
        assert "life" in step.args
