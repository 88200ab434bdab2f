"""Waiting for something to become so, instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable

HANGS_S = 300.0
"""Longer than anything takes that does not hang, on a machine that is busy with other things."""

AT_ONCE_S = 20.0
"""Longer than what comes at once takes there, and shorter than what the drivers wait for by themselves: 30 s."""


def wait_until(condition: Callable[[], object], what: str, seconds: float = HANGS_S) -> None:
    """Poll until the condition holds, and fail naming `what` if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)
