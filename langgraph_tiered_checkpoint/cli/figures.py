"""How figures of a store, and what the doctor found, are laid out for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from langgraph_tiered_checkpoint.cli.output import grid, list_table, moment, size, span
from langgraph_tiered_checkpoint.records import DoctorReport, TierStats

_MARKS: Final = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red"), "unknown": ("?", "dim")}
_PLAIN: Final = {"✓": "+", "✗": "x"}

SAID: Final = {"ok": "ok", "warning": "warning", "failure": "failure", "unknown": "could not look"}
"""How verdicts are called."""


def status_of(stats: TierStats) -> RenderableType:
    """The figures of a store; of a scope, what little there is."""
    now = datetime.now(timezone.utc)
    parts: list[RenderableType] = []
    if stats.hot_threads is not None:
        parts += [_threads(stats), "", grid(_backlog(stats)), ""]
        parts.append(_workers(stats, now) if stats.workers else Text("no promoter alive", style="yellow"))
    elif not stats.parked_threads:
        parts.append("none of the tenant's threads is parked")
    if stats.parked_threads:
        parts += ["", grid([("parked", Text("\n".join(stats.parked_threads[:10]), style="red"))])]
    for told in (*stats.warnings, *([stats.cold_error] if stats.cold_error else [])):
        parts += ["", Text(told, style="red")]
    return Group(*parts)


def _threads(stats: TierStats) -> Table:
    counts = (("ephemeral", stats.ephemeral), ("dirty", stats.dirty), ("clean", stats.clean))
    rows: list[dict[str, object]] = [
        {"": name, "threads": count.threads, "memory": size(count.bytes)} for name, count in counts if count
    ]
    rows.append({"": "in Redis", "threads": stats.hot_threads, "memory": _used(stats)})
    if stats.cold_threads is not None:
        rows.append({"": "in Postgres", "threads": stats.cold_threads, "memory": size(stats.cold_bytes)})
    return list_table(rows, ["", "threads", "memory"], right=("threads", "memory"))


def _used(stats: TierStats) -> str:
    used = size(stats.hot_bytes)
    return f"{used} of {size(stats.hot_limit_bytes)}" if used and stats.hot_limit_bytes else used


def _backlog(stats: TierStats) -> Iterator[tuple[str, str]]:
    due, overdue = stats.due_threads or 0, stats.overdue_threads or 0
    late = f", {overdue:,} overdue for up to {span(stats.oldest_due_age)}" if overdue and stats.oldest_due_age else ""
    yield "backlog", f"{due:,} to flush{late}" if due else "none"
    yield "oldest unflushed", span(stats.oldest_unflushed_age) if stats.oldest_unflushed_age is not None else ""
    yield "flush rate", f"{stats.flushed_per_s:.1f} threads/s" if stats.workers and stats.flushed_per_s else ""


def _workers(stats: TierStats, now: datetime) -> Table:
    rows = [
        {
            "promoter": worker.program,
            "host": worker.host,
            "pid": str(worker.pid),
            "up": span(now - worker.started_at),
            "seen": moment(worker.seen_at, now),
            "threads/s": worker.flushed_per_s,
        }
        for worker in stats.workers
    ]
    return list_table(rows, ["promoter", "host", "pid", "up", "seen", "threads/s"], right=("pid", "threads/s"))


def report_of(report: DoctorReport) -> RenderableType:
    """What the doctor found: a line a check, and below it what to do where something is."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in report.checks:
        mark, style = _MARKS[check.verdict]
        found = Text(check.found, style="" if check.verdict == "ok" else style)
        table.add_row(Text(_written(mark), style=style), check.name, found)
        if check.remedy:
            table.add_row("", "", Text(f"{check.why} {check.remedy}.", style="dim"))
    return Group(table, "", counts_of(report))


def counts_of(report: DoctorReport) -> str:
    """How many checks ended how."""
    return ", ".join(
        f"{count} {SAID[verdict]}"
        for verdict in ("failure", "warning", "unknown", "ok")
        if (count := sum(check.verdict == verdict for check in report.checks))
    )


def _written(mark: str) -> str:
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN.get(mark, mark)
    return mark
