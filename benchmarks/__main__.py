"""`make bench`: measure, print the tables, and write docs/benchmarks.md with its plots.

Only the full run of all workloads writes there; a part of it, or a quick one, writes to build/bench/.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.agent import agent
from benchmarks.archive import archive
from benchmarks.conversation import conversation
from benchmarks.crowd import crowd
from benchmarks.flushing import flushing
from benchmarks.history import history
from benchmarks.measures import Results
from benchmarks.memory import memory
from benchmarks.network import network
from benchmarks.operations import operations
from benchmarks.profiles import FULL, QUICK, Profile
from benchmarks.report import load, save, write
from benchmarks.runs import runs
from benchmarks.sessions import sessions
from benchmarks.startup import startup
from benchmarks.world import World, world

WORKLOADS: dict[str, Callable[[World, Results, Profile], Awaitable[None]]] = {
    "operations": operations,
    "agent": agent,
    "sessions": sessions,
    "crowd": crowd,
    "runs": runs,
    "network": network,
    "history": history,
    "flushing": flushing,
    "conversation": conversation,
    "archive": archive,
    "memory": memory,
    "startup": startup,
}
BUILD = Path("build/bench")
KEPT = BUILD / "results.json"
"""The figures of the last run, as far as it went."""


async def run(names: list[str], profile: Profile, given: argparse.Namespace, results: Results) -> Results:
    """Workload by workload, on the given servers; those that `results` has already are left out."""
    with world(given.redis_stack, given.postgres) as servers:
        servers.clear()  # of what a run that was interrupted has left in a given Redis
        results.servers = servers.versions()
        for name in names:
            if name in results.done:
                continue
            begun = time.monotonic()
            await WORKLOADS[name](servers, results, profile)
            servers.clear()
            results.done.append(name)
            save(results, KEPT)
            print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return results


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"some of {', '.join(WORKLOADS)}; all by default"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller sizes, to see where things stand"
    )
    parser.add_argument(
        "--redis-stack",
        metavar="URL",
        default=os.environ.get("LGT_BENCH_REDIS_STACK"),
        help="a Redis, 7.1 or newer, with the modules for search and JSON, that AsyncRedisSaver may use and empty",
    )
    parser.add_argument(
        "--postgres",
        metavar="URL",
        default=os.environ.get("LGT_BENCH_POSTGRES"),
        help="a Postgres on this machine, not the wheel's: a superuser's URL. Databases bench_* come and go there",
    )
    parser.add_argument("--resume", action="store_true", help="go on after the last workload that a run completed")
    parser.add_argument("--again", action="store_true", help="measure nothing; write the page of the last run again")
    options = parser.parse_args()
    if unknown := set(options.workloads) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    logging.disable(logging.ERROR)  # peers log what they raise; what is raised is in the tables
    names = options.workloads or list(WORKLOADS)
    results = load(KEPT) if options.again or options.resume else Results()
    if not options.again:
        results = asyncio.run(run(names, QUICK if options.quick else FULL, options, results))
    full = not (options.quick or options.workloads)
    page = Path("docs/benchmarks.md") if full else BUILD / "benchmarks.md"
    given = {"--quick": options.quick, "--redis-stack URL": options.redis_stack, "--postgres URL": options.postgres}
    chosen = [*(option for option, value in given.items() if value), *options.workloads]
    print(write(results, page, f' BENCH="{" ".join(chosen)}"' if chosen else ""))
    print(f"written to {page}")


if __name__ == "__main__":
    main()
