"""Processes that die in the middle of an operation, by SIGKILL, at a step that is named beforehand."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Literal

from langgraph_tiered_checkpoint import TieredSaver
from langgraph_tiered_checkpoint.steps import Step

FAILPOINT = "LGT_TEST_KILL_AT"
"""When a worker dies: "before:N", "after:N" or "during:N:µs", of the N-th step of its plans, from 0."""


Fate = Literal["killed", "ended before", "never there"]
_NEVER_THERE = 3


def die_at(failpoint: str, operate: Callable[[], TieredSaver], act: Callable[[TieredSaver], Any]) -> Fate:
    """Run an operation in a process that dies at the failpoint, if it comes there before the operation ends."""

    def work() -> int:
        saver = operate()
        performed = arm(saver, os.environ[FAILPOINT])
        act(saver)
        return 0 if len(performed) > int(failpoint.split(":")[1]) else _NEVER_THERE

    status = _forked(work, failpoint)
    if status == -signal.SIGKILL:
        return "killed"
    if status == _NEVER_THERE:
        return "never there"
    assert status == 0, f"ended with {status}"
    assert failpoint.startswith("during")
    return "ended before"


def arm(saver: TieredSaver, failpoint: str) -> list[Step]:
    """Have this process die when the saver gets there. The steps performed so far are in the list."""
    performed: list[Step] = []
    perform = saver._sync._perform
    when, nth, delay_us = [*failpoint.split(":"), "", ""][:3]

    def until_the_failpoint(step: Step) -> Any:
        here = nth == str(len(performed))
        performed.append(step)
        if here and when == "before":
            _die()
        if here and when == "during":
            threading.Thread(target=_die, args=(int(delay_us) / 1e6,), daemon=True).start()
        reply = perform(step)
        if here and when == "after":
            _die()
        return reply

    saver._sync._perform = until_the_failpoint  # type: ignore[method-assign]
    return performed


def _die(in_seconds: float = 0) -> None:
    time.sleep(in_seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def _forked(work: Callable[[], int], failpoint: str) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.environ[FAILPOINT] = failpoint
            status = work()
        except BaseException:  # noqa: BLE001 - nothing may leave the child
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
