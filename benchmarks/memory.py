"""What the client keeps of many threads, beside the bound that it was given."""

from __future__ import annotations

import gc
import tracemalloc

from benchmarks.measures import Results
from benchmarks.payloads import Chat, at
from benchmarks.profiles import Profile
from benchmarks.world import World
from langgraph_tiered_checkpoint import Promotion, TieredSaver

WORKLOAD = "memory"
BOUND = 4 << 20
MESSAGES = 200
THREADS = 200
"""Their state, of about 70 KB each, is several times the bound."""


async def memory(world: World, results: Results, profile: Profile) -> None:
    """Python's own allocations that are left after many threads were written and read."""
    never = Promotion.never()
    async with TieredSaver.from_urls(
        world.redis_url, world.database(), remembered_bytes=BOUND, promotion=never
    ) as saver:
        await _visit(saver, "first")
        gc.collect()
        tracemalloc.start()
        for number in range(THREADS):
            await _visit(saver, f"thread-{number}")
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    results.add(WORKLOAD, "many threads", "TieredSaver", "left bytes", left)


async def _visit(saver: TieredSaver, thread_id: str) -> None:
    talk = Chat(thread_id, MESSAGES)
    for _ in range(2):
        step = talk.superstep()
        await saver.aput(step.config, step.checkpoint, step.metadata, step.new_versions)
    await saver.aget_tuple(at(thread_id))
