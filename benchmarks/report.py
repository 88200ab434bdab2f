"""docs/benchmarks.md: the text around the tables, and where it is written."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import astuple
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import sections
from benchmarks.measures import Key, Results
from benchmarks.plots import draw

HEAD = """\
# Benchmarks

Written by `make bench{arguments}`, which measures all of this; not edited by hand. Every figure is a ratio within one
run of its workload, or a count: absolute times belong to a machine. Each round makes the same calls with every saver,
in random order, after warming up and without garbage collection; a figure is the ratio of medians. "CPU" is the CPU
time of the client's process.

{machine}

The **limit** is what no saver in Redis can beat: the serde's own time, and one `EVALSHA` of the very bytes that
`TieredSaver` sends, to a script that does nothing, through hiredis on a bare asyncio stream (for sync savers, a bare
socket). "HSET": to a script that stores what it is sent. What has no network to cross, like `InMemorySaver`, can be
below it. For many sessions and for whole runs it is an `InMemorySaver` each call of which also sends an `EVALSHA` of
512 bytes to a script that does nothing: the tasks share one bare connection, and what they send in one tick goes out in
one go. For flushing it is a `COPY` of the rows that `AsyncPostgresSaver` has written into the same tables, in one go.

`TieredSaver` alone is async, on ephemeral threads. "promoted": every thread is promoted by its first write, and
flushed behind it by the same process. "dirty" and "clean": promoted threads with and without changes that Postgres
lacks. "through": `cold_writes="through"`. "plain pool": the same saver over redis-py's client and its connection pool.
The others are set up as their documentation says, on the same servers: `AsyncPostgresSaver` on one connection, and on a
pool of up to 20; `AsyncValkeySaver` and `AsyncRedisSaver` with a TTL, and with a pool of eight connections a session.

{skipped}
"""

TARGETS = """\
What this package wants to reach, and whether this run did. "At best" is what the limit comes to in the same place, for
writes that of a script that stores what it is sent (HSET): what is beyond it cannot be reached on these servers."""

SECTIONS = (
    (
        "Single operations",
        "On resident threads, one at a time; the list of messages gains one with each superstep.",
        sections.operations_section,
        "bench-operations.svg",
    ),
    (
        "An agent's state",
        "Ten channels or fifty, one of which changes with each superstep. The window is 20 messages of 300 characters.",
        sections.agent_section,
        "",
    ),
    (
        "Many sessions in one process",
        "Throughput, on 20 messages. A turn is a run of a graph; the operations: `put`, `put_writes`, `get_tuple`.",
        sections.sessions_section,
        "bench-sessions.svg",
    ),
    (
        "Whole runs",
        "A turn of a chat under each `durability`, two agents with tools as subgraphs, and a fan-out with `Send`.",
        sections.runs_section,
        "bench-runs.svg",
    ),
    (
        "On the wire",
        "Counted by a proxy between client and servers, and the time when it holds each reply up.",
        sections.network_section,
        "",
    ),
    (
        "Long histories",
        "The same thread in three places, and the rows of the evicted one read by `AsyncPostgresSaver`.",
        sections.history_section,
        "bench-history.svg",
    ),
    (
        "Flushing",
        "Threads of ten checkpoints of about twenty messages, with a task's writes each, and the same put again.",
        sections.flushing_section,
        "",
    ),
    (
        "What a long conversation costs",
        "A chat of three checkpoints a turn, and the serialized messages at its end. Long ones without slow savers.",
        sections.conversation_section,
        "bench-conversation.svg",
    ),
    ("Start-up", "CPU time of an import in a fresh process.", sections.startup_section, ""),
    ("Targets", TARGETS, sections.targets_section, ""),
)

PACKAGES = (
    "langgraph",
    "langgraph-checkpoint",
    "langgraph-checkpoint-aws",
    "langgraph-checkpoint-postgres",
    "langgraph-checkpoint-redis",
    "langgraph-checkpoint-sqlite",
    "redis",
    "hiredis",
    "psycopg",
)


def save(results: Results, path: Path) -> None:
    """Keep the figures, so that the page can be written again from them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = [[*astuple(key), value] for key, value in results.figures.items()]
    failures = [[*astuple(key), why] for key, why in results.failures.items()]
    kept = {"figures": figures, "failures": failures, "servers": results.servers, "done": results.done}
    path.write_text(json.dumps(kept))


def load(path: Path) -> Results:
    """What `save` has kept."""
    kept = json.loads(path.read_text())
    figures = {Key(*row[:4]): row[4] for row in kept["figures"]}
    failures = {Key(*row[:4]): row[4] for row in kept["failures"]}
    return Results(figures, failures, kept["servers"], kept["done"])


def write(results: Results, page: Path, arguments: str) -> str:
    """Write the page with its plots beside it; its text."""
    plots = draw(results, page.parent / "images")
    parts = [HEAD.format(arguments=arguments, machine=_machine(results), skipped=_skipped(results))]
    for title, text, section, plot in SECTIONS:
        table = section(results)
        if not table:
            continue
        picture = f"\n\n![{title}](images/{plot})" if plot in plots else ""
        parts.append(f"## {title}\n\n{text}{picture}\n\n{table}\n")
    whole = "\n".join(parts)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(whole, encoding="utf-8")
    return whole


def _machine(results: Results) -> str:
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    python = f"Python {platform.python_version()} on {platform.system()}, {os.cpu_count()} cores"
    return f"{python}; {results.servers}; {', '.join(packages)}."


def _skipped(results: Results) -> str:
    found = {(key.peer, why) for key, why in results.failures.items() if "not installed" in why or "was given" in why}
    if not found:
        return "Nobody was skipped."
    return "Skipped: " + "; ".join(f"`{peer}`, because {why}" for peer, why in sorted(found)) + "."
