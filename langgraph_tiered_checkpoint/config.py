"""The settings of a saver, validated where they are made. Durations are converted to milliseconds once, here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.policy import Promotion

NEVER = 0
"""A duration of "never", on the wire to the scripts."""


def milliseconds(name: str, value: timedelta | None) -> int:
    """`value` in ms, `NEVER` for None.

    Raises:
        ConfigurationError: not a timedelta, or shorter than a millisecond.
    """
    if value is None:
        return NEVER
    if not isinstance(value, timedelta):
        raise ConfigurationError(f"{name}={value!r} must be a datetime.timedelta or None")
    ms = value // timedelta(milliseconds=1)
    if ms < 1:
        raise ConfigurationError(f"{name}={value!r} must be at least a millisecond; None means never")
    return ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a call may wait for a server before it raises.

    Args:
        hot: connecting to Redis, and how long it may be silent while a request waits; a long reply may
            take longer.
        cold: getting a connection to Postgres, and each statement; connecting gets two seconds at least.
        busy: how long a write waits for a structural operation (prune, copy) that holds its thread.
        drain: how long `close` lets the embedded promoter flush what is still dirty.
    """

    hot: timedelta = timedelta(seconds=5)
    cold: timedelta = timedelta(seconds=30)
    busy: timedelta = timedelta(seconds=30)
    drain: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about a saver that is not a connection. See `TieredSaver` for the meaning of each."""

    ttl: timedelta | None = timedelta(hours=24)
    hot_ttl: timedelta | None = timedelta(hours=24)
    refresh_on_read: bool = True
    promotion: Promotion = field(default_factory=Promotion)
    cold_writes: Literal["behind", "through"] = "behind"
    flush_interval: timedelta = timedelta(seconds=1)
    promoter: Literal["embedded", "external"] = "embedded"
    hot_checkpoints: int | None = 50
    key_prefix: str = "lgt"
    schema: str | None = None
    auto_setup: bool = True
    prepare_statements: bool = True
    remembered_bytes: int = 64 * 1024 * 1024
    timeouts: Timeouts = field(default_factory=Timeouts)
    cold: bool = True
    """Whether there is a cold tier at all."""

    def __post_init__(self) -> None:
        for name in ("ttl", "hot_ttl", "flush_interval"):
            milliseconds(name, getattr(self, name))
        if self.flush_interval is None:
            raise ConfigurationError("flush_interval must be a datetime.timedelta")
        if self.cold_writes not in ("behind", "through"):
            raise ConfigurationError(f'cold_writes={self.cold_writes!r} must be "behind" or "through"')
        if self.promoter not in ("embedded", "external"):
            raise ConfigurationError(f'promoter={self.promoter!r} must be "embedded" or "external"')
        if self.hot_checkpoints is not None and self.hot_checkpoints < 1:
            raise ConfigurationError(f"hot_checkpoints={self.hot_checkpoints!r} must be at least 1, or None for all")
        if self.remembered_bytes < 0:
            raise ConfigurationError(f"remembered_bytes={self.remembered_bytes!r} must not be negative; 0 turns it off")
        if not self.key_prefix or any(c in self.key_prefix for c in "{}\0"):
            raise ConfigurationError(
                f"key_prefix={self.key_prefix!r} must not be empty nor contain braces: "
                "they would change the slot that Redis Cluster puts a thread in"
            )
        if not self.cold and self.cold_writes == "through":
            raise ConfigurationError('cold_writes="through" needs a postgres_url')

    @property
    def ttl_ms(self) -> int:
        """`ttl` for the scripts."""
        return milliseconds("ttl", self.ttl)

    @property
    def hot_ttl_ms(self) -> int:
        """`hot_ttl` for the scripts."""
        return milliseconds("hot_ttl", self.hot_ttl)
