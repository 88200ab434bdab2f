"""Running a script on a saver, sync or async, and what an application would have seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langgraph.types import Interrupt, StateSnapshot
from scenarios.graphs import Action, Invoke, NodeError, Saver, Scenario, Script, State, Update


def play(
    scenario: Scenario, saver: Saver, thread_id: str, script: Script, between: Callable[[], None] | None = None
) -> list[Any]:
    """Run a script; `between` is called after each action."""
    graph = scenario.build(saver)
    transcript: list[Any] = []
    result: Any = None
    while True:
        try:
            action = script.send(result)
        except StopIteration:
            return transcript
        config = scenario.config(thread_id, getattr(action, "at", ""))
        match action:
            case Invoke(input=given, durability=durability):
                try:
                    result = graph.invoke(given, config, durability=durability)
                except NodeError as exc:
                    result = str(exc)
            case Update(values=values, as_node=as_node):
                result = graph.update_state(config, values, as_node)["configurable"]["checkpoint_id"]
            case State(subgraphs=subgraphs):
                result = graph.get_state(config, subgraphs=subgraphs)
            case _:
                result = list(graph.get_state_history(config))
        transcript.append(plain(action, result))
        if between is not None:
            between()


async def aplay(
    scenario: Scenario,
    saver: Saver,
    thread_id: str,
    script: Script,
    between: Callable[[], Awaitable[None]] | None = None,
) -> list[Any]:
    """`play` with the async methods."""
    graph = scenario.build(saver)
    transcript: list[Any] = []
    result: Any = None
    while True:
        try:
            action = script.send(result)
        except StopIteration:
            return transcript
        config = scenario.config(thread_id, getattr(action, "at", ""))
        match action:
            case Invoke(input=given, durability=durability):
                try:
                    result = await graph.ainvoke(given, config, durability=durability)
                except NodeError as exc:
                    result = str(exc)
            case Update(values=values, as_node=as_node):
                result = (await graph.aupdate_state(config, values, as_node))["configurable"]["checkpoint_id"]
            case State(subgraphs=subgraphs):
                result = await graph.aget_state(config, subgraphs=subgraphs)
            case _:
                result = [snapshot async for snapshot in graph.aget_state_history(config)]
        transcript.append(plain(action, result))
        if between is not None:
            await between()


def plain(action: Action, result: Any) -> Any:
    """A result without ids and timestamps."""
    match action:
        case Invoke():
            return _without_ids(result)
        case Update():
            return "updated"
        case State():
            return snapshot_facts(result)
        case _:
            return [snapshot_facts(snapshot) for snapshot in result]


def snapshot_facts(snapshot: StateSnapshot) -> dict[str, Any]:
    """What a snapshot says apart from ids and timestamps."""
    metadata = snapshot.metadata or {}
    return {
        "values": snapshot.values,
        "next": snapshot.next,
        "step": metadata.get("step"),
        "source": metadata.get("source"),
        "parents": sorted(metadata.get("parents") or {}),
        "has parent": snapshot.parent_config is not None,
        "interrupts": [i.value for i in snapshot.interrupts],
        "tasks": [
            {
                "name": task.name,
                "path": task.path[:2],
                "error": repr(task.error),
                "interrupts": [i.value for i in task.interrupts],
                "result": task.result,
                "state": snapshot_facts(task.state) if isinstance(task.state, StateSnapshot) else bool(task.state),
            }
            for task in snapshot.tasks
        ],
    }


def _without_ids(output: Any) -> Any:
    if isinstance(output, dict) and "__interrupt__" in output:
        found: Sequence[Interrupt] = output["__interrupt__"]
        return {**output, "__interrupt__": sorted((i.value for i in found), key=repr)}
    return output
