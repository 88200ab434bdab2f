"""LangGraph checkpoints, hot in Redis under a TTL and promoted to Postgres when they turn out to be long-lived."""

from typing import TYPE_CHECKING, Any

try:
    import psycopg as _  # noqa: F401 - for what it says without libpq
except ImportError as exc:
    raise ImportError(
        "psycopg finds no libpq, the client library of Postgres: pip install 'langgraph-tiered-checkpoint[binary]' "
        f"brings one, or install your system's (on Debian, libpq5). psycopg says: {exc}"
    ) from None

from langgraph_tiered_checkpoint.config import Archive, Candidate, Promotion, Timeouts
from langgraph_tiered_checkpoint.errors import (
    ColdLockedError,
    ColdRefusedError,
    ColdTierError,
    ColdTimeoutError,
    ConfigurationError,
    DamagedThreadError,
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
    UnexpectedError,
    UnreadableValueError,
    UnserializableError,
    ValueTooLargeError,
)
from langgraph_tiered_checkpoint.moving.chat_histories import RedisChatHistories
from langgraph_tiered_checkpoint.moving.erasing import Receipt
from langgraph_tiered_checkpoint.moving.importing import ImportedThread, ImportReport
from langgraph_tiered_checkpoint.records import Check, DoctorReport, ThreadStatus, TierStats, Worker
from langgraph_tiered_checkpoint.saver import TieredSaver

if TYPE_CHECKING:
    from langgraph_tiered_checkpoint.chat_history import TieredChatMessageHistory
    from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers

__version__: str
"""The version that is installed."""

__all__ = [
    "Archive",
    "Candidate",
    "Check",
    "ColdLockedError",
    "ColdRefusedError",
    "ColdTierError",
    "ColdTimeoutError",
    "ConfigurationError",
    "DamagedThreadError",
    "DoctorReport",
    "EmbeddedServers",
    "FlushError",
    "HotFullError",
    "HotRefusedError",
    "HotTierError",
    "ImportReport",
    "ImportedThread",
    "InvalidThreadError",
    "NotPromotableError",
    "Promotion",
    "Receipt",
    "RedisChatHistories",
    "SchemaError",
    "ThreadBusyError",
    "ThreadDeletedError",
    "ThreadStatus",
    "TierStats",
    "TieredChatMessageHistory",
    "TieredCheckpointError",
    "TieredSaver",
    "Timeouts",
    "UnexpectedError",
    "UnreadableValueError",
    "UnserializableError",
    "ValueTooLargeError",
    "Worker",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """What a service may do without: embedded servers are for demos and tests, a history loads all of LangGraph."""
    if name == "__version__":
        from importlib.metadata import version

        return version("langgraph-tiered-checkpoint")
    if name == "EmbeddedServers":
        from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers

        return EmbeddedServers
    if name == "TieredChatMessageHistory":
        from langgraph_tiered_checkpoint.chat_history import TieredChatMessageHistory

        return TieredChatMessageHistory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
