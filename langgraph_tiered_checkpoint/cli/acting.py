"""Commands that change something: the tables, where threads are, and whether they are there at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Annotated

import typer

from langgraph_tiered_checkpoint.cli import FAILED
from langgraph_tiered_checkpoint.cli.access import access_of
from langgraph_tiered_checkpoint.cli.figures import counts_of
from langgraph_tiered_checkpoint.cli.output import Json, note, print_json, progress, record, waiting
from langgraph_tiered_checkpoint.errors import (
    ColdTierError,
    ConfigurationError,
    FlushError,
    HotTierError,
    InvalidThreadError,
    TieredCheckpointError,
)
from langgraph_tiered_checkpoint.saver import TieredSaver

Threads = Annotated[list[str], typer.Argument(help="Ids of threads.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]


def setup(
    ctx: typer.Context,
    print_ddl: Annotated[bool, typer.Option("--print-ddl", help="Print the SQL for a DBA; do nothing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether both servers are fit for use.")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Bind the two to each other, after a move or a restore.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
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
            with waiting("making sure of the tables and their indexes"):
                saver.setup(take_over=take_over)
        report = saver.doctor()
    if json:
        print_json({"fit": True, "verdict": report.verdict, **record(report)})
        return
    note("both servers are fit for use")
    if report.verdict != "ok":
        note(f"`lgt doctor` has more to say: {counts_of(report)}")


def flush(
    ctx: typer.Context,
    thread: Annotated[str, typer.Argument(help="One thread; all without.", show_default=False)] = "",
    json: Json = False,
) -> None:
    """Return when Postgres holds everything promoted that was written before."""
    with access_of(ctx).saver() as saver, waiting("flushing"):
        saver.flush(thread or None)
    if json:
        print_json({"thread_id": thread or None, "result": "flushed"})


def sweep(ctx: typer.Context, json: Json = False) -> None:
    """Remove from Redis's lists what has lapsed.

    Promoters do so every 30 s: this is for stores without one.
    """
    with access_of(ctx).saver() as saver, waiting("sweeping"):
        saver.sweep()
    if json:
        print_json({"result": "swept"})


def _each(
    ctx: typer.Context,
    what: str,
    threads: Sequence[str],
    act: Callable[[TieredSaver, str], None],
    json: bool = False,
) -> None:
    """Do it to each; what one refuses does not keep the others from it. A server that fails does."""
    failed: list[str] = []
    with access_of(ctx).saver() as saver:
        for thread in progress(what, threads):
            try:
                act(saver, thread)
            except (HotTierError, InvalidThreadError):
                raise
            except TieredCheckpointError as exc:
                if isinstance(exc, ColdTierError) and not isinstance(exc, FlushError):
                    raise
                failed.append(str(exc))
                if json:
                    print_json({"thread_id": thread, "result": "failed", "error": str(exc)})
            else:
                if json:
                    print_json({"thread_id": thread, "result": "done"})
    for error in failed:
        note(f"lgt: {error}")
    if failed:
        raise typer.Exit(FAILED)


def promote(ctx: typer.Context, threads: Threads, json: Json = False) -> None:
    """Promote threads now: Postgres holds them when it returns."""
    _each(ctx, "promoting", threads, TieredSaver.promote, json)


def pin(ctx: typer.Context, threads: Threads, json: Json = False) -> None:
    """Promote threads, and mark them as ones to keep."""
    _each(ctx, "pinning", threads, TieredSaver.pin, json)


def unpin(ctx: typer.Context, threads: Threads, json: Json = False) -> None:
    """Take back the marks of `pin`; the threads stay promoted."""
    _each(ctx, "unpinning", threads, TieredSaver.unpin, json)


def evict(ctx: typer.Context, threads: Threads, json: Json = False) -> None:
    """Take promoted threads out of Redis, flushing them first.

    The next read brings them back.
    """
    _each(ctx, "evicting", threads, TieredSaver.evict, json)


def archive(ctx: typer.Context, threads: Threads) -> None:
    """Pack all but the latest checkpoints of promoted threads in Postgres, whatever the policy says."""
    _each(ctx, "archiving", threads, TieredSaver.archive)


def unarchive(ctx: typer.Context, threads: Threads) -> None:
    """Bring back what is archived: the rows in the official tables are then as they were."""
    _each(ctx, "unarchiving", threads, TieredSaver.unarchive)


def copy(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="The thread to copy.", show_default=False)],
    target: Annotated[str, typer.Argument(help="An id that is free.", show_default=False)],
    json: Json = False,
) -> None:
    """Copy a thread with its history.

    Exit status 1 if there is no such thread.
    """
    with access_of(ctx).saver() as saver:
        if saver.explain(source).tier is None:
            note(f"lgt: there is no thread {source!r}")
            raise typer.Exit(FAILED)
        saver.copy_thread(source, target)
    if json:
        print_json({"thread_id": source, "copy": target, "result": "done"})


def prune(ctx: typer.Context, threads: Threads, json: Json = False) -> None:
    """Keep only the latest checkpoint of each namespace, and what it needs."""
    _each(ctx, "pruning", threads, lambda saver, thread: saver.prune([thread]), json)


def delete(ctx: typer.Context, threads: Threads, yes: Yes = False, dry_run: DryRun = False, json: Json = False) -> None:
    """Delete threads from both tiers, for good.

    Asks first. Exit status 1 if one is not there.
    """
    with access_of(ctx).saver() as saver:
        present = [thread for thread in threads if _is_there(saver, thread)]
        if present and not (dry_run or yes):
            typer.confirm(f"Delete {len(present)} of {len(threads)} for good?", abort=True, err=True)
        for thread in _gone(saver, present, dry_run):
            if json:
                print_json({"thread_id": thread, **_what_became(dry_run)})
    if len(present) < len(threads):
        raise typer.Exit(FAILED)


def _gone(saver: TieredSaver, threads: Sequence[str], dry_run: bool) -> Iterator[str]:
    """Each thread, when it is deleted; or, of a dry run, as it is."""
    for thread in threads if dry_run else progress("deleting", threads):
        if not dry_run:
            saver.delete_thread(thread)
        yield thread


def _what_became(dry_run: bool) -> dict[str, object]:
    return {"result": "would go"} if dry_run else {"result": "deleted", "at": datetime.now(timezone.utc)}


def _is_there(saver: TieredSaver, thread: str) -> bool:
    """Whether there is anything to delete, which is said; what cannot be read is there."""
    try:
        status = saver.explain(thread)
    except (ConfigurationError, ColdTierError):
        raise
    except TieredCheckpointError as exc:
        note(f"{thread}: unreadable ({exc})")
        return True
    note(f"{thread}: {status.state}, {status.why}")
    return status.tier is not None
