"""A process that ends without closing its saver leaves nothing dirty behind, in bounded time."""

from __future__ import annotations

import _thread
import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from faults.outages import frozen
from homes import at, put, values_of
from waiting import AT_ONCE_S, HANGS_S

from langgraph_tiered_checkpoint import EmbeddedServers, Promotion, TieredSaver, Timeouts

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
from datetime import timedelta
sys.path.insert(0, "tests/support")
from homes import at, put
from langgraph_tiered_checkpoint import Promotion, TieredSaver, Timeouts

saver = TieredSaver.from_urls(
    *sys.argv[1:3],
    promotion=Promotion(checkpoints=1),
    flush_interval=timedelta(hours=1),
    timeouts=Timeouts(cold=timedelta(seconds=60), drain=timedelta(seconds=float(sys.argv[3]))),
)
first = put(saver, at("first"), {"a": ["b"]})
"""

FORK = """
import os
child = os.fork()
put(saver, at("of the parent" if child else "of the child"), {"a": 1})
if child: os.waitpid(child, 0)
"""

ENDINGS = {
    "plain": ("", 1),
    "collected": ("del saver", 1),
    "in a thread": ("import threading; threading.Thread(target=put, args=(saver, at('t'), {'a': 1})).start()", 2),
    "async": ("import asyncio; asyncio.run(saver.aput_writes(first, [('a', 1)], 'task'))", 1),
    "sys.exit": ("sys.exit(0)", 1),
    "many": ("for number in range(70): put(saver, at(f'many {number}'), {'a': number})", 71),
    "forked": (FORK, 3),
}


def start(redis_url: str, postgres_url: str, more: str, drain_s: float = 60) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT + more, redis_url, postgres_url, str(drain_s)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=-1, stdout=-1, stderr=subprocess.STDOUT
    )


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """Looks, and flushes nothing by itself."""
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
        made.setup()
        yield made


@pytest.mark.parametrize(("more", "threads"), ENDINGS.values(), ids=ENDINGS)
def test_script_that_never_closes_its_saver_leaves_nothing_dirty(
    saver: TieredSaver, redis_url: str, postgres_url: str, more: str, threads: int
) -> None:
    script = start(redis_url, postgres_url, more)
    said, _ = script.communicate(timeout=HANGS_S)
    assert (script.returncode, said) == (0, "")
    states = {name: saver.explain(name).state for name in saver.thread_ids()}
    assert states["first"] == "clean"
    assert set(states.values()) == {"clean"}
    assert len(states) == threads


def test_end_does_not_wait_for_a_postgres_that_says_nothing_for_longer_than_drain(redis_url: str) -> None:
    with (
        EmbeddedServers() as servers,
        TieredSaver.from_urls(redis_url, servers.postgres_url, promoter="external") as own,
    ):
        own.setup()
        script = start(redis_url, servers.postgres_url, "print('ready', flush=True); sys.stdin.read()", drain_s=1)
        try:
            assert script.stdout is not None
            assert script.stdout.readline() == "ready\n"
            with frozen(servers.postgres_pid):
                said, _ = script.communicate(timeout=HANGS_S)
        finally:
            script.kill()
        assert (script.returncode, said) == (0, "")
        assert own.explain("first").state == "dirty"
        own.flush()
        assert values_of(own, at("first")) == {"a": ["b"]}


def test_close_does_not_wait_longer_when_the_promoter_has_not_begun_yet(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedServers() as servers:
        limits = Timeouts(cold=timedelta(seconds=HANGS_S), drain=timedelta(seconds=1))
        own = TieredSaver.from_urls(
            redis_url, servers.postgres_url, promotion=Promotion(checkpoints=1), timeouts=limits
        )
        own.setup()
        with monkeypatch.context() as patch:
            patch.setattr(_thread, "start_new_thread", lambda *_: None)  # it has not come to run
            put(own, at("first"), {"a": ["b"]})
        with frozen(servers.postgres_pid):
            closing = threading.Thread(target=own.close, daemon=True)
            closing.start()
            closing.join(AT_ONCE_S)
            assert not closing.is_alive()
        assert own.explain("first").state == "dirty"
        own.close()


def test_setup_may_be_awaited_as_that_of_other_savers(redis_url: str, postgres_url: str) -> None:
    async def main() -> None:
        async with TieredSaver.from_urls(redis_url, postgres_url, auto_setup=False) as made:
            await made.setup()
            assert await made.aget_tuple(at("t")) is None

    asyncio.run(main())
