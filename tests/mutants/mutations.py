"""Faults on purpose: one change each to a script, a statement or a plan, and the tests that have to notice it.

An old text is as short as it can be and still be there once: what is changed around it leaves the list alone. Where the
code is changed on purpose, change the old text with it, or take another fault of that kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PACKAGE = "langgraph_tiered_checkpoint"


class Mutation(NamedTuple):
    """One fault."""

    what: str
    """What the code does then."""
    file: str
    """Under the package."""
    old: str
    new: str
    tests: tuple[str, ...]
    """Of which at least one must fail: `file::function`, under `tests`."""

    def applied(self, root: Path) -> str:
        """The file's text with the fault.

        Raises:
            ValueError: the old text is not there, or more than once.
        """
        text = (root / PACKAGE / self.file).read_text()
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.what}: {self.old!r} is {count} times in {self.file}, not once. If the code was changed on purpose, "
                "change this text in tests/mutants/mutations.py with it, or take the fault off the list"
            )
        return text.replace(self.old, self.new)


LATE = "writing/races/test_late_callers.py::"
BETWEEN = "deletion/races/test_interleavings.py::"
RACES = "flushing/races/test_flush_races.py::"
UNIT_FLUSHING = "flushing/unit/test_plans_flushing.py::"
UNIT_TOGETHER = "flushing/unit/test_plans_flushing_together.py::"
UNIT_WRITING = "writing/unit/test_plans_reading_and_writing.py::"
TTL = "ttl/test_ttl.py::"
COMMITS = "flushing/test_statements.py::"
GONE = "deletion/test_removed_is_gone.py::"
BOUNDS = "costs/test_bounded_scripts.py::"
PLANTED = "errors/faults/test_planted_bytes.py::"
DELETES = "deletion/test_statements.py::"
TRIMS = "eviction/races/test_trims_beside_writers.py::"

WRITING = (
    Mutation(
        "a write does not wait for a prune, copy or delete",
        "hot/lua/write.lua",
        "if held and x[1] == 'closed' then",
        "if false then",
        (LATE + "test_write_waits_while_a_prune_is_at_work_in_postgres",),
    ),
    Mutation(
        "a late write of a deleted incarnation joins the next one",
        "hot/lua/quick.lua",
        "if redis.call('ZSCORE', KEYS.gone, tomb({ARGV.thread_id, ARGV.incarnation})) then",
        "if false then",
        (LATE + "test_second_write_of_a_run_whose_incarnation_was_deleted_does_not_join_the_next_one",),
    ),
    Mutation(
        "a late write of a run that had found no thread brings a deleted one back",
        "hot/lua/write.lua",
        "if not CONFIRMED and is_buried() then",
        "if false then",
        (BETWEEN + "test_run_that_found_no_thread_does_not_create_it_after_a_delete",),
    ),
    Mutation(
        "a write of an incarnation that has expired begins a new one",
        "hot/lua/write.lua",
        "    if CONFIRMED then return nil, {'deleted'} end\n    marked",
        "    marked",
        (LATE + "test_write_of_a_run_whose_thread_has_expired_is_refused_though_it_is_known_to_be_nowhere",),
    ),
    Mutation(
        "a thread that only Postgres has is taken for one that is all here",
        "hot/lua/write.lua",
        "'c', ARGV.flushed, 0, NOWHERE",
        "'c', ARGV.flushed, 1, NOWHERE",
        (BETWEEN + "test_early_writes_find_their_checkpoint_after_the_hot_copy_is_gone",),
    ),
    Mutation(
        "a write to a clean thread leaves it clean",
        "hot/lua/write.lua",
        "    m.state, m.dirty_since = 'd', now\n    call('ZADD', KEYS.due, due, TID)",
        "    m.dirty_since = now",
        (LATE + "test_late_writes_stay_while_a_newer_change_names_their_checkpoint",),
    ),
    Mutation(
        "changes are not logged",
        "hot/lua/write.lua",
        "add('g' .. m.change, log)",
        "",
        (LATE + "test_acknowledgement_of_a_change_that_redis_has_lost_is_not_taken_for_one_of_the_same_number",),
    ),
    Mutation(
        "the last write of an index wins",
        "hot/lua/put_writes.lua",
        "elseif not special then",
        "elseif false then",
        (
            "contract/test_published_failures_writes.py::test_first_write_wins_for_ordinary_and_last_for_special_channels",
        ),
    ),
    Mutation(
        "writes before their checkpoint are not counted",
        "hot/lua/put_writes.lua",
        "if not had and not is_here(place) then",
        "if false then",
        (BETWEEN + "test_namespace_of_a_call_stays_while_it_holds_early_writes",),
    ),
    Mutation(
        "a run is not noted",
        "hot/lua/put.lua",
        "if not gone and ARGV.run_id ~= '' then note_run",
        "if false then note_run",
        ("deletion/test_removed_is_gone.py::test_what_a_run_wrote_is_gone_when_it_is_rolled_back",),
    ),
    Mutation(
        "a checkpoint is stored without values that are not here",
        "hot/lua/put.lua",
        "if #missing > 0 or not fits then",
        "if not fits then",
        ("eviction/test_trimmed_history.py::test_fork_of_trimmed_history_takes_values_along_that_redis_no_longer_has",),
    ),
    Mutation(
        "a checkpoint put again keeps the values that it no longer uses",
        "hot/lua/put.lua",
        "note_left(m, gone or {})\n",
        "",
        (BETWEEN + "test_checkpoint_put_again_gives_back_the_values_that_it_no_longer_uses",),
    ),
)

QUICK = (
    Mutation(
        "the quick way does not look at the incarnation",
        "hot/lua/quick.lua",
        "if q[WRITES] == 1 and (incarnation == ARGV.incarnation or may_join()) then",
        "if q[WRITES] == 1 then",
        (LATE + "test_write_of_a_run_whose_thread_was_deleted_and_restored_is_refused",),
    ),
    Mutation(
        "the quick way takes a thread for one that was compared with Postgres",
        "hot/lua/quick.lua",
        "if not s or string.sub(s, STATE_END, STATE_END + #RUN) ~= RUN .. '\\0' then return end",
        "if not s then return end",
        ("outages/faults/test_redis_goes_back_in_time.py::test_a_promoted_thread_does_not_get_a_ttl_back",),
    ),
    Mutation(
        "the quick way does not see that the caller wants the thread promoted",
        "hot/lua/quick.lua",
        "if q[KIND] ~= EPHEMERAL or ARGV.reason ~= '' then",
        "if q[KIND] ~= EPHEMERAL then",
        ("promotion/test_promotion.py::test_thread_that_meets_a_condition_is_due_and_loses_its_ttl_with_that_write",),
    ),
    Mutation(
        "the quick way does not count",
        "hot/lua/quick.lua",
        "and (checkpoints == 0 or q[CHECKPOINTS] < checkpoints)",
        "",
        ("promotion/test_promotion.py::test_thread_that_meets_a_condition_is_due_and_loses_its_ttl_with_that_write",),
    ),
    Mutation(
        "a checkpoint takes the quick way although its writes came first",
        "hot/lua/put.lua",
        "if not found[2] or found[3] or",
        "if not found[2] or",
        (
            "promotion/test_promotion.py::test_question_that_is_stored_before_its_checkpoint_is_a_question_too",
            "writing/test_rolling_deploy.py::test_newer_code_finds_what_older_code_does_not_know",
        ),
    ),
    Mutation(
        "a value is added to an arena that somebody else has added to",
        "hot/lua/put.lua",
        "      if value ~= string.sub(wanted, 2) then return false end",
        "",
        (TRIMS + "test_processes_that_add_to_the_same_value_at_once_both_keep_theirs",),
    ),
    Mutation(
        "a trim does not see that a fork took values over",
        "hot/lua/drop.lua",
        "or m.forks ~= tonumber(ARGV.forks) then",
        "then",
        (TRIMS + "test_fork_that_takes_values_over_from_what_is_trimmed_has_them",),
    ),
    Mutation(
        "a trim takes what was written since its outline",
        "hot/lua/drop.lua",
        "if not n or written[place] or",
        "if not n or",
        (TRIMS + "test_pending_write_to_what_is_trimmed_is_flushed",),
    ),
)

READING = (
    Mutation(
        "a read does not slide the TTL",
        "hot/lua/get.lua",
        "if ARGV.refresh == '1' and ARGV.id == ''",
        "if false and ARGV.id == ''",
        (TTL + "test_call_slides_the_ttl_that_the_table_says",),
    ),
    Mutation(
        "every read slides the TTL",
        "hot/lua/get.lua",
        "if ARGV.refresh == '1' and ARGV.id == ''",
        "if ARGV.id == ''",
        (TTL + "test_call_slides_the_ttl_that_the_table_says",),
    ),
    Mutation(
        "reads by id slide the TTL",
        "hot/lua/get.lua",
        "if ARGV.refresh == '1' and ARGV.id == ''",
        "if ARGV.refresh == '1'",
        (TTL + "test_call_slides_the_ttl_that_the_table_says",),
    ),
    Mutation(
        "what is here is taken for all that there is",
        "hot/lua/get.lua",
        "sure and 'hit' or 'unsure'",
        "'hit'",
        (BETWEEN + "test_early_writes_of_a_checkpoint_from_a_slow_clock_are_found",),
    ),
    Mutation(
        "a fill brings back what was read before a later flush",
        "hot/lua/fill.lua",
        " or m.flushed ~= ARGV.flushed",
        "",
        (LATE + "test_reader_that_asked_postgres_before_a_later_flush_does_not_hide_what_that_has_trimmed",),
    ),
    Mutation(
        "a fill vouches for writes below those that were read",
        "hot/lua/fill.lua",
        "less(known.tail, ARGV.since)",
        "false",
        (LATE + "test_reader_does_not_vouch_for_a_checkpoint_from_a_slow_clock_that_came_after_it_asked_postgres",),
    ),
    Mutation(
        "a fill brings a deleted incarnation back",
        "hot/lua/fill.lua",
        "if call('ZSCORE', KEYS.gone, tomb({TID, INC})) then",
        "if false then",
        (BETWEEN + "test_reader_that_fills_after_a_delete_brings_nothing_back",),
    ),
    Mutation(
        "a fill needs no token",
        "hot/lua/fill.lua",
        " or x[2] ~= ARGV.token",
        "",
        (LATE + "test_reader_does_not_fill_under_the_token_of_another",),
    ),
    Mutation(
        "a fill leaves the thread without a TTL",
        "hot/lua/fill.lua",
        "  touch_ttl(m)\n",
        "",
        (TTL + "test_thread_that_is_filled_in_begins_with_the_hot_ttl",),
    ),
    Mutation(
        "a special write of the hot tier does not win over Postgres's",
        "cold/rows.py",
        "if write.idx < 0 or key not in merged:",
        "if key not in merged:",
        (UNIT_WRITING + "test_first_write_wins_and_special_writes_are_overwritten_when_tiers_merge",),
    ),
    Mutation(
        "an ordinary write of the hot tier wins over Postgres's",
        "cold/rows.py",
        "if write.idx < 0 or key not in merged:",
        "if True:",
        (UNIT_WRITING + "test_first_write_wins_and_special_writes_are_overwritten_when_tiers_merge",),
    ),
)

FLUSHING = (
    Mutation(
        "a change is acknowledged for another one of its number",
        "hot/lua/ack.lua",
        "or open(what, 'g' .. number)[1] ~= op",
        "",
        (LATE + "test_acknowledgement_of_a_change_that_redis_has_lost_is_not_taken_for_one_of_the_same_number",),
    ),
    Mutation(
        "an acknowledgement is repeated for another change of its number",
        "hot/lua/ack.lua",
        "elseif ARGV.through ~= m.flushed then",
        "elseif false then",
        (LATE + "test_acknowledgement_is_not_taken_for_another_one_of_the_same_number",),
    ),
    Mutation(
        "late writes go although newer changes name them",
        "hot/lua/ack.lua",
        "    if what then late[what[3]] = nil end",
        "",
        (LATE + "test_late_writes_stay_while_a_newer_change_names_their_checkpoint",),
    ),
    Mutation(
        "what was written meanwhile is acknowledged, too",
        "hot/lua/ack.lua",
        "if m.change == number then",
        "if true then",
        (RACES + "test_checkpoints_and_writes_from_before_the_acknowledgement_are_not_trimmed",),
    ),
    Mutation(
        "an acknowledgement leaves a clean thread without a TTL",
        "hot/lua/ack.lua",
        "touch_ttl(m)\n",
        "",
        (TTL + "test_call_slides_the_ttl_that_the_table_says",),
    ),
    Mutation(
        "a first copy goes on although Postgres has had the thread since",
        "hot/lua/copying.lua",
        " and (flushed ~= '' or m.flushed == '')",
        "",
        (LATE + "test_first_copy_commits_nothing_once_another_worker_has_flushed",),
    ),
    Mutation(
        "a trim takes checkpoints that Postgres has not",
        "plans/pruning.py",
        " and outline.place not in kept",
        "",
        (RACES + "test_checkpoints_and_writes_from_before_the_acknowledgement_are_not_trimmed",),
    ),
    Mutation(
        "a trim takes what delta channels need",
        "plans/pruning.py",
        "set() if is_call(ns) else _latest_with_ancestors(checkpoints)",
        "{max(checkpoints)}",
        (BETWEEN + "test_parents_that_a_delta_channel_needs_outlive_a_trim",),
    ),
    Mutation(
        "a trim leaves the floor where it was",
        "hot/lua/drop.lua",
        "      n.floor = newer\n",
        "",
        ("eviction/test_trimmed_history.py::test_trimmed_history_is_listed_and_read_whole",),
    ),
    Mutation(
        "a trim leaves the horizon where it was",
        "hot/lua/drop.lua",
        "if root ~= '' and less(m.horizon, root) then",
        "if false then",
        (BETWEEN + "test_subgraph_of_a_kept_root_checkpoint_is_found_after_its_own_were_trimmed",),
    ),
    Mutation(
        "a flush that lost the fence acknowledges nothing",
        "plans/flushing.py",
        "if reply.verdict is Verdict.DIVERGED or (",
        "if (",
        (UNIT_FLUSHING + "test_change_that_redis_never_had_makes_it_upload_everything",),
    ),
    Mutation(
        "a copy that was fenced is acknowledged",
        "plans/copying.py",
        "for t, one in following.items() if t in held}",
        "for t, one in following.items()}",
        (UNIT_FLUSHING + "test_flush_that_lost_the_race_acknowledges_what_postgres_holds",),
    ),
    Mutation(
        "the fence moves before a torn copy is mended",
        "plans/copying.py",
        "through = changes.through if mended else lease.flushed",
        "through = changes.through",
        (UNIT_TOGETHER + "test_base_whose_log_has_more_than_a_page_is_mended_before_the_fence_moves",),
    ),
    Mutation(
        "a claim of another incarnation is taken for the thread's own",
        "plans/copying.py",
        "if origin.incarnation == leases[t].incarnation and not origin.flushed",
        "if not origin.flushed",
        (UNIT_FLUSHING + "test_claim_of_an_incarnation_that_has_ended_is_taken_back_before_anything_is_read",),
    ),
    Mutation(
        "the claim of a first copy stays where the thread is gone",
        "plans/copying.py",
        "    if not lease.flushed:\n        yield from cold.unclaim(",
        "    if False:\n        yield from cold.unclaim(",
        (UNIT_FLUSHING + "test_thread_that_vanishes_before_its_log_is_read_takes_its_row_along",),
    ),
    Mutation(
        "a thread that was uploaded again stays as it is",
        "plans/flushing.py",
        "if verdict is Verdict.CLEAN:",
        "if False:",
        (UNIT_FLUSHING + "test_change_that_redis_never_had_makes_it_upload_everything",),
    ),
)

RESHAPING = (
    Mutation(
        "a drop does not see that the thread was promoted",
        "hot/lua/drop.lua",
        "if (m.state == 'e') == is_trim or",
        "if",
        (LATE + "test_prune_does_not_leave_in_postgres_what_it_takes_from_a_thread_that_is_just_promoted",),
    ),
    Mutation(
        "a drop does not see that Redis has gone back in time",
        "hot/lua/drop.lua",
        "if not is_here(place_of(staying[i], staying[i + 1])) then",
        "if false then",
        (LATE + "test_prune_leaves_the_only_checkpoint_of_a_redis_that_has_gone_back_in_time",),
    ),
    Mutation(
        "what is removed keeps its values",
        "hot/lua/drop.lua",
        "for _, field in ipairs(values) do fields[#fields + 1] = field end\n",
        "",
        ("deletion/test_removed_is_gone.py::test_message_that_was_removed_is_gone_with_the_prune",),
    ),
    Mutation(
        "a delete leaves no tombstone of the incarnation",
        "hot/lua/delete.lua",
        "if m then call('ZADD', KEYS.gone, now, tomb({TID, m.incarnation})) end",
        "",
        (LATE + "test_reader_fills_nothing_while_a_delete_is_on_its_way_to_postgres",),
    ),
    Mutation(
        "a delete leaves no tombstone of the thread",
        "hot/lua/delete.lua",
        "call('ZADD', KEYS.gone, now, tomb({TID}), now, tomb({TID, OP}))",
        "call('ZADD', KEYS.gone, now, tomb({TID, OP}))",
        (BETWEEN + "test_run_that_found_no_thread_does_not_create_it_after_a_delete",),
    ),
    Mutation(
        "a delete believes that a trimmed thread is here alone",
        "hot/lua/delete.lua",
        "m and m.state == 'e' and m.whole == 1",
        "m",
        (LATE + "test_reader_fills_nothing_while_a_delete_is_on_its_way_to_postgres",),
    ),
    Mutation(
        "a dirty thread is evicted",
        "hot/lua/evict.lua",
        " or m.state ~= 'c'",
        "",
        (LATE + "test_eviction_leaves_a_thread_that_was_written_since_its_flush",),
    ),
    Mutation(
        "an eviction lets a fill that is under way go on",
        "hot/lua/evict.lua",
        "  end_fill(x)\n",
        "",
        (BETWEEN + "test_reader_that_fills_after_an_eviction_fills_nothing",),
    ),
    Mutation(
        "a sweep leaves lost dirty threads",
        "hot/lua/sweep.lua",
        "string.byte(s) == DIRTY",
        "string.byte(s) == 0",
        ("ttl/test_sweeps.py::test_dirty_thread_that_has_fallen_out_of_the_schedule_is_due_again",),
    ),
    Mutation(
        "a prune in Postgres forgets to flush",
        "plans/reshaping.py",
        "-> Plan[bool]:\n    yield from flush(store, thread_id)\n",
        "-> Plan[bool]:\n",
        (LATE + "test_write_waits_while_a_prune_is_at_work_in_postgres",),
    ),
    Mutation(
        "an incarnation is not confirmed by its first write",
        "plans/writing.py",
        "known.confirm(reply.incarnation)",
        "pass",
        (UNIT_WRITING + "test_write_confirms_the_incarnation_that_it_joined",),
    ),
    Mutation(
        "an incarnation that is not Postgres's goes on there",
        "plans/writing.py",
        "if confirmed and (origin is None or origin.incarnation != known.incarnation):",
        "if False:",
        (UNIT_WRITING + "test_write_of_a_run_whose_thread_lives_on_as_another_is_refused",),
    ),
)

STATEMENTS = (
    Mutation(
        "a commit does not look at the fence",
        "cold/sql/write.sql",
        "    AND coalesce(nullif(t.flushed, ''), t.claim) = n.expected\n",
        "",
        (COMMITS + "test_commit_writes_only_threads_whose_fence_holds",),
    ),
    Mutation(
        "a commit takes another incarnation for its own",
        "cold/sql/write.sql",
        " AND t.incarnation = n.incarnation",
        "",
        (COMMITS + "test_commit_writes_only_threads_whose_fence_holds",),
    ),
    Mutation(
        "a commit replaces ordinary writes",
        "cold/sql/write.sql",
        "WHERE NOT %(keep)s AND w.idx < 0",
        "WHERE NOT %(keep)s",
        (COMMITS + "test_the_first_write_of_an_index_wins_and_the_last_of_a_negative_one",),
    ),
    Mutation(
        "an adoption gives a new incarnation to a thread that has one",
        "cold/sql/write.sql",
        "SELECT * FROM known\nUNION ALL\n",
        "",
        ("postgres/test_official_rows.py::test_official_threads_are_read_adopted_and_deleted",),
    ),
    Mutation(
        "a claim is taken back although something was flushed",
        "cold/sql/write.sql",
        "DELETE FROM $schema.tiered_threads WHERE thread_id = %(thread)s AND incarnation = %(incarnation)s AND flushed = ''",
        "DELETE FROM $schema.tiered_threads WHERE thread_id = %(thread)s AND incarnation = %(incarnation)s",
        (COMMITS + "test_claim_keeps_the_row_that_is_there_and_unclaim_only_takes_unflushed_ones",),
    ),
    Mutation(
        "a prune takes writes that wait for their checkpoint",
        "cold/sql/write.sql",
        "WHERE c.thread_id = w.thread_id AND",
        "WHERE true OR c.thread_id = w.thread_id AND",
        (
            "writing/test_early_writes_of_other_runs.py::test_early_writes_of_a_call_find_their_checkpoint_after_its_others_were_pruned",
        ),
    ),
    Mutation(
        "values go that other checkpoints use",
        "cold/sql/write.sql",
        "EXCEPT\nSELECT v.key, v.value",
        "EXCEPT ALL\nSELECT v.key, v.value || 'x'",
        (DELETES + "test_drop_takes_what_only_the_dropped_ones_needed",),
    ),
    Mutation(
        "the fence of a thread goes that has pending writes",
        "cold/sql/write.sql",
        "AND (SELECT true FROM $schema.checkpoint_writes WHERE thread_id = %(thread)s ORDER BY checkpoint_ns LIMIT 1) IS NULL\n",
        "",
        (DELETES + "test_a_thread_with_early_writes_outlives_its_checkpoints",),
    ),
)

VALUES = (
    Mutation(
        "what a removed value was made of stays",
        "plans/reshaping.py",
        "    yield from erase(store, thread_id, incarnation)\n",
        "",
        (GONE + "test_what_a_run_wrote_is_gone_when_it_is_rolled_back",),
    ),
    Mutation(
        "what is needed by now is erased",
        "hot/lua/erase.lua",
        "if m.change ~= tonumber(ARGV.change) then return {'changed'} end",
        "",
        (GONE + "test_what_is_written_during_a_prune_stays",),
    ),
    Mutation(
        "a value that is put over stays in its arena",
        "hot/lua/put.lua",
        "note_left(m, left)\n",
        "",
        (GONE + "test_value_that_is_put_over_is_gone",),
    ),
    Mutation(
        "the last write of an index wins where calls of many writes overlap",
        "hot/frames.py",
        "for row in reversed(rows)}",
        "for row in rows}",
        (BOUNDS + "test_first_of_many_writes_wins_and_the_last_special_one",),
    ),
    Mutation(
        "a copy is of several moments",
        "plans/reshaping.py",
        "or following.meta != page.meta",
        "",
        (BOUNDS + "test_copy_of_a_large_thread_is_of_one_moment",),
    ),
    Mutation(
        "a script goes through as many items as it is told",
        "hot/lua/values.lua",
        " or #items > MOST_ITEMS then",
        " then",
        (PLANTED + "test_recipe_that_makes_no_sense_is_an_error_at_once",),
    ),
    Mutation(
        "an inline value is not carried on",
        "calls.py",
        "        if not silent or not at.checkpoint_id:",
        "        if True:",
        ("writing/test_rolling_deploy.py::test_version_without_its_value_stands_for_the_parent_s",),
    ),
    Mutation(
        "who deletes a thread may not put it back",
        "calls.py",
        '        incarnations.remember(self.store.number, stored_id, "", gone_ms, by_delete=True)\n',
        "",
        ("deletion/test_restoring.py::test_who_deletes_a_thread_may_put_back_what_it_has_read",),
    ),
)

MUTATIONS = (*WRITING, *QUICK, *READING, *FLUSHING, *RESHAPING, *STATEMENTS, *VALUES)
