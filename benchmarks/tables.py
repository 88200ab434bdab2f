"""Figures as Markdown tables, each a ratio."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.measures import Key, Results

Cell = Callable[[str, str], str]
"""What stands in a row and a column."""

NOTHING = "–"


def markdown(corner: str, columns: Sequence[str], rows: Sequence[str], cell: Cell) -> str:
    """A table; rows in which nothing stands are left out, and a table without rows is no text."""
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "| --- " + "| ---: " * len(columns) + "|"]
    for row in rows:
        cells = [cell(row, column) for column in columns]
        if any(text != NOTHING for text in cells):
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def together(*tables: str) -> str:
    """Tables with a line between them."""
    return "\n\n".join(table for table in tables if table)


def times(ratio: float | None) -> str:
    """A ratio, as precise as it deserves."""
    if ratio is None:
        return NOTHING
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def peers_of(results: Results, workload: str) -> list[str]:
    """All that took part or failed, in a fixed order: the limit, memory, the others, and then this package."""
    names = {key.peer for key in (*results.figures, *results.failures) if key.workload == workload}
    return sorted(names, key=lambda name: (_RANK.get(name.partition(",")[0], 3), name))


_RANK = {"limit": 0, "no checkpointer": 0, "InMemorySaver": 1, "TieredSaver": 5}


def cases_of(results: Results, workload: str) -> list[str]:
    """In the order in which they were measured."""
    return list(dict.fromkeys(key.case for key in results.of(workload)))


def failure(results: Results, workload: str, cases: Iterable[str], peer: str) -> str:
    """Why a peer has no figure, in a few words."""
    for case in cases:
        why = results.failures.get(Key(workload, case, peer, ""))
        if why is not None:
            return "not at hand" if "not installed" in why or "was given" in why else in_short(why)
    return NOTHING


def in_short(why: str) -> str:
    """An error, without what depends on the run."""
    return "fail: too many connections" if "Too many connections" in why else f"fail: {why.partition(':')[0]}"
