"""The limit under many tasks and in whole runs: what one round trip to Redis adds to an `InMemorySaver`.

A call does what `InMemorySaver` does, serde included, and sends one EVALSHA of half a kilobyte to a script that does
nothing. All tasks share a connection, and what they send in one tick goes out in one go. No saver that keeps
checkpoints in Redis, and is written in Python as that one is, can do with less.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import hiredis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.world import World

_BYTES = b"x" * 512


class _Shared(asyncio.Protocol):
    """hiredis on a transport, for any number of tasks."""

    def __init__(self) -> None:
        self._replies = hiredis.Reader(notEnoughData=Ellipsis)
        self._waiting: deque[asyncio.Future[object]] = deque()
        self._outgoing: list[bytes] = []
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        while (reply := self._replies.gets()) is not Ellipsis:
            self._waiting.popleft().set_result(reply)

    def ask(self, words: tuple[Any, ...]) -> asyncio.Future[object]:
        """Send a command with what others send in this tick; its reply."""
        loop = asyncio.get_running_loop()
        if not self._outgoing:
            loop.call_soon(self._flush)
        self._outgoing.append(hiredis.pack_command(words))
        self._waiting.append(loop.create_future())
        return self._waiting[-1]

    def _flush(self) -> None:
        self._transport.write(b"".join(self._outgoing))
        self._outgoing = []

    def close(self) -> None:
        self._transport.close()


class InMemorySaverAndRedis(InMemorySaver):
    """What the limit does; the results are the `InMemorySaver`'s."""

    def __init__(self, link: _Shared, sha: str) -> None:
        super().__init__()
        self._link, self._sha = link, sha

    async def _ask(self) -> None:
        await self._link.ask(("EVALSHA", self._sha, 1, "benchmark:nothing", _BYTES))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        stored = self.put(config, checkpoint, metadata, new_versions)
        await self._ask()
        return stored

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.put_writes(config, writes, task_id, task_path)
        await self._ask()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        await self._ask()
        return self.get_tuple(config)


@asynccontextmanager
async def opened(world: World, sessions: int) -> AsyncIterator[InMemorySaverAndRedis]:
    """As the openers of peers are."""
    host, port, password = world.redis_door
    _, link = await asyncio.get_running_loop().create_connection(_Shared, host, port)
    await link.ask(("AUTH", password))
    try:
        yield InMemorySaverAndRedis(link, str(world.admin.script_load("return ARGV[1] and 'ok'")))
    finally:
        link.close()
