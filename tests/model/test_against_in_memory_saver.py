"""Any sequence of operations gives what `InMemorySaver` gives, wherever the threads are and whoever moves them."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pytest
import redis
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ids import hostile
from key_rules import broken_rules
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from sameness import difference
from stepping import Stepped

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import ConfigurationError, NotPromotableError, ThreadDeletedError
from langgraph_tiered_checkpoint.plans import batches, flushing, reading

THREADS = ("t", "T", "t:*,{}", "t\t\\ é", "e\u0301")
SPACES = ("", "sub:task 1", "sub:task 1|deep:task,2", "keeps")
CHANNELS = ("a", "b", "__start__", "c:1")
TASKS = ("task", "2:task", "00000000-0000-0000-0000-000000000000")
OLD_ROOT = "0"
"""The root checkpoint that subgraph calls started from. A call has one for good, and what is written under a later one
is taken for a call of its own (docs/guarantees.md)."""
RUNS = ("run", "run 2")
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
WHICH = st.sampled_from([0, 0, 0, 1])
"""Which of an example's two threads; of its three namespaces the root likewise gets most of the work."""
WHICH_SPACE = st.sampled_from([0, 0, 0, 1, 2])
Place = tuple[str, str]


class Names(NamedTuple):
    """What an example calls things."""

    threads: tuple[str, ...]
    spaces: tuple[str, ...]
    channels: tuple[str, ...] = CHANNELS
    tasks: tuple[str, ...] = TASKS
    runs: tuple[str, ...] = RUNS
    ids: tuple[str, ...] = ()
    """Of checkpoints, until they are used up."""


@dataclass
class Run:
    """A run that has read its thread, and what the thread's life was then."""

    thread: str
    context: contextvars.Context
    life: int
    existed: bool


@dataclass
class Space:
    """What the test knows of one namespace of one thread."""

    made: dict[str, Checkpoint] = field(default_factory=dict)
    awaited: dict[str, str | None] = field(default_factory=dict)
    """Ids of checkpoints that have pending writes already, and their parents."""


class Tiers:
    """Savers for the settings that examples draw, made once."""

    def __init__(self, *urls: str) -> None:
        self.urls = urls
        self.loop = asyncio.new_event_loop()
        self.client = redis.Redis.from_url(urls[0])
        self.differences = 0
        """Values that Redis held as differences, counted after each rule."""
        self._savers: dict[tuple[int | None, int | None], TieredSaver] = {}

    def saver(self, hot_checkpoints: int | None, promotes_at: int | None) -> TieredSaver:
        key = hot_checkpoints, promotes_at
        if key not in self._savers:
            self._savers[key] = TieredSaver.from_urls(
                *self.urls,
                promoter="external",
                promotion=Promotion(after=None, checkpoints=promotes_at),
                hot_checkpoints=hot_checkpoints,
            )
        return self._savers[key]

    def close(self) -> None:
        for saver in self._savers.values():
            self.loop.run_until_complete(saver.aclose())
            saver.close()
        self.loop.close()
        self.client.close()


