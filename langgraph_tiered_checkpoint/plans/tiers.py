"""The two tiers as plans see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from langgraph_tiered_checkpoint.cold.writes import Cold
from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.errors import NotPromotableError
from langgraph_tiered_checkpoint.hot.calls import Hot
from langgraph_tiered_checkpoint.hot.difference import difference
from langgraph_tiered_checkpoint.hot.known_checkpoints import KnownCheckpoints
from langgraph_tiered_checkpoint.hot.known_values import KnownValues
from langgraph_tiered_checkpoint.plans.journal import Journal

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Store:
    """Builders of both tiers, and what is remembered of them. Shared by reference between the clones of a saver."""

    settings: Settings
    hot: Hot
    cold: Cold | None
    known_values: KnownValues
    journal: Journal
    known_checkpoints: KnownCheckpoints = field(default_factory=KnownCheckpoints)
    dangers: list[str] = field(default_factory=list)
    """What was found about Redis that will lose data; filled in by the connections."""
    number: int = field(default_factory=lambda: next(_numbers))
    """Tells apart the stores of one process."""

    @classmethod
    def of(cls, settings: Settings) -> Store:
        """The tiers that some settings describe."""
        cold = Cold(settings.schema, difference) if settings.cold else None
        known_values = KnownValues(settings.remembered_bytes)
        return cls(settings, Hot(settings), cold, known_values, Journal(settings.key_prefix))

    def need_cold(self, what: str, thread_id: str) -> Cold:
        """The cold tier.

        Raises:
            NotPromotableError: there is none.
        """
        if self.cold is None:
            raise NotPromotableError(
                f"thread {thread_id!r} cannot be {what}: this saver has no cold tier. Pass a postgres_url"
            )
        return self.cold
