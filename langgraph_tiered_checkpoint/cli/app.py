"""The application: its global options, and the commands in the order in which help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from langgraph_tiered_checkpoint import __version__
from langgraph_tiered_checkpoint.cli import acting, looking, moving, one, serving
from langgraph_tiered_checkpoint.cli.access import Access

app = typer.Typer(
    name="lgt",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # in "rich", the brackets of an extra's name would be markup
    pretty_exceptions_enable=False,  # an error is one line; a defect is Python's own traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    redis: Annotated[str, typer.Option(envvar="LGT_REDIS_URL", help="URL of the Redis.", show_default=False)] = "",
    postgres: Annotated[
        str,
        typer.Option(envvar="LGT_POSTGRES_URL", help="URL of the Postgres; none for hot only.", show_default=False),
    ] = "",
    key_prefix: Annotated[
        str, typer.Option(envvar="LGT_KEY_PREFIX", help="What all keys in Redis begin with.")
    ] = "lgt",
    schema: Annotated[
        str, typer.Option(envvar="LGT_SCHEMA", help="Postgres schema of the tables.", show_default=False)
    ] = "",
    scope: Annotated[
        str, typer.Option(envvar="LGT_SCOPE", help="Only the threads of this tenant.", show_default=False)
    ] = "",
    version: Annotated[  # noqa: ARG001 - its callback has answered
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Look after LangGraph threads that are hot in Redis and promoted to Postgres.

    Exit status: 0 done; 1 not done, or no such thread; 2 a mistake in what was asked; 3 a server did not answer.

    No value of a thread's state is printed unless asked for, and no password ever.
    """
    ctx.obj = Access(redis, postgres or None, key_prefix, schema or None, scope)


_COMMANDS = {
    "Look": (
        looking.status,
        looking.doctor,
        looking.threads,
        looking.scopes,
        one.show,
        one.explain,
        one.history,
    ),
    "Act": (
        acting.flush,
        acting.promote,
        acting.pin,
        acting.unpin,
        acting.evict,
        acting.archive,
        acting.unarchive,
        acting.copy,
        acting.prune,
        acting.sweep,
        acting.delete,
        moving.erase,
        moving.export,
        moving.import_,
    ),
    "Run": (acting.setup, serving.worker, serving.dev, serving.demo),
}

for panel, commands in _COMMANDS.items():
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel=panel)(command)
