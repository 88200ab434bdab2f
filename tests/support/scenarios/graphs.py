"""A corpus of graphs, each with a script that drives it, so that savers can be compared by what they give back.

A script yields actions and receives their results; `driving.py` runs it on any saver.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, StateSnapshot, interrupt

Saver = BaseCheckpointSaver[Any]
Graph = CompiledStateGraph[Any, Any, Any, Any]


class Invoke(NamedTuple):
    """Run the graph; the result is its output, or the text of the NodeError."""

    input: Any
    at: str = ""
    durability: Literal["sync", "async", "exit"] = "sync"


class Update(NamedTuple):
    """`update_state`; the result is the new checkpoint's id."""

    values: dict[str, Any]
    as_node: str
    at: str = ""


class State(NamedTuple):
    """`get_state`; the result is a StateSnapshot."""

    subgraphs: bool = True
    at: str = ""


class History(NamedTuple):
    """`get_state_history`; the result is a list of StateSnapshots."""


Action = Invoke | Update | State | History
Script = Generator[Action, Any, None]


class NodeError(Exception):
    """What the failing node of the corpus raises."""


@dataclass(frozen=True)
class Scenario:
    """One member of the corpus: `sequel` continues, any number of times, what `script` began."""

    name: str
    build: Callable[[Saver], Graph]
    script: Callable[[], Script]
    sequel: Callable[[], Script]
    settings: dict[str, Any] = field(default_factory=dict)

    def config(self, thread_id: str, checkpoint_id: str = "") -> RunnableConfig:
        configurable = {"thread_id": thread_id}
        if checkpoint_id:
            configurable |= {"checkpoint_ns": "", "checkpoint_id": checkpoint_id}
        return {"configurable": configurable, **self.settings}  # type: ignore[typeddict-item]


# Chat: several turns over a messages reducer, with values that plain JSON would change.


class ChatState(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    turns: Annotated[int, operator.add]
    facts: dict[str, Any]
    scratch: Any


def _answer(state: ChatState) -> dict[str, Any]:
    number = len(state["messages"])
    facts = {
        "at": datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=number),
        "price": Decimal("1.10") * number,
        "tags": {f"tag-{number}"},
        3: float("inf"),
    }
    scratch = ["nul\0in it", 1e22, -0.0, float("nan"), number]
    return {
        "messages": [AIMessage(f"answer {number}", id=f"a{number}")],
        "turns": 1,
        "facts": facts,
        "scratch": scratch,
    }


def _chat(saver: Saver) -> Graph:
    graph = StateGraph(ChatState)
    graph.add_node("think", lambda state: {"scratch": len(state["messages"]) / 2})
    graph.add_node("answer", _answer)
    graph.add_edge(START, "think")
    graph.add_edge("think", "answer")
    return graph.compile(checkpointer=saver)


def _say(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text, id=text)]}


def _chat_script() -> Script:
    for number, durability in enumerate(("sync", "async", "exit", "sync")):
        yield Invoke(_say(f"question {number}"), durability=durability)  # type: ignore[arg-type]  # widened by the loop
    yield State()
    yield History()


def _chat_sequel() -> Script:
    state = yield State()
    yield Invoke(_say(f"more after {len(state.values['messages'])}"))
    yield History()


# Forks: the same graph, with updates and replays of old checkpoints.


def _fork_script() -> Script:
    for number in range(4):
        yield Invoke(_say(f"question {number}"))
    history = yield History()
    old, older = (_id_at_step(history, step) for step in (4, 1))
    forked = yield Update(_say("instead"), "think", at=old)
    yield Invoke(None, at=forked)
    yield Invoke(None, at=older)
    yield Invoke(_say("on the old branch"), at=old)
    yield State(at=older)
    yield History()


def _id_at_step(history: Sequence[StateSnapshot], step: int) -> str:
    found = [s for s in history if s.metadata and s.metadata["step"] == step]
    checkpoint_id: str = found[-1].config["configurable"]["checkpoint_id"]
    return checkpoint_id


