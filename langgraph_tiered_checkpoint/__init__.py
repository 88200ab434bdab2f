"""LangGraph checkpoints, hot in Redis under a TTL and promoted to Postgres when they turn out to be long-lived."""

from langgraph_tiered_checkpoint.config import Timeouts
from langgraph_tiered_checkpoint.embedded import EmbeddedServers
from langgraph_tiered_checkpoint.errors import (
    ColdRefusedError,
    ColdTierError,
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

__all__ = [
    "Candidate",
    "ColdRefusedError",
    "ColdTierError",
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
