"""Checkpoints that arrive from elsewhere: put as they were, and compared with what is there. Plans; no I/O.

What arrives is in wire form, so that it makes no difference whether it was read from another saver or from a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from langgraph.checkpoint.base import CheckpointMetadata

from langgraph_tiered_checkpoint import incarnations
from langgraph_tiered_checkpoint.calls import Requests
from langgraph_tiered_checkpoint.codec import interrupts
from langgraph_tiered_checkpoint.errors import ConfigurationError, ThreadBusyError
from langgraph_tiered_checkpoint.hot.upkeep import HotStatus
from langgraph_tiered_checkpoint.ids import CheckpointKey
from langgraph_tiered_checkpoint.moving.sources import Found, Place, config_of
from langgraph_tiered_checkpoint.plans import reading, writing
from langgraph_tiered_checkpoint.plans.listing import Query, ThreadListing
from langgraph_tiered_checkpoint.records import BlobRow, CheckpointRow, StoredCheckpoint, WriteRow
from langgraph_tiered_checkpoint.steps import Plan

Ref = tuple[str, str, str]
"""Of a value: namespace, channel, version."""


class Arrival(NamedTuple):
    """One checkpoint with its writes and values."""

    row: CheckpointRow
    blobs: list[BlobRow]
    """The values that are at hand: those that have not come before, at least."""
    writes: list[WriteRow]
    fresh: list[BlobRow]
    """Those that have not come before."""


class Values:
    """The values of one thread that have come so far: what they are, and with which checkpoint they came."""

    def __init__(self) -> None:
        self._seen: dict[Ref, tuple[str, Place]] = {}

    def add(self, row: CheckpointRow, blobs: Iterable[BlobRow]) -> list[BlobRow]:
        """Note the values of a checkpoint. The reply is those that have not come before.

        Raises:
            ConfigurationError: another value has come under the same version, so that only one of them can be kept.
        """
        fresh = []
        for blob in blobs:
            if blob.type == "empty":  # how other savers store that there is none
                continue
            ref, digest = (blob.ns, blob.channel, blob.version), _digest([blob.type.encode(), blob.data])
            known = self._seen.setdefault(ref, (digest, (row.checkpoint_id, row.ns)))
            if known[0] != digest:
                raise ConfigurationError(
                    f"two checkpoints hold different values of channel {blob.channel!r} under one version, "
                    f"{blob.version!r}: its versions are not unique, as those of get_next_version are"
                )
            if known[1] == (row.checkpoint_id, row.ns):
                fresh.append(blob)
        return fresh

    def came_with(self, ref: Ref) -> Place | None:
        """The checkpoint that a value came with."""
        known = self._seen.get(ref)
        return known[1] if known else None

    def summary(self, row: CheckpointRow, writes: Iterable[WriteRow]) -> str:
        """What a checkpoint with its values and writes comes to, in a few bytes. The order in JSON doesn't matter."""
        values = [(c, v, self._seen[row.ns, c, v][0]) for c, v in row.refs if (row.ns, c, v) in self._seen]
        metadata = [*row.exact_metadata] if row.exact_metadata else [_canonical(row.metadata)]
        parts: list[Any] = [row.ns, row.checkpoint_id, row.parent_id, _canonical(row.checkpoint), *metadata]
        parts += [part for value in sorted(values) for part in value]
        for w in sorted(writes, key=lambda w: (w.task_id, w.idx)):
            parts += [w.task_id, str(w.idx), w.channel, w.type, w.data, w.task_path]
        return _digest(part if isinstance(part, bytes) else part.encode() for part in parts)


def _canonical(text: bytes) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


