"""An exception out of a signal handler (a soft time limit, Ctrl-C) in the midst of a sync call: nothing stays held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
import pytest
from homes import at, put

from langgraph_tiered_checkpoint import Promotion, TieredSaver


def every_method(saver: TieredSaver) -> None:
    """Call each method that talks to Redis."""
    config = put(saver, at("t"), {"a": [1], "b": "x" * 5_000})
    saver.put_writes(config, [("a", n) for n in range(9)], "task")
    for operation in (saver.promote, saver.pin, saver.unpin, saver.evict):
        operation("t")
    saver.get_tuple(at("t"))
    put(saver, config, {"a": [2], "b": "y"}, 2, run_id="run")
    saver.flush()
    saver.flush("t")
    put(saver, at("u"), {"a": [1]})
    list(saver.list(None, filter={"step": 1}))
    saver.get_delta_channel_history(config=at("t"), channels=["a"])
    list(saver.thread_ids())
    saver.copy_thread("t", "copy")
    saver.copy_thread("u", "hot copy")
    saver.prune(["copy"])
    saver.delete_for_runs(["run"])
    saver.explain("t")
    saver.stats()
    saver.delete_thread("t")
    saver._promoter._sweep()


def test_commands_are_of_text_and_bytes_only(
    redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hiredis lets the process die where an exception comes out of a handler while it spells a number."""
    words: list[Any] = []
    pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command

    def recorded(command: tuple[Any, ...]) -> bytes:
        words.extend(command)
        packed: bytes = pack(command)
        return packed

    monkeypatch.setattr(hiredis, "pack_command", recorded)
    promotion = Promotion(checkpoints=3, before_expiry=True)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=promotion) as saver:
        every_method(saver)
    assert len(words) > 500
    assert {type(word) for word in words} <= {str, bytes}
