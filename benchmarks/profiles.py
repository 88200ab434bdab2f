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
    agent_rounds: int
    """Supersteps of an agent, for each kind of state."""
    turns: tuple[int, ...]
    """Lengths of chats."""
    runs: int
    """Rounds of whole graphs."""
    wire: int
    """Rounds through the proxy, for each delay."""
    history: tuple[int, ...]
    """Lengths of histories, in checkpoints."""
    cold_rounds: int
    flushed: int
    """Threads that are flushed, and put again through AsyncPostgresSaver."""
    flushes: int
    """Times over."""
    processes: int
    """Times that a package is imported."""


FULL = Profile(
    "full",
    operations=((20, 150), (200, 60)),
    sessions=((1, 50, 10), (8, 20, 4), (64, 5, 2), (512, 2, 1)),
    session_rounds=3,
    agent_rounds=160,
    turns=(20, 200, 1000),
    runs=40,
    wire=20,
    history=(10, 1_000, 10_000),
    cold_rounds=40,
    flushed=100,
    flushes=2,
    processes=40,
)
QUICK = Profile(
    "quick",
    operations=((20, 50), (200, 20)),
    sessions=((1, 50, 10), (64, 5, 2)),
    session_rounds=2,
    agent_rounds=40,
    turns=(20, 200),
    runs=10,
    wire=10,
    history=(10, 1_000),
    cold_rounds=20,
    flushed=40,
    flushes=1,
    processes=10,
)
