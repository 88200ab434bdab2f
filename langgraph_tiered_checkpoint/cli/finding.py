"""Finds threads by what `explain` says of them: many at once, since each costs a round trip to each tier."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from typing import Any, Final, NamedTuple

from langgraph_tiered_checkpoint.cli.output import waiting
from langgraph_tiered_checkpoint.records import ThreadStatus
from langgraph_tiered_checkpoint.saver import TieredSaver

_AT_ONCE: Final = 64

_NEVER: Final = datetime.min.replace(tzinfo=timezone.utc)


class Page(NamedTuple):
    """Ids in their order; one more than were wanted, if there are more."""

    names: list[str]
    more: bool
    statuses: list[ThreadStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which threads, and in which order."""

    prefix: str
    after: str
    states: frozenset[str]
    interrupted: bool
    pinned: bool
    sort: str
    reverse: bool
    limit: int

    @property
    def is_plain(self) -> bool:
        """Whether a page of ids is all that has to be looked at."""
        return not (self.states or self.interrupted or self.pinned or self.reverse) and self.sort == "id"

    def page(self, saver: TieredSaver) -> Page:
        """The ids alone."""
        names = list(islice(saver.thread_ids(self.prefix, after=self.after), self.limit + 1))
        return Page(names, len(names) > self.limit, [])

    def takes(self, status: ThreadStatus) -> bool:
        """Whether a thread is among them. One that has gone since it was listed is not."""
        return (
            status.tier is not None
            and (not self.states or status.state in self.states)
            and (status.interrupted or not self.interrupted)
            and (status.pinned or not self.pinned)
        )

    def key(self, status: ThreadStatus) -> Any:
        """What to sort by."""
        match self.sort:
            case "last-write":
                return status.last_write_at or _NEVER
            case "created":
                return status.created_at or _NEVER
            case "expires":
                return status.expires_at or _NEVER
            case "size":
                return status.hot_bytes
            case "checkpoints":
                return max(status.hot_checkpoints, status.cold_checkpoints or 0)
            case _:
                return status.thread_id


def find(saver: TieredSaver, wanted: Wanted) -> Page:
    """The threads that are wanted."""
    if wanted.is_plain:
        page = wanted.page(saver)
        found = asyncio.run(_explained(saver, iter(page.names[: wanted.limit])))
        return page._replace(statuses=[status for status in found if wanted.takes(status)])
    with waiting("looking at all threads"):
        ids = saver.thread_ids(wanted.prefix, after=wanted.after)
        found = [status for status in asyncio.run(_explained(saver, ids)) if wanted.takes(status)]
    falling = wanted.sort != "id"
    found.sort(key=wanted.key, reverse=falling != wanted.reverse)
    return Page([status.thread_id for status in found], len(found) > wanted.limit, found[: wanted.limit])


async def _explained(saver: TieredSaver, ids: Iterator[str]) -> list[ThreadStatus]:
    """What `explain` says of each; some are asked for at once."""
    found: list[ThreadStatus] = []
    try:
        while some := list(islice(ids, _AT_ONCE)):
            found += await asyncio.gather(*map(saver.aexplain, some))
    finally:
        await saver.aclose()  # this loop's connections; the saver opens others
    return found