# Subgraphs: two levels below the root, and one that keeps its state between calls.


def _add_new(trail: list[str], more: list[str]) -> list[str]:
    return [*trail, *(step for step in more if step not in trail)]


class Trail(TypedDict, total=False):
    trail: Annotated[list[str], _add_new]
    seen: Annotated[list[int], operator.add]


class Memory(TypedDict, total=False):
    trail: Annotated[list[str], _add_new]
    calls: Annotated[int, operator.add]
    seen: list[int]


def _nested(saver: Saver) -> Graph:
    inner = StateGraph(Trail)
    inner.add_node("deep", lambda state: {"trail": [f"deep {len(state['trail'])}"]})
    inner.add_node("deeper", lambda state: {"trail": [f"deeper {len(state['trail'])}"]})
    inner.add_edge(START, "deep")
    inner.add_edge("deep", "deeper")
    middle = StateGraph(Trail)
    middle.add_node("inner", inner.compile())
    middle.add_node("after", lambda state: {"trail": [f"after {len(state['trail'])}"]})
    middle.add_edge(START, "inner")
    middle.add_edge("inner", "after")
    memory = StateGraph(Memory)
    memory.add_node("count", lambda _: {"calls": 1})
    memory.add_node("tell", lambda state: {"seen": [state["calls"]]})
    memory.add_edge(START, "count")
    memory.add_edge("count", "tell")
    outer = StateGraph(Trail)
    outer.add_node("middle", middle.compile())
    outer.add_node("memory", memory.compile(checkpointer=True))
    outer.add_edge(START, "middle")
    outer.add_edge("middle", "memory")
    return outer.compile(checkpointer=saver)


def _nested_script() -> Script:
    for number in range(4):
        yield Invoke({"trail": [f"start {number}"]}, durability="async" if number % 2 else "sync")
    yield State()
    yield History()


def _nested_sequel() -> Script:
    yield Invoke({"trail": ["more"]})
    yield State()
    yield History()


# Interrupts: in a subgraph, in two branches at once, resumed by id, with a stop that no process survives in between.


class Approval(TypedDict, total=False):
    log: Annotated[list[str], _add_new]


def _approvals(saver: Saver) -> Graph:
    inner = StateGraph(Approval)
    inner.add_node("prepare", lambda _: {"log": ["prepared"]})
    inner.add_node("confirm", lambda _: {"log": [f"confirmed: {interrupt('really?')}"]})
    inner.add_edge(START, "prepare")
    inner.add_edge("prepare", "confirm")

    def twice() -> dict[str, Any]:
        return {"log": [f"first: {interrupt('first?')}", f"second: {interrupt({'ask': 'second?'})}"]}

    outer = StateGraph(Approval)
    outer.add_node("inner", inner.compile())
    outer.add_node("left", lambda _: {"log": [f"left: {interrupt('left?')}"]})
    outer.add_node("right", lambda _: {"log": [f"right: {interrupt('right?')}"]})
    outer.add_node("quick", lambda _: {"log": ["quick"]})
    outer.add_node("twice", lambda _: twice())
    outer.add_edge(START, "inner")
    for branch in ("left", "right", "quick"):
        outer.add_edge("inner", branch)
    outer.add_edge(["left", "right", "quick"], "twice")
    return outer.compile(checkpointer=saver)


def _approval_turn() -> Script:
    yield Invoke({"log": ["asked"]})
    yield State()
    yield Invoke(Command(resume="yes"))
    state = yield State()
    ids = {i.value: i.id for i in state.interrupts}
    yield Invoke(Command(resume={ids["right?"]: "R"}))
    yield State()
    yield Invoke(Command(resume={ids["left?"]: "L"}))
    yield Invoke(Command(resume={"a": 1}))
    yield State()
    yield Invoke(Command(resume=Decimal(2)))
    yield History()


# Delta channels: one with snapshots, one that in these runs never takes one.


