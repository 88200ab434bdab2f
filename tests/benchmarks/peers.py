"""What the benchmark compares: savers behind one interface, and the least that Redis and the serde cost for the same.

The bare peer sends the very bytes that our saver sends, keys and arguments, to scripts that do nothing with them, gets
the very bytes back that ours gets, and runs the serde over the same values. With "HSET" the script keeps what it is
sent, in one call. Nothing that keeps checkpoints in Redis through redis-py can cost less.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

import redis
import redis.asyncio
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_tiered_checkpoint import TieredSaver
from langgraph_tiered_checkpoint.replies import parse_get
from langgraph_tiered_checkpoint.scripts import script
from langgraph_tiered_checkpoint.steps import Lua

NOTHING = "return {'ok', ARGV[3], 'e'}"
KEPT = """
local fields = {}
for i = 22, #ARGV do
  fields[#fields + 1] = ARGV[2] .. i
  fields[#fields + 1] = ARGV[i]
end
redis.call('HSET', 'benchmark:kept:' .. KEYS[1], unpack(fields))
return {'ok', ARGV[3], 'e'}
"""
FOUND = "return redis.call('LRANGE', 'benchmark:reply:' .. KEYS[1], 0, -1)"

Prepared = Callable[[], Coroutine[Any, Any, object]]
"""One call with everything made ready that is not to be timed."""


class Superstep(NamedTuple):
    """One step of a chat: a checkpoint, and the writes of the task that it leads to."""

    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    new_versions: dict[str, str | int | float]
    head: RunnableConfig
    """The config of this checkpoint."""
    writes: list[tuple[str, Any]]
    task_id: str


class Chat:
    """A thread whose state is a list of messages, as long as at the start of the measurement throughout."""

    def __init__(self, thread_id: str, messages: int) -> None:
        self.latest: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        self._head = self.latest
        self._step = 0
        self._values = {
            "messages": [
                (AIMessage if i % 2 else HumanMessage)(f"Message {i}: " + "lorem ipsum dolor sit " * 9, id=str(uuid6()))
                for i in range(messages)
            ]
        }

    def superstep(self) -> Superstep:
        """The next one: the list of messages has a new version, as after every answer."""
        self._step += 1
        version = f"{self._step:032}.{0.25:016}"
        checkpoint = empty_checkpoint()
        checkpoint["id"] = str(uuid6(clock_seq=self._step % 0x3FFF))
        checkpoint["channel_values"] = {**self._values, "branch:to:assistant": None}
        checkpoint["channel_versions"] = {"__start__": version, "messages": version, "branch:to:assistant": version}
        checkpoint["versions_seen"] = {"__input__": {}, "assistant": {"branch:to:assistant": version}}
        parent = self._head
        configurable = {**self.latest["configurable"], "checkpoint_id": checkpoint["id"]}
        self._head = {"configurable": configurable}
        return Superstep(
            parent,
            checkpoint,
            {"source": "loop", "step": self._step, "parents": {}},
            {"messages": version, "branch:to:assistant": version},
            self._head,
            [("messages", [AIMessage("An answer. " * 20, id=str(uuid6()))]), ("branch:to:tools", None)],
            str(uuid6()),
        )


class Peer(Protocol):
    """One column of the comparison."""

    name: str
    bare: str
    """The name of the peer that it is compared with."""
    chat: Chat

    async def prepare(self, step: Superstep) -> dict[str, Prepared]:
        """The calls of a superstep, in the order in which they are to be made."""


class SyncPeer:
    """A saver through its sync methods."""

    def __init__(self, name: str, saver: BaseCheckpointSaver[Any], chat: Chat) -> None:
        self.name, self.bare, self.chat = name, "redis-py, sync", chat
        self._saver = saver

    async def prepare(self, step: Superstep) -> dict[str, Prepared]:
        saver = self._saver

        async def put() -> object:
            return saver.put(step.config, step.checkpoint, step.metadata, step.new_versions)

        async def put_writes() -> None:
            saver.put_writes(step.head, step.writes, step.task_id)

        async def get_tuple() -> object:
            return saver.get_tuple(self.chat.latest)

        return {"put": put, "put_writes": put_writes, "get_tuple": get_tuple}


class AsyncPeer:
    """A saver through its async methods."""

    def __init__(self, name: str, saver: BaseCheckpointSaver[Any], chat: Chat) -> None:
        self.name, self.bare, self.chat = name, "redis-py, async", chat
        self._saver = saver

    async def prepare(self, step: Superstep) -> dict[str, Prepared]:
        saver = self._saver
        return {
            "put": lambda: saver.aput(step.config, step.checkpoint, step.metadata, step.new_versions),
            "put_writes": lambda: saver.aput_writes(step.head, step.writes, step.task_id),
            "get_tuple": lambda: saver.aget_tuple(self.chat.latest),
        }


class BarePeer:
    """redis-py and the serde, with the bytes of a `TieredSaver`; `keep` stores them."""

    def __init__(
        self,
        model: TieredSaver,
        chat: Chat,
        sync_client: redis.Redis,
        async_client: redis.asyncio.Redis | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self.bare = "redis-py, async" if async_client else "redis-py, sync"
        self.name = self.bare + ", HSET" * keep
        self.chat = chat
        self._model = model
        self._serde: SerializerProtocol = model.serde
        self._sync: Any = sync_client
        self._async: Any = async_client
        self._stored = str(self._sync.script_load(KEPT if keep else NOTHING))
        self._found = str(self._sync.script_load(FOUND))

    async def prepare(self, step: Superstep) -> dict[str, Prepared]:
        requests = self._model._requests
        put: Any = next(requests.put(step.config, step.checkpoint, step.metadata, step.new_versions))
        writes: Any = next(requests.put_writes(step.head, step.writes, step.task_id, ""))
        get: Any = next(requests.get_tuple(self.chat.latest))
        # What a read of this very superstep gets, and what the serde has to do with it.
        self._run(put)
        self._run(writes)
        reply = self._run(get)
        found = parse_get("", "", reply).stored
        assert found is not None
        typed = [(b.type, b.data) for b in found.blobs] + [(w.type, w.data) for w in found.writes]
        key = f"benchmark:reply:{get.keys[0]}"
        self._sync.delete(key)
        self._sync.rpush(key, *_flat(reply))
        values = [step.checkpoint["channel_values"]["messages"]]
        return {
            "put": self._sent(self._stored, put, values),
            "put_writes": self._sent(self._stored, writes, [value for _, value in step.writes]),
            "get_tuple": self._received(self._found, get, typed),
        }

    def _run(self, step: Lua) -> Any:
        return self._sync.eval(script(step.script).text, len(step.keys), *step.keys, *step.args)

    def _sent(self, sha: str, step: Lua, values: list[Any]) -> Prepared:
        async def call() -> object:
            for value in values:
                self._serde.dumps_typed(value)
            return await self._evalsha(sha, step)

        return call

    def _received(self, sha: str, step: Lua, typed: list[tuple[str, bytes]]) -> Prepared:
        async def call() -> object:
            await self._evalsha(sha, step)
            return [self._serde.loads_typed(one) for one in typed]

        return call

    async def _evalsha(self, sha: str, step: Lua) -> object:
        if self._async is not None:
            return await self._async.evalsha(sha, len(step.keys), *step.keys, *step.args)
        return self._sync.evalsha(sha, len(step.keys), *step.keys, *step.args)


def _flat(reply: Any) -> list[bytes | int]:
    if isinstance(reply, list):
        return [part for item in reply for part in _flat(item)]
    return [] if reply is None else [reply]
