"""What this process knows of the checkpoints that it has read or written last. No I/O.

Names and versions only, no values. So a put can tell that its parent has nothing inline that it does not give itself,
and that all that it takes over was stored with the parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_MOST = 5_000
"""Checkpoints after which the older half is forgotten."""

Place = tuple[str, str, str]
"""(thread id, namespace, checkpoint id)"""


class KnownCheckpoint(NamedTuple):
    """What is known of one."""

    inline: Mapping[str, str]
    """Versions as text by channel, of those whose value is in its JSON and nowhere else; most have none."""
    stored: frozenset[tuple[str, str]]
    """(channel, version as text) of those whose values were stored with it, or before."""
    run_id: str
    """Of the run that this process has put it in, which is noted then; "" if it has only read it."""


class KnownCheckpoints:
    """Any number of OS threads may use it, and a forked child goes on with it."""

    def __init__(self) -> None:
        self._young: dict[Place, KnownCheckpoint] = {}
        self._old: dict[Place, KnownCheckpoint] = {}

    def remember(self, place: Place, known: KnownCheckpoint) -> None:
        """Note what is known of a checkpoint."""
        if len(self._young) >= _MOST:
            self._old, self._young = self._young, {}
        self._young[place] = known

    def find(self, place: Place) -> KnownCheckpoint | None:
        """What is known of a checkpoint."""
        return self._young.get(place) or self._old.get(place)
