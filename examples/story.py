"""What the examples need to tell their story: servers of their own, other processes, and claims that are checked."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from langgraph_tiered_checkpoint import EmbeddedServers

PATIENCE_S = 8
"""How long a story waits for something that should happen by itself."""


@contextlib.contextmanager
def own_servers() -> Iterator[EmbeddedServers]:
    """A Redis and a Postgres that last as long as the block."""
    print("Starting a Redis and a Postgres ...\n")
    with tempfile.TemporaryDirectory(prefix="example-") as directory:
        Path(directory).chmod(0o755)  # Postgres runs as another user if this script runs as root
        with EmbeddedServers(Path(directory) / "data") as servers:
            yield servers


def expect_warnings(*parts: str) -> None:
    """Leave out of the log what a story brings about on purpose; whatever else the saver warns of is shown."""
    shown = logging.StreamHandler()
    shown.setLevel(logging.WARNING)
    shown.addFilter(lambda record: not any(part in record.getMessage() for part in parts))
    logging.getLogger("langgraph_tiered_checkpoint").addHandler(shown)


def check(what: str, condition: object) -> None:
    """End the story if something is not as it says."""
    if not condition:
        sys.exit(f"FAILED: it is not so that {what}")
    print(f"  [ok] {what}")


def eventually(condition: Callable[[], object]) -> bool:
    """Whether something comes true by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def another_process(script: str, *arguments: str) -> int:
    """Run a script in a process of its own; the reply is its exit code, or minus the signal that killed it."""
    return subprocess.run([sys.executable, "-u", script, *arguments], check=False).returncode
