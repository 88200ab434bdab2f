"""An async call that is cancelled, at whichever of its awaits, has happened or has not, and the saver goes on."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest
import redis
from faults.outages import MakeSaver
from faults.writers import metadata
from homes import at, make_checkpoint
from key_rules import broken_rules

from langgraph_tiered_checkpoint import ConfigurationError, Promotion, TieredSaver

NIGHTLY = pytest.mark.nightly


class Interrupted:
    """Drives a coroutine, and cancels it at its n-th await: while it waits, or late, when the wait is over."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], nth: int, *, late: bool) -> None:
        self._coroutine, self._nth, self._late = coroutine, nth, late
        self.cancelled = False

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._coroutine.__await__()
        throw: BaseException | None = None
        while True:
            try:
                waited = inner.send(None) if throw is None else inner.throw(throw)
            except StopIteration as done:
                return done.value
            throw = None
            self._nth -= 1
            if self._nth >= 0 or self.cancelled:
                try:
                    yield waited
                except BaseException as exc:  # noqa: BLE001 - for the coroutine, as if nobody stood between
                    throw = exc
                continue
            self.cancelled = True
            throw = asyncio.CancelledError()
            if self._late or waited is None:
                yield waited
            else:
                waited._asyncio_future_blocking = False
                waited.cancel()


class Stage:
    """A thread with two checkpoints, in one place or another, and what is to be done to it."""

    def __init__(self, saver: TieredSaver, through: TieredSaver, thread_id: str, made: list[Any]) -> None:
        self.saver, self.thread_id, self.copy_id, self.made = saver, thread_id, f"{thread_id} copy", made
        self.through = through

    async def arrange(self, home: str) -> None:
        await self.put(0)
        await self.writes("task", 0)
        if home != "ephemeral":
            await self.saver.apromote(self.thread_id)
        if home == "cold":
            await self.put(1)
            await self.saver.aevict(self.thread_id)
        elif home == "clean":
            await self.put(1)
            await self.saver.aflush(self.thread_id)
        else:
            await self.put(1)

    def put(self, number: int, saver: TieredSaver | None = None) -> Coroutine[Any, Any, Any]:
        made = self.made[number]
        parent = self.made[number - 1]["id"] if number else None
        given: Any = metadata(number) | {"run_id": f"{self.thread_id} run {number}"}
        return (saver or self.saver).aput(at(self.thread_id, "", parent), made, given, made["channel_versions"])

    def writes(self, task: str, number: int, saver: TieredSaver | None = None) -> Coroutine[Any, Any, Any]:
        config = at(self.thread_id, "", self.made[number]["id"])
        return (saver or self.saver).aput_writes(config, [("n", 1), ("m", 2)], task)

    async def look(self) -> list[Any]:
        """All that both threads hold, and their heads."""
        seen: list[Any] = []
        for thread_id in (self.thread_id, self.copy_id):
            listed = [
                (one.checkpoint["id"], one.checkpoint["channel_values"], sorted(one.pending_writes or ()))
                async for one in self.saver.alist(at(thread_id))
            ]
            head = await self.saver.aget_tuple(at(thread_id))
            assert (head and head.checkpoint["id"]) == (listed[0][0] if listed else None)
            seen.append(listed)
        return seen


async def listing(stage: Stage) -> None:
    async for _ in stage.saver.alist(at(stage.thread_id)):
        pass


async def enumeration(stage: Stage) -> None:
    async for _ in stage.saver.athread_ids():
        pass


