"""Commands that run until they are stopped: a worker, and servers for a first try."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from langgraph_tiered_checkpoint.cli import FAILED, scraping
from langgraph_tiered_checkpoint.cli.access import access_of
from langgraph_tiered_checkpoint.cli.endpoint import answering
from langgraph_tiered_checkpoint.cli.output import Json, note, print_json, waiting
from langgraph_tiered_checkpoint.errors import ConfigurationError

ANYWHERE = "0.0.0.0"  # noqa: S104 - who asks is elsewhere


def worker(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Flush what is due or dirty now, and end.")] = False,
    health_port: Annotated[
        int | None,
        typer.Option(envvar="LGT_HEALTH_PORT", help="Answer /healthz and /readyz at this port.", show_default=False),
    ] = None,
    health_host: Annotated[str, typer.Option(envvar="LGT_HEALTH_HOST", help="The address to answer at.")] = ANYWHERE,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="LGT_METRICS_PORT",
            help="Serve metrics to Prometheus at this port, at /metrics. Needs the extra [metrics].",
            show_default=False,
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(envvar="LGT_METRICS_HOST", help="The address to serve metrics at.")
    ] = ANYWHERE,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, not only what fails.")] = False,
) -> None:
    """Flush what is dirty, until it is told to end.

    SIGTERM and Ctrl-C have it drain, and end; a second time, end at once. Any number of workers may run.
    """
    access = access_of(ctx)
    if access.postgres is None:
        raise ConfigurationError("a worker needs Postgres: pass --postgres before the command, or set LGT_POSTGRES_URL")
    if access.scope:
        raise ConfigurationError("a worker flushes the threads of all tenants: leave --scope out")
    _log(verbose)
    if once:
        with access.saver(auto_setup=True) as saver, waiting("flushing"):
            saver.flush()
        return
    stop = _asked_to_stop()
    with ExitStack() as open_:
        if metrics_port is not None:
            port = open_.enter_context(scraping.serving(metrics_host, metrics_port))
            note(f"metrics at http://{metrics_host}:{port}/metrics")
        saver = open_.enter_context(access.saver(promoter="embedded", auto_setup=True))
        if health_port is not None:
            port = open_.enter_context(answering(health_host, health_port, saver.health))
            note(f"health at http://{health_host}:{port}/healthz and /readyz")
        open_.enter_context(saver)
        saver.report_stats()
        saver.setup()
        note("flushing; SIGTERM drains and ends")
        stop.wait()
        note("draining")


def _log(verbose: bool) -> None:
    """To stderr, a line each, with its time."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("langgraph_tiered_checkpoint")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


def _asked_to_stop() -> threading.Event:
    """Set by the first SIGTERM or SIGINT. The second one is the system's business again."""
    stop = threading.Event()

    def heard(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, heard)
    return stop


def dev(
    path: Annotated[
        Path | None, typer.Option(help="Keep their data here; without, it goes with them.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Start a Redis and a Postgres, and print their URLs.

    Ctrl-C stops them. Needs the extra `[embedded]`.
    """
    from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers

    stop = _asked_to_stop()
    with waiting("starting"):
        servers = EmbeddedServers(path)
        servers.start()
    with servers:
        if json:
            print_json({"redis_url": servers.redis_url, "postgres_url": servers.postgres_url})
        else:
            typer.echo(f"export LGT_REDIS_URL='{servers.redis_url}'")
            typer.echo(f"export LGT_POSTGRES_URL='{servers.postgres_url}'")
        note("both are up; Ctrl-C stops them")
        stop.wait()


def demo() -> None:
    """Play a story of two users, two sessions and a crash.

    It starts servers of its own, and needs the extra `[embedded]`.
    """
    script = demo_script()
    if script is None:
        note("lgt: this installation has no demo; it is examples/quickstart.py in the source")
        raise typer.Exit(FAILED)
    raise typer.Exit(subprocess.run([sys.executable, str(script)], check=False).returncode)


def demo_script() -> Path | None:
    """The story: in the wheel beside the package's modules, in a checkout among the examples."""
    package = Path(__file__).parents[1]
    places = (package / "demo", package.parent / "examples")
    return next((place / "quickstart.py" for place in places if (place / "quickstart.py").exists()), None)
