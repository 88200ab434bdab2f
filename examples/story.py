"""What the examples need to tell their story: servers of their own, other processes, and claims that are checked."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from langgraph_tiered_checkpoint import EmbeddedServers

PATIENCE_S = 8
"""How long a story waits for something that should happen by itself."""

BEGAN = float(os.environ.setdefault("STORY_BEGAN", str(time.time())))
"""When the story began; its other processes inherit it."""

# See https://no-color.org. A file or a log would have to take them out again.
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 94}


def painted(text: str, style: str) -> str:
    """A text in a colour, where there are colours."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if COLOUR else text


def act(title: str) -> None:
    """Begin a part of the story."""
    print(f"\n{painted(title, 'bold')}", flush=True)


def tell(text: str) -> None:
    """Print a line, beside the time since the story began."""
    print(f"{painted(f'{time.time() - BEGAN:>6.1f} s |', 'dim')} {text}", flush=True)


def end() -> None:
    """End the story well."""
    print(f"\n{painted('Everything was as it said.', 'green')}")


@contextlib.contextmanager
def own_servers() -> Iterator[EmbeddedServers]:
    """A Redis and a Postgres that last as long as the block."""
    print("Starting a Redis and a Postgres ...", flush=True)
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
    tell(f"{painted('[ok]', 'green')} {what}")


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
