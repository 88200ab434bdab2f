"""What commands print: tables for people, and JSON for programs. Results go to stdout, all else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress import track
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON; of several things, one a line.")]

Row = Mapping[str, object]

_PIPED_WIDTH = 200
"""Columns where nobody looks: what a program reads is not to be folded."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def as_json(value: object) -> str:
    """One line of JSON. Moments are ISO 8601 in UTC, durations seconds."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case _:
            return str(value)


def print_json(value: object) -> None:
    """Print one line of JSON."""
    typer.echo(as_json(value))


def console() -> Console:
    """Where tables go. Markup is off: an id may have brackets."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(markup=False, highlight=False, emoji=False, width=width)


def note(text: str) -> None:
    """Say something beside the result."""
    typer.echo(text, err=True)


# Values as people read them


def shown(value: object) -> str:  # noqa: PLR0911 - a table
    """A value as people read it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else ""
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.1f}"
        case datetime():
            return value.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        case timedelta():
            return span(value)
        case tuple() | list():
            return "\n".join(map(shown, value))
        case _:
            return str(value)


def span(value: timedelta, units: int = 2) -> str:
    """A duration in its largest units."""
    left = round(value.total_seconds())
    if value < timedelta(0):  # a clock that differs
        return f"{left} s"
    if not left:
        return f"{value.total_seconds() * 1000:.0f} ms"
    parts: list[str] = []
    for seconds, unit in _UNITS:
        count, left = divmod(left, seconds)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == units:
            break
    return " ".join(filter(None, parts))


def size(count: int | None) -> str:
    """A number of bytes."""
    if count is None:
        return ""
    amount, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:,.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:,.1f} {unit}"


def moment(at: datetime | None, now: datetime, units: int = 2) -> str:
    """A moment, by how far away it is."""
    if at is None:
        return ""
    away = at - now
    return f"in {span(away, units)}" if away > timedelta(0) else f"{span(-away, units)} ago"


# Tables


def grid(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Names and values, without values that are empty."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value != "":
            table.add_row(name, value)
    return table


def record_table(value: Any) -> Table:
    """A record of the package, without what is empty."""
    told = {name: shown(content) for name, content in record(value).items()}
    return grid((name.replace("_", " "), content) for name, content in told.items() if content)


def list_table(rows: Iterable[Row], columns: Sequence[str], *, right: Sequence[str] = ()) -> Table:
    """Rows under the names of their columns; those in `right` are aligned so."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(shown(row.get(column)) for column in columns))
    return table


def print_fitting(
    rows: Sequence[Row], columns: Sequence[str], *, right: Sequence[str] = (), expendable: Sequence[str] = ()
) -> None:
    """Print rows, without those of the expendable columns for which there is no room; the first of them goes first."""
    to = console()
    kept = list(columns)
    for column in (*expendable, ""):
        table = list_table(rows, kept, right=right)
        if not column or Measurement.get(to, to.options.update(max_width=1_000), table).maximum <= to.width:
            to.print(table)
            return
        kept.remove(column)


def print_each(rows: Iterable[Row], columns: Sequence[str], *, json_: bool, right: Sequence[str] = ()) -> int:
    """Print rows, and say how many there were."""
    if json_:
        count = 0
        for row in rows:
            print_json(row)
            count += 1
        return count
    found = list(rows)
    if found:
        console().print(list_table(found, columns, right=right))
    return len(found)


def record(value: Any) -> dict[str, Any]:
    """A record of the package as JSON has it."""
    return asdict(value)


# What takes long


def progress(what: str, items: Sequence[str]) -> Iterator[str]:
    """The items, with a bar on a terminal where there are several."""
    stderr = Console(stderr=True)
    if len(items) < 2 or not stderr.is_terminal:
        yield from items
    else:
        yield from track(items, description=what, console=stderr, transient=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what is waited for, as long as it is."""
    stderr = Console(stderr=True)
    if not stderr.is_terminal:
        yield
        return
    with stderr.status(what):
        yield


def watch(render: Callable[[], RenderableType], seconds: float) -> None:
    """Show something again and again, until interrupted."""
    with Live(render(), console=console(), screen=False, auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            live.update(render(), refresh=True)
