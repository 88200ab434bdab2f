"""Both servers as values: what they hold can be taken, compared and put back, and a plan's step performed on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import msgpack
import psycopg
import redis
from layout import meta_of
from scripted import waited_for

from langgraph_tiered_checkpoint import TieredSaver
from langgraph_tiered_checkpoint.cold.segments import Opened
from langgraph_tiered_checkpoint.hot.scripts import script
from langgraph_tiered_checkpoint.steps import SERVER_RUN, Behind, Lua, LuaBatch, Pause, Plan, Step, Tx

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "tiered_segments", "tiered_threads")
_TIMES = (
    "created",
    "last_write",
    "dirty_since",
    "created_at",
    "updated_at",
    "last_write_at",
    "flushed_at",
    "promoted_at",
    "pinned_at",
)

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


@dataclass(frozen=True, eq=False)
class HotState:
    """All of Redis, and what is in the one thread. The same contents are the same object."""

    keys: tuple[tuple[bytes, bytes, int, tuple[bytes, ...]], ...]
    kind: int
    """The same for states that differ in times only."""
    fields: dict[bytes, bytes]
    """The thread's hash."""
    mortal: bool
    """Whether it has a TTL."""

    def without(self, key: str) -> tuple[bytes | int, ...]:
        """What puts back all but one key."""
        return tuple(part for one in self.keys if one[0] != key.encode() for part in one[:3])

    @cached_property
    def held(self) -> frozenset[tuple[str, str]]:
        """Checkpoints and writes that are there: ids with task ids, "" for the checkpoint itself."""
        found: set[tuple[str, str]] = set()
        for name in self.fields:
            if name[:1] == b"c":
                found.add((name.partition(b"\0")[2].decode(), ""))
            elif name[:1] == b"p":
                _, id_, _, task = name[1:].split(b"\0")
                found.add((id_.decode(), task.decode()))
        return frozenset(found)

    @cached_property
    def state(self) -> str:
        """What Redis has under the thread's key: a thread in a state, a marker in place of one, or nothing."""
        if self.meta is not None:
            return {"e": "ephemeral", "d": "dirty", "c": "clean"}[self.meta["state"]]
        return str(msgpack.unpackb(self.fields[b"x"])[0]) if b"x" in self.fields else "nothing"

    @cached_property
    def meta(self) -> dict[str, Any] | None:
        """What the thread's hash says about the thread."""
        return meta_of(self.fields) if b"m" in self.fields else None


@dataclass(frozen=True, eq=False)
class ColdState:
    """All rows of the thread's tables. Those that differ in times only are the same object."""

    rows: tuple[str, ...]

    @cached_property
    def held(self) -> frozenset[tuple[str, str]]:
        """Checkpoints and writes that are there: ids with task ids, "" for the checkpoint itself."""
        checkpoints, _, writes, segments, _ = (json.loads(rows) for rows in self.rows)
        found = {(row["checkpoint_id"], "") for row in checkpoints}
        for row in segments:
            contents, frame = (bytes.fromhex(row[part].removeprefix("\\x")) for part in ("contents", "frame"))
            for entry in Opened("t", row["segment"], contents, frame).entries():
                found |= {(entry.row.checkpoint_id, task) for task in ("", *(w.task_id for w in entry.writes))}
        return frozenset(found | {(row["checkpoint_id"], row["task_id"]) for row in writes})

    @cached_property
    def flushed(self) -> frozenset[str]:
        """The incarnation of the thread, if it has been committed."""
        return frozenset(row["incarnation"] for row in json.loads(self.rows[-1]) if row["flushed"])


NOTHING_COLD = ColdState(("[]",) * len(TABLES))


