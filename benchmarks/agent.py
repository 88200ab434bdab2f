"""A chat agent's state: many channels of which one changes with each superstep, one session at a time.

The messages are a window that loses its oldest and gains a newest, or a list that only grows; or a small value changes
and they stay. For Redis's own time, calls of one kind are made in a row, and Redis says how long its commands took; the
base is a script of one HSET and one PEXPIRE (or one HMGET) of the bytes that the call sends (or gets).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from benchmarks.limit import RUN_ID
from benchmarks.measures import Call, Results, Stopwatch, no_collections
from benchmarks.payloads import Superstep, at, text
from benchmarks.peers import Peer, Peers
from benchmarks.profiles import Profile
from benchmarks.world import World
from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.hot.scripts import script
from langgraph_tiered_checkpoint.io.exchanges import addressed
from langgraph_tiered_checkpoint.steps import Lua, Plan

WORKLOAD = "agent"
EPISODE = 200
"""Checkpoints of a thread; then comes a new one, whose first checkpoints are not timed."""
WARM_UP = 20
WINDOW = 20
OPERATIONS = ("put", "put_writes", "get_tuple", "get_tuple by id")
PEERS = ("InMemorySaver", "AsyncValkeySaver", "AsyncPostgresSaver", "TieredSaver")

STORE = "redis.call('HSET', KEYS[1], unpack(ARGV, 2)) redis.call('PEXPIRE', KEYS[1], ARGV[1]) return 'ok'"
FETCH = "return redis.call('HMGET', KEYS[1], unpack(ARGV))"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of state."""

    case: str
    changes: str
    """window, growing or small: what becomes of the channel that changes."""
    channels: int = 10
    remembered: bool = True
    """Whether values may travel as differences."""


KINDS = (
    Kind("window of messages", "window"),
    Kind("window of messages, whole", "window", remembered=False),
    Kind("growing messages", "growing"),
    Kind("small value", "small"),
    Kind("small value, 50 channels", "small", 50),
)


class Agent:
    """One thread of an agent."""

    def __init__(self, thread_id: str, kind: Kind, seed: int = 0) -> None:
        self._kind = kind
        self._source = random.Random(seed)
        self._thread_id = thread_id
        self._messages = [self._message(number) for number in range(WINDOW)]
        others = range(kind.channels - 1)
        self._values: dict[str, Any] = {f"notes_{i}": {"number": i, "notes": [text(self._source, 5)]} for i in others}
        self._versions = {name: self._version(0) for name in self._values}
        self._step = 0
        self._head = at(thread_id)

    def superstep(self) -> Superstep:
        """The next one."""
        self._step += 1
        changed = "notes_0" if self._kind.changes == "small" else "messages"
        if changed == "messages":
            self._messages = [*self._messages, self._message(WINDOW + self._step)]
            if self._kind.changes == "window":
                self._messages = self._messages[-WINDOW:]
        else:
            self._values[changed] = {"number": self._step, "notes": ["calm"]}
        version = self._version(self._step)
        new = {changed: version} if self._step > 1 else dict.fromkeys((*self._values, "messages"), version)
        self._versions |= new
        checkpoint = empty_checkpoint()
        checkpoint["v"] = 4
        checkpoint["id"] = str(uuid6(clock_seq=self._step % 0x3FFF))
        checkpoint["channel_values"] = {**self._values, "messages": self._messages}
        checkpoint["channel_versions"] = dict(self._versions)
        checkpoint["versions_seen"] = {"__input__": {}, "assistant": {changed: version}}
        parent, self._head = self._head, at(self._thread_id, checkpoint["id"])
        return Superstep(
            parent,
            checkpoint,
            {"source": "loop", "step": self._step, "parents": {}},
            dict(new),
            self._head,
            [(changed, [self._message(0)] if changed == "messages" else checkpoint["channel_values"][changed])],
            str(uuid6()),
            self._step <= WARM_UP,
        )

    def _message(self, number: int) -> BaseMessage:
        return HumanMessage(f"{number}: {text(self._source, 46)}", id=f"{self._source.getrandbits(128):032x}")

    def _version(self, step: int) -> str:
        return f"{step:032}.{self._source.random():016}"


def supersteps(name: str, kind: Kind) -> Iterator[Superstep]:
    """Without end: after `EPISODE` of them comes a new thread."""
    number = 0
    while True:
        number += 1
        agent = Agent(f"{name}-{number}", kind, seed=number)
        for _ in range(EPISODE):
            yield agent.superstep()


async def agent(world: World, results: Results, profile: Profile) -> None:
    """Times of calls by kind of state, and Redis's own time for them."""
    for kind in KINDS:
        async with AsyncExitStack() as stack:
            opener = await stack.enter_async_context(Peers(world, results, WORKLOAD, kind.case))
            names = [name for name in PEERS if kind.remembered or name != "TieredSaver"]
            peers = await opener.open(*names, *([] if kind.remembered else ["TieredSaver, whole values"]))
            stopwatch = await _measure(peers, kind, profile.agent_rounds)
            stopwatch.report(results, WORKLOAD, kind.case)
        _measure_server(world, results, kind, profile.agent_rounds)
        world.clear()


