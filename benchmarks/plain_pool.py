"""A `TieredSaver` that talks to Redis through redis-py's client and its connection pool, as savers usually do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from langgraph_tiered_checkpoint import TieredSaver
from langgraph_tiered_checkpoint.io.exchanges import addressed, invoke
from langgraph_tiered_checkpoint.steps import Lua


class PlainPool:
    """Stands in for the port of one event loop: a connection from the pool for each call."""

    def __init__(self, url: str, port: Any, size: int | None) -> None:
        self._client: Any = Redis.from_url(url, max_connections=size)
        self._port = port

    async def run(self, calls: Sequence[Lua[Any]]) -> list[Any]:
        """Run scripts; their replies."""
        conversation = invoke(calls)
        commands = next(conversation)
        try:
            while True:
                commands = conversation.send([await self._execute(addressed(words, "")) for words in commands])
        except StopIteration as done:
            replies: list[Any] = done.value
            return replies

    def send(self, call: Lua[Any], run_id: str | None) -> None:
        """Nothing can be sent in order, on several connections."""

    def close(self) -> None:
        """Close the port whose place was taken; the pool's connections end with the loop."""
        self._port.close()

    async def _execute(self, words: Any) -> Any:
        try:
            return await self._client.execute_command(*words, **{NEVER_DECODE: True})
        except redis.ResponseError as refusal:
            return refusal


async def use_plain_pool(saver: TieredSaver, size: int | None) -> None:
    """Replace the port of the running loop."""
    connections = saver._async._connections
    ports: Any = await connections.async_ports()
    ports.hot = PlainPool(str(connections.hot.url), ports.hot, size)
