"""The savers that are compared, what is known of what they hold, and how they are compared."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis
from homes import at
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant
from key_rules import broken_rules
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from sameness import difference
from stepping import Stepped

from langgraph_tiered_checkpoint import Promotion, TieredSaver

CHANNELS = ("a", "b", "__start__", "c:1")
TASKS = ("task", "2:task", "00000000-0000-0000-0000-000000000000")
RUNS = ("run", "run 2")
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


class Pair(RuleBasedStateMachine):
    """The tiers and the model. What rules do to both, or only to the tiers, must not tell them apart."""

    tiers: Tiers
    numbers = itertools.count(1)

    def _begin(self, names: Names, hot_checkpoints: int | None, promotes_at: int | None) -> None:
        self.threads, self.names, self.channels, self.tasks, self.run_ids = names[:5]
        self.ids = list(names.ids)
        self.saver = self.tiers.saver(hot_checkpoints, promotes_at)
        self.client, self.loop = self.tiers.client, self.tiers.loop
        self.model = InMemorySaver()
        self.spaces: dict[Place, Space] = {}
        self.lives = dict.fromkeys(self.threads, 0)
        self.copied: dict[str, str] = {}
        self.paused: list[tuple[str, Stepped]] = []
        self.runs: list[Run] = []

    def teardown(self) -> None:
        if not hasattr(self, "saver"):
            return
        try:
            self._settle()
        finally:
            for thread in self.threads:
                self._call(None, "delete_thread", thread)  # in a context that the next example does not share

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
        self.same_for_all()
        for thread in self.threads:
            self.saver.unarchive(thread)
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

    def _id(self) -> str:
        return self.ids.pop() if self.ids else str(uuid6(clock_seq=next(self.numbers) % 1000))

    # Afterwards

    def _same_get(self, config: RunnableConfig, ns: str, twin: object = None) -> None:
        got, wanted = self._call(twin, "get_tuple", config), self.model.get_tuple(config)
        assert difference(shown(got), shown(wanted)) == "", (config, ns)

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
            listed = self.loop.run_until_complete(collected(saver.alist(at(*place_))))
        else:
            listed = list(saver.list(at(*place_)))
        got = [shown(found) for found in listed]
        wanted = [shown(found) for found in self.model.list(at(*place_))]
        note(f"{place_}: {[one['id'] for one in wanted]}")
        assert difference(got, wanted) == "", place_


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


async def collected(items: Any) -> list[Any]:
    return [item async for item in items]
