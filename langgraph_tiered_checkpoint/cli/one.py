"""Commands that look at one thread and change nothing: no TTL is prolonged, nothing is made resident."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Annotated, Any

import typer
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from rich.console import Group, RenderableType
from rich.text import Text

from langgraph_tiered_checkpoint.cli import FAILED, timeline
from langgraph_tiered_checkpoint.cli.access import access_of
from langgraph_tiered_checkpoint.cli.output import (
    Json,
    console,
    grid,
    moment,
    note,
    print_each,
    print_json,
    record,
    shown,
)
from langgraph_tiered_checkpoint.records import ThreadStatus

Thread = Annotated[str, typer.Argument(help="The thread's id.", show_default=False)]


def explain(ctx: typer.Context, thread: Thread, json: Json = False) -> None:
    """Tell what has happened to a thread, where it is and why, and what comes next.

    Exit status 1 if there is none.
    """
    with access_of(ctx).saver() as saver:
        found = saver.explain(thread)
    now = datetime.now(timezone.utc)
    past, future = timeline.past(found, now), timeline.future(found, now)
    if json:
        print_json({**record(found), "past": [e._asdict() for e in past], "next": [e._asdict() for e in future]})
    else:
        console().print(_told(found, past, future, now))
    if found.tier is None:
        raise typer.Exit(FAILED)


def _told(
    status: ThreadStatus, past: list[timeline.Event], future: list[timeline.Event], now: datetime
) -> RenderableType:
    rows: list[tuple[str, RenderableType]] = [(moment(event.at, now) or "·", event.what) for event in past]
    rows.append(("now", Text(f"{status.tier or 'nowhere'}: {status.why}", style="bold")))
    rows += [(moment(event.at, now) or "·", event.what) for event in future]
    errors = [*status.warnings, *([status.cold_error] if status.cold_error else [])]
    return Group(grid(rows), *(Text(error, style="red") for error in errors))


def show(
    ctx: typer.Context,
    thread: Thread,
    values: Annotated[bool, typer.Option("--values", help="Print the values of the state, too.")] = False,
    json: Json = False,
) -> None:
    """Show a thread's latest checkpoint: messages, channels, what it waits for, tier, expiry.

    Exit status 1 if there is none.
    """
    with access_of(ctx).saver() as saver:
        found = next(saver.list(_config(thread, ns=""), limit=1), None)
        where = saver.explain(thread)
    if found is None:
        note(f"lgt: there is no thread {thread!r}")
        raise typer.Exit(FAILED)
    head = _head(found, where, values)
    channels = found.checkpoint["channel_values"]
    rows = [{"channel": name, **_described(value, values)} for name, value in channels.items()]
    messages = [_message(message, values) for value in channels.values() for message in _messages_in(value)]
    if json:
        print_json({**head, "messages": messages, "channels": rows})
        return
    console().print(grid(_summary(head, where, messages)), "")
    if values and messages:
        console().print(grid((str(message["type"]), str(message["text"])) for message in messages), "")
    print_each(rows, ["channel", "type", "length", *["value"] * values], json_=False, right=("length",))


def _head(found: CheckpointTuple, where: ThreadStatus, values: bool) -> dict[str, Any]:
    interrupts = [value for _, channel, value in found.pending_writes or () if channel == "__interrupt__"]
    head = {
        **_row(found),
        "tier": where.tier,
        "state": where.state,
        "expires_at": where.expires_at,
        "pinned": where.pinned,
        "interrupted": bool(interrupts),
    }
    return {**head, "interrupts": [str(one) for one in interrupts]} if values else head


def _summary(
    head: dict[str, Any], where: ThreadStatus, messages: list[dict[str, object]]
) -> Iterator[tuple[str, RenderableType]]:
    now = datetime.now(timezone.utc)
    yield "checkpoint", f"{head['checkpoint_id']} (step {shown(head['step'])}, {head['source']})"
    yield "written", moment(where.last_write_at, now) or str(head["at"])
    yield "tier", f"{where.tier} ({where.state}{', pinned' if where.pinned else ''})"
    ends = "and then it is gone" if where.state == "ephemeral" else "from Redis; Postgres keeps it"
    yield "lapses", f"{moment(where.expires_at, now)}, {ends}" if where.expires_at else ""
    kinds = Counter(str(message["type"]) for message in messages)
    yield "messages", ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    if head["interrupted"]:
        yield "waits for", "\n".join(head.get("interrupts", ["an answer to an interrupt"]))


def history(
    ctx: typer.Context,
    thread: Thread,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.", min=1)] = 20,
    namespace: Annotated[str, typer.Option(help="Of this subgraph; the graph itself has the empty name.")] = "",
    json: Json = False,
) -> None:
    """List a thread's checkpoints, newest first.

    Exit status 1 if there are none.
    """
    with access_of(ctx).saver() as saver:
        rows = (_row(found) for found in saver.list(_config(thread, namespace), limit=limit))
        if not json:
            rows = ({**row, "at": datetime.fromisoformat(str(row["at"]))} for row in rows)
        columns = ["checkpoint_id", "at", "step", "source", "pending_writes"]
        count = print_each(rows, columns, json_=json, right=("step", "pending_writes"))
    if not count:
        note(f"lgt: thread {thread!r} has no checkpoints in namespace {namespace!r}")
        raise typer.Exit(FAILED)


def _config(thread: str, ns: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns}}


def _row(found: CheckpointTuple) -> dict[str, object]:
    return {
        "checkpoint_id": found.checkpoint["id"],
        "at": found.checkpoint["ts"],
        "step": found.metadata.get("step"),
        "source": found.metadata.get("source"),
        "pending_writes": len(found.pending_writes or ()),
    }


def _described(value: Any, with_value: bool) -> dict[str, object]:
    row: dict[str, object] = {"type": type(value).__name__}
    row["length"] = len(value) if isinstance(value, str | bytes | list | dict | set | tuple) else None
    if with_value:
        row["value"] = [_said(item) for item in value] if isinstance(value, list) else str(value)
    return row


def _messages_in(value: Any) -> list[BaseMessage]:
    return [item for item in value if isinstance(item, BaseMessage)] if isinstance(value, list) else []


def _message(message: BaseMessage, with_value: bool) -> dict[str, object]:
    row: dict[str, object] = {"type": message.type, "length": len(message.text)}
    return {**row, "text": str(message.text)} if with_value else row


def _said(item: object) -> str:
    return f"{item.type}: {item.text}" if isinstance(item, BaseMessage) else str(item)
