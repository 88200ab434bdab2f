"""Which channels of the checkpoints that this process has read or written last are inline in their JSON. No I/O.

Names and versions only, no values: so a put can tell that its parent has nothing inline that it does not give itself.
"""

from __future__ import annotations

from collections.abc import Mapping

_MOST = 5_000
"""Checkpoints after which the older half is forgotten."""

Place = tuple[str, str, str]
"""(thread id, namespace, checkpoint id)"""


class Inlined:
    """Versions as text by channel. Any number of OS threads may use it, and a forked child goes on with it."""

    def __init__(self) -> None:
        self._young: dict[Place, Mapping[str, str]] = {}
        self._old: dict[Place, Mapping[str, str]] = {}

    def remember(self, place: Place, versions: Mapping[str, str]) -> None:
        """Note what is inline in a checkpoint; most have nothing."""
        if len(self._young) >= _MOST:
            self._old, self._young = self._young, {}
        self._young[place] = versions

    def versions(self, place: Place) -> Mapping[str, str] | None:
        """What is inline in a checkpoint; None if that is not known."""
        found = self._young.get(place)
        return self._old.get(place) if found is None else found
