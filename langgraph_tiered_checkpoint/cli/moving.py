"""Commands that move threads: in from elsewhere, out to a file, and away for good."""

from __future__ import annotations

import gzip
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any

import psycopg
import typer
from langgraph.checkpoint.base import BaseCheckpointSaver
from redis.exceptions import RedisError

from langgraph_tiered_checkpoint.cli import FAILED
from langgraph_tiered_checkpoint.cli.access import access_of
from langgraph_tiered_checkpoint.cli.output import Json, console, print_json, record_table
from langgraph_tiered_checkpoint.errors import ConfigurationError, TieredCheckpointError
from langgraph_tiered_checkpoint.moving.chat_histories import RedisChatHistories
from langgraph_tiered_checkpoint.moving.importing import ImportedThread
from langgraph_tiered_checkpoint.moving.incoming import Importable

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def export(
    ctx: typer.Context,
    thread: Annotated[str, typer.Argument(help="One thread; all of the scope without.", show_default=False)] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file; .gz compresses it. Else stdout.")
    ] = None,
    decoded: Annotated[
        bool, typer.Option("--decoded", help="Add what the values mean, for people to read. Print values.")
    ] = False,
) -> None:
    """Write everything that is held about a thread as lines of JSON. Exit status 1 if there is no such thread."""
    with access_of(ctx).saver() as saver:
        if thread and saver.explain(thread).tier is None:
            typer.echo(f"lgt: there is no thread {thread!r}", err=True)
            raise typer.Exit(FAILED)
        with _writing(output) as file:
            file.writelines(saver.export(thread or None, decoded=decoded))


@contextmanager
def _writing(path: Path | None) -> Iterator[IO[str]]:
    """A file that others may not read, and that is there as a whole or not at all."""
    if path is None:
        yield sys.stdout
        return
    if path.exists():
        raise ConfigurationError(f"{path} exists, and is not replaced: choose another name, or remove it")
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as raw, ExitStack() as stack:
            packed: Any = stack.enter_context(gzip.open(raw, "wb")) if path.suffix == ".gz" else raw
            yield _Text(packed)  # type: ignore[misc]  # as much of a file as an export needs
    except BaseException:
        part.unlink()
        raise
    part.replace(path)


class _Text:
    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw

    def writelines(self, lines: Iterator[str]) -> None:
        self._raw.writelines(line.encode() for line in lines)


def import_(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="An export (.gz too; - is stdin), or where another saver keeps its threads: a file of SqliteSaver, a "
            "postgresql:// URL of PostgresSaver, a redis:// URL of RedisSaver or, with --chat, of chat histories.",
            show_default=False,
        ),
    ],
    threads: Annotated[list[str] | None, typer.Argument(help="Only these threads.", show_default=False)] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Chat histories in a Redis, not a saver.")] = False,
    chat_prefix: Annotated[
        str, typer.Option("--chat-prefix", help="What their keys begin with.", show_default=False)
    ] = "",
    promote: Annotated[
        bool, typer.Option(help="Promote what has no TTL where it comes from, or leave that to the policy.")
    ] = True,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Copy threads from elsewhere, and read them back. Repeat it to go on. Exit status 1 if some were refused."""
    done = 0

    def told(thread: ImportedThread) -> None:
        nonlocal done
        done += 1
        if json:
            print_json(asdict(thread))
        elif thread.outcome == "refused":
            typer.echo(f"refused: {thread}", err=True)
        elif sys.stderr.isatty() and done % 10 == 0:
            typer.echo(f"\r{done} threads", err=True, nl=False)

    chosen: Any = {"thread_ids": threads or None, "promote": promote, "dry_run": dry_run, "on_thread": told}
    with access_of(ctx).saver(auto_setup=not dry_run) as saver, _source(source, chat, chat_prefix) as found:
        try:
            report = saver.import_threads(found, **chosen)
        except (psycopg.Error, RedisError, sqlite3.Error) as exc:
            raise _gone(exc) from exc
    if not json:
        console().print(record_table(report))
    if report.refused:
        raise typer.Exit(FAILED)


@contextmanager
def _source(source: str, chat: bool, chat_prefix: str) -> Iterator[Importable]:
    """What is to be imported, opened."""
    if chat or chat_prefix:
        yield RedisChatHistories(source, key_prefix=chat_prefix or None)
        return
    if source == "-":
        yield sys.stdin
        return
    if source.partition("://")[1]:
        with _saver_at(source) as saver:
            yield saver
        return
    path = Path(source)
    if not path.is_file():
        raise ConfigurationError(f"{source} is neither a file nor a URL")
    with path.open("rb") as file:
        kind = file.read(16)
    if kind.startswith(b"SQLite format 3"):
        with _saver_at(source) as saver:
            yield saver
    elif kind.startswith(b"\x1f\x8b"):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield lines
    else:
        with path.open(encoding="utf-8") as lines:
            yield lines


@contextmanager
def _saver_at(url: str) -> Iterator[BaseCheckpointSaver[Any]]:
    """Another saver, whose package may have to be installed."""
    scheme = url.partition("://")[0]
    try:
        match scheme:
            case "redis" | "rediss":
                from langgraph.checkpoint.redis import RedisSaver as Saver
            case "postgresql" | "postgres":
                from langgraph.checkpoint.postgres import PostgresSaver as Saver
            case _:
                from langgraph.checkpoint.sqlite import SqliteSaver as Saver
    except ModuleNotFoundError as exc:
        package = {"redis": "redis", "rediss": "redis", "postgresql": "postgres", "postgres": "postgres"}
        name = f"langgraph-checkpoint-{package.get(scheme, 'sqlite')}"
        raise ConfigurationError(f"to read this, install {name}, which has written it") from exc
    with ExitStack() as stack:
        try:
            saver = stack.enter_context(Saver.from_conn_string(url))
        except (psycopg.Error, RedisError, sqlite3.Error) as exc:
            raise _gone(exc) from exc
        yield saver


def _gone(exc: Exception) -> TieredCheckpointError:
    return TieredCheckpointError(
        f"where it is to be imported from, there is no answer: {exc}. What was imported before stays; repeat the import"
    )


def erase(
    ctx: typer.Context,
    threads: Annotated[list[str] | None, typer.Argument(help="Ids of threads.", show_default=False)] = None,
    asked_by: Annotated[str, typer.Option("--asked-by", help="For the receipt: a person, a ticket.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All threads of the --scope.")] = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete threads for good, with a receipt for each. Exit status 1 if something is left of one."""
    if everything == bool(threads):
        raise ConfigurationError("name the threads to erase, or pass --all with a --scope before the command")
    if not asked_by:
        raise ConfigurationError("a receipt says who asked: pass --asked-by")
    gone = True
    with access_of(ctx).saver() as saver:
        if not (yes or dry_run):
            what = f"all threads of scope {access_of(ctx).scope!r}" if everything else f"{len(threads or ())} threads"
            typer.confirm(f"Erase {what} for good?", abort=True, err=True)

        def told(receipt: Any) -> None:
            nonlocal gone
            gone = gone and (dry_run or receipt.gone)
            if json:
                print_json(asdict(receipt))
            else:
                console().print(record_table(receipt), "")

        if everything:
            saver.erase_all(asked_by=asked_by, dry_run=dry_run, on_receipt=told)
        for thread in threads or ():
            told(saver.erase(thread, asked_by=asked_by, dry_run=dry_run))
    if not gone:
        raise typer.Exit(FAILED)
