"""How much is measured: `FULL` for figures to publish, `QUICK` to see where things stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """Sizes and numbers of rounds."""

    name: str
    operations: tuple[tuple[int, int], ...]
    """(messages, rounds)."""
    sessions: tuple[tuple[int, int, int], ...]
    """(sessions at once, supersteps of each in a round, turns of each in a round)."""
    session_rounds: int
    turns: tuple[int, ...]
    """Lengths of chats."""


FULL = Profile(
    "full",
    operations=((20, 400), (200, 200)),
    sessions=((1, 50, 10), (8, 20, 4), (64, 5, 2), (512, 2, 1)),
    session_rounds=7,
    turns=(20, 200, 1000),
)
QUICK = Profile(
    "quick",
    operations=((20, 100), (200, 50)),
    sessions=((1, 50, 10), (64, 5, 2)),
    session_rounds=3,
    turns=(20, 200),
)
