"""Plots of the ratios, as SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measures import Results
from benchmarks.tables import cases_of, peers_of

OURS = "#b5341c"
COLOURS = {
    "no checkpointer": "#bbbbbb",
    "InMemorySaver": "#3b6ea5",
    "AsyncPostgresSaver": "#6a9f58",
    "AsyncPostgresSaver, pool": "#9cc48d",
    "PostgresSaver": "#3d6b2f",
    "AsyncSqliteSaver": "#8c8c8c",
    "AsyncValkeySaver": "#c79a2e",
    "AsyncRedisSaver": "#7a68a6",
}
"""One for each peer, in all plots; this package's are all of one, told apart by hatches and dashes."""


def draw(results: Results, folder: Path) -> list[str]:
    """Write what there are figures for; the names of the files."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {
        "svg.hashsalt": "bench",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Results, Any], bool]] = {
        "bench-summary.svg": _summary,
        "bench-operations.svg": _operations,
        "bench-sessions.svg": _sessions,
        "bench-runs.svg": _runs,
        "bench-conversation.svg": _conversation,
        "bench-history.svg": _history,
    }
    from matplotlib import pyplot as plt

    written = []
    for name, plot in plots.items():
        two = plot is _summary
        figure, axes = plt.subplots(ncols=2 if two else 1, figsize=(8, 2.4 if two else 4), layout="constrained")
        if plot(results, axes):
            figure.savefig(folder / name, metadata={"Date": None})
            path = folder / name
            path.write_text("\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()) + "\n")
            written.append(name)
        plt.close(figure)
    return written


def _bars(axes: Any, groups: list[str], peers: list[str], figure: Callable[[str, str], float | None]) -> bool:
    shown = [peer for peer in peers if any(figure(peer, group) is not None for group in groups)]
    width = 0.8 / max(len(shown), 1)
    for number, peer in enumerate(shown):
        places = [at + (number - len(shown) / 2 + 0.5) * width for at in range(len(groups))]
        heights = [figure(peer, group) or 0 for group in groups]
        hatch = None if peer == "TieredSaver" or not peer.startswith("TieredSaver") else "//"
        axes.bar(
            places,
            heights,
            width,
            label=peer,
            color=COLOURS.get(peer, OURS),
            hatch=hatch,
            edgecolor="white",
            linewidth=0.3,
        )
    axes.set_xticks(range(len(groups)), groups)
    axes.set_yscale("log")
    axes.axhline(1, color="black", linewidth=0.8)
    if shown:
        axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    return bool(shown)


def _lines(
    axes: Any,
    peers: list[str],
    points: Callable[[str], list[tuple[float, float]]],
    ticks: list[float],
    *,
    scale: str = "linear",
) -> bool:
    drawn = False
    styles = iter(("-", "--", ":", "-.") * 3)
    for peer in peers:
        found = points(peer)
        if found:
            style = next(styles) if peer.startswith("TieredSaver") else "-"
            axes.plot(
                *zip(*found, strict=True), style, marker="o", markersize=3, label=peer, color=COLOURS.get(peer, OURS)
            )
            drawn = True
    axes.set_xscale("log")
    axes.set_yscale(scale)
    if scale == "linear":
        axes.set_ylim(bottom=0)
    axes.minorticks_off()
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    if drawn:
        axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    return drawn


def _operations(results: Results, axes: Any) -> bool:
    peers = [
        p
        for p in peers_of(results, "operations")
        if p.partition(", ")[2] not in {"no TTL", "no refresh", "HSET", "sync, HSET"}
    ]
    axes.set_ylabel("time, × the limit")
    axes.set_title("Single operations, state of 20 messages")

    def ratio(peer: str, operation: str) -> float | None:
        base = "limit, sync" if ", sync" in peer or peer == "PostgresSaver" else "limit"
        return results.ratio("operations", "20 messages", peer, base, f"{operation} us")

    return _bars(axes, ["put", "put_writes", "get_tuple"], [p for p in peers if not p.startswith("limit")], ratio)


def _summary(results: Results, axes: Any) -> bool:
    """What the README shows: two figures, of those that are kept for a long time and of those that are many."""
    memory, sessions = axes
    kept = _of_each_peer(results, "conversation", "200 turns", "redis memory bytes", "live state bytes")
    turns = {
        peer: ratio
        for peer in peers_of(results, "sessions")
        if peer not in {"limit", "InMemorySaver"}
        and not peer.endswith("plain pool")
        and (ratio := results.ratio("sessions", "64 sessions", peer, "InMemorySaver", "turns per s"))
    }
    _ranking(memory, kept, "Memory of Redis after 200 turns,\n× what the chat holds", "{:,.0f}")
    _ranking(sessions, turns, "Turns per second, 64 sessions at once,\n× a saver in memory", "{:.2f}")
    return bool(kept and turns)


def _of_each_peer(results: Results, workload: str, case: str, measure: str, base: str) -> dict[str, float]:
    found = {}
    for peer in peers_of(results, workload):
        value, whole = (results.get(workload, case, peer, name) for name in (measure, base))
        if value and whole:
            found[peer] = value / whole
    return found


def _ranking(axes: Any, figures: dict[str, float], title: str, form: str) -> None:
    """Bars side by side, with their figures; this package's at the top."""
    peers = sorted(figures, key=lambda peer: (not peer.startswith("TieredSaver"), peer), reverse=True)
    bars = axes.barh(peers, [figures[peer] for peer in peers], color=[COLOURS.get(peer, OURS) for peer in peers])
    axes.bar_label(bars, [form.format(figures[peer]) for peer in peers], padding=3)
    axes.set_title(title, fontsize=9)
    axes.grid(visible=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.minorticks_off()
    axes.margins(x=0.15)


def _number(case: str) -> float:
    return float(case.split(maxsplit=1)[0].replace(",", ""))


def _sessions(results: Results, axes: Any) -> bool:
    cases = cases_of(results, "sessions")

    def points(peer: str) -> list[tuple[float, float]]:
        found = [
            (_number(case), results.ratio("sessions", case, peer, "InMemorySaver", "turns per s")) for case in cases
        ]
        return [(x, y) for x, y in found if y is not None]

    axes.set_ylabel("turns per second, × InMemorySaver")
    axes.set_xlabel("sessions at once")
    axes.set_title("Whole graphs of many sessions in one process")
    return _lines(axes, peers_of(results, "sessions"), points, list(map(_number, cases)))


def _runs(results: Results, axes: Any) -> bool:
    axes.set_ylabel("time, × InMemorySaver")
    axes.set_title("Whole runs, one at a time")
    cases = cases_of(results, "runs")
    drawn = _bars(
        axes, cases, peers_of(results, "runs"), lambda p, c: results.ratio("runs", c, p, "InMemorySaver", "run us")
    )
    axes.set_xticks(range(len(cases)), [case.replace(" ", "\n", 1).replace(" with", "\nwith") for case in cases])
    if drawn:
        axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    return drawn


def _conversation(results: Results, axes: Any) -> bool:
    cases = cases_of(results, "conversation")

    def points(peer: str) -> list[tuple[float, float]]:
        found = []
        for case in cases:
            sizes = [results.get("conversation", case, peer, name) for name in ("redis memory bytes", "postgres bytes")]
            live = results.get("conversation", case, peer, "live state bytes")
            kept = sum(size or 0 for size in sizes)
            if live and kept:
                found.append((_number(case), kept / live))
        return found

    axes.set_ylabel("kept in Redis and Postgres, × live state")
    axes.set_xlabel("turns")
    axes.set_title("What a long conversation leaves behind")
    return _lines(axes, peers_of(results, "conversation"), points, list(map(_number, cases)), scale="log")


def _history(results: Results, axes: Any) -> bool:
    cases = cases_of(results, "history")

    def points(peer: str) -> list[tuple[float, float]]:
        base = results.get("history", cases[0], "AsyncPostgresSaver", "get_tuple us")
        found = [(_number(case), results.get("history", case, peer, "get_tuple us")) for case in cases]
        return [(x, y / base) for x, y in found if y is not None and base]

    axes.set_ylabel("get_tuple, × AsyncPostgresSaver")
    axes.set_xlabel("checkpoints in the thread")
    axes.set_title("Reading the head of a long history")
    return _lines(axes, peers_of(results, "history"), points, list(map(_number, cases)))
