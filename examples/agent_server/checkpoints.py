"""The saver that the server uses instead of its own: `checkpointer.path` in langgraph.json names `checkpointer`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from langgraph_tiered_checkpoint import Promotion, TieredSaver

# One for the process, as the server may run several event loops (BG_JOB_ISOLATED_LOOPS) and, when it stops, leaves the
# context manager in its main loop only. Making it opens nothing.
saver = TieredSaver.from_urls(
    os.environ["REDIS_URL"],
    os.environ["POSTGRES_URL"],
    ttl=timedelta(minutes=10),
    promotion=Promotion(checkpoints=9),  # the third message; a thread that waits for a human is promoted at once
    cold_writes="through" if os.environ.get("COLD_WRITES") == "through" else "behind",
)


@asynccontextmanager
async def checkpointer() -> AsyncIterator[TieredSaver]:
    """Entered once per event loop. When it is left, what is dirty is flushed."""
    async with saver:
        yield saver
