"""An exception out of a signal handler (a soft time limit, Ctrl-C) in the midst of a sync call: nothing stays held."""

from __future__ import annotations

import dis
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache, partial
from types import CodeType, FrameType
from typing import Any

import hiredis
import pytest
from homes import at, put, values_of
from waiting import wait_until

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import TieredCheckpointError
from langgraph_tiered_checkpoint.io.postgres_sync import _OwnPool
from langgraph_tiered_checkpoint.io.redis_sync import SyncRedis

WATCHED = re.compile(
    r"langgraph_tiered_checkpoint\.(io\.\w+|promoter|saver)"
    r"|redis\.(connection|_parsers)|psycopg\.(connection|cursor|_cursor_base|_connection_base|_pipeline)|threading"
)
"""Where what is held is taken and given back. Interrupting the rest, which computes, would show nothing."""


class SoftTimeLimitError(Exception):
    """What a task queue's handler raises."""


@cache
def openings(code: CodeType) -> frozenset[int]:
    """Before which instructions the interpreter may have run signal handlers: after calls, and where a function begins.

    It does so in the call's own place, so not where that has another handler of exceptions than what follows.
    """
    found = set()
    after = None
    for instruction in dis.get_instructions(code):
        if after is not None and _handler(code, after) == _handler(code, instruction.offset):
            found.add(instruction.offset)
        after = instruction.offset if instruction.opname.startswith(("CALL", "RESUME")) else None
    return frozenset(found)


def _handler(code: CodeType, offset: int) -> int | None:
    parse = getattr(dis, "_parse_exception_table", lambda _: ())  # before 3.11, handlers were a matter of run time
    return next((entry.target for entry in parse(code) if entry.start <= offset < entry.end), None)


class Interruption:
    """Raises at the n-th opportunity in the code that is watched."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def during(self, work: Callable[[], object]) -> bool:
        """Whether there were so many. If not, the work has been done."""
        sys.settrace(self._enter)
        try:
            work()
        except SoftTimeLimitError:
            pass
        except TieredCheckpointError as exc:
            if "'traceback' object is not callable" not in str(exc):  # CPython's, of a trace function that has raised
                raise
        finally:
            sys.settrace(None)
        return self.left == 0

    def _enter(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if "__del__" in {frame.f_code.co_name, frame.f_back and frame.f_back.f_code.co_name}:
            return None  # where exceptions reach nobody
        if not WATCHED.match(frame.f_globals.get("__name__", "")):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._step

    def _step(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "opcode" and frame.f_lasti in openings(frame.f_code):
            self.left -= 1
            if self.left == 0:
                raise SoftTimeLimitError
        return self._step


def interruptions(work: Callable[[], object]) -> Iterator[int]:
    """Do the work again and again, interrupted at each opportunity in turn, until it is done without."""
    for nth in itertools.count(1):
        if not Interruption(nth).during(work):
            return
        yield nth


def every_method(saver: TieredSaver) -> None:
    """Call each method that talks to Redis."""
    config = put(saver, at("t"), {"a": [1], "b": "x" * 5_000})
    saver.put_writes(config, [("a", n) for n in range(9)], "task")
    for operation in (saver.promote, saver.pin, saver.unpin, saver.evict):
        operation("t")
    saver.get_tuple(at("t"))
    put(saver, config, {"a": [2], "b": "y"}, 2, run_id="run")
    saver.flush()
    saver.flush("t")
    put(saver, at("u"), {"a": [1]})
    list(saver.list(None, filter={"step": 1}))
    saver.get_delta_channel_history(config=at("t"), channels=["a"])
    list(saver.thread_ids())
    saver.copy_thread("t", "copy")
    saver.copy_thread("u", "hot copy")
    saver.prune(["copy"])
    saver.delete_for_runs(["run"])
    saver.explain("t")
    saver.stats()
    saver.delete_thread("t")
    saver._promoter._sweep()


def test_commands_are_of_text_and_bytes_only(
    redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hiredis lets the process die where an exception comes out of a handler while it spells a number."""
    words: list[Any] = []
    pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command

    def recorded(command: tuple[Any, ...]) -> bytes:
        words.extend(command)
        packed: bytes = pack(command)
        return packed

    monkeypatch.setattr(hiredis, "pack_command", recorded)
    promotion = Promotion(checkpoints=3, before_expiry=True)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=promotion) as saver:
        every_method(saver)
    assert len(words) > 500
    assert {type(word) for word in words} <= {str, bytes}


def test_interrupted_calls_leave_slots_free_and_replies_in_order(redis_url: str, postgres_url: str) -> None:
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", cold_writes="through", promotion=Promotion(checkpoints=1)
    ) as saver:
        ports = saver._sync._connections.sync_ports()
        assert ports.cold is not None
        marker = put(saver, at("marker"), {"n": "marker"})
        config = put(saver, at("t"), {"n": 0})
        written: list[str] = []

        def write() -> None:
            made = put(saver, config, {"n": len(written)}, len(written) + 1)
            written.append(made["configurable"]["checkpoint_id"])

        for _ in interruptions(write):
            assert isinstance(ports.hot, SyncRedis)
            assert isinstance(ports.cold._pool, _OwnPool)
            assert ports.hot._slots.taken == ports.cold._pool.slots.taken == 0
            assert values_of(saver, marker) == {"n": "marker"}
            saver.flush("t")
        saver.evict("t")
        assert {one.checkpoint["id"] for one in saver.list(at("t"))} >= set(written)


def test_promoter_starts_again_after_an_interrupted_start(redis_url: str, postgres_url: str) -> None:
    settings: dict[str, Any] = {"promotion": Promotion(checkpoints=1), "flush_interval": timedelta(milliseconds=1)}
    with TieredSaver.from_urls(redis_url, postgres_url, **settings) as saver:
        notice = partial(saver._promoter.notice, "t", due=True)
        for _ in interruptions(notice):
            notice()
            wait_until(saver._promoter._runs, "the promoter")
            saver._promoter.close(30)
        put(saver, at("t"), {"n": 1})
        wait_until(lambda: saver.explain("t").state == "clean", "the promoter")
