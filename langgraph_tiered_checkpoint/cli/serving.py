"""Commands that start servers: for a first try, and to develop against."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer


def dev(
    path: Annotated[
        Path | None, typer.Option(help="Keep their data here; without, it goes with them.", show_default=False)
    ] = None,
) -> None:
    """Start a Redis and a Postgres, print their URLs, and stop them with Ctrl-C. Needs the extra `[embedded]`."""
    from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with EmbeddedServers(path) as servers:
        typer.echo(f"export LGT_REDIS_URL='{servers.redis_url}'")
        typer.echo(f"export LGT_POSTGRES_URL='{servers.postgres_url}'")
        typer.echo("both are up; Ctrl-C stops them", err=True)
        stop.wait()