class Machine(RuleBasedStateMachine):
    """Every rule does the same to both savers, or only to the tiers; afterwards both must say the same."""

    tiers: Tiers
    numbers = itertools.count(1)

    @initialize(
        threads=st.permutations(THREADS),
        others=st.permutations(SPACES[1:]),
        hot_checkpoints=st.sampled_from([None, 1, 2]),
        promotes_at=st.sampled_from([None, 3]),
    )
    def begin(
        self, threads: list[str], others: list[str], hot_checkpoints: int | None, promotes_at: int | None
    ) -> None:
        self._begin(Names(tuple(threads[:2]), ("", *others[:2])), hot_checkpoints, promotes_at)

    def _begin(self, names: Names, hot_checkpoints: int | None, promotes_at: int | None) -> None:
        self.threads, self.names, self.channels, self.tasks, self.run_ids = names[:5]
        self.ids = list(names.ids)
        self.saver = self.tiers.saver(hot_checkpoints, promotes_at)
        self.client, self.loop = self.tiers.client, self.tiers.loop
        self.model = InMemorySaver()
        self.spaces: dict[Place, Space] = {}
        self.lives = dict.fromkeys(self.threads, 0)
        self.paused: list[tuple[str, Stepped]] = []
        self.runs: list[Run] = []

    def teardown(self) -> None:
        if not hasattr(self, "saver"):
            return
        try:
            self._settle()
        finally:
            for thread in self.threads:
                self.saver.delete_thread(thread)

    def _settle(self) -> None:
        """What the tiers hold after everything has been flushed and evicted, as the official saver sees it too."""
        for _, plan in self.paused:
            plan.finish()
        self.same_for_all()
        for thread in self.threads:
            if self._exists(thread):
                self.saver.promote(thread)
        self.saver.flush()
        assert broken_rules(self.client) == []
        for thread in self.threads:
            if self._exists(thread):
                self.saver.evict(thread)
                assert self.saver.explain(thread).tier == "cold"
        if not any("\\" in name for name in (*self.channels, *self.tasks)):  # the official saver cannot read these
            with PostgresSaver.from_conn_string(self.tiers.urls[1]) as official:
                for place in self.spaces:
                    self._compare(official, place)
        self.same_for_all()
        for thread, ns in self.spaces:
            self._same_get(at(thread, ns), ns)

    # Doing the same to both

    def _call(self, twin: object, method: str, *args: Any, **options: Any) -> Any:
        if not twin:
            return contextvars.Context().run(getattr(self.saver, method), *args, **options)
        return self.loop.run_until_complete(getattr(self.saver, f"a{method}")(*args, **options))

    def _both(self, twin: object, method: str, *args: Any) -> None:
        self._call(twin, method, *args)
        getattr(self.model, method)(*args)

    def _space(self, thread: str, ns: str) -> Space:
        return self.spaces.setdefault((thread, ns), Space())

    def _exists(self, thread: str) -> bool:
        return any(self.model.storage.get(thread, {}).values()) or any(key[0] == thread for key in self.model.writes)

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

    def _id(self) -> str:
        return self.ids.pop() if self.ids else str(uuid6(clock_seq=next(self.numbers) % 1000))

    # Rules that write

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

    def _same_get(self, config: RunnableConfig, ns: str, twin: object = None) -> None:
        got, wanted = self._call(twin, "get_tuple", config), self.model.get_tuple(config)
        assert difference(shown(got), shown(wanted)) == "", (config, ns)

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
            got = self.loop.run_until_complete(_collect(self.saver.alist(config, limit=limit, **options)))
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
            ids = self.loop.run_until_complete(_collect(self.saver.athread_ids()))
            everything = self.loop.run_until_complete(_collect(self.saver.alist(None)))
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

    # Rules that change what a thread consists of

    @rule(which=WHICH, strategy=st.sampled_from(["keep_latest", "delete"]), twin=st.booleans())
    def prune(self, *, which: int, strategy: Literal["keep_latest", "delete"], twin: bool) -> None:
        thread = self.threads[which]
        self._call(twin, "prune", [thread], strategy=strategy)
        if strategy == "delete":
            self._forget(thread)
            return
        for ns, checkpoints in self.model.storage.get(thread, {}).items():
            self._drop(thread, ns, {id_ for id_ in checkpoints if id_ != max(checkpoints)})

    @rule(which=st.lists(st.integers(0, 1), unique=True, min_size=1), twin=st.booleans())
    def delete_for_runs(self, *, which: list[int], twin: bool) -> None:
        runs = [self.run_ids[one] for one in which]
        self._call(twin, "delete_for_runs", runs)
        for thread, spaces in list(self.model.storage.items()):
            for ns, checkpoints in spaces.items():
                gone = {
                    id_
                    for id_, (_, metadata, _) in checkpoints.items()
                    if self.model.serde.loads_typed(metadata).get("run_id") in runs
                }
                if gone:
                    self._drop(thread, ns, gone)
            if spaces and not self._exists(thread):
                self._forget(thread)

    def _drop(self, thread: str, ns: str, ids: set[str]) -> None:
        checkpoints = self.model.storage[thread][ns]
        for id_ in ids:
            del checkpoints[id_]
            self.model.writes.pop((thread, ns, id_), None)
            self._space(thread, ns).made.pop(id_)
        for id_, (checkpoint, metadata, parent) in checkpoints.items():
            if parent in ids:
                checkpoints[id_] = (checkpoint, metadata, None)

    @rule(source_=WHICH, to_=WHICH, twin=st.booleans())
    def copy(self, *, source_: int, to_: int, twin: bool) -> None:
        source, to = self.threads[source_], self.threads[to_]
        if self._exists(to):
            with pytest.raises(ConfigurationError):
                self._call(twin, "copy_thread", source, to)
            return
        if self.lives[to]:
            return  # its checkpoints are older than the delete, so bare writes to them would be taken for late ones
        self._call(twin, "copy_thread", source, to)
        if source == to:
            return
        self._copy_in_model(source, to)

    def _copy_in_model(self, source: str, to: str) -> None:
        for ns, checkpoints in self.model.storage.get(source, {}).items():
            self.model.storage[to][ns].update(checkpoints)
        for (thread, ns, id_), writes in list(self.model.writes.items()):
            if thread == source:
                self.model.writes[to, ns, id_].update(writes)
        for (thread, ns, channel, version), value in list(self.model.blobs.items()):
            if thread == source:
                self.model.blobs[to, ns, channel, version] = value
        for (thread, ns), space in list(self.spaces.items()):
            if thread == source:
                self.spaces[to, ns] = Space(dict(space.made), dict(space.awaited))

    @rule(which=WHICH, twin=st.booleans(), rarely=st.integers(0, 3))
    def delete(self, *, which: int, twin: bool, rarely: int) -> None:
        if rarely:
            return
        thread = self.threads[which]
        self._call(twin, "delete_thread", thread)
        self._forget(thread)

    def _forget(self, thread: str) -> None:
        self.model.delete_thread(thread)
        self.lives[thread] += 1
        for place_ in [place_ for place_ in self.spaces if place_[0] == thread]:
            del self.spaces[place_]

    # Rules that only move things between tiers

    @rule(which=WHICH, method=st.sampled_from(["promote", "pin", "unpin"]), twin=st.booleans())
    def promote(self, *, which: int, method: str, twin: bool) -> None:
        thread = self.threads[which]
        if self._exists(thread):
            self._call(twin, method, thread)
        else:
            with pytest.raises(NotPromotableError):
                self._call(twin, method, thread)

    @rule(which=st.none() | WHICH, twin=st.booleans())
    def flush(self, *, which: int | None, twin: bool) -> None:
        thread = None if which is None else self.threads[which]
        self._call(twin, "flush", thread)

    @rule(which=WHICH, twin=st.booleans())
    def evict(self, *, which: int, twin: bool) -> None:
        thread = self.threads[which]
        if self.saver.explain(thread).state == "ephemeral":
            with pytest.raises(NotPromotableError):
                self._call(twin, "evict", thread)
        else:
            self._call(twin, "evict", thread)

    @rule(which=WHICH)
    def lapse(self, which: int) -> None:
        """Let a TTL run out."""
        thread = self.threads[which]
        ephemeral = self.saver.explain(thread).state == "ephemeral"
        key = self.saver._store.hot.thread_key(thread)
        if self.client.pttl(key) > 0:
            self.client.delete(key)
            if ephemeral:
                self._forget(thread)

    # Promoters that stall or die between any two steps

    @precondition(lambda self: len(self.paused) < 2)
    @rule(which=WHICH, steps=st.integers(1, 6), kind=st.sampled_from(["flush", "fill", "due", "sweep"]))
    def start_plan(self, which: int, steps: int, kind: str) -> None:
        thread = self.threads[which]
        store = self.saver._store
        plans: dict[str, Callable[[], Any]] = {
            "flush": lambda: flushing.flush(store, thread),
            "fill": lambda: reading.get(store, thread, "", ""),
            "sweep": lambda: batches.sweep(store),
            "due": lambda: batches.flush_due(store, list(self.threads)),
        }
        plan = Stepped(self.saver, plans[kind]()).take(steps)
        if not plan.done:
            self.paused.append((thread, plan))

    @precondition(lambda self: bool(self.paused))
    @rule(index=st.integers(0, 1), steps=st.integers(1, 20), dies=st.booleans())
    def resume_plan(self, *, index: int, steps: int, dies: bool) -> None:
        thread, plan = self.paused.pop(index % len(self.paused))
        plan.take(steps)
        if not dies and not plan.done:
            self.paused.append((thread, plan))

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

    # Afterwards

    @invariant()
    def count_differences(self) -> None:
        for thread in getattr(self, "threads", ()):
            fields: Any = self.client.hgetall(self.saver._store.hot.thread_key(thread))
            self.tiers.differences += sum(name[:1] == b"b" and kept[:1] == b"R" for name, kept in fields.items())

    @invariant()
    def same_for_all(self) -> None:
        for number, place_ in enumerate(list(getattr(self, "spaces", ()))):
            self._compare(self.saver, place_, twin=number % 2)

    def _compare(self, saver: BaseCheckpointSaver[Any], place_: Place, *, twin: object = None) -> None:
        if twin:
            listed = self.loop.run_until_complete(_collect(saver.alist(at(*place_))))
        else:
            listed = list(saver.list(at(*place_)))
        got = [shown(found) for found in listed]
        wanted = [shown(found) for found in self.model.list(at(*place_))]
        note(f"{place_}: {[one['id'] for one in wanted]}")
        assert difference(got, wanted) == "", place_


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