OPERATIONS: dict[str, Callable[[Stage], Coroutine[Any, Any, Any]]] = {
    "put": lambda stage: stage.put(2),
    "put_writes": lambda stage: stage.writes("other", 1),
    "put, through": lambda stage: stage.put(2, stage.through),
    "put_writes, through": lambda stage: stage.writes("other", 1, stage.through),
    "get_tuple": lambda stage: stage.saver.aget_tuple(at(stage.thread_id)),
    "get_tuple by id": lambda stage: stage.saver.aget_tuple(at(stage.thread_id, "", stage.made[0]["id"])),
    "list": listing,
    "thread_ids": enumeration,
    "get_delta_channel_history": lambda stage: stage.saver.aget_delta_channel_history(
        config=at(stage.thread_id), channels=["n", "m"]
    ),
    "promote": lambda stage: stage.saver.apromote(stage.thread_id),
    "pin": lambda stage: stage.saver.apin(stage.thread_id),
    "unpin": lambda stage: stage.saver.aunpin(stage.thread_id),
    "flush": lambda stage: stage.saver.aflush(stage.thread_id),
    "flush of all": lambda stage: stage.saver.aflush(),
    "explain": lambda stage: stage.saver.aexplain(stage.thread_id),
    "stats": lambda stage: stage.saver.astats(),
    "evict": lambda stage: stage.saver.aevict(stage.thread_id),
    "prune": lambda stage: stage.saver.aprune([stage.thread_id]),
    "prune to nothing": lambda stage: stage.saver.aprune([stage.thread_id], strategy="delete"),
    "delete": lambda stage: stage.saver.adelete_thread(stage.thread_id),
    "delete_for_runs": lambda stage: stage.saver.adelete_for_runs([f"{stage.thread_id} run 1"]),
    "copy": lambda stage: stage.saver.acopy_thread(stage.thread_id, stage.copy_id),
    "setup": lambda stage: stage.saver.asetup(),
}


DELETES = ("delete", "prune to nothing")


@pytest.mark.parametrize("late", [False, pytest.param(True, marks=NIGHTLY)], ids=["waiting", "served"])
@pytest.mark.parametrize(
    ("home", "opened"),
    [
        ("dirty", True),
        pytest.param("cold", True, marks=NIGHTLY),
        pytest.param("clean", True, marks=NIGHTLY),
        pytest.param("ephemeral", True, marks=NIGHTLY),
        pytest.param("dirty", False, marks=NIGHTLY),
        pytest.param("cold", False, marks=NIGHTLY),
    ],
)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_operation_cancelled_at_any_await_has_happened_or_has_not(
    make_saver: MakeSaver,
    redis_url: str,
    redis_client: redis.Redis,
    postgres_url: str,
    name: str,
    home: str,
    *,
    opened: bool,
    late: bool,
) -> None:
    """`opened`: its connections are; else they are made, and the tables looked at, in the operation."""
    if (name, home) == ("evict", "ephemeral"):
        pytest.skip("it is refused")
    saver: TieredSaver = make_saver(redis_url, postgres_url, promotion=Promotion.never())
    through = make_saver(redis_url, postgres_url, promotion=Promotion.never(), cold_writes="through")
    made = [make_checkpoint({"n": [n], "m": n}, n + 1) for n in range(3)]
    operation = OPERATIONS[name]

    async def stage_of(number: int) -> Stage:
        stage = Stage(saver, through, f"t{number}", made)
        await in_no_run(stage.arrange(home))
        return stage

    reference = await stage_of(0)
    before = await reference.look()
    await in_no_run(operation(reference))
    after = await reference.look()
    for number in range(1, 500):
        stage = await stage_of(number)
        if not opened:
            stage.saver = make_saver(redis_url, postgres_url, promotion=Promotion.never())
        interrupted = Interrupted(operation(stage), number - 1, late=late)
        try:
            await interrupted
        except asyncio.CancelledError:
            assert interrupted.cancelled
        else:
            assert not interrupted.cancelled, "it went on although it was cancelled"
        where = f"at await {number}"
        await release(saver, redis_client, stage)
        seen = await in_no_run(stage.look())
        # A delete begins with the hot copy; until it is repeated, what Postgres held before may be there.
        flushed = [before[0][1:], []] if home == "dirty" and name in DELETES else after
        assert seen in ([before, after, flushed] if interrupted.cancelled else [after]), where
        assert broken_rules(redis_client) == [], where
        try:
            await in_no_run(operation(stage))
        except ConfigurationError:
            assert name == "copy", where
        assert await in_no_run(stage.look()) == after, where
        if stage.saver is not saver:
            await stage.saver.aclose()
        if not interrupted.cancelled:
            break
    else:
        raise AssertionError("the operation never finished: the test has cancelled nothing at its end")
    await saver.aclose()
    await through.aclose()


async def in_no_run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await it in a context of its own, as what nobody has read anything before."""
    return await contextvars.Context().run(asyncio.ensure_future, coroutine)


async def release(saver: TieredSaver, client: redis.Redis, stage: Stage) -> None:
    """Let the marker's deadline pass that a structural operation leaves when it is cut off."""
    hot = saver._store.hot
    for thread_id in (stage.thread_id, stage.copy_id):
        marker = await saver._async._perform(hot.status(thread_id))
        if marker[0] == b"marker":
            client.delete(hot.thread_key(thread_id))
