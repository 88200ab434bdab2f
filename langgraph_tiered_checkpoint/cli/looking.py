"""Commands that look at a store and change nothing: no TTL is prolonged, nothing is made resident."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated

import typer

from langgraph_tiered_checkpoint.cli import FAILED
from langgraph_tiered_checkpoint.cli.access import access_of
from langgraph_tiered_checkpoint.cli.figures import report_of, status_of
from langgraph_tiered_checkpoint.cli.finding import Wanted, find
from langgraph_tiered_checkpoint.cli.output import (
    Json,
    console,
    moment,
    note,
    print_each,
    print_fitting,
    print_json,
    record,
    size,
    waiting,
    watch,
)
from langgraph_tiered_checkpoint.records import ThreadStatus


class State(str, Enum):
    """What a thread can be listed by."""

    EPHEMERAL = "ephemeral"
    DIRTY = "dirty"
    CLEAN = "clean"
    COLD = "cold"
    DAMAGED = "damaged"


class Order(str, Enum):
    """What threads can be listed in the order of."""

    ID = "id"
    LAST_WRITE = "last-write"
    CREATED = "created"
    EXPIRES = "expires"
    SIZE = "size"
    CHECKPOINTS = "checkpoints"


def status(
    ctx: typer.Context,
    every: Annotated[
        float | None,
        typer.Option("--watch", "-w", help="Show it again every so many seconds.", min=0.1, show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Count threads and bytes by state, what waits to be flushed, and the workers that are alive."""
    with access_of(ctx).saver() as saver:
        if not json:
            if every:
                watch(lambda: status_of(saver.stats()), every)
            console().print(status_of(saver.stats()))
            return
        print_json(record(saver.stats()))
        while every:
            time.sleep(every)
            print_json(record(saver.stats()))


def doctor(
    ctx: typer.Context,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 for warnings, too.")] = False,
    json: Json = False,
) -> None:
    """Look for what would lose data or break a promise, with the remedy of each.

    Exit status 1 for a failure.
    """
    with access_of(ctx).saver() as saver, waiting("looking at both servers"):
        report = saver.doctor()
    if json:
        print_json({"verdict": report.verdict, **record(report)})
    else:
        console().print(report_of(report))
    if report.verdict == "failure" or (strict and report.verdict != "ok"):
        raise typer.Exit(FAILED)


def threads(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Option(help="Only ids that begin with this.")] = "",
    state: Annotated[list[State] | None, typer.Option(help="Only threads in this state; may be repeated.")] = None,
    interrupted: Annotated[bool, typer.Option("--interrupted", help="Only threads that wait for an answer.")] = False,
    pinned: Annotated[bool, typer.Option("--pinned", help="Only pinned threads.")] = False,
    sort: Annotated[Order, typer.Option(help="By this; times and sizes from the largest on.")] = Order.ID,
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="The other way round.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.", min=1)] = 50,
    after: Annotated[str, typer.Option(help="The page after this id, in the order of ids.", show_default=False)] = "",
    ids: Annotated[bool, typer.Option("--ids", help="Print bare ids, one a line.")] = False,
    json: Json = False,
) -> None:
    """List the threads of both tiers.

    With a filter, or in another order than that of ids, all of them are looked at.
    """
    wanted = Wanted(
        prefix=prefix,
        after=after,
        states=frozenset(one.value for one in state or ()),
        interrupted=interrupted,
        pinned=pinned,
        sort=sort.value,
        reverse=reverse,
        limit=limit,
    )
    with access_of(ctx).saver() as saver:
        if ids and wanted.is_plain:
            found = wanted.page(saver)
            for thread_id in found.names[:limit]:
                print_json({"thread_id": thread_id}) if json else typer.echo(thread_id)
        else:
            found = find(saver, wanted)
            _print_threads(found.statuses, ids=ids, json=json)
    if found.more and not json:
        note(f"there are more: --after {found.names[limit - 1]!r}" if wanted.is_plain else "there are more: --limit")


def _print_threads(statuses: list[ThreadStatus], *, ids: bool, json: bool) -> None:
    now = datetime.now(timezone.utc)
    if ids:
        for status in statuses:
            print_json({"thread_id": status.thread_id}) if json else typer.echo(status.thread_id)
        return
    if json:
        for status in statuses:
            print_json(record(status))
        return
    rows = [
        {
            "thread": status.thread_id,
            "tier": status.tier or "",
            "state": _state_of(status),
            "checkpoints": max(status.hot_checkpoints, status.cold_checkpoints or 0),
            "memory": size(status.hot_bytes or None),
            "last write": moment(status.last_write_at, now, 1),
            "lapses": moment(status.expires_at, now, 1),
        }
        for status in statuses
    ]
    columns = ["thread", "tier", "state", "checkpoints", "memory", "last write", "lapses"]
    if rows:
        expendable = ("checkpoints", "memory", "tier", "lapses")
        print_fitting(rows, columns, right=("checkpoints", "memory"), expendable=expendable)


def _state_of(status: ThreadStatus) -> str:
    marks = [name for name, so in (("pinned", status.pinned), ("interrupted", status.interrupted)) if so]
    return ", ".join([status.state, *(["parked"] if status.last_error else []), *marks])


def scopes(
    ctx: typer.Context,
    count: Annotated[bool, typer.Option("--count", help="With the number of threads of each: all are listed.")] = False,
    json: Json = False,
) -> None:
    """List the tenants that have threads."""
    with access_of(ctx).saver() as saver:
        rows = (
            {"scope": tenant, "threads": sum(1 for _ in saver.scoped(tenant).thread_ids())}
            if count
            else {"scope": tenant}
            for tenant in saver.scopes()
        )
        print_each(rows, ["scope", "threads"][: 1 + count], json_=json, right=("threads",))