async def _measure(peers: Sequence[Peer], kind: Kind, rounds: int) -> Stopwatch:
    """Superstep by superstep; each operation for all peers, then the next one."""
    stopwatch, warm = Stopwatch(), Stopwatch()
    steps = {peer.name: supersteps(peer.name, kind) for peer in peers}
    order = list(peers)
    counted = 0
    while counted < rounds:
        random.shuffle(order)
        prepared = []
        first = False
        for peer in order:
            step = next(steps[peer.name])
            first = step.first
            prepared.append((peer.name, _calls(peer, step)))
        counted += not first
        with no_collections():
            for operation in OPERATIONS:
                for name, calls in prepared:
                    await (warm if first else stopwatch).time(name, operation, calls[operation])
    return stopwatch


def _calls(peer: Peer, step: Superstep) -> dict[str, Call]:
    saver = peer.saver
    thread = at(step.config["configurable"]["thread_id"])
    return {
        "put": lambda: saver.aput(step.config, step.checkpoint, step.metadata, step.new_versions),
        "put_writes": lambda: saver.aput_writes(step.head, step.writes, step.task_id),
        "get_tuple": lambda: saver.aget_tuple(thread),
        "get_tuple by id": lambda: saver.aget_tuple(step.head),
    }


def _measure_server(world: World, results: Results, kind: Kind, rounds: int) -> None:
    """What Redis's `commandstats` say of a call, beside those of the base."""
    never = Promotion.never()
    bytes_ = 64 << 20 if kind.remembered else 0
    with TieredSaver.from_urls(world.redis_url, key_prefix="server", promotion=never, remembered_bytes=bytes_) as saver:
        steps = [step for _, step in zip(range(WARM_UP + rounds), supersteps("server", kind), strict=False)]
        for operation in OPERATIONS:
            for step in steps[:WARM_UP]:
                _carried(world, _plan(saver, step, operation))
            world.admin.config_resetstat()
            calls = [_carried(world, _plan(saver, step, operation)) for step in steps[WARM_UP:]]
            results.add(WORKLOAD, kind.case, "TieredSaver", f"{operation} server us", _script_us(world))
            reads = operation.startswith("get_tuple")
            base = [_fetched(world, reply) if reads else _stored(args) for args, reply in calls]
            sha = str(world.admin.script_load(FETCH if reads else STORE))
            world.admin.config_resetstat()
            for args in base:
                world.admin.evalsha(sha, 1, "base", *args)
            results.add(WORKLOAD, kind.case, "base", f"{operation} server us", _script_us(world))


def _plan(saver: TieredSaver, step: Superstep, operation: str) -> Plan[Any]:
    requests = saver._requests
    match operation:
        case "put":
            return requests.put(step.config, step.checkpoint, step.metadata, step.new_versions)
        case "put_writes":
            return requests.put_writes(step.head, step.writes, step.task_id, "")
        case "get_tuple":
            return requests.get_tuple(at(step.config["configurable"]["thread_id"]))
        case _:
            return requests.get_tuple(step.head)


def _carried(world: World, plan: Plan[Any]) -> tuple[tuple[Any, ...], Any]:
    """Carry out a plan: the arguments and the reply of its last script. Of a resident thread there is one only."""
    found: tuple[tuple[Any, ...], Any] = ((), None)
    reply: Any = None
    try:
        while True:
            step = plan.send(reply)
            assert isinstance(step, Lua), step
            text_, sha = script(step.script)
            words = addressed((str(len(step.keys)), *step.keys, *step.args), RUN_ID)
            if sha not in _loaded:
                _loaded.add(sha)
                world.admin.script_load(text_.decode())
            reply = world.admin.evalsha(sha, int(words[0]), *words[1:])
            found = step.args, reply
    except StopIteration:
        return found


_loaded: set[str] = set()


def _stored(args: tuple[Any, ...]) -> list[Any]:
    """The arguments of the base for what a call stores: the bytes among what it sends, each in a field."""
    return [86_400_000, *[part for i, arg in enumerate(args) if isinstance(arg, bytes) for part in (f"field {i}", arg)]]


def _fetched(world: World, reply: Any) -> list[Any]:
    """The arguments of the base for what a call gets: fields that hold its bytes."""
    fields: dict[Any, Any] = {f"field {i}": part for i, part in enumerate(_bytes_of(reply))}
    world.admin.hset("base", mapping=fields)
    return list(fields)


def _bytes_of(reply: Any) -> Iterator[bytes]:
    for part in reply if isinstance(reply, list) else [reply]:
        if isinstance(part, list):
            yield from _bytes_of(part)
        elif isinstance(part, bytes):
            yield part


def _script_us(world: World) -> float:
    stats: Any = world.admin.info("commandstats")
    of = stats["cmdstat_evalsha"]
    return float(of["usec"]) / float(of["calls"])
