"""What commands print: tables for people, and JSON for programs. Results go to stdout, all else to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON; of several things, one a line.")]


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


def record_table(record: Any, *, title: str = "") -> Table:
    """A status as a table of two columns, without what is empty."""
    table = Table(title=title or None, show_header=False, box=None, pad_edge=False)
    for name, value in asdict(record).items():
        if value not in (None, "", ()):
            table.add_row(name.replace("_", " "), shown(value))
    return table


def list_table(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> Table:
    """Rows as a table."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(shown(row.get(column)) for column in columns))
    return table


def shown(value: object) -> str:
    """A value as people read it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S UTC")
        case timedelta():
            return str(timedelta(seconds=round(value.total_seconds())))
        case tuple() | list():
            return "\n".join(map(shown, value))
        case _:
            return str(value)


def console() -> Console:
    """Where tables go. Markup is off: an id may have brackets."""
    return Console(markup=False, highlight=False, emoji=False)


def progress(what: str, items: Sequence[str]) -> Iterator[str]:
    """The items, with a bar on a terminal where there are several."""
    stderr = Console(stderr=True)
    if len(items) < 2 or not stderr.is_terminal:
        yield from items
    else:
        yield from track(items, description=what, console=stderr, transient=True)


def print_each(rows: Iterable[Mapping[str, object]], columns: Sequence[str], *, json_: bool) -> int:
    """Print rows, and say how many there were."""
    if json_:
        count = 0
        for row in rows:
            print_json(row)
            count += 1
        return count
    found = list(rows)
    if found:
        console().print(list_table(found, columns))
    return len(found)


def watch(render: Callable[[], Table], seconds: float) -> None:
    """Show a table again and again, until interrupted."""
    import time

    from rich.live import Live

    with Live(render(), console=console(), screen=False, auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            live.update(render(), refresh=True)
