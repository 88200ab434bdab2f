"""Writes that are remembered: after a fault, every acknowledged one must be there, exactly once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from faults.writers import versions
from homes import at, make_checkpoint
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple
from langgraph.checkpoint.postgres import PostgresSaver

from langgraph_tiered_checkpoint import TieredCheckpointError, TieredSaver

_ITERATED = ("list", "thread_ids", "scopes", "export")


class Caller:
    """Calls a saver's methods, or their async twins in a loop of its own, so that a test needs no twin."""

    def __init__(self, saver: TieredSaver, loop: asyncio.AbstractEventLoop | None) -> None:
        self.saver = saver
        self._loop = loop

    def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        if self._loop is None:
            result = getattr(self.saver, method)(*args, **options)
            return list(result) if method in _ITERATED else result
        coroutine = getattr(self.saver, f"a{method}")(*args, **options)
        if method in _ITERATED:
            return self._loop.run_until_complete(_collect(coroutine))
        return self._loop.run_until_complete(coroutine)


async def _collect(items: Any) -> list[Any]:
    return [item async for item in items]


class Ledger:
    """What one thread was told to keep: what was acknowledged, and what may or may not have arrived."""

    def __init__(self, call: Caller, thread_id: str, writer: str = "") -> None:
        self.call = call
        self.thread_id = thread_id
        self.writer = writer
        """Part of all versions, so that several may write to one thread."""
        self.made: dict[str, Checkpoint] = {}
        self.parents: dict[str, str | None] = {}
        self.acknowledged: set[str] = set()
        self.writes: dict[str, list[tuple[str, str, Any]]] = {}
        """Acknowledged, by checkpoint: task, channel, value."""
        self.doubtful_writes: dict[str, list[tuple[str, str, Any]]] = {}
        self.head: str | None = None

    @property
    def config(self) -> RunnableConfig:
        """The config of the latest acknowledged checkpoint, or of the thread."""
        return at(self.thread_id, checkpoint_id=self.head)

    def put(self, value: Any = None) -> str:
        """Put a checkpoint onto the latest acknowledged one; its id."""
        number = len(self.made) + 1
        made = versions(make_checkpoint({"n": [number], "value": value}, number), self.writer)
        self.made[made["id"]], self.parents[made["id"]] = made, self.head
        self.repeat(made["id"])
        return made["id"]

    def repeat(self, checkpoint_id: str) -> None:
        """Put a checkpoint again, exactly as before."""
        made = self.made[checkpoint_id]
        step: Any = {"source": "loop", "step": len(self.made), "parents": {}}
        parent = at(self.thread_id, checkpoint_id=self.parents[checkpoint_id])
        self.call("put", parent, made, step, made["channel_versions"])
        self.acknowledged.add(checkpoint_id)
        self.head = max(checkpoint_id, self.head or "")

    def put_writes(self, task_id: str, *values: Any) -> None:
        """Put pending writes for the latest acknowledged checkpoint."""
        assert self.head is not None
        given = [(task_id, "n", value) for value in values]
        try:
            self.call("put_writes", self.config, [("n", value) for value in values], task_id)
        except TieredCheckpointError:
            self.doubtful_writes.setdefault(self.head, []).extend(given)
            raise
        self.writes.setdefault(self.head, []).extend(given)

    def take_over(self, other: Ledger) -> None:
        """Answer for what another writer has put into the same thread, too."""
        self.made |= other.made
        self.parents |= other.parents
        self.acknowledged |= other.acknowledged
        for checkpoint_id, writes in other.writes.items():
            self.writes.setdefault(checkpoint_id, []).extend(writes)

    def check(self, saver: BaseCheckpointSaver[Any] | Caller) -> None:
        """Everything acknowledged is there, exactly once, and nothing that nobody wrote."""
        if isinstance(saver, Caller):
            listed: list[CheckpointTuple] = saver("list", at(self.thread_id))
            latest = saver("get_tuple", at(self.thread_id))
        else:
            listed = list(saver.list(at(self.thread_id)))
            latest = saver.get_tuple(at(self.thread_id))
        ids = [found.config["configurable"]["checkpoint_id"] for found in listed]
        assert ids == sorted(set(ids), reverse=True)
        assert self.acknowledged <= set(ids) <= set(self.made)
        assert latest is not None
        assert latest.checkpoint["id"] == ids[0]
        for found in [*listed, latest]:
            self._check_one(found)

    def _check_one(self, found: CheckpointTuple) -> None:
        checkpoint_id = found.config["configurable"]["checkpoint_id"]
        made = self.made[checkpoint_id]
        assert found.checkpoint["channel_values"] == made["channel_values"]
        assert (found.parent_config or {}).get("configurable", {}).get("checkpoint_id") == self.parents[checkpoint_id]
        there = Counter((task, channel, repr(value)) for task, channel, value in found.pending_writes or ())
        sure = Counter((task, channel, repr(value)) for task, channel, value in self.writes.get(checkpoint_id, ()))
        doubtful = Counter(
            (task, channel, repr(value)) for task, channel, value in self.doubtful_writes.get(checkpoint_id, ())
        )
        assert not sure - there
        assert not there - (sure | doubtful)

    def settle(self, postgres_url: str) -> None:
        """Check the thread as it is, then flushed, then evicted, then as the official saver sees it."""
        self.check(self.call)
        self.call("promote", self.thread_id)
        self.call("flush")
        assert self.call("explain", self.thread_id).state in ("clean", "cold")
        self.check(self.call)
        self.call("evict", self.thread_id)
        assert self.call("explain", self.thread_id).tier == "cold"
        self.check(self.call)
        with PostgresSaver.from_conn_string(postgres_url) as official:
            self.check(official)