class Target:
    """A thread that checkpoints are put into, oldest first."""

    def __init__(self, requests: Requests, thread_id: str) -> None:
        """Check the id.

        Raises:
            InvalidThreadError: one that cannot be used.
        """
        self._requests = requests
        self.stored_id = requests.scope.stored(thread_id)
        self.thread_id = requests.scope.plain(self.stored_id)
        self.values = Values()

    def look(self) -> Plan[set[Place]]:
        """The checkpoints that are there. What is put afterwards begins a new life of the thread, or carries this on.

        So it is no late write of a run that was deleted. To be looked at is no use of the thread: its TTL stays.
        """
        store = self._requests.store
        hot = yield from store.hot.status(self.stored_id)
        answer = yield from reading.get(store, self.stored_id, "", "")
        incarnations.remember(store.number, self.stored_id, answer.incarnation, answer.absent_ms)
        if isinstance(hot, HotStatus) and hot.ttl_ms > 0:
            yield from store.hot.shorten(self.stored_id, answer.incarnation, hot.ttl_ms)
        rows = yield from self._rows(lambda _: False)
        return {(stored.row.checkpoint_id, stored.row.ns) for stored in rows}

    def encode(self, found: Found) -> Arrival:
        """What another saver has read, in wire form.

        Raises:
            ConfigurationError: something that no checkpoint here can hold; see `Codec.encode_checkpoint`.
        """
        read, codec = found.read, self._requests.codec
        checkpoint, ns = read.checkpoint, read.config["configurable"].get("checkpoint_ns") or ""
        parent = (read.parent_config or {}).get("configurable", {}).get("checkpoint_id") or ""
        key = CheckpointKey.of(self.stored_id, ns, checkpoint["id"], parent)
        config = config_of(self.thread_id, ns, parent)
        metadata: CheckpointMetadata = read.metadata or {}
        encoded = codec.encode_checkpoint(config, key, checkpoint, metadata, checkpoint["channel_versions"])
        writes: list[WriteRow] = []
        for write in found.writes:
            [row] = codec.encode_writes(key, [(write.channel, write.value)], write.task_id, write.task_path)
            writes.append(row._replace(idx=write.idx))
        return Arrival(encoded.row, encoded.blobs, writes, self.values.add(encoded.row, encoded.blobs))

    def take(self, arrival: Arrival, there: set[Place]) -> Plan[None]:
        """Store a checkpoint that is not there, with the values that have not come before, and its writes.

        Those of the last one that is there may be missing: an import that ended may have ended between the two.

        Raises:
            ThreadBusyError: somebody else has begun the thread, or writes to it.
        """
        place = arrival.row.checkpoint_id, arrival.row.ns
        if place not in there:
            yield from self._put(arrival)
        elif place != max(there):
            return
        for task_id in dict.fromkeys(write.task_id for write in arrival.writes):
            yield from self._put_writes(arrival.row, [w for w in arrival.writes if w.task_id == task_id])

    def _put(self, arrival: Arrival) -> Plan[None]:
        store, row = self._requests.store, arrival.row
        life = incarnations.recall(store.number, self.stored_id)
        own, fresh, written = life.incarnation, arrival.fresh, None
        at_hand = {(blob.channel, blob.version): blob for blob in arrival.blobs}
        while written is None:
            sent = {(blob.channel, blob.version) for blob in fresh}
            known = [ref not in sent and self.values.came_with((row.ns, *ref)) is not None for ref in row.refs]
            put = writing.put(
                store,
                life,
                self.stored_id,
                row,
                fresh,
                [i for i, is_known in enumerate(known) if is_known],
                named=row.checkpoint_id,
                promote="",
                supply=partial(_among, at_hand),
            )
            try:
                written = yield from put
            except _NotAtHandError as missing:
                fresh = [*fresh, *(yield from self._fetch(row.ns, missing.wanted))]
        if life.incarnation != own:
            raise ThreadBusyError(
                f"thread {self.thread_id!r} was begun by somebody else while it was imported: what it holds is theirs, "
                "and one of the checkpoints. Delete it if it is not needed, and import again"
            )
        yield from self._requests.settle(self.stored_id, written)

    def _put_writes(self, row: CheckpointRow, writes: Sequence[WriteRow]) -> Plan[None]:
        """Pending writes of one task."""
        store = self._requests.store
        written = yield from writing.put_writes(
            store,
            incarnations.recall(store.number, self.stored_id),
            self.stored_id,
            row.ns,
            row.checkpoint_id,
            writes[0].task_id,
            writes,
            interrupt=interrupts(writes),
            named=row.checkpoint_id,
        )
        yield from self._requests.settle(self.stored_id, written)

    def _fetch(self, ns: str, wanted: Sequence[tuple[str, str]]) -> Plan[list[BlobRow]]:
        """Values that came with an earlier checkpoint, and are not resident any more."""
        found: dict[tuple[str, str], BlobRow] = {}
        for channel, version in wanted:
            place = self.values.came_with((ns, channel, version))
            if (channel, version) not in found and place is not None:
                answer = yield from reading.get(self._requests.store, self.stored_id, ns, place[0])
                if answer.stored is not None:
                    found.update({(blob.channel, blob.version): blob for blob in answer.stored.blobs})
        try:
            return [found[ref] for ref in wanted]
        except KeyError as exc:
            raise ThreadBusyError(
                f"thread {self.thread_id!r}: what was imported of it is not there any more. Import it again"
            ) from exc

    def summaries(self) -> Plan[dict[Place, str]]:
        """What each checkpoint that is there comes to; see `Values.summary`."""
        found = {}
        values = Values()
        listing = ThreadListing(self._requests.store, self.stored_id, Query())
        while not listing.done:
            for item in (yield from listing.next_page()):
                values.add(item.stored.row, item.stored.blobs)
                found[item.place] = values.summary(item.stored.row, item.stored.writes)
        return found

    def _rows(self, wanted: Callable[[CheckpointRow], bool]) -> Plan[list[StoredCheckpoint]]:
        listing = ThreadListing(self._requests.store, self.stored_id, Query(wanted=wanted))
        rows: list[StoredCheckpoint] = []
        while not listing.done:
            rows += [item.stored for item in (yield from listing.next_page())]
        return rows


class _NotAtHandError(Exception):
    def __init__(self, wanted: Sequence[tuple[str, str]]) -> None:
        super().__init__(wanted)
        self.wanted = wanted


def _among(blobs: Mapping[tuple[str, str], BlobRow], wanted: Sequence[tuple[str, str]]) -> list[BlobRow]:
    """Values that turn out not to be resident."""
    try:
        return [blobs[ref] for ref in wanted]
    except KeyError as exc:
        raise _NotAtHandError(wanted) from exc
