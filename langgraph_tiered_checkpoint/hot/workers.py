"""What a promoter says of itself in Redis while it is alive, and how it is read. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from langgraph_tiered_checkpoint.records import Worker


def said_by(identity: str, host: str, pid: int, program: str, version: str, started_ms: float, per_s: float) -> str:
    """What a worker says. `identity` is random, and tells it from all others."""
    return json.dumps([identity, host, pid, program, version, round(started_ms), round(per_s, 3)])


def parse_workers(reply: Sequence[Any]) -> list[Worker]:
    """The reply of workers.lua, in order of their start. What a stranger has put there is passed over."""
    found = []
    for said, seen_ms in zip(reply[1::2], reply[2::2], strict=True):
        try:
            _, host, pid, program, version, started_ms, per_s = json.loads(said)
            found.append(
                Worker(
                    host=str(host),
                    pid=int(pid),
                    program=str(program),
                    version=str(version),
                    started_at=_at(float(started_ms)),
                    seen_at=_at(float(seen_ms)),
                    flushed_per_s=float(per_s),
                )
            )
        except (ValueError, TypeError, OverflowError, OSError):
            continue
    return sorted(found, key=lambda worker: (worker.started_at, worker.host, worker.pid))


def _at(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=timezone.utc)
