"""The limit: the serde's own time, and one EVALSHA of a `TieredSaver`'s bytes through hiredis on a bare stream.

A saver without Postgres makes the same calls first, on a thread of its own, so that its bytes can be sent again to a
script that does nothing with them, and gets back what the saver got. With `keep` the script stores what it is sent.
Nothing that keeps checkpoints in Redis can cost less, whatever its client.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from typing import Any, Protocol

import hiredis
import redis

from benchmarks.measures import Call
from benchmarks.payloads import Superstep, at
from benchmarks.world import World
from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.hot.scripts import script
from langgraph_tiered_checkpoint.io.exchanges import addressed
from langgraph_tiered_checkpoint.steps import Lua, Plan

NOTHING = "return {'ok', ARGV[3], 'e'}"
KEEP = """
local fields = {}
for i = 2, #ARGV do
  fields[#fields + 1] = ARGV[2] .. i
  fields[#fields + 1] = ARGV[i]
end
redis.call('HSET', 'benchmark:kept:' .. KEYS[1], unpack(fields))
return {'ok', ARGV[3], 'e'}
"""
FOUND = "return redis.call('LRANGE', 'benchmark:reply:' .. KEYS[1], 0, -1)"
RUN_ID = "0123456789abcdef"


class Link(Protocol):
    """A connection that sends a command and gets its reply."""

    def call(self, words: tuple[Any, ...]) -> Coroutine[Any, Any, object]:
        """The reply."""


class StreamLink:
    """hiredis on an asyncio stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._replies = hiredis.Reader(notEnoughData=Ellipsis)

    async def call(self, words: tuple[Any, ...]) -> object:
        self._writer.write(hiredis.pack_command(words))
        while (reply := self._replies.gets()) is Ellipsis:
            self._replies.feed(await self._reader.read(65536))
        return reply


class SocketLink:
    """hiredis on a blocking socket; a coroutine in name only."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._replies = hiredis.Reader(notEnoughData=Ellipsis)

    async def call(self, words: tuple[Any, ...]) -> object:
        self._socket.sendall(hiredis.pack_command(words))
        while (reply := self._replies.gets()) is Ellipsis:
            self._replies.feed(self._socket.recv(65536))
        return reply


class Limit:
    """One row of the comparison, on a link of either kind."""

    def __init__(self, name: str, model: TieredSaver, client: redis.Redis, link: Link, *, keep: bool = False) -> None:
        self.name = name
        self._model = model
        self._serde: Any = model.serde
        self._client: Any = client
        self._link = link
        self._stored = str(client.script_load(KEEP if keep else NOTHING))
        self._found = str(client.script_load(FOUND))

    async def prepare(self, step: Superstep) -> dict[str, Call]:
        """The operations of a superstep, ready to be timed."""
        requests = self._model._requests
        put, _ = self._replay(requests.put(step.config, step.checkpoint, step.metadata, step.new_versions))
        writes, _ = self._replay(requests.put_writes(step.head, step.writes, step.task_id, ""))
        thread_id = step.config["configurable"]["thread_id"]
        get, reply = self._replay(requests.get_tuple(at(thread_id)))
        key = f"benchmark:reply:{get[3]}"
        self._client.delete(key)
        self._client.rpush(key, *_flat(reply))
        values = [step.checkpoint["channel_values"]["messages"]]
        written = [value for _, value in step.writes]
        return {
            "put": self._sent((put[0], self._stored, *put[2:]), values),
            "put_writes": self._sent((writes[0], self._stored, *writes[2:]), written),
            "get_tuple": self._received((get[0], self._found, *get[2:]), [*values, *written]),
        }

    def _replay(self, plan: Plan[Any]) -> tuple[tuple[Any, ...], Any]:
        """Carry out a plan; its last command and what came back. Of a resident thread there is one only."""
        words: tuple[Any, ...] = ()
        reply: Any = None
        try:
            while True:
                step = plan.send(reply)
                assert isinstance(step, Lua), step
                text, sha = script(step.script)
                words = addressed(("EVALSHA", sha, str(len(step.keys)), *step.keys, *step.args), RUN_ID)
                reply = self._client.eval(text, *words[2:])
        except StopIteration:
            return words, reply

    def _sent(self, words: tuple[Any, ...], values: list[Any]) -> Call:
        async def call() -> object:
            for value in values:
                self._serde.dumps_typed(value)
            return await self._link.call(words)

        return call

    def _received(self, words: tuple[Any, ...], values: list[Any]) -> Call:
        typed = [self._serde.dumps_typed(value) for value in values]

        async def call() -> object:
            await self._link.call(words)
            return [self._serde.loads_typed(one) for one in typed]

        return call


def _flat(reply: Any) -> list[bytes | int]:
    if isinstance(reply, list):
        return [part for item in reply for part in _flat(item)]
    return [] if reply is None else [reply]


@asynccontextmanager
async def limits(world: World) -> AsyncIterator[list[Limit]]:
    """The limit of async and of sync calls, and each again with a script that stores what it is sent."""
    host, port, password = world.redis_door
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    models: list[TieredSaver] = []

    def model() -> TieredSaver:
        prefix = f"model{len(models)}"
        models.append(TieredSaver.from_urls(world.redis_url, key_prefix=prefix, promotion=Promotion.never()))
        return models[-1]

    make: Callable[..., Limit] = lambda name, link, **kind: Limit(name, model(), world.admin, link, **kind)  # noqa: E731
    with closing(writer), socket.create_connection((host, port)) as connection:
        stream, blocking = StreamLink(reader, writer), SocketLink(connection)
        for link in (stream, blocking):
            await link.call(("AUTH", password))
        yield [
            make("limit", stream),
            make("limit, HSET", stream, keep=True),
            make("limit, sync", blocking),
            make("limit, sync, HSET", blocking, keep=True),
        ]
        for one in models:
            one.close()
