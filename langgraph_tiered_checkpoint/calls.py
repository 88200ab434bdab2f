"""What a caller asks for, as plans: checks arguments, encodes and decodes, and keeps track of the run's incarnation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from langgraph_tiered_checkpoint import incarnations
from langgraph_tiered_checkpoint.arguments import check_count, check_name, wrong
from langgraph_tiered_checkpoint.codec import Codec, inline_versions, interrupts, matches, path_of
from langgraph_tiered_checkpoint.config import Candidate
from langgraph_tiered_checkpoint.errors import (
    DEFECTS,
    ConfigurationError,
    ThreadBusyError,
    TieredCheckpointError,
    ValueTooLargeError,
)
from langgraph_tiered_checkpoint.hot.known_checkpoints import KnownCheckpoint
from langgraph_tiered_checkpoint.hot.replies import State
from langgraph_tiered_checkpoint.ids import CheckpointKey, Scope, check_text, text_of
from langgraph_tiered_checkpoint.plans import archiving, flushing, inspection, promoting, reading, reshaping, writing
from langgraph_tiered_checkpoint.plans.listing import Listed, Query, Tenants, ThreadIds, ThreadListing
from langgraph_tiered_checkpoint.plans.restoring import pieces
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, Renaming, ThreadStatus, TierStats, WriteRow
from langgraph_tiered_checkpoint.steps import Plan


class Target(NamedTuple):
    """Which checkpoint a config points at."""

    thread_id: str
    """As the caller knows it."""
    stored_id: str
    ns: str
    checkpoint_id: str
    """Empty for the latest."""
    root_id: str
    """The root checkpoint that a subgraph call runs under, or empty."""


class OnWrite(Protocol):
    """How a promoter hears of a write."""

    def __call__(self, thread_id: str, *, due: bool) -> None:
        """There has been one, and the thread is to be flushed soon, or not."""


class Requests(NamedTuple):
    """Plans for one saver: its store, its serde, its tenant."""

    store: Store
    serde: SerializerProtocol
    scope: Scope
    on_write: OnWrite
    """Told the stored id of each thread that has been written to, and whether it is to be flushed soon."""
    channels: frozenset[str] | None = None
    """The only channels whose values are read; None for all."""

    @property
    def codec(self) -> Codec:
        """Encodes and decodes with the saver's serde."""
        return Codec(self.serde, inline=self.store.settings.inline)

    def target(self, config: RunnableConfig) -> Target:
        """Read a config.

        Raises:
            InvalidThreadError: no thread id, or one that cannot be used.
        """
        configurable = _mapping("config['configurable']", _mapping("config", config).get("configurable"))
        thread_id = configurable.get("thread_id")
        stored = self.scope.stored(thread_id)
        ns = configurable.get("checkpoint_ns") or ""
        if ns:
            check_text(thread_id, "checkpoint_ns", ns)
        checkpoint_id = configurable.get("checkpoint_id") or ""
        if checkpoint_id:
            check_text(thread_id, "checkpoint_id", checkpoint_id)
        root_id = _mapping("checkpoint_map", configurable.get("checkpoint_map")).get("") or ""
        check_text(thread_id, "checkpoint_map", root_id)
        return Target(self.scope.plain(stored), stored, ns, checkpoint_id, root_id)

    # The checkpointer contract

    def get_tuple(self, config: RunnableConfig) -> Plan[CheckpointTuple | None]:
        at = self.target(config)
        answer = yield from reading.get(self.store, at.stored_id, at.ns, at.checkpoint_id, at.root_id, self.channels)
        if at.ns == "":
            incarnations.remember(self.store.number, at.stored_id, answer.incarnation, answer.absent_ms)
        if answer.stored is None:
            return None
        self.store.known_values.remember(at.stored_id, at.ns, answer.stored.blobs)
        found = self.codec.decode_tuple(at.thread_id, answer.stored, answer.sends, self.channels)
        if self.channels is not None:
            return found
        place = at.stored_id, at.ns, answer.stored.row.checkpoint_id
        stored = frozenset((blob.channel, blob.version) for blob in answer.stored.blobs)
        inline = inline_versions(answer.stored, found.checkpoint)
        self.store.known_checkpoints.remember(place, KnownCheckpoint(inline, stored, ""))
        return found

    def messages(self, thread_id: str, channel: str, limit: int | None, before: str | None) -> Plan[list[Any]]:
        check_name("channel", channel)
        check_count("limit", limit, none="takes all", least=0)
        check_name("before", before, none="begins at the end")
        stored_id = self.scope.stored(thread_id)
        answer = yield from reading.get(self.store, stored_id, "", "", channels=(channel,))
        if answer.stored is None:
            return []
        checkpoint = self.codec.decode_tuple(str(thread_id), answer.stored, channels=(channel,)).checkpoint
        return _window(thread_id, channel, checkpoint, limit, before)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Plan[RunnableConfig]:
        at = self.target(config)
        codec = self.codec
        key = CheckpointKey.of(at.stored_id, at.ns, checkpoint["id"], at.checkpoint_id)
        checkpoint, new_versions = yield from self._carry_on(at, checkpoint, new_versions)
        encoded = codec.encode_checkpoint(config, key, checkpoint, metadata, new_versions)
        promote = "when" if self._wants(Candidate(at.thread_id, checkpoint, metadata)) else ""

        def supply(wanted: Sequence[tuple[str, str]]) -> list[BlobRow]:
            values = checkpoint["channel_values"]
            return [codec.encode_blob(key, channel, version, values[channel]) for channel, version in wanted]

        written = yield from _name_the_largest(
            encoded.blobs,
            writing.put(
                self.store,
                incarnations.recall(self.store.number, at.stored_id),
                at.stored_id,
                encoded.row,
                encoded.blobs,
                encoded.expected,
                named=at.checkpoint_id or checkpoint["id"],
                promote=promote,
                supply=supply,
            ),
        )
        self.store.known_checkpoints.remember(
            (at.stored_id, at.ns, checkpoint["id"]), KnownCheckpoint(encoded.inline, encoded.stored, encoded.row.run_id)
        )
        yield from self.settle(at.stored_id, written)
        stored = {"thread_id": at.thread_id, "checkpoint_ns": at.ns, "checkpoint_id": checkpoint["id"]}
        return {"configurable": stored}

    def _carry_on(
        self, at: Target, checkpoint: Checkpoint, new_versions: ChannelVersions
    ) -> Plan[tuple[Checkpoint, ChannelVersions]]:
        """Add the values of channels whose versions a checkpoint takes over from its parent without the values.

        So does code that does not know these channels, in a rolling deploy. A value in a blob is found by its version
        whoever names it; one that is inline in the parent's JSON has to be put into the child's. Costs no step where
        the parent is remembered, and has none inline.
        """
        values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        silent = {c: str(v) for c, v in versions.items() if c not in values and c not in new_versions}
        if not silent or not at.checkpoint_id:
            return checkpoint, new_versions
        known = self.store.known_checkpoints.find((at.stored_id, at.ns, at.checkpoint_id))
        if known is not None and not any(known.inline.get(c) == v for c, v in silent.items()):
            return checkpoint, new_versions
        answer = yield from reading.get(self.store, at.stored_id, at.ns, at.checkpoint_id, at.root_id)
        if answer.stored is None:
            return checkpoint, new_versions
        parent = self.codec.decode_tuple(at.thread_id, answer.stored).checkpoint
        inline = inline_versions(answer.stored, parent)
        carried = [c for c, v in silent.items() if inline.get(c) == v]
        of_parent = {c: parent["channel_values"][c] for c in carried}
        following: Checkpoint = {**checkpoint, "channel_values": {**values, **of_parent}}
        return following, {**new_versions, **{c: versions[c] for c in carried}}

    def _wants(self, candidate: Candidate) -> bool:
        when = self.store.settings.promotion.when
        try:
            return when is not None and bool(when(candidate))
        except DEFECTS as exc:  # what else it raises is its own caller's, or a driver's
            raise ConfigurationError(
                f"thread {candidate.thread_id!r}: promotion.when raised {type(exc).__name__}: {exc}. Nothing was stored"
            ) from exc

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Plan[None]:
        at = self.target(config)
        key = CheckpointKey.of(at.stored_id, at.ns, at.checkpoint_id)
        rows = self.codec.encode_writes(key, writes, task_id, task_path)
        if not rows:
            return
        written = yield from _name_the_largest(
            rows,
            writing.put_writes(
                self.store,
                incarnations.recall(self.store.number, at.stored_id),
                at.stored_id,
                at.ns,
                at.checkpoint_id,
                task_id,
                rows,
                interrupt=interrupts(rows),
                named=at.checkpoint_id,
            ),
        )
        yield from self.settle(at.stored_id, written)

    def settle(self, stored_id: str, written: writing.Written) -> Plan[None]:
        """Tell the promoter of a write, or flush it, as the settings want."""
        behind = self.store.settings.cold_writes == "behind"
        self.on_write(stored_id, due=behind and written.state is State.DIRTY)
        if behind or written.state is not State.DIRTY:
            return
        left_dirty = partial(self.on_write, stored_id, due=True)
        try:
            yield from flushing.flush_write(self.store, stored_id, written.unflushed, written.server_run, left_dirty)
        except TieredCheckpointError:
            left_dirty()
            raise

    def get_delta_channel_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Plan[Mapping[str, DeltaChannelHistory]]:
        if not channels:
            return {}
        if isinstance(channels, str) or not all(isinstance(channel, str) for channel in channels):
            raise wrong("channels", channels, "a sequence of names")
        at = self.target(config)
        ancestors = yield from reading.delta_history(self.store, at.stored_id, at.ns, at.checkpoint_id, channels)
        return self.codec.decode_delta_history(channels, ancestors)

    def delete_thread(self, thread_id: str) -> Plan[None]:
        yield from self.delete(self.scope.stored(thread_id))

    def delete(self, stored_id: str) -> Plan[float]:
        """Delete a thread; as of when it is gone, in milliseconds by Redis's clock."""
        gone_ms = yield from reshaping.delete(self.store, stored_id)
        incarnations.remember(self.store.number, stored_id, "", gone_ms, by_delete=True)
        self.store.known_values.forget(stored_id)
        return gone_ms

    def delete_for_runs(self, run_ids: Sequence[str]) -> Plan[None]:
        if isinstance(run_ids, str):
            raise ConfigurationError("delete_for_runs takes a sequence of run ids, not one string")
        wanted = frozenset(text_of("a run id", run_id) for run_id in run_ids)
        for run_id in wanted:
            if not run_id:
                raise ConfigurationError("a run id must not be empty")
            check_text(run_id, "a run id", run_id)
        if wanted:
            for stored in (yield from reshaping.threads_of_runs(self.store, sorted(wanted), self.scope.prefix)):
                yield from reshaping.delete_runs(self.store, stored, wanted)
                self.store.known_values.forget(stored)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> Plan[None]:
        source, target = self.scope.stored(source_thread_id), self.scope.stored(target_thread_id)
        was, own = self.scope.plain(source), self.scope.plain(target)
        renaming = Renaming(was, own, partial(self.codec.rename, was, CheckpointKey(own, "", "", "")))
        yield from reshaping.copy(self.store, source, target, renaming)

    def restore(self, thread_id: str, checkpoints: Iterable[CheckpointTuple]) -> Plan[None]:
        stored = self.scope.stored(thread_id)
        in_order = list(pieces(thread_id, checkpoints))  # whatever is wrong with them shows before anything is done
        answer = yield from reading.get(self.store, stored, "", "")
        if answer.incarnation:
            raise ConfigurationError(
                f"thread {thread_id!r} exists, so nothing can be restored to it. Choose an id that is not in use, or, "
                "if what it holds is not needed any more, delete it first"
            )
        known = incarnations.remember(self.store.number, stored, "", answer.absent_ms)
        own = known.incarnation
        for piece in in_order:
            yield from self.put(piece.before, piece.checkpoint, piece.metadata, piece.new_versions)
            if known.incarnation != own:
                raise ThreadBusyError(
                    f"thread {thread_id!r} was begun by somebody else while it was restored: what it holds is theirs, "
                    "and one of the checkpoints. Restore to another id"
                )
            for task_id, writes in piece.writes.items():
                yield from self.put_writes(piece.config, writes, task_id, "")

    def prune(self, thread_ids: Sequence[str], strategy: str) -> Plan[None]:
        if isinstance(thread_ids, str):
            raise ConfigurationError("prune takes a sequence of thread ids, not one string")
        if strategy not in ("keep_latest", "delete", "delete_all"):
            raise ConfigurationError(f'unknown prune strategy {strategy!r}: choose "keep_latest" or "delete"')
        for stored in [self.scope.stored(thread_id) for thread_id in thread_ids]:
            if strategy == "keep_latest":
                yield from reshaping.prune(self.store, stored)
                self.store.known_values.forget(stored)
            else:
                yield from self.delete(stored)

    # Tier operations

    def promote(self, thread_id: str) -> Plan[None]:
        yield from flushing.promote(self.store, self.scope.stored(thread_id), "promote()")

    def pin(self, thread_id: str, *, pinned: bool) -> Plan[None]:
        yield from flushing.promote(self.store, self.scope.stored(thread_id), "pin()", pin=pinned)

    def flush(self, thread_id: str | None) -> Plan[None]:
        if self.store.cold is None:
            return
        if thread_id is None:
            yield from promoting.flush_all(self.store, self.scope.prefix)
        else:
            yield from flushing.flush(self.store, self.scope.stored(thread_id))

    def evict(self, thread_id: str) -> Plan[None]:
        yield from reshaping.evict(self.store, self.scope.stored(thread_id))

    def archive(self, thread_id: str) -> Plan[None]:
        yield from archiving.archive(self.store, self.scope.stored(thread_id))

    def unarchive(self, thread_id: str) -> Plan[None]:
        yield from archiving.unarchive(self.store, self.scope.stored(thread_id))

    def explain(self, thread_id: str) -> Plan[ThreadStatus]:
        stored = self.scope.stored(thread_id)
        return (yield from inspection.explain(self.store, stored, self.scope.plain(stored)))

    def stats(self) -> Plan[TierStats]:
        if self.scope.prefix:
            return (yield from inspection.tenant_stats(self.store, self.scope.prefix))
        told = yield from inspection.stats(self.store)
        return replace(told, parked_threads=tuple(map(self.scope.plain, told.parked_threads)))

    def thread_ids(self, prefix: str, after: str = "") -> ThreadIdPages:
        return ThreadIdPages(self.store, self.scope, prefix, after)

    def scopes(self) -> Tenants:
        if self.scope.prefix:
            raise ConfigurationError("scopes(): this saver is confined to a tenant; call the unscoped one")
        return Tenants(self.store)

    def sweep(self) -> Plan[None]:
        yield from promoting.sweep(self.store)

    def listing(
        self,
        config: RunnableConfig | None,
        filter_: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing:
        return Listing(self, config, filter_, before, limit)


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise wrong(name, value, "a dict")
    return value or {}


def _window(thread_id: str, channel: str, checkpoint: Checkpoint, limit: int | None, before: str | None) -> list[Any]:
    """The last messages of a channel, or the last before one of them."""
    found = checkpoint["channel_values"].get(channel)
    if found is None and channel not in checkpoint["channel_versions"]:
        return []
    if not isinstance(found, list):
        holds = "a delta channel" if found is None or isinstance(found, _DeltaSnapshot) else f"a {type(found).__name__}"
        raise ConfigurationError(
            f"thread {thread_id!r}: channel {channel!r} holds {holds}, not a list of messages. Name the channel that "
            "does, or read the state with the graph's get_state"
        )
    if before is not None:
        ids = [getattr(message, "id", None) for message in found]
        if before not in ids:
            raise ConfigurationError(
                f"thread {thread_id!r}: channel {channel!r} has no message of id {before!r} (any more)"
            )
        found = found[: ids.index(before)]
    return found if limit is None else found[len(found) - min(limit, len(found)) :]


class ThreadIdPages:
    """Thread ids as the caller knows them, in pages."""

    def __init__(self, store: Store, scope: Scope, prefix: str, after: str) -> None:
        for name, given in (("prefix", prefix), ("after", after)):
            if not isinstance(given, str):
                raise wrong(name, given, "a string")
        self._scope = scope
        self._ids = ThreadIds(store, scope.prefix + prefix, scope.prefix + after)

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self._ids.done

    def next_page(self) -> Plan[list[str]]:
        """The next ids."""
        return [self._scope.plain(stored) for stored in (yield from self._ids.next_page())]


class Listing:
    """What `list` was asked for, in pages of tuples. Holds nothing between pages."""

    def __init__(
        self,
        requests: Requests,
        config: RunnableConfig | None,
        filter_: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> None:
        self._requests = requests
        self._codec = requests.codec
        self._filter = filter_
        check_count("limit", limit, none="lists all", least=0)
        self._left = limit
        ns: str | None = None
        only = below = below_ns = ""
        self._threads: list[str] = []
        self._all: ThreadIds | None = None
        self._current: ThreadListing | None = None
        if config is None:
            self._all = ThreadIds(requests.store, requests.scope.prefix)
        else:
            at = requests.target(config)
            ns = at.ns if (config["configurable"].get("checkpoint_ns")) is not None else None
            only = at.checkpoint_id
            self._threads = [at.stored_id]
        if before is not None:
            # The Agent Server hands on what its client gave: a bare checkpoint, in place of a config.
            given = _mapping("before", before)
            bound = _mapping("before", given.get("configurable")) or given
            below, below_ns = bound.get("checkpoint_id") or "", bound.get("checkpoint_ns") or ""
            if below:
                check_text("", "the checkpoint_id of `before`", below)
                check_text("", "the checkpoint_ns of `before`", below_ns)
        _mapping("filter", filter_)
        wanted, path = (self._wanted, path_of(filter_)) if filter_ else (None, None)
        self._query = Query(ns, only, below, below_ns, limit, wanted, path)

    @property
    def done(self) -> bool:
        """Whether the limit is reached, or nothing is left."""
        if self._left is not None and self._left <= 0:
            return True
        return self._current is None and not self._threads and (self._all is None or self._all.done)

    def next_page(self) -> Plan[list[CheckpointTuple]]:
        """The next tuples; possibly none although the listing is not `done`."""
        if self._current is None:
            if not self._threads and self._all is not None:
                self._threads = yield from self._all.next_page()
                return []
            query = self._query._replace(limit=self._left)
            self._current = ThreadListing(self._requests.store, self._threads.pop(0), query)
        listed = yield from self._current.next_page()
        if self._current.done:
            self._current = None
        tuples = [self._tuple(item) for item in listed if not self._filter or self._wanted(item.stored.row)]
        if self._left is not None:
            tuples = tuples[: self._left]
            self._left -= len(tuples)
        return tuples

    def _wanted(self, row: CheckpointRow) -> bool:
        return matches(cast("Mapping[str, Any]", self._codec.decode_metadata(row)), self._filter)

    def _tuple(self, item: Listed) -> CheckpointTuple:
        thread_id = self._requests.scope.plain(item.thread_id)
        return self._codec.decode_tuple(thread_id, item.stored, item.sends, self._requests.channels)


def _name_the_largest(rows: Sequence[BlobRow | WriteRow], plan: Plan[writing.Written]) -> Plan[writing.Written]:
    """Write; if that is too much for Redis, say which value takes most of it."""
    try:
        return (yield from plan)
    except ValueTooLargeError as refused:
        largest = max(rows, key=lambda row: len(row.data), default=None)
        if largest is None:
            raise
        raise ValueTooLargeError(
            f"{refused}. The largest of its values is that of channel {largest.channel!r}, {len(largest.data):,} bytes"
        ) from refused.__cause__
