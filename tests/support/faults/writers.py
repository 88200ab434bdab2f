"""Writers on threads that others write to at the same time. Imported by name, so that a new process can, too."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from homes import at, make_checkpoint
from langgraph.checkpoint.base import Checkpoint

from langgraph_tiered_checkpoint import Promotion, TieredSaver, Timeouts

QUICK = timedelta(milliseconds=20)
"""A flush interval."""


def versions(checkpoint: Checkpoint, writer: object) -> Checkpoint:
    """Versions of this writer's own, as LangGraph's random suffixes make them."""
    checkpoint["channel_versions"] = {
        channel: f"{version}.{writer}" for channel, version in checkpoint["channel_versions"].items()
    }
    return checkpoint


def metadata(step: int) -> Any:
    return {"source": "loop", "step": step, "parents": {}}


def converse(urls: tuple[str, str], number: int, results: Any) -> None:
    """What a process of its own does: write ten checkpoints to a thread that others write to; tell their ids."""
    with TieredSaver.from_urls(
        *urls, promotion=Promotion(checkpoints=3), flush_interval=QUICK, hot_checkpoints=3
    ) as saver:
        ids = []
        for step in range(1, 11):
            made = versions(make_checkpoint({"n": [number, step]}, step), number)
            saver.put(at("shared"), made, metadata(step), made["channel_versions"])
            ids.append(made["id"])
            saver.get_tuple(at("shared"))
        results.put(ids)


def drain(urls: tuple[str, str], results: Any) -> None:
    """What a process of its own does: flush all that is due; tell by how many KiB that has raised its memory."""
    with TieredSaver.from_urls(*urls, promoter="external", timeouts=Timeouts()) as saver:
        saver.flush("nobody")
        before_kib = _peak_kib()
        saver.flush()
        results.put(_peak_kib() - before_kib)


def _peak_kib() -> int:
    """The most that this process has held since it began. `ru_maxrss` counts what held its memory before."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
