"""`make bench`: measure, print the tables, and write docs/benchmarks.md with its plots."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from benchmarks.conversation import conversation
from benchmarks.measures import Results
from benchmarks.network import network
from benchmarks.operations import operations
from benchmarks.profiles import FULL, QUICK, Profile
from benchmarks.runs import runs
from benchmarks.sessions import sessions
from benchmarks.startup import startup
from benchmarks.world import World, world

WORKLOADS: dict[str, Callable[[World, Results, Profile], Awaitable[None]]] = {
    "operations": operations,
    "sessions": sessions,
    "runs": runs,
    "network": network,
    "conversation": conversation,
    "startup": startup,
}


async def run(names: list[str], profile: Profile, stack_url: str | None) -> Results:
    results = Results()
    with world(stack_url) as servers:
        for name in names:
            begun = time.monotonic()
            await WORKLOADS[name](servers, results, profile)
            servers.clear()
            print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS), default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--redis-stack", metavar="URL", default=os.environ.get("LGT_BENCH_REDIS_STACK"))
    options = parser.parse_args()
    names = options.workloads or list(WORKLOADS)
    results = asyncio.run(run(names, QUICK if options.quick else FULL, options.redis_stack))
    for key, value in results.figures.items():
        print(f"{key.workload:12} {key.case:15} {key.peer:28} {key.measure:20} {value:10.1f}")
    print(results.failures)


if __name__ == "__main__":
    main()
