"""The order of a flush: claim, copy, commit, acknowledge; and what happens when a step finds the world changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from replies import ROW, changes, lease
from scripted import play

from langgraph_tiered_checkpoint.cold.writes import ColdStatus
from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.errors import ColdRefusedError, ColdTierError, HotTierError
from langgraph_tiered_checkpoint.plans import failover, flushing
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import Origin, ThreadBatch
from langgraph_tiered_checkpoint.steps import Behind, Lua, Plan

STORE = Store.of(Settings())


def status(incarnation: str, flushed: str) -> ColdStatus:
    return ColdStatus(
        origin=Origin(incarnation, flushed, pinned=False),
        checkpoints=1,
        promoted_at=None,
        last_write_at=None,
        reason="age",
    )


def test_first_flush_claims_its_row_before_it_reads_the_thread() -> None:
    play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease()),
            ("claim", {"t": Origin("life", "", pinned=False, claim="claim")}),
            ("scan", [b"scan", b"0", [], 2, b"d", b"run"]),
            ("changes", changes()),
            ("commit", frozenset({"t"})),
            ("ack", [b"clean", b"0"]),
        ],
    )


def test_first_flush_of_a_thread_that_was_always_due_reads_its_log_alone() -> None:
    played = play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease(number=0)),
            ("claim", {"t": Origin("life", "", pinned=False, claim="claim")}),
            ("changes", changes()),
            ("commit", frozenset({"t"})),
            ("ack", [b"clean", b"0"]),
        ],
    )
    [read] = [step for step in played.steps if isinstance(step, Lua) and step.script == "changes"]
    assert read.args[2] == "0"


def test_flush_acknowledges_exactly_what_it_committed() -> None:
    played = play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease(b"1.op", 1, 3)),
            ("changes", changes(b"3.op", 3)),
            ("commit", frozenset({"t"})),
            ("ack", [b"dirty", b"0"]),
        ],
    )
    ack = played.steps[3]
    assert isinstance(ack, Lua)
    assert ack.args[2] == "3.op"


def test_flush_of_a_clean_thread_is_one_look() -> None:
    play(flushing.flush(STORE, "t"), [("lease", lease(b"2.op", 2, state=b"c"))])


def test_thread_that_vanishes_after_the_claim_takes_its_row_along() -> None:
    play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease()),
            ("claim", {"t": Origin("life", "", pinned=False, claim="claim")}),
            ("scan", [b"gone"]),
            ("unclaim", None),
            ("status", None),
            ("lease", [b"absent", b"run"]),
            ("lease", [b"absent", b"run"]),
        ],
    )


def test_thread_that_vanishes_before_its_log_is_read_takes_its_row_along() -> None:
    play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease(number=0)),
            ("claim", {"t": Origin("life", "", pinned=False, claim="claim")}),
            ("changes", [b"gone"]),
            ("unclaim", None),
            ("lease", [b"absent", b"run"]),
        ],
    )


def test_flush_that_lost_the_race_acknowledges_what_postgres_holds() -> None:
    played = play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease(b"1.op", 1)),
            ("changes", changes()),
            ("commit", frozenset()),
            ("status", status("life", "2.op")),
            ("ack", [b"clean", b"0"]),
            ("lease", lease(b"2.op", 2, state=b"c")),
        ],
    )
    ack = played.steps[4]
    assert isinstance(ack, Lua)
    assert ack.args[2] == "2.op"


def test_change_that_redis_never_had_makes_it_upload_everything() -> None:
    play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease(b"1.op", 1)),
            ("changes", changes()),
            ("commit", frozenset()),
            ("status", status("life", "9.other")),
            ("ack", [b"diverged", b"0"]),
            ("rebase", [b"ok"]),
            ("lease", lease(b"9.other", 9, 10, rebase=1)),
            ("scan", [b"scan", b"0", [], 10, b"d", b"run"]),
            ("changes", changes(b"10.op", 10)),
            ("commit", frozenset({"t"})),
            ("ack", [b"clean", b"0"]),
            ("evict", [b"ok"]),
            ("lease", [b"absent", b"run"]),
        ],
    )


def test_refused_thread_is_parked_with_its_error() -> None:
    plan = flushing.flush(STORE, "t")
    with pytest.raises(ColdRefusedError, match="too big"):
        play(
            plan,
            [
                ("lease", lease(b"1.op", 1)),
                ("changes", changes()),
                ("commit", ColdRefusedError("thread 't': too big")),
                ("park", [b"parked", 1000]),
            ],
        )


def test_outage_parks_nothing() -> None:
    with pytest.raises(ColdTierError, match="down"):
        play(
            flushing.flush(STORE, "t"),
            [("lease", lease(b"1.op", 1)), ("changes", changes()), ("commit", ColdTierError("down"))],
        )


def test_another_incarnation_in_postgres_is_not_written_to_and_no_delete_is_advised() -> None:
    with pytest.raises(ColdRefusedError, match=r"\(other life; Redis has (?!.*delete)"):
        play(
            flushing.flush(STORE, "t"),
            [
                ("lease", lease()),
                ("claim", {"t": Origin("other life", "3.x", pinned=False)}),
                ("status", status("other life", "3.x")),
                ("lease", lease()),
                ("park", [b"parked", 1000]),
            ],
        )


def test_claim_of_an_incarnation_that_has_ended_is_taken_back_before_anything_is_read() -> None:
    ended = Origin("ended", "", pinned=False, claim="theirs")
    play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease()),
            ("claim", {"t": ended}),
            ("status", status("ended", "")),
            ("lease", lease()),
            ("unclaim", True),
            ("lease", [b"absent", b"run"]),
        ],
    )


def test_worker_of_a_thread_that_began_anew_meanwhile_leaves_it_to_the_next_round() -> None:
    anew = lease()
    anew[1] = b"other life"
    play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease()),
            ("claim", {"t": Origin("other life", "3.x", pinned=False)}),
            ("status", status("other life", "3.x")),
            ("lease", anew),
            ("lease", anew),
        ],
    )


def test_thread_that_was_uploaded_again_by_a_worker_that_died_is_evicted() -> None:
    play(flushing.flush(STORE, "t"), [("lease", lease(b"2.x", 2, state=b"c", rebase=1)), ("evict", [b"ok"])])


def test_whole_upload_that_another_worker_committed_is_acknowledged() -> None:
    play(
        flushing.flush(STORE, "t"),
        [
            ("lease", lease(b"1.x", 1, rebase=1)),
            ("scan", [b"scan", b"0", ROW, 2, b"d", b"run"]),
            ("changes", changes()),
            ("commit", frozenset()),
            ("status", status("life", "2.x")),
            ("ack", [b"clean", b"0"]),
            ("lease", lease(b"2.x", 2, state=b"c", rebase=1)),
            ("evict", [b"ok"]),
        ],
    )


UNFLUSHED = ThreadBatch("t", "life", "1.op", "2.mine", [], [], [], 1_700_000_000_000, "age")


def flush_write(left_dirty: Callable[[], None] = lambda: None) -> Plan[None]:
    return flushing.flush_write(STORE, "t", UNFLUSHED, "run", left_dirty)


def test_write_that_is_all_that_postgres_lacks_is_committed_and_acknowledged() -> None:
    played = play(flush_write(), [("commit", frozenset({"t"})), ("ack", [b"clean", b"0"])])
    ack = played.steps[1]
    assert isinstance(ack, Lua)
    assert ack.args[1:3] == ("life", "2.mine")


@pytest.mark.parametrize("reply", [frozenset(), ColdRefusedError("no")], ids=["lost the race", "refused"])
def test_write_that_cannot_be_committed_alone_is_flushed_with_the_thread(reply: Any) -> None:
    play(flush_write(), [("commit", reply), *FLUSHED_WITH_ALL, ("lease", lease(b"3.op", 3, 3, state=b"c"))])


FLUSHED_WITH_ALL = [
    ("lease", lease(b"1.op", 1, 3)),
    ("changes", changes(b"3.op", 3)),
    ("commit", frozenset({"t"})),
    ("ack", [b"clean", b"0"]),
]


def test_write_does_not_succeed_if_another_run_of_redis_answers_after_the_flush() -> None:
    after = [*lease(b"3.op", 3, 3, state=b"c")[:-1], b"another run"]
    with pytest.raises(HotTierError, match="Repeat the write"):
        play(flush_write(), [("commit", frozenset()), *FLUSHED_WITH_ALL, ("lease", after)])


def test_outage_of_postgres_is_raised_by_the_write() -> None:
    with pytest.raises(ColdTierError, match="down"):
        play(flush_write(), [("commit", ColdTierError("down"))])


def test_acknowledgement_is_left_to_the_redis_that_the_write_is_in() -> None:
    plan = flush_write()
    next(plan)
    step = plan.send(frozenset({"t"}))
    assert isinstance(step, Behind)
    assert step.server_run == "run"


def test_write_that_is_committed_succeeds_though_its_acknowledgement_fails_and_the_thread_is_left_dirty() -> None:
    left = []
    play(flush_write(lambda: left.append("t")), [("commit", frozenset({"t"})), ("ack", HotTierError("down"))])
    assert left == ["t"]


def test_acknowledgement_that_nobody_waits_for_goes_on_with_its_trim_and_with_what_it_finds() -> None:
    play(flush_write(), [("commit", frozenset({"t"})), ("ack", [b"clean", b"1"]), ("outline", [b"absent"])])
    diverged = [("lease", lease(b"1.op", 1, 1)), ("origin", None), ("delete", [b"ok", b"1", b"", b"run"])]
    play(flush_write(), [("commit", frozenset({"t"})), ("ack", [b"diverged", b"0"]), *diverged])


def held(flushed: str) -> Origin:
    return Origin("life", flushed, pinned=False)


@pytest.mark.parametrize(
    "refused",
    [
        [("origin", held("9.op")), ("ack", [b"diverged", b"0"]), ("forget", [b"changed", b"8.op"])],
        [("origin", held("3.op")), ("ack", [b"diverged", b"0"]), ("rebase", [b"changed", b"8.op"])],
        [("origin", held("7.op")), ("vouch", [b"changed", b"8.op"])],
    ],
    ids=["forget", "rebase", "vouch"],
)
def test_comparison_begins_again_if_somebody_else_has_acknowledged_something_meanwhile(refused: Any) -> None:
    """They may not have seen the commit yet that this one knows of."""
    again = [("origin", held("9.op")), ("ack", [b"diverged", b"0"]), ("forget", [b"ok"])]
    played = play(failover.compare(STORE, "t", "life", "7.op"), [*refused, *again])
    forget = played.steps[-1]
    assert isinstance(forget, Lua)
    assert forget.args[2] == "8.op"
