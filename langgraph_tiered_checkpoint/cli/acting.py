"""Commands that change something: the tables, where threads are, and whether they are there at all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated

import typer

from langgraph_tiered_checkpoint.cli import FAILED, scraping
from langgraph_tiered_checkpoint.cli.access import access_of
from langgraph_tiered_checkpoint.cli.output import progress
from langgraph_tiered_checkpoint.errors import ColdTierError, ConfigurationError, TieredCheckpointError
from langgraph_tiered_checkpoint.saver import TieredSaver

Threads = Annotated[list[str], typer.Argument(help="Ids of threads.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def setup(
    ctx: typer.Context,
    print_ddl: Annotated[bool, typer.Option("--print-ddl", help="Print the SQL for a DBA; do nothing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether both servers are fit for use.")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Bind the two to each other, after a move or a restore.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Create or migrate the tables in Postgres, and check both servers."""
    access = access_of(ctx)
    if print_ddl:
        from langgraph_tiered_checkpoint.cold.schema import ColdSchema

        typer.echo(ColdSchema(access.schema).ddl(), nl=False)
        return
    if access.postgres is None:
        raise ConfigurationError("setup is about Postgres: pass --postgres before the command, or set LGT_POSTGRES_URL")
    with access.saver() as saver:
        if check:
            saver.explain("lgt-setup-check")  # a thread of which nothing is known asks both servers
        else:
            if take_over and not yes:
                typer.confirm(
                    "Savers that use either with another counterpart will be refused. Go on?", abort=True, err=True
                )
            saver.setup(take_over=take_over)
    typer.echo("both servers are fit for use", err=True)


def worker(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Flush what is due or dirty now, and end.")] = False,
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
    ] = "0.0.0.0",  # noqa: S104 - Prometheus is elsewhere
) -> None:
    """Flush what is dirty, until SIGTERM or Ctrl-C; then drain, and end. Any number of workers may run."""
    access = access_of(ctx)
    if access.postgres is None:
        raise ConfigurationError("a worker needs Postgres: pass --postgres before the command, or set LGT_POSTGRES_URL")
    if access.scope:
        raise ConfigurationError("a worker flushes the threads of all tenants: leave --scope out")
    if once:
        with access.saver(auto_setup=True) as saver:
            saver.flush()
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as open_:
        if metrics_port is not None:
            port = open_.enter_context(scraping.serving(metrics_host, metrics_port))
            typer.echo(f"metrics at http://{metrics_host}:{port}/metrics", err=True)
        saver = open_.enter_context(access.saver(promoter="embedded", auto_setup=True))
        open_.enter_context(saver)
        saver.report_stats()
        saver.setup()
        typer.echo("flushing; SIGTERM drains and ends", err=True)
        stop.wait()
        typer.echo("draining", err=True)


def flush(
    ctx: typer.Context,
    thread: Annotated[str, typer.Argument(help="One thread; all without.", show_default=False)] = "",
) -> None:
    """Return when Postgres holds everything promoted that was written before."""
    with access_of(ctx).saver() as saver:
        saver.flush(thread or None)


def _each(ctx: typer.Context, what: str, threads: Sequence[str], act: Callable[[TieredSaver, str], None]) -> None:
    with access_of(ctx).saver() as saver:
        for thread in progress(what, threads):
            act(saver, thread)


def promote(ctx: typer.Context, threads: Threads) -> None:
    """Promote threads now, whatever the policy says: Postgres holds them when it returns."""
    _each(ctx, "promoting", threads, TieredSaver.promote)


def pin(ctx: typer.Context, threads: Threads) -> None:
    """Promote threads, and mark them as ones to keep."""
    _each(ctx, "pinning", threads, TieredSaver.pin)


def unpin(ctx: typer.Context, threads: Threads) -> None:
    """Take back the marks of `pin`. The threads stay promoted."""
    _each(ctx, "unpinning", threads, TieredSaver.unpin)


def evict(ctx: typer.Context, threads: Threads) -> None:
    """Take promoted threads out of Redis, flushing them first. The next read brings them back."""
    _each(ctx, "evicting", threads, TieredSaver.evict)


def copy(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="The thread to copy.", show_default=False)],
    target: Annotated[str, typer.Argument(help="An id that is free.", show_default=False)],
) -> None:
    """Copy a thread with its history. Exit status 1 if there is no such thread."""
    with access_of(ctx).saver() as saver:
        if saver.explain(source).tier is None:
            typer.echo(f"lgt: there is no thread {source!r}", err=True)
            raise typer.Exit(FAILED)
        saver.copy_thread(source, target)


def prune(ctx: typer.Context, threads: Threads) -> None:
    """Keep only the latest checkpoint of each namespace, and what it needs."""
    with access_of(ctx).saver() as saver:
        for thread in progress("pruning", threads):
            saver.prune([thread])


def delete(
    ctx: typer.Context,
    threads: Threads,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete threads from both tiers, for good. Asks first; exit status 1 if one is not there."""
    with access_of(ctx).saver() as saver:
        present = [thread for thread in threads if _is_there(saver, thread)]
        if present and not dry_run:
            if not yes:
                typer.confirm(f"Delete {len(present)} of {len(threads)} for good?", abort=True, err=True)
            for thread in progress("deleting", present):
                saver.delete_thread(thread)
    if len(present) < len(threads):
        raise typer.Exit(FAILED)


def _is_there(saver: TieredSaver, thread: str) -> bool:
    """Whether there is anything to delete, which is said; what cannot be read is there."""
    try:
        status = saver.explain(thread)
    except (ConfigurationError, ColdTierError):
        raise
    except TieredCheckpointError as exc:
        typer.echo(f"{thread}: unreadable ({exc})", err=True)
        return True
    typer.echo(f"{thread}: {status.state}, {status.why}", err=True)
    return status.tier is not None
