"""Both servers as values: what they hold can be taken, compared and put back, and a plan's step performed on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import msgpack
import psycopg
import redis

from langgraph_tiered_checkpoint import TieredSaver
from langgraph_tiered_checkpoint.scripts import script
from langgraph_tiered_checkpoint.steps import SERVER_RUN, Lua, LuaBatch, Pause, Plan, Step

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_threads")
_TIMES = ("ct", "lw", "du", "created_at", "updated_at", "last_write_at", "flushed_at", "promoted_at", "pinned_at")

# The scripts' clock stands still unless the model moves it.
_CLOCK = (
    "(function() local c = tonumber(redis.call('GET', 'model:clock')); "
    "return {math.floor(c / 1000), (c % 1000) * 1000} end)()"
)
_TAKE = """
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'string' then
    local held = kind == 'hash' and redis.call('HGETALL', key) or redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    out[#out + 1] = {key, redis.call('DUMP', key), redis.call('PTTL', key), held}
  end
end
return out
"""
_PUT_BACK = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('TYPE', key).ok ~= 'string' then redis.call('DEL', key) end
end
for i = 1, #ARGV, 3 do redis.call('RESTORE', ARGV[i], math.max(tonumber(ARGV[i + 2]), 0), ARGV[i + 1]) end
"""


@dataclass(frozen=True)
class HotState:
    """All of Redis."""

    keys: tuple[tuple[bytes, bytes, int, tuple[bytes, ...]], ...]
    canon: str
    """The same for states that differ in times only."""

    def thread(self, key: str) -> tuple[dict[bytes, bytes], bool]:
        """A thread's hash, and whether it has a TTL."""
        for name, _, ttl, held in self.keys:
            if name == key.encode():
                return dict(zip(held[::2], held[1::2], strict=True)), ttl >= 0
        return {}, False

    def without(self, key: str) -> tuple[bytes | int, ...]:
        """What puts back all but one key."""
        return tuple(part for one in self.keys if one[0] != key.encode() for part in one[:3])


@dataclass(frozen=True)
class ColdState:
    """All rows of the thread's tables."""

    rows: tuple[str, ...]
    canon: str


class World:
    """The servers. They belong to the model alone."""

    def __init__(self, saver: TieredSaver, redis_url: str, postgres_url: str, thread_id: str) -> None:
        self.saver = saver
        self.key = saver._store.hot.thread_key(thread_id)
        self.client = redis.Redis.from_url(redis_url)
        self.sql = psycopg.connect(postgres_url, autocommit=True)
        self._hot: HotState | None = None
        self._cold: ColdState | None = None

    def close(self) -> None:
        self.client.close()
        self.sql.close()

    def take(self) -> tuple[HotState, ColdState]:
        """What the servers hold."""
        if self._hot is None:
            found = cast("list[Any]", self.client.eval(_TAKE, 0))
            keys = tuple(sorted((key, dump, ttl, tuple(held)) for key, dump, ttl, held in found))
            self._hot = HotState(keys, "\n".join(_canonical(*one) for one in keys))
        if self._cold is None:
            wanted = ", ".join(
                f"(SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)::text), '[]') FROM {table} AS t)::text"
                for table in TABLES
            )
            rows = cast("tuple[str, ...]", self.sql.execute(f"SELECT {wanted}".encode()).fetchone())
            timeless = [
                [{k: v for k, v in row.items() if k not in _TIMES and not k.endswith("_ms")} for row in json.loads(of)]
                for of in rows
            ]
            for row in timeless[-1]:
                if row["flushed"]:
                    del row["claim"]  # only a first copy is committed behind it
            self._cold = ColdState(rows, json.dumps(timeless, sort_keys=True))
        return self._hot, self._cold

    def put_back(self, hot: HotState, cold: ColdState) -> None:
        """Make the servers hold this."""
        if hot is not self._hot:
            self.client.eval(_PUT_BACK, 0, *(part for one in hot.keys for part in one[:3]))
            self._hot = hot
        if cold is not self._cold:
            with self.sql.pipeline(), self.sql.transaction():
                for table, rows in zip(TABLES, cold.rows, strict=True):
                    self.sql.execute(f"DELETE FROM {table}".encode())
                    if rows != "[]":
                        self.sql.execute(
                            f"INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, %s)".encode(),
                            (rows,),
                        )
            self._cold = cold

    def lapse(self, hot: HotState) -> None:
        """The thread's key is gone."""
        self.client.eval(_PUT_BACK, 0, *hot.without(self.key))
        self._hot = None

    def perform(self, step: Step, run_id: str, clock_ms: int) -> Any:
        """The reply to a step, from a server of that run id at that time."""
        match step:
            case Lua():
                self._hot = None
                return self._call(step, run_id, clock_ms)
            case LuaBatch():
                self._hot = None
                return [self._call(call, run_id, clock_ms) for call in step.calls]
            case Pause():
                return None
            case _:
                self._cold = None
                return self.saver._sync._perform(step)

    def run(self, plan: Plan[Any], run_id: str, clock_ms: int) -> Any:
        """Perform all steps of a plan; what it returns."""
        reply: Any = None
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as done:
                return done.value
            reply = self.perform(step, run_id, clock_ms)

    def _call(self, call: Lua, run_id: str, clock_ms: int) -> Any:
        text = script(call.script).text.decode().replace("call('TIME')", _CLOCK)
        args = [run_id if arg is SERVER_RUN else arg for arg in call.args]
        pipeline = self.client.pipeline(transaction=False)
        pipeline.set("model:clock", clock_ms)
        pipeline.eval(text, len(call.keys), *call.keys, *args)
        return pipeline.execute()[1]


def _canonical(key: bytes, _: bytes, ttl: int, held: tuple[bytes, ...]) -> str:
    pairs: dict[bytes, object] = dict(zip(held[::2], held[1::2], strict=True))
    if b":t:" not in key:
        timed = key.endswith(b":gone")
        return f"{key!r} {sorted(pairs.items() if timed else pairs)!r}"
    if b"m" in pairs:
        meta = msgpack.unpackb(cast("bytes", pairs[b"m"]))
        timeless = {k: v for k, v in meta.items() if k not in _TIMES} | {"dirty since": meta["du"] > 0}
        pairs[b"m"] = sorted(timeless.items())
    if b"x" in pairs:
        kind, token, _deadline, *run = msgpack.unpackb(cast("bytes", pairs[b"x"]))
        pairs[b"x"] = (kind, token, run)
    pairs.pop(b"e", None)
    return f"{key!r} {ttl >= 0} {sorted(pairs.items())!r}"
