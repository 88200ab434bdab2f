"""What runs do to their threads, done to both savers."""

from __future__ import annotations

import contextvars
import random
from typing import Any

import pytest
from homes import at
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from model.pair import WHICH, WHICH_SPACE, Pair, Run, Space, collected, place, shown
from sameness import difference

from langgraph_tiered_checkpoint.errors import ThreadDeletedError

OLD_ROOT = "0"
"""The root checkpoint that subgraph calls started from. A call has one for good, and what is written under a later one
is taken for a call of its own (docs/guarantees.md)."""
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.lists(st.integers(-9, 9), max_size=3),
    st.binary(max_size=8),
)
EDITS = ("append", "append", "append", "put in front", "put in between", "take half away")
"""What can be done to a value that is long enough to travel as a difference against the one before."""


class Usage(Pair):
    """What runs write and read, step by step, and what is asked about their threads."""

    # Rules that write

    def _make(self, space: Space, data: st.DataObject, *, fork: bool) -> tuple[Checkpoint, str | None, dict[str, Any]]:
        """A checkpoint, its parent, and the versions that are new."""
        parents = [None, *space.made]
        parent = data.draw(st.sampled_from(parents), "parent")
        base = space.made[parent] if parent else empty_checkpoint()
        made = empty_checkpoint()
        awaited = list(space.awaited) if not fork else []
        made["id"] = data.draw(st.sampled_from([*awaited, ""]), "awaited") or self._id()
        space.awaited.pop(made["id"], None)
        made["channel_values"] = dict(base["channel_values"])
        made["channel_versions"] = dict(base["channel_versions"])
        new: dict[str, Any] = {}
        changed = st.dictionaries(st.sampled_from(self.channels), VALUES | st.sampled_from(EDITS), max_size=3)
        changes = {} if fork else data.draw(changed, "changes")
        for channel, change in changes.items():
            number = next(self.numbers)
            new[channel] = f"{number:032}.{len(space.made):016}"
            value = edited(base["channel_values"].get(channel), change, number) if change in EDITS else change
            made["channel_values"][channel] = value
        made["channel_versions"] |= new
        return made, parent, new

    @rule(
        which=WHICH,
        space_=WHICH_SPACE,
        turns=st.integers(1, 4),
        resume=st.booleans(),
        edit=st.sampled_from(["", *EDITS]),
        between=st.sampled_from(["", "", "flush", "evict"]),
        twin=st.booleans(),
    )
    def chat(self, *, which: int, space_: int, turns: int, resume: bool, edit: str, between: str, twin: bool) -> None:
        """What a run does: each checkpoint on the latest one, with pending writes that come before and after it."""
        thread, ns = self.threads[which], self.names[space_]
        space = self._space(thread, ns)
        for turn in range(turns):
            parent = max(space.made, default=None)
            made = empty_checkpoint()
            made["id"] = self._id()
            base = space.made[parent] if parent else made
            channel, task = self.channels[0], self.tasks[0]
            number = next(self.numbers)
            new: dict[str, Any] = {channel: f"{number:032}.{turn:016}"}
            value = edited(base["channel_values"].get(channel), edit, number) if edit else [turn]
            made["channel_values"] = {**base["channel_values"], channel: value}
            made["channel_versions"] = {**base["channel_versions"], **new}
            space.made[made["id"]] = made
            early: list[tuple[str, Any]] = [(channel, f"early {made['id']}"), ("__resume__", turn)]
            late: list[tuple[str, Any]] = [(channel, f"late {made['id']}"), ("__resume__", -turn)]
            metadata: Any = {"source": "loop", "step": turn, "parents": {}, "run_id": self.run_ids[turn % 2]}
            self._both(twin, "put_writes", at(thread, ns, made["id"]), early, task)
            if between and self.saver.explain(thread).state in ("dirty", "clean"):
                getattr(self.saver, between)(thread)
            self._both(twin, "put", at(thread, ns, parent), made, metadata, new)
            if resume:
                self._both(twin, "put_writes", at(thread, ns, made["id"]), late, task)

    @rule(
        which=WHICH,
        space_=WHICH_SPACE,
        run=st.sampled_from([None, 0, 1]),
        fork=st.booleans(),
        twin=st.booleans(),
        data=st.data(),
    )
    def put(self, *, which: int, space_: int, run: int | None, fork: bool, twin: bool, data: st.DataObject) -> None:
        thread = self.threads[which]
        ns = self.names[space_]
        space = self._space(thread, ns)
        made, parent, new = self._make(space, data, fork=fork)
        metadata: Any = {"source": "loop", "step": len(space.made), "parents": {"": OLD_ROOT} if ns else {}}
        if run is not None:
            metadata["run_id"] = self.run_ids[run]
        config = at(thread, ns, parent)
        self._both(twin, "put", config, made, metadata, new)
        space.made[made["id"]] = made

    @rule(
        which=WHICH,
        space_=WHICH_SPACE,
        early=st.booleans(),
        task=st.integers(0, 2),
        channels=st.lists(
            st.sampled_from([0, 1, "__interrupt__", "__resume__", "__error__", "__no_writes__"]),
            min_size=1,
            max_size=3,
        ),
        value=VALUES,
        twin=st.booleans(),
        data=st.data(),
    )
    def put_writes(
        self,
        *,
        which: int,
        space_: int,
        early: bool,
        task: int,
        channels: list[int | str],
        value: Any,
        twin: bool,
        data: st.DataObject,
    ) -> None:
        thread = self.threads[which]
        ns = self.names[space_]
        space = self._space(thread, ns)
        known = [*space.made, *space.awaited]
        id_ = self._id() if early or not known else data.draw(st.sampled_from(known), "checkpoint")
        if id_ not in space.made:
            space.awaited[id_] = None
        names = [self.channels[one] if isinstance(one, int) else one for one in channels]
        writes = [(channel, [n, value]) for n, channel in enumerate(names)]
        self._both(twin, "put_writes", at(thread, ns, id_), writes, self.tasks[task], "path")

    # Rules that read

    @rule(which=WHICH, space_=WHICH_SPACE, twin=st.booleans(), data=st.data())
    def get(self, *, which: int, space_: int, twin: bool, data: st.DataObject) -> None:
        thread = self.threads[which]
        ns = self.names[space_]
        ids = [None, *self._space(thread, ns).made]
        self._same_get(at(thread, ns, data.draw(st.sampled_from(ids), "checkpoint")), ns, twin)

    @rule(
        which=WHICH,
        space_=st.none() | WHICH_SPACE,
        limit=st.sampled_from([None, 1, 2]),
        run=st.sampled_from([None, 0, 1]),
        twin=st.booleans(),
        data=st.data(),
    )
    def list_(
        self, *, which: int, space_: int | None, limit: int | None, run: int | None, twin: bool, data: st.DataObject
    ) -> None:
        thread = self.threads[which]
        ns = None if space_ is None else self.names[space_]
        ids = [id_ for (t, n), space in self.spaces.items() if t == thread and ns in (None, n) for id_ in space.made]
        before = data.draw(st.sampled_from([None, *sorted(ids)]), "before")
        options: dict[str, Any] = {
            "filter": None if run is None else {"run_id": self.run_ids[run]},
            "before": at(thread, ns or "", before) if before else None,
        }
        config: RunnableConfig = {"configurable": {"thread_id": thread} | ({} if ns is None else {"checkpoint_ns": ns})}
        if twin:
            got = self.loop.run_until_complete(collected(self.saver.alist(config, limit=limit, **options)))
        else:
            got = list(self.saver.list(config, limit=limit, **options))
        wanted = sorted(self.model.list(config, **options), key=place, reverse=True)[:limit]
        assert difference([shown(t) for t in got], [shown(t) for t in wanted]) == ""

    @rule(which=WHICH, space_=WHICH_SPACE, twin=st.booleans(), data=st.data())
    def delta_history(self, *, which: int, space_: int, twin: bool, data: st.DataObject) -> None:
        thread, ns = self.threads[which], self.names[space_]
        id_ = data.draw(st.sampled_from([None, *self._space(thread, ns).made]), "checkpoint")
        asked: dict[str, Any] = {"config": at(thread, ns, id_), "channels": self.channels[:3]}
        got = self._call(twin, "get_delta_channel_history", **asked)
        assert difference(dict(got), dict(self.model.get_delta_channel_history(**asked))) == "", asked

    @rule(twin=st.booleans(), which=WHICH)
    def overview(self, *, twin: bool, which: int) -> None:
        """Which threads there are, what is in them all, and where."""
        if twin:
            ids = self.loop.run_until_complete(collected(self.saver.athread_ids()))
            everything = self.loop.run_until_complete(collected(self.saver.alist(None)))
        else:
            ids, everything = list(self.saver.thread_ids()), list(self.saver.list(None))
        # One that has nothing but early writes may be missing: see docs/guarantees.md.
        there = {thread for thread in self.threads if self._exists(thread)}
        assert {thread for thread, ns in self.spaces if self.spaces[thread, ns].made} <= set(ids) <= there
        prefix = self.threads[which]
        assert list(self.saver.thread_ids(prefix)) == [thread for thread in ids if thread.startswith(prefix)]
        found = [(one.config["configurable"]["thread_id"], *place(one)) for one in everything]
        made = [(thread, id_, ns) for (thread, ns), space in self.spaces.items() for id_ in space.made]
        assert sorted(found) == sorted(made)
        told = [self._call(twin, "explain", thread) for thread in self.threads]
        for one in told:
            assert (one.tier is not None) == (one.thread_id in there), one
            assert (one.expires_at is None) == (one.state in ("dirty", "cold", "absent")), one
        stats = self._call(twin, "stats")
        assert stats.due_threads == [one.state for one in told].count("dirty")
        assert stats.parked_threads == ()

    # Runs that go on after a delete

    @precondition(lambda self: len(self.runs) < 3)
    @rule(which=WHICH)
    def start_run(self, which: int) -> None:
        thread = self.threads[which]
        context = contextvars.Context()
        context.run(self.saver.get_tuple, at(thread))
        self.runs.append(Run(thread, context, self.lives[thread], self._exists(thread)))

    @precondition(lambda self: bool(self.runs))
    @rule(index=st.integers(0, 2))
    def write_late(self, index: int) -> None:
        """A run that has read its thread writes to it only while that lives."""
        run = self.runs.pop(index % len(self.runs))
        space = self._space(run.thread, "")
        config = at(run.thread, "", max(space.made, default=None) or self._id())
        writes = [(self.channels[0], "late")]
        if run.existed and self.lives[run.thread] != run.life:
            with pytest.raises(ThreadDeletedError):
                run.context.run(self.saver.put_writes, config, writes, "late")
        elif self.lives[run.thread] == run.life:
            run.context.run(self.saver.put_writes, config, writes, "late")
            self.model.put_writes(config, writes, "late")
            if config["configurable"]["checkpoint_id"] not in space.made:
                space.awaited[config["configurable"]["checkpoint_id"]] = None


def edited(value: object, edit: str, number: int) -> list[str]:
    """The value after an edit, or a long one if it was none."""
    line = f"{number} {'again ' * 100 if number % 3 else random.Random(number).randbytes(600).hex()}"
    lines = value if isinstance(value, list) and len(value) > 3 else [f"{n}" * 900 for n in range(4)]
    half = len(lines) // 2
    match edit:
        case "append":
            return [*lines, line]
        case "put in front":
            return [line, *lines]
        case "put in between":
            return [*lines[:half], line, *lines[half:]]
        case _:
            return lines[half:]
