"""The settings of a saver, validated where they are made. Durations are converted to milliseconds once, here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any, Literal, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol
from typing_extensions import TypedDict

from langgraph_tiered_checkpoint.arguments import (
    check_choice,
    check_count,
    check_duration,
    check_flag,
    check_instance,
    check_name,
    wrong,
)
from langgraph_tiered_checkpoint.errors import ConfigurationError


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
            raise wrong("Promotion.when", when, "a callable that is not async", none="asks nobody")

    @classmethod
    def never(cls) -> Promotion:
        """Nothing is promoted by itself; `promote` and `pin` still work."""
        return cls(after=None, checkpoints=None, bytes=None, on_interrupt=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """When what is no head of a promoted thread is packed, out of the official tables, into the archive.

    The embedded promoter, or a worker, does it in the background. Everything is read as before; `unarchive` brings it
    back. `archive` does it at any time, whatever the policy.

    Args:
        idle: how long nobody has written to the thread. None never archives a thread for being idle.
        checkpoints: so many checkpoints in the official tables are too many, of whatever thread: all but the newest
            `hot_checkpoints` are archived. None never does so; nor does a saver with `hot_checkpoints=None`.

    Raises:
        ConfigurationError: a threshold of another type, or less than one; an idle time that is negative.
    """

    idle: timedelta | None = timedelta(hours=1)
    checkpoints: int | None = 200

    def __post_init__(self) -> None:
        off = "turns it off"
        check_duration("Archive.idle", self.idle, none=off, least=timedelta(0))
        check_count("Archive.checkpoints", self.checkpoints, none=off)

    @classmethod
    def never(cls) -> Archive:
        """Nothing is archived by itself."""
        return cls(idle=None, checkpoints=None)


NEVER = 0
"""A duration of "never", on the wire to the scripts."""


def milliseconds(value: timedelta | None) -> int:
    """`value` in ms, `NEVER` for None."""
    return NEVER if value is None else value // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a call may wait for a server before it raises.

    Args:
        hot: connecting to Redis, and how long it may be silent while a request waits; a long reply may
            take longer.
        cold: getting a connection to Postgres, and each statement; connecting gets two seconds at least.
        busy: how long a write waits for a structural operation (prune, copy) that holds its thread, or for readers
            and evictions that are always faster.
        drain: how long `close` lets the embedded promoter flush what is still dirty.
    """

    hot: timedelta = timedelta(seconds=5)
    cold: timedelta = timedelta(seconds=30)
    busy: timedelta = timedelta(seconds=30)
    drain: timedelta = timedelta(seconds=10)

    def __post_init__(self) -> None:
        for name in ("hot", "cold"):
            check_duration(f"Timeouts.{name}", getattr(self, name))
        for name in ("busy", "drain"):
            check_duration(f"Timeouts.{name}", getattr(self, name), least=timedelta(0))


class SaverSettings(TypedDict, total=False):
    """The keyword arguments of `TieredSaver` that say nothing of its servers. See there for the meaning of each."""

    ttl: timedelta | None
    hot_ttl: timedelta | None
    refresh_on_read: bool
    promotion: Promotion | None
    archive: Archive | None
    cold_writes: Literal["behind", "through"]
    flush_interval: timedelta
    promoter: Literal["embedded", "external"]
    hot_checkpoints: int | None
    key_prefix: str
    schema: str | None
    serde: SerializerProtocol | None
    inline: bool | None
    auto_setup: bool
    prepare_statements: bool
    remembered_bytes: int
    timeouts: Timeouts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about a saver that is not a connection. See `TieredSaver` for the meaning of each."""

    ttl: timedelta | None = timedelta(hours=24)
    hot_ttl: timedelta | None = timedelta(hours=24)
    refresh_on_read: bool = True
    promotion: Promotion = field(default_factory=Promotion)
    archive: Archive = field(default_factory=Archive.never)
    cold_writes: Literal["behind", "through"] = "behind"
    flush_interval: timedelta = timedelta(seconds=1)
    promoter: Literal["embedded", "external"] = "embedded"
    hot_checkpoints: int | None = 50
    key_prefix: str = "lgt"
    schema: str | None = None
    inline: bool | None = None
    auto_setup: bool = True
    prepare_statements: bool = True
    remembered_bytes: int = 64 * 1024 * 1024
    timeouts: Timeouts = field(default_factory=Timeouts)
    cold: bool = True
    """Whether there is a cold tier at all."""

    def __post_init__(self) -> None:
        for name in ("ttl", "hot_ttl"):
            check_duration(name, getattr(self, name), none="means never")
        check_duration("flush_interval", self.flush_interval)
        for name in ("refresh_on_read", "auto_setup", "prepare_statements"):
            check_flag(name, getattr(self, name))
        check_choice("cold_writes", self.cold_writes, ("behind", "through"))
        check_choice("promoter", self.promoter, ("embedded", "external"))
        check_count("hot_checkpoints", self.hot_checkpoints, none="keeps all")
        check_count("remembered_bytes", self.remembered_bytes, least=0)
        check_instance("promotion", self.promotion, Promotion)
        check_instance("archive", self.archive, Archive)
        check_instance("timeouts", self.timeouts, Timeouts)
        check_name("key_prefix", self.key_prefix)
        check_name("schema", self.schema, none="takes the search path's first")
        if any(brace in self.key_prefix for brace in "{}"):
            raise ConfigurationError(
                f"key_prefix={self.key_prefix!r} must not contain braces: "
                "they would change the slot that Redis Cluster puts a thread in"
            )
        if not self.cold and self.cold_writes == "through":
            raise ConfigurationError('cold_writes="through" needs a postgres_url')

    @property
    def ttl_ms(self) -> int:
        """`ttl` for the scripts."""
        return milliseconds(self.ttl)

    @property
    def hot_ttl_ms(self) -> int:
        """`hot_ttl` for the scripts."""
        return milliseconds(self.hot_ttl)
