"""What is done to threads as a whole: to both savers, or only to the tiers, where it must not show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model.pair import WHICH, Pair, Space
from stepping import Stepped

from langgraph_tiered_checkpoint.errors import ConfigurationError, NotPromotableError
from langgraph_tiered_checkpoint.plans import flushing, promoting, reading


class Upkeep(Pair):
    """What happens to threads as a whole, whoever does it and whenever."""

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
                    and id_ > self.copied.get(thread, "")
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
        copied = [id_ for checkpoints in self.model.storage.get(source, {}).values() for id_ in checkpoints]
        self.copied[to] = max(copied, default="")

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
        self.copied.pop(thread, None)
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

    @rule(which=WHICH, method=st.sampled_from(["archive", "archive", "unarchive"]), twin=st.booleans())
    def archive(self, *, which: int, method: str, twin: bool) -> None:
        thread = self.threads[which]
        if method == "archive" and self.saver.explain(thread).state == "ephemeral":
            with pytest.raises(NotPromotableError):
                self._call(twin, method, thread)
        else:
            self._call(twin, method, thread)

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
            "sweep": lambda: promoting.sweep(store),
            "due": lambda: promoting.flush_due(store, list(self.threads)),
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
