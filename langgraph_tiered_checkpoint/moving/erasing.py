"""Erasing threads with a receipt: what was removed from where, when, and by whom it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from langgraph_tiered_checkpoint.arguments import check_flag, check_name
from langgraph_tiered_checkpoint.calls import Requests
from langgraph_tiered_checkpoint.cold.reads import Holdings
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.plans import inspection
from langgraph_tiered_checkpoint.plans.listing import ThreadIds
from langgraph_tiered_checkpoint.records import Sheet
from langgraph_tiered_checkpoint.steps import Plan

_NOTHING = Holdings(0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Receipt(Sheet):
    """That a thread was erased; of a dry run, what would be. It holds nothing of what the thread was about."""

    thread_id: str
    asked_by: str
    dry_run: bool
    erased_at: datetime | None
    """By Redis's clock; None in a dry run."""
    existed: bool
    """Whether any tier held it. An id of which nothing is held is erased all the same: late writes are refused."""
    gone: bool
    """Whether both tiers were asked afterwards, and hold nothing of what was erased."""
    incarnation: str
    """Which life of the thread it was."""
    hot_checkpoints: int
    hot_bytes: int
    """Redis memory, as Redis itself estimates it."""
    cold_checkpoints: int
    cold_values: int
    cold_pending_writes: int
    cold_bytes: int
    """What the values and pending writes took in Postgres, as stored."""


def erase(requests: Requests, thread_id: str, asked_by: str, *, dry_run: bool) -> Plan[Receipt]:
    """Remove a thread from both tiers for good, and say what it was; see `TieredSaver.erase`."""
    check_name("asked_by", asked_by)
    check_flag("dry_run", dry_run)
    store, stored_id = requests.store, requests.scope.stored(thread_id)
    plain = str(requests.scope.plain(stored_id))
    status = yield from inspection.explain(store, stored_id, plain)
    held = (yield from store.cold.holdings(stored_id)) if store.cold is not None else _NOTHING
    gone_ms: float | None = None
    left = status
    if not dry_run:
        gone_ms = yield from requests.delete(stored_id)
        left = yield from inspection.explain(store, stored_id, plain)
    return Receipt(
        thread_id=plain,
        asked_by=asked_by,
        dry_run=dry_run,
        erased_at=None if gone_ms is None else datetime.fromtimestamp(gone_ms / 1000, tz=timezone.utc),
        existed=status.tier is not None,
        gone=left.tier is None or (not dry_run and left.incarnation not in (None, status.incarnation)),
        incarnation=status.incarnation or "",
        hot_checkpoints=status.hot_checkpoints,
        hot_bytes=status.hot_bytes,
        cold_checkpoints=held.checkpoints,
        cold_values=held.values,
        cold_pending_writes=held.pending_writes,
        cold_bytes=held.bytes,
    )


class Erasure:
    """All threads of a scope, erased one after the other, with a receipt for each."""

    def __init__(
        self,
        requests: Requests,
        asked_by: str,
        receipts: list[Receipt],
        on_receipt: Callable[[Receipt], object] | None,
        *,
        dry_run: bool,
    ) -> None:
        """Check what is asked.

        Raises:
            ConfigurationError: the saver is of no scope: that would be everybody's threads.
        """
        check_name("asked_by", asked_by)
        check_flag("dry_run", dry_run)
        if not requests.scope.prefix:
            raise ConfigurationError(
                "erase_all() would erase the threads of all tenants: call it on scoped(tenant), or erase the threads "
                "that thread_ids() lists one by one"
            )
        self._requests = requests
        self._asked_by = asked_by
        self._dry_run = dry_run
        self._receipts = receipts
        self._on_receipt = on_receipt
        self._ids = ThreadIds(requests.store, requests.scope.prefix)
        self._waiting: list[str] = []

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not self._waiting and self._ids.done

    def next_page(self) -> Plan[None]:
        """Erase one thread, or find out which are next."""
        if not self._waiting:
            self._waiting = [self._requests.scope.plain(id_) for id_ in (yield from self._ids.next_page())]
            return
        receipt = yield from erase(self._requests, self._waiting[0], self._asked_by, dry_run=self._dry_run)
        del self._waiting[0]
        self._receipts.append(receipt)
        if self._on_receipt is not None:
            self._on_receipt(receipt)