class World:
    """The servers. They belong to the model alone."""

    def __init__(self, saver: TieredSaver, redis_url: str, postgres_url: str, thread_id: str) -> None:
        self.saver = saver
        self.key = saver._store.hot.thread_key(thread_id)
        self.client = redis.Redis.from_url(redis_url)
        self.sql = psycopg.connect(postgres_url, autocommit=True)
        self.transitions: set[tuple[str, str, str]] = set()
        """What has moved the thread from one state in Redis to another: before, script, after."""
        self._hot: HotState | None = None
        self._cold: ColdState | None = None
        self._hot_states: dict[object, HotState] = {}
        self._cold_states: dict[str, ColdState] = {}
        self._kinds: dict[str, int] = {"": 0}

    @property
    def hot_kinds(self) -> AbstractSet[str]:
        """What Redis has held, without times."""
        return self._kinds.keys()

    @property
    def cold_kinds(self) -> AbstractSet[str]:
        """What Postgres has held, without times."""
        return self._cold_states.keys()

    def close(self) -> None:
        self.client.close()
        self.sql.close()

    def hot(self) -> HotState:
        """What Redis holds."""
        if self._hot is None:
            self._hot = self._take_hot()
        return self._hot

    def cold(self) -> ColdState:
        """What Postgres holds."""
        if self._cold is None:
            self._cold = self._take_cold()
        return self._cold

    def _take_hot(self) -> HotState:
        found = cast("list[Any]", self.client.eval(_TAKE, 0))
        keys = tuple(sorted((key, dump, ttl, tuple(held)) for key, dump, ttl, held in found))
        pairs = [(key, ttl >= 0, dict(zip(held[::2], held[1::2], strict=True))) for key, _, ttl, held in keys]
        same = tuple((key, mortal, frozenset(held.items())) for key, mortal, held in pairs)
        if same not in self._hot_states:
            canon = "\n".join(_canonical(*one) for one in pairs)
            kind = self._kinds.setdefault(canon, len(self._kinds))
            fields, mortal = next(
                ((held, mortal) for key, mortal, held in pairs if key == self.key.encode()), ({}, False)
            )
            self._hot_states[same] = HotState(keys, kind, fields, mortal)
        return self._hot_states[same]

    def _take_cold(self) -> ColdState:
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
        return self._cold_states.setdefault(json.dumps(timeless, sort_keys=True), ColdState(rows))

    def put_hot(self, hot: HotState) -> None:
        """Make Redis hold this."""
        if hot is not self._hot:
            self.client.eval(_PUT_BACK, 0, *(part for one in hot.keys for part in one[:3]))
            self._hot = hot

    def put_cold(self, cold: ColdState) -> None:
        """Make Postgres hold this."""
        if cold is self._cold:
            return
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
        self._note(hot, "TTL")

    def perform(self, step: Step, run_id: str, clock_ms: int) -> Any:
        """The reply to a step, from a server of that run id at that time."""
        match step:
            case Lua():
                return self._call(step, run_id, clock_ms)
            case LuaBatch():
                return [self._call(call, run_id, clock_ms) for call in step.calls]
            case Pause():
                return None
            case Behind():
                return step.server_run in {None, run_id}
            case Tx():
                self._cold = None
                return self.saver._sync._perform(step)
            case _:
                raise AssertionError(f"one thread does not need {step}")

    def run(self, plan: Plan[Any], run_id: str, clock_ms: int) -> Any:
        """Perform all steps of a plan; what it returns."""
        reply: Any = None
        plan = waited_for(plan)
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as done:
                return done.value
            reply = self.perform(step, run_id, clock_ms)

    def _note(self, before: HotState, what: str) -> None:
        if before.state != (after := self.hot().state):
            self.transitions.add((before.state, what, after))

    def _call(self, call: Lua[Any], run_id: str, clock_ms: int) -> Any:
        before = self.hot()
        reply = self._answer(call, run_id, clock_ms)
        self._hot = None
        self._note(before, call.script)
        return reply

    def _answer(self, call: Lua[Any], run_id: str, clock_ms: int) -> Any:
        text = script(call.script).text.decode().replace("redis.call('TIME')", _CLOCK).replace("call('TIME')", _CLOCK)
        args = [run_id if arg is SERVER_RUN else arg for arg in call.args]
        pipeline = self.client.pipeline(transaction=False)
        pipeline.set("model:clock", clock_ms)
        pipeline.eval(text, len(call.keys), *call.keys, *args)
        return pipeline.execute()[1]


def _canonical(key: bytes, mortal: bool, held: Mapping[bytes, bytes]) -> str:  # noqa: FBT001 - a triple
    pairs: dict[bytes, object] = dict(held)
    if b":t:" not in key:
        timed = key.endswith(b":gone")
        return f"{key!r} {sorted(pairs.items() if timed else pairs)!r}"
    if b"m" in pairs:
        meta = meta_of(held)
        timeless = {k: v for k, v in meta.items() if k not in _TIMES} | {"dirty since": meta["dirty_since"] > 0}
        pairs[b"m"] = sorted(timeless.items())
        del pairs[b"s"]
    if b"x" in pairs:
        kind, token, _deadline, *run = msgpack.unpackb(held[b"x"])
        pairs[b"x"] = (kind, token, run)
    pairs.pop(b"e", None)
    return f"{key!r} {mortal} {sorted(pairs.items())!r}"