def _extend(state: Sequence[Any], writes: Sequence[Sequence[Any]]) -> list[Any]:
    return [*state, *(item for write in writes for item in write)]


class DeltaState(TypedDict, total=False):
    often: Annotated[list[Any], DeltaChannel(_extend, snapshot_frequency=3)]
    never: Annotated[list[Any], DeltaChannel(_extend)]
    steps: Annotated[int, operator.add]


def _deltas(saver: Saver) -> Graph:
    graph = StateGraph(DeltaState)
    graph.add_node("one", lambda state: {"often": [f"often {len(state['often'])}"], "never": ["one"], "steps": 1})
    graph.add_node("two", lambda state: {"never": [f"two {len(state['never'])}"], "steps": 1})
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    return graph.compile(checkpointer=saver)


def _delta_script() -> Script:
    for number in range(5):
        yield Invoke({"often": [number], "never": [number]}, durability="exit" if number == 3 else "sync")
    history = yield History()
    yield Invoke({"often": ["fork"]}, at=_id_at_step(history, 4))
    yield State()
    yield History()


def _delta_sequel() -> Script:
    yield Invoke({"often": ["more"], "never": ["more"]})
    yield History()


# Fan-out with Send, and a loop.


class FanState(TypedDict, total=False):
    width: int
    results: Annotated[list[Any], operator.add]


def _fan(saver: Saver) -> Graph:
    def spread(state: FanState) -> list[Send]:
        return [Send("work", {"item": n, "exact": Decimal(n)}) for n in range(state["width"])]

    graph = StateGraph(FanState)
    graph.add_node("plan", lambda _: {})
    graph.add_node("work", lambda task: {"results": [task["exact"] * task["item"]]})
    graph.add_node("reduce", lambda state: {"width": state["width"] - 2})
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", spread, ["work"])
    graph.add_edge("work", "reduce")
    graph.add_conditional_edges("reduce", lambda state: "plan" if state["width"] > 0 else END, ["plan", END])
    return graph.compile(checkpointer=saver)


def _fan_script() -> Script:
    yield Invoke({"width": 6})
    yield Invoke({"width": 3}, durability="async")
    yield State()
    yield History()


def _fan_sequel() -> Script:
    yield Invoke({"width": 4})
    yield History()


# Errors: a node fails after its sibling has finished. One at a time, so that it is always the same one that is first.


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def _failing(saver: Saver) -> Graph:
    def fails_unless_mended(log: list[str]) -> dict[str, Any]:
        if log[-1] != "mended":
            raise NodeError(f"failed after {len(log)}")
        return {"log": ["b"]}

    graph = StateGraph(Log)
    graph.add_node("start", lambda _: {})
    graph.add_node("a", lambda state: {"log": [f"a after {len(state['log'])}"]})
    graph.add_node("b", lambda state: fails_unless_mended(state["log"]))
    graph.add_node("join", lambda _: {"log": ["joined"]})
    graph.add_edge(START, "start")
    for branch in ("a", "b"):
        graph.add_edge("start", branch)
    graph.add_edge(["a", "b"], "join")
    return graph.compile(checkpointer=saver)


def _failing_turn() -> Script:
    failed = yield Invoke({"log": ["go"]})
    assert isinstance(failed, str)
    yield State()
    yield Invoke(None)
    yield State()
    yield Update({"log": ["mended"]}, "start")
    yield Invoke(None)
    yield History()


CORPUS = (
    Scenario("chat", _chat, _chat_script, _chat_sequel),
    Scenario("forks", _chat, _fork_script, _chat_sequel),
    Scenario("subgraphs", _nested, _nested_script, _nested_sequel),
    Scenario("interrupts", _approvals, _approval_turn, _approval_turn),
    Scenario("deltas", _deltas, _delta_script, _delta_sequel),
    Scenario("fan-out", _fan, _fan_script, _fan_sequel),
    Scenario("errors", _failing, _failing_turn, _failing_turn, {"max_concurrency": 1}),
)