def at(thread: str, ns: str = "", checkpoint_id: str | None = None) -> RunnableConfig:
    found = {"thread_id": thread, "checkpoint_ns": ns}
    return {"configurable": found | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def place(found: CheckpointTuple) -> tuple[str, str]:
    return found.checkpoint["id"], found.config["configurable"]["checkpoint_ns"]


def shown(found: CheckpointTuple | None) -> Any:
    """What users see of a tuple."""
    if found is None:
        return None
    return {
        "id": found.checkpoint["id"],
        "ns": found.config["configurable"]["checkpoint_ns"],
        "values": found.checkpoint["channel_values"],
        "versions": found.checkpoint["channel_versions"],
        "metadata": dict(found.metadata),
        "parent": (found.parent_config or {}).get("configurable", {}).get("checkpoint_id"),
        "writes": sorted(found.pending_writes or (), key=repr),
    }


async def _collect(items: Any) -> list[Any]:
    return [item async for item in items]


# Ids that are hard to tell apart

NAMES = st.builds(
    Names,
    threads=hostile(2),
    spaces=hostile(2).map(lambda names: ("", *names)),
    channels=hostile(4),
    tasks=hostile(3),
    runs=hostile(2),
    ids=hostile(8),
)


class HostileMachine(Machine):
    """The same with ids of all kinds that are hard to tell apart, whichever of them are used for what."""

    @initialize(names=NAMES, hot_checkpoints=st.sampled_from([None, 1, 2]), promotes_at=st.sampled_from([None, 3]))
    def begin(self, names: Names, hot_checkpoints: int | None, promotes_at: int | None) -> None:
        self._begin(names, hot_checkpoints, promotes_at)


@pytest.fixture
def tiers(redis_url: str, postgres_url: str) -> Iterator[Tiers]:
    made = Tiers(redis_url, postgres_url)
    yield made
    made.close()


def play(machine: type[Machine], tiers: Tiers, **options: Any) -> None:
    class Bound(machine):  # type: ignore[misc, valid-type]
        pass

    Bound.tiers = tiers
    run_state_machine_as_test(Bound, settings=settings(**options))
    assert tiers.differences > 0


@pytest.mark.timeout(600)
def test_any_sequence_of_operations_gives_what_the_in_memory_saver_gives(tiers: Tiers) -> None:
    play(Machine, tiers, stateful_step_count=30)


@pytest.mark.timeout(600)
def test_ids_that_are_nearly_the_same_never_meet(tiers: Tiers) -> None:
    play(HostileMachine, tiers, stateful_step_count=20, max_examples=settings().max_examples // 2)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("machine", [Machine, HostileMachine])
def test_two_thousand_sequences_of_operations(tiers: Tiers, machine: type[Machine]) -> None:
    play(machine, tiers, max_examples=2_000, stateful_step_count=50)
