"""A Redis Cluster, through a given client of redis-py, which has its own connections and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

import redis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.client import NEVER_DECODE
from redis.exceptions import RedisClusterException

from langgraph_tiered_checkpoint.io.exchanges import Command, Exchange, ServerCheck, addressed, check_server, invoke
from langgraph_tiered_checkpoint.io.targets import HotTarget
from langgraph_tiered_checkpoint.steps import Lua

_CLUSTER_PAUSES_S: Final = (0.0, 0.01, 0.05, 0.25, 0.5)
"""Between attempts to reach a cluster whose nodes are being looked up anew."""


class SyncCluster:
    """A given `redis.RedisCluster`, which has its own connections and retries."""

    def __init__(self, client: redis.RedisCluster, target: HotTarget, check: ServerCheck) -> None:
        self._client: Any = client
        self._target = target
        self._check = check

    def run(self, calls: Sequence[Lua[Any]]) -> list[Any]:
        """Run scripts one by one, each on its node; their replies."""
        if not self._check.passed:
            self.check()
        return self._carry(invoke(calls, one_server=False))

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, each where the client sends it; their replies, an exception where one is refused."""
        replies: list[Any] = []
        for command in commands:
            try:
                replies.append(self._execute(command))
            except RedisClusterException as exc:  # the client knows no node for it
                replies.append(exc)
        return replies

    def check(self) -> None:
        """Make sure that the cluster is there and can be used."""
        self._carry(check_server(self._target, self._check))

    def close(self) -> None:
        """The client is the caller's."""

    def _carry(self, exchange: Exchange) -> list[Any]:
        try:
            commands = next(exchange)
            while True:
                commands = exchange.send([self._execute(command) for command in commands])
        except StopIteration as done:
            return cast("list[Any]", done.value)

    def _execute(self, command: Command) -> Any:
        try:
            return self._client.execute_command(*addressed(command, ""), **raw(command))
        except redis.ResponseError as refusal:
            return refusal


class AsyncCluster:
    """A given `redis.asyncio.RedisCluster`, which has its own connections and retries."""

    def __init__(self, client: AsyncRedisCluster, target: HotTarget, check: ServerCheck) -> None:
        self._client: Any = client
        self._target = target
        self._check = check

    async def run(self, calls: Sequence[Lua[Any]]) -> list[Any]:
        """Run scripts at the same time, each on its node; their replies."""
        if not self._check.passed:
            await self.check()
        return await self._carry(invoke(calls, one_server=False), self._at_once)

    def send(self, call: Lua[Any], run_id: str | None) -> None:
        """Nothing can be sent in order: the client has several connections."""

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, each where the client sends it; their replies, an exception where one is refused."""
        replies: list[Any] = []
        for command in commands:
            try:
                replies.append(await self._execute(command))
            except RedisClusterException as exc:  # the client knows no node for it
                replies.append(exc)
        return replies

    async def check(self) -> None:
        """Make sure that the cluster is there and can be used."""
        await self._carry(check_server(self._target, self._check), self._in_order)

    def close(self) -> None:
        """The client is the caller's."""

    @staticmethod
    async def _carry(exchange: Exchange, execute: Callable[[Sequence[Command]], Awaitable[list[Any]]]) -> list[Any]:
        try:
            commands = next(exchange)
            while True:
                commands = exchange.send(await execute(commands))
        except StopIteration as done:
            return cast("list[Any]", done.value)

    async def _at_once(self, commands: Sequence[Command]) -> list[Any]:
        return await asyncio.gather(*(self._execute(command) for command in commands))

    async def _in_order(self, commands: Sequence[Command]) -> list[Any]:
        return [await self._execute(command) for command in commands]

    async def _execute(self, command: Command) -> Any:
        """A reply. Asked for again where another task, which found the cluster changed, has closed the connection."""
        for pause_s in _CLUSTER_PAUSES_S:
            try:
                return await self._attempt(command)
            except (AttributeError, redis.ConnectionError):  # the first: of what it has just closed itself
                await asyncio.sleep(pause_s)
        return await self._attempt(command)

    async def _attempt(self, command: Command) -> Any:
        try:
            return await self._client.execute_command(*addressed(command, ""), **raw(command))
        except redis.ResponseError as refusal:
            return refusal


def raw(command: Command) -> dict[str, Any]:
    """Options that keep a cluster client from decoding a reply. INFO has to be: it comes as a dict anyway."""
    return {} if command[0] == "INFO" else {NEVER_DECODE: True}
