"""Async code waits for nothing but its servers: in a fresh process, where nothing has been read yet."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, inspect, sys
from langgraph.checkpoint.base import empty_checkpoint
from langgraph_tiered_checkpoint import Promotion, TieredSaver
from blockbuster import BlockBuster

AT = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}

class Called:
    '''A saver that notes which of its methods have been called.'''

    def __init__(self, saver, names=None):
        self.saver, self.names = saver, set() if names is None else names

    def __getattr__(self, name):
        self.names.add(name)
        return getattr(self.saver, name)

async def main(redis_url, postgres_url):
    BlockBuster().activate()
    saver = Called(TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion(checkpoints=1)))
    config = await saver.aput(AT, empty_checkpoint(), {"run_id": "r"}, {})
    await saver.aput_writes(config, [("a", 1)], "task")
    await saver.aget(AT)
    await saver.asetup()
    for method in (saver.apromote, saver.apin, saver.aunpin, saver.aflush, saver.aevict, saver.aexplain):
        await method("t")
    found = await saver.aget_tuple(AT)
    [_] = [one async for one in saver.alist(None, filter={"run_id": "r"})]
    assert ["t"] == [one async for one in saver.athread_ids()]
    await saver.aget_delta_channel_history(config=AT, channels=["a"])
    await saver.acopy_thread("t", "copy")
    await saver.aprune(["copy"])
    await saver.adelete_for_runs(["r"])
    await saver.adelete_thread("t")
    await saver.arestore("t", [found])
    await saver.amessages("t")
    lines = [line async for line in saver.aexport("t")]
    await saver.aerase("t", asked_by="the test")
    await saver.aimport_threads(lines)
    ours = saver.saver.scoped("ours")
    await ours.aput(AT, empty_checkpoint(), {}, {})
    await Called(ours, saver.names).aerase_all(asked_by="the test")
    await saver.astats()
    await saver.adoctor()
    await saver.asweep()
    [_ async for _ in saver.ascopes()]
    await saver.aput(AT, empty_checkpoint(), {}, {})
    await saver.aarchive("t")
    await saver.aunarchive("t")
    await saver.aclose()
    asynchronous = [
        name for name, one in inspect.getmembers(TieredSaver)
        if name.startswith("a") and (inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one))
    ]
    print(*sorted(set(asynchronous) - saver.names))

asyncio.run(main(*sys.argv[1:]))
"""


def test_no_async_method_blocks_the_event_loop(redis_url: str, postgres_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, redis_url, postgres_url],
        check=False, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "", "methods that were not called"
