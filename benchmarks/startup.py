"""What importing the package costs, in fresh processes, once all of it is compiled, as installed packages are."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from collections import defaultdict

from benchmarks.measures import Results
from benchmarks.profiles import Profile
from benchmarks.world import World

WORKLOAD = "startup"
CASE = "import"

PROGRAMS = {
    "langgraph.checkpoint.base, redis and psycopg": "import langgraph.checkpoint.base, redis, psycopg",
    "langgraph_tiered_checkpoint": "import langgraph_tiered_checkpoint",
    "TieredSaver": "from langgraph_tiered_checkpoint import TieredSaver",
    "AsyncPostgresSaver": "from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver",
}

TIMED = "import time; begun = time.process_time(); {}; print(time.process_time() - begun)"


async def startup(world: World, results: Results, profile: Profile) -> None:
    """CPU time, in random order; the first process of each leaves the bytecode, and warms the disk's cache.

    Were bytecode not to be written, what runs from a checkout would be compiled each time, and its peers never.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    took_ms: dict[str, list[float]] = defaultdict(list)
    order = list(PROGRAMS)
    for number in range(profile.processes + 1):
        random.shuffle(order)
        for name in order:
            program = TIMED.format(PROGRAMS[name])
            done = subprocess.run(  # noqa: ASYNC221 - nothing else runs
                [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
            )
            if number:
                took_ms[name].append(float(done.stdout) * 1_000)
    for name, values in took_ms.items():
        results.add(WORKLOAD, CASE, name, "import cpu ms", statistics.median(values))
