"""What has happened to a thread, and what will. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from langgraph_tiered_checkpoint.records import ThreadStatus


class Event(NamedTuple):
    """One entry."""

    at: datetime | None
    """None where nobody knows."""
    what: str


def past(status: ThreadStatus, now: datetime) -> list[Event]:
    """What is known of what has happened, in order."""
    events = []
    if status.created_at:
        events.append(Event(status.created_at, "created, in Redis"))
    if status.promoted_by and (status.promoted_at or status.state == "dirty"):
        events.append(Event(status.promoted_at, f"promoted to Postgres: {status.promoted_by}"))
    if status.last_write_at:
        count = max(status.hot_checkpoints, status.cold_checkpoints or 0)
        events.append(Event(status.last_write_at, f"last written; {_counted(count)}"))
    if status.unflushed_age is not None:
        events.append(Event(now - status.unflushed_age, "oldest change that Postgres does not have"))
    known = sorted((event for event in events if event.at), key=lambda event: event.at or now)
    known += [event for event in events if not event.at]
    if status.last_error:
        known.append(Event(None, f"its last flush failed: {status.last_error}"))
    if status.state == "cold":
        known.append(Event(None, "evicted from Redis; Postgres holds it"))
    if status.state == "clean":
        known.append(Event(None, "flushed: Postgres holds all of it"))
    return known


def future(status: ThreadStatus, now: datetime) -> list[Event]:
    """What happens next if nobody does anything."""
    events = []
    if status.lease:
        events.append(Event(None, "a promoter is flushing it"))
    elif status.due_at:
        what = "its flush is tried again" if status.last_error else "it is flushed"
        if status.due_at > now:
            events.append(Event(status.due_at, what))
        else:
            events.append(Event(None, f"{what} by the next promoter that comes by"))
    match status.state:
        case "ephemeral" if status.expires_at:
            events.append(Event(status.expires_at, "it expires: nothing is left of it"))
        case "ephemeral":
            events.append(Event(None, "it stays in Redis: no TTL, not promoted"))
        case "clean" if status.expires_at:
            events.append(Event(status.expires_at, "it is evicted from Redis; Postgres keeps it"))
        case "cold":
            events.append(Event(None, "the next read or write brings it back into Redis"))
        case _:
            pass
    if status.pinned:
        events.append(Event(None, "it is pinned: retention passes it over"))
    if status.interrupted:
        events.append(Event(None, "it waits at an interrupt, for somebody to answer"))
    return events


def _counted(count: int) -> str:
    return "1 checkpoint" if count == 1 else f"{count:,} checkpoints"
