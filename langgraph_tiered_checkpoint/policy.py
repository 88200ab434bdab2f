"""Which threads are promoted, and when. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any, NamedTuple

from langgraph_tiered_checkpoint.arguments import check_count, check_duration, check_flag, wrong


class Candidate(NamedTuple):
    """What `Promotion.when` is asked about: a checkpoint on its way into the hot tier. Not to be changed."""

    thread_id: str
    checkpoint: Mapping[str, Any]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """When an ephemeral thread becomes a long-lived one. Any condition that holds is enough.

    All but `when` are judged inside the write script, atomically with the write; none costs a round trip.

    Args:
        after: age, as last write minus first write. None never promotes by age.
        checkpoints: number of checkpoints in all namespaces. None never promotes by count.
        bytes: serialized bytes written to the thread so far. None never promotes by size.
        on_interrupt: promote a thread that stops at `interrupt()`, rather than let it expire.
        before_expiry: promote rather than let expire: the key carries no TTL, and the thread is flushed shortly
            before it would have expired.
        when: called in the client before each `put`, with a `Candidate`; True promotes. It must not block.

    Raises:
        ConfigurationError: a threshold of another type, zero or negative.
    """

    after: timedelta | None = timedelta(hours=1)
    checkpoints: int | None = 100
    bytes: int | None = None
    on_interrupt: bool = True
    before_expiry: bool = False
    when: Callable[[Candidate], bool] | None = None

    def __post_init__(self) -> None:
        off = "turns it off"
        check_duration("Promotion.after", self.after, none=off, least=timedelta(0))
        check_count("Promotion.checkpoints", self.checkpoints, none=off)
        check_count("Promotion.bytes", self.bytes, none=off)
        check_flag("Promotion.on_interrupt", self.on_interrupt)
        check_flag("Promotion.before_expiry", self.before_expiry)
        when: object = self.when
        # What an async function returns is always true.
        if when is not None and (not callable(when) or iscoroutinefunction(when)):
            raise wrong("Promotion.when", when, "a callable that is not async; None asks nobody")

    @classmethod
    def never(cls) -> Promotion:
        """Nothing is promoted by itself; `promote` and `pin` still work."""
        return cls(after=None, checkpoints=None, bytes=None, on_interrupt=False)
