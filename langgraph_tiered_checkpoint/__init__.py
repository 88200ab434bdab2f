"""LangGraph checkpoints, hot in Redis under a TTL and promoted to Postgres when they turn out to be long-lived."""

from typing import TYPE_CHECKING, Any

from langgraph_tiered_checkpoint.config import Timeouts
from langgraph_tiered_checkpoint.errors import (
    ColdRefusedError,
    ColdTierError,
    ColdTimeoutError,
    ConfigurationError,
    FlushError,
    HotFullError,
    HotRefusedError,
    HotTierError,
    InvalidThreadError,
    NotPromotableError,
    SchemaError,
    ThreadBusyError,
    ThreadDeletedError,
    TieredCheckpointError,
    UnserializableError,
)
from langgraph_tiered_checkpoint.policy import Candidate, Promotion
from langgraph_tiered_checkpoint.records import ThreadStatus, TierStats
from langgraph_tiered_checkpoint.saver import TieredSaver

if TYPE_CHECKING:
    from langgraph_tiered_checkpoint.embedded import EmbeddedServers

__all__ = [
    "Candidate",
    "ColdRefusedError",
    "ColdTierError",
    "ColdTimeoutError",
    "ConfigurationError",
    "EmbeddedServers",
    "FlushError",
    "HotFullError",
    "HotRefusedError",
    "HotTierError",
    "InvalidThreadError",
    "NotPromotableError",
    "Promotion",
    "SchemaError",
    "ThreadBusyError",
    "ThreadDeletedError",
    "ThreadStatus",
    "TierStats",
    "TieredCheckpointError",
    "TieredSaver",
    "Timeouts",
    "UnserializableError",
]


def __getattr__(name: str) -> Any:
    """`EmbeddedServers` is for demos and tests; a service need not load it."""
    if name == "EmbeddedServers":
        from langgraph_tiered_checkpoint.embedded import EmbeddedServers

        return EmbeddedServers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
