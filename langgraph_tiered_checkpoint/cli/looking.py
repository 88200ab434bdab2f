"""Commands that look and change nothing: no TTL is prolonged, nothing is made resident."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

import typer
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from langgraph_tiered_checkpoint.cli import FAILED
from langgraph_tiered_checkpoint.cli.access import access_of
from langgraph_tiered_checkpoint.cli.output import Json, console, print_each, print_json, record_table, watch
from langgraph_tiered_checkpoint.saver import TieredSaver

Thread = Annotated[str, typer.Argument(help="The thread's id.", show_default=False)]


def status(
    ctx: typer.Context,
    json: Json = False,
    every: Annotated[
        float | None, typer.Option("--watch", help="Show it again every so many seconds.", min=0.1, show_default=False)
    ] = None,
) -> None:
    """Count the threads of the store, and what waits to be flushed."""
    with access_of(ctx).saver() as saver:
        if json:
            print_json(asdict(saver.stats()))
        elif every:
            watch(lambda: record_table(saver.stats()), every)
        else:
            console().print(record_table(saver.stats()))


def threads(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Option(help="Only ids that begin with this.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    long: Annotated[bool, typer.Option("--long", "-l", help="With tier, state and expiry of each.")] = False,
    json: Json = False,
) -> None:
    """List the ids of threads in either tier, in order."""

    def rows(saver: TieredSaver) -> Iterator[dict[str, object]]:
        for thread_id in islice(saver.thread_ids(prefix), limit):
            yield asdict(saver.explain(thread_id)) if long else {"thread_id": thread_id}

    columns = ["thread_id", "tier", "state", "expires_at", "last_write_at", "interrupted"] if long else ["thread_id"]
    with access_of(ctx).saver() as saver:
        print_each(rows(saver), columns, json_=json)


def explain(ctx: typer.Context, thread: Thread, json: Json = False) -> None:
    """Say in which tier a thread is, in which state, and why. Exit status 1 if there is none."""
    with access_of(ctx).saver() as saver:
        found = saver.explain(thread)
    if json:
        print_json(asdict(found))
    else:
        console().print(record_table(found))
    if found.tier is None:
        raise typer.Exit(FAILED)


def show(
    ctx: typer.Context,
    thread: Thread,
    values: Annotated[bool, typer.Option("--values", help="Print the values of the state, too.")] = False,
    json: Json = False,
) -> None:
    """Show a thread's latest checkpoint: its channels, and what it waits for. Exit status 1 if there is none."""
    with access_of(ctx).saver() as saver:
        found = next(saver.list(_config(thread, ns=""), limit=1), None)
    if found is None:
        typer.echo(f"lgt: there is no thread {thread!r}", err=True)
        raise typer.Exit(FAILED)
    channels = found.checkpoint["channel_values"]
    interrupts = [value for _, channel, value in found.pending_writes or () if channel == "__interrupt__"]
    head = {**_row(found), "interrupted": bool(interrupts)}
    if values:
        head["interrupts"] = [str(one) for one in interrupts]
    rows = [{"channel": name, **_described(value, values)} for name, value in channels.items()]
    if json:
        print_json({**head, "channels": rows})
        return
    print_each([head], list(head), json_=False)
    typer.echo()
    print_each(rows, ["channel", "type", "length", *["value"] * values], json_=False)


def history(
    ctx: typer.Context,
    thread: Thread,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    namespace: Annotated[str, typer.Option(help="Of this subgraph; the graph itself has the empty name.")] = "",
    json: Json = False,
) -> None:
    """List a thread's checkpoints, newest first. Exit status 1 if there are none."""
    with access_of(ctx).saver() as saver:
        rows = (_row(found) for found in saver.list(_config(thread, namespace), limit=limit))
        count = print_each(rows, ["checkpoint_id", "at", "step", "source", "pending_writes"], json_=json)
    if not count:
        typer.echo(f"lgt: thread {thread!r} has no checkpoints in namespace {namespace!r}", err=True)
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


def _said(item: object) -> str:
    return f"{item.type}: {item.text}" if isinstance(item, BaseMessage) else str(item)
