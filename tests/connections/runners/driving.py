"""A pair of runners that a test uses through one of them, and the steps and targets that it gives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from scripted import as_it_is

from langgraph_tiered_checkpoint.io.connections import Connections
from langgraph_tiered_checkpoint.io.runners import AsyncRunner, SyncRunner
from langgraph_tiered_checkpoint.io.targets import ColdTarget, HotTarget
from langgraph_tiered_checkpoint.steps import Lua, Plan, Sql, Statements, Step, Tx


def lua(script: str, key: str = "k", *args: bytes | str | int) -> Lua[Any]:
    texts = tuple(str(arg) if isinstance(arg, int) else arg for arg in args)
    return Lua(script, (key,), texts, "t1", as_it_is)


def tx(*statements: tuple[Any, ...], timeout_ms: int | None = None) -> Tx[Any]:
    """A transaction that replies with the rows of its last statement."""

    def body() -> Statements[Any]:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            rows = yield Sql(*statement)
        return rows

    return Tx("query", "t1", body, timeout_ms)


BACKEND = tx(("SELECT pg_backend_pid()",))


def ask(step: Step) -> Plan[Any]:
    return (yield step)


class Runners:
    """A pair of runners on shared connections, used through one of them."""

    def __init__(self, kind: str, connections: Connections) -> None:
        self.sync = SyncRunner(connections)
        self.asynchronous = AsyncRunner(connections)
        self._loop = asyncio.new_event_loop() if kind == "async" else None

    def __call__(self, step: Step) -> Any:
        if self._loop is None:
            return self.sync.run(ask(step))
        return self._loop.run_until_complete(self.asynchronous.run(ask(step)))

    def together(self, steps: list[Step]) -> list[Any]:
        if self._loop is None:
            with ThreadPoolExecutor(len(steps)) as threads:
                return list(threads.map(self, steps))

        async def gathered() -> list[Any]:
            return await asyncio.gather(*(self.asynchronous.run(ask(step)) for step in steps))

        return self._loop.run_until_complete(gathered())

    def close(self) -> None:
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
        self.sync.close()


Make = Callable[[Connections], Runners]


def hot(url: str, **settings: Any) -> Connections:
    return Connections(HotTarget(url=url, **settings), None)


def both(redis_url: str, postgres_url: str, **cold: Any) -> Connections:
    return Connections(HotTarget(url=redis_url), ColdTarget(url=postgres_url, **cold))
