"""Makes sure of the tables, and builds their indexes. Plans over schema.py; no I/O.

A request needs the tables and columns, and waits for nothing else: without the indexes every answer is the same, only
slower. They are built by one process of a fleet, in the background or by an explicit `setup()`.
"""

from __future__ import annotations

from typing import Final, TypeVar

from langgraph_tiered_checkpoint.cold.schema import ColdSchema, Inventory
from langgraph_tiered_checkpoint.errors import ColdLockedError, ColdTimeoutError
from langgraph_tiered_checkpoint.steps import Pause, Plan

T = TypeVar("T")

INDEX_S: Final = 600.0
"""How long an explicit setup waits for indexes. What is being built by then is built on."""

_LOCK_S: Final = 2.0
"""How long at a time we wait for a table that is in use: whoever comes after us waits, too."""

_POLL_S: Final = 0.2


def prepare(schema: ColdSchema, patience_s: float) -> Plan[Inventory]:
    """Make sure of the tables and columns; nothing is written where nothing is missing.

    Args:
        schema: the tables.
        patience_s: how long to wait, about, for those who hold a table that has to change.

    Raises:
        ColdLockedError: they held it for longer. The message names them.
        SchemaError: the tables are of a newer version.
        ConfigurationError: there is no place for them.
    """
    found = yield from schema.look()
    lock_s, waited_s = min(_LOCK_S, patience_s / 3), 0.0
    while found.lacks:
        try:
            made = yield from schema.make(lock_s)
        except ColdLockedError:
            waited_s += lock_s
        else:
            if made is not None:
                return made
        if waited_s >= patience_s:
            holders = yield from _holders(schema)
            raise ColdLockedError(
                f"setup: Postgres{schema.where} lacks {', '.join(found.lacks)}, and for {patience_s:g} s the tables "
                f"could not be changed, because others hold them: {holders}. End those transactions, or try again later"
            )
        yield from Pause(_POLL_S)
        waited_s += _POLL_S
        found = yield from schema.look()
    return found


def build_indexes(schema: ColdSchema, patience_s: float) -> Plan[bool]:
    """Build the missing indexes, unless another process does. The reply is whether they are all there."""
    found = yield from schema.look()
    if found.unindexed and (yield from schema.build(patience_s)):
        found = yield from schema.look()
    return not found.unindexed


def set_up(schema: ColdSchema, patience_s: float, index_s: float) -> Plan[None]:
    """Make sure of everything.

    Args:
        schema: the tables.
        patience_s: as for `prepare`.
        index_s: how long to wait for the indexes, about.

    Raises:
        ColdTimeoutError: the indexes were not built in time. The message names those whom they wait for.
        ColdLockedError, SchemaError, ConfigurationError: as for `prepare`.
    """
    yield from prepare(schema, patience_s)
    waited_s = 0.0
    while True:
        try:
            if (yield from build_indexes(schema, index_s - waited_s)):
                return
        except ColdTimeoutError:
            waited_s = index_s
        if waited_s >= index_s:
            break
        yield from Pause(_POLL_S)
        waited_s += _POLL_S
    found = yield from schema.look()
    holders = yield from _holders(schema)
    raise ColdTimeoutError(
        f"setup: the indexes {', '.join(found.unindexed)}{schema.where} are not there after {index_s:g} s. Their "
        f"building goes on in Postgres, and waits for transactions that were open before it: {holders}. Without them "
        "everything works, slower. Run setup() again to wait on"
    )


def _holders(schema: ColdSchema) -> Plan[str]:
    named = yield from schema.in_the_way()
    return "; ".join(named) or "they have ended by now"
