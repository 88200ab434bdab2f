"""What can be imported: another saver, chat histories, or an export."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_tiered_checkpoint.arguments import check_flag, wrong
from langgraph_tiered_checkpoint.calls import Requests
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.moving.chat_histories import RedisChatHistories
from langgraph_tiered_checkpoint.moving.files import Lines, import_lines
from langgraph_tiered_checkpoint.moving.importing import ImportReport, OnThread, Tally, import_threads
from langgraph_tiered_checkpoint.moving.sources import source_of
from langgraph_tiered_checkpoint.moving.work import Work

Importable = (
    BaseCheckpointSaver[Any] | RedisChatHistories | Iterable[str] | Iterable[bytes] | AsyncIterable[str | bytes]
)
"""A saver, chat histories, or the lines of an export, such as a file that is open."""


def incoming(
    requests: Requests,
    source: Importable,
    thread_ids: Iterable[str] | None,
    on_thread: OnThread | None,
    *,
    promote: bool,
    dry_run: bool,
    asynchronous: bool,
) -> Work[ImportReport]:
    """Import from whatever it is; see `TieredSaver.import_threads`.

    Raises:
        ConfigurationError: an argument of the wrong type, or something that cannot be imported.
    """
    check_flag("promote", promote)
    check_flag("dry_run", dry_run)
    if isinstance(thread_ids, str):
        raise ConfigurationError("thread_ids takes the ids of several threads, not one string")
    tally = Tally(on_thread, dry_run=dry_run)
    export = getattr(source, "aexport" if asynchronous else "export", None)
    if isinstance(source, RedisChatHistories):
        return import_threads(requests, source, thread_ids, tally, promote=promote, dry_run=dry_run)
    if isinstance(source, BaseCheckpointSaver) and export is None:
        known = source_of(source, asynchronous=asynchronous)
        return import_threads(requests, known, thread_ids, tally, promote=promote, dry_run=dry_run)
    lines = _lines(source if export is None else export())  # another saver of ours exports what it has
    chosen = None if thread_ids is None else frozenset(map(str, thread_ids))
    return import_lines(requests, lines, chosen, tally, promote=promote, dry_run=dry_run)


def _lines(source: object) -> Lines:
    match source:
        case str() | bytes():
            raise ConfigurationError("source is one string: pass the lines of an export, such as an open file")
        case Iterator() | AsyncIterator():
            return source
        case AsyncIterable():
            return aiter(source)
        case Iterable():
            return iter(source)
        case _:
            raise wrong("source", source, "a checkpoint saver, RedisChatHistories, or the lines of an export")
