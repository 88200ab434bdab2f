"""Threads made by hand, and all that a saver can be asked about a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple, empty_checkpoint
from sameness import difference
from scenarios.graphs import Saver
from waiting import HANGS_S

THREAD = "thread: of {both}"


def config(thread_id: str = THREAD, ns: str | None = None, checkpoint_id: str | None = None) -> RunnableConfig:
    parts = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
    return {"configurable": {name: value for name, value in parts.items() if value is not None}}


def place(found: CheckpointTuple) -> tuple[str, str]:
    configurable = found.config["configurable"]
    return configurable["checkpoint_ns"], configurable["checkpoint_id"]


def everything(saver: Saver, thread_id: str = THREAD) -> dict[Any, CheckpointTuple | None]:
    """All that a saver can be asked about a thread: the list, each checkpoint by id, the latest of each namespace."""
    listed = list(saver.list(config(thread_id)))
    assert [place(t)[1] for t in listed] == sorted((place(t)[1] for t in listed), reverse=True)
    answers: dict[Any, CheckpointTuple | None] = {("listed", *place(t)): t for t in listed}
    for ns, checkpoint_id in [place(t) for t in listed]:
        answers["by id", ns, checkpoint_id] = saver.get_tuple(config(thread_id, ns, checkpoint_id))
        if ("latest", ns) not in answers:
            answers["latest", ns] = saver.get_tuple(config(thread_id, ns))
    return answers


async def aeverything(saver: Saver, thread_id: str = THREAD) -> dict[Any, CheckpointTuple | None]:
    listed = [found async for found in saver.alist(config(thread_id))]
    answers: dict[Any, CheckpointTuple | None] = {("listed", *place(t)): t for t in listed}
    for ns, checkpoint_id in [place(t) for t in listed]:
        answers["by id", ns, checkpoint_id] = await saver.aget_tuple(config(thread_id, ns, checkpoint_id))
        if ("latest", ns) not in answers:
            answers["latest", ns] = await saver.aget_tuple(config(thread_id, ns))
    return answers


def assert_same_thread(ours: dict[Any, CheckpointTuple | None], theirs: dict[Any, CheckpointTuple | None]) -> None:
    assert ours
    assert sorted(ours) == sorted(theirs)
    for name, found in ours.items():
        other = theirs[name]
        assert found is not None, name
        assert other is not None, name
        assert not difference(found._asdict(), other._asdict(), str(name))


def put(saver: Saver, number: int, parent: str = "", version: int = 4, thread_id: str = THREAD, **metadata: Any) -> str:
    """Put a checkpoint whose id sorts by `number`, and return the id. One channel changes with the first one only."""
    changed = {"items": f"{number:032}.5", "count": f"{number:032}.5"}
    base = {"base": f"{1:032}.5"}
    checkpoint: Checkpoint = {
        **empty_checkpoint(),
        "v": version,
        "id": checkpoint_id(number),
        "ts": f"2026-01-01T00:00:{number % 60:02}+00:00",
        "channel_values": {"items": [number], "count": number, "base": ["from the first"]},
        "channel_versions": {**changed, **base},
    }
    at = config(thread_id, "", parent or None)
    new: dict[str, str | int | float] = {**changed, **(base if number == 1 else {})}
    saver.put(at, checkpoint, {"step": number, "source": "loop", **metadata}, new)  # type: ignore[typeddict-item]
    return checkpoint["id"]


def checkpoint_id(number: int) -> str:
    return f"1f000000-0000-6000-8000-{number:012}"


def put_chain(saver: Saver, last: int, first: int = 1, thread_id: str = THREAD) -> None:
    """Put checkpoints `first` to `last`, each the child of the one before."""
    for number in range(first, last + 1):
        put(saver, number, checkpoint_id(number - 1) if number > 1 else "", thread_id=thread_id)


def steps(saver: Saver, thread_id: str = THREAD, **search: Any) -> list[int]:
    """The step of each checkpoint of a list."""
    return [found.metadata["step"] for found in saver.list(config(thread_id, ""), **search)]


def wait_until(condition: Callable[[], object], patience_s: float = HANGS_S) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
