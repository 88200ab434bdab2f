"""Which Redis and which Postgres belong together: what both say of it, and the plan that binds them. No I/O.

A store is one Redis under one key prefix, with one schema in Postgres or with none. Its random id is in
`<prefix>:layout` and in `tiered_migrations`, each beside a description of the other tier. Where the two ids differ,
nothing is flushed, filled or believed: the rows are somebody else's.
"""

from __future__ import annotations

import logging
from typing import Final, Literal, NamedTuple

from langgraph_tiered_checkpoint.cold.schema import ColdSchema
from langgraph_tiered_checkpoint.errors import ConfigurationError, SchemaError
from langgraph_tiered_checkpoint.hot.keys import BUCKETS
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.records import Tables
from langgraph_tiered_checkpoint.steps import Lua, Plan

logger = logging.getLogger(__name__)

LAYOUT: Final = f"8:{BUCKETS}"
"""Version of the key layout, and number of buckets: what `<prefix>:layout` must begin with."""

_ROUNDS = 20


class Layout(NamedTuple):
    """What `<prefix>:layout` says of the store whose keys begin with the prefix."""

    kind: Literal["hot", "new", "bound"]
    """Without Postgres; or with one, to which it is not known to be bound yet, or is."""
    store: str = ""
    """The id, if there is a Postgres."""
    postgres: str = ""
    """Where that is, once bound."""

    @property
    def text(self) -> str:
        """What is stored."""
        match self.kind:
            case "bound":
                return f"{LAYOUT} {self.store} {self.postgres}"
            case "new":
                return f"{LAYOUT} new {self.store}"
            case _:
                return f"{LAYOUT} hot"

    @classmethod
    def parse(cls, text: str) -> Layout | None:
        """What is stored, as a record; None if another layout stands there."""
        version, _, rest = text.partition(" ")
        if version != LAYOUT or not rest:
            return None
        first, _, more = rest.partition(" ")
        if first == "hot":
            return cls("hot")
        return cls("new", more) if first == "new" else cls("bound", first, more)


class Here(NamedTuple):
    """The two servers as this saver knows them; no password in it."""

    prefix: str
    redis: str
    """Tells the Redis apart from others, with the prefix; empty if nothing does."""
    redis_display_url: str
    postgres: str
    postgres_display_url: str


class Doubt(NamedTuple):
    """What made the two tiers be looked at."""

    known: str = ""
    """The store id that both had before, in this process."""
    take_over: bool = False
    """The caller says that neither is in use by others."""


def bind(schema: ColdSchema, here: Here, doubt: Doubt) -> Plan[str]:
    """Make sure that the two tiers are of one store; the reply is its id. One round trip to each, if they are.

    They are bound to each other if neither was bound before. A Redis that holds nothing is bound to tables that were
    its own: that this process knew as such, or that tell of a Redis at the same place. It gets a new id then, so that
    the old one, should it still be there, cannot flush any more. Processes that do so at once agree.

    Raises:
        ConfigurationError: they belong to different stores. The message names both, and the remedy.
    """
    key = f"{here.prefix}:layout"
    said = Layout("new", new_id())
    text = yield from _compare_and_set(key, "", said.text)
    for _ in range(_ROUNDS):
        layout = Layout.parse(text)
        if layout is None:
            raise other_layout(text, here.prefix, here.redis_display_url)
        tables = yield from schema.belonging()
        if layout.store and layout.store == tables.store:
            text = yield from _compare_and_set(key, text, Layout("bound", layout.store, here.postgres).text)
            return layout.store
        if layout.kind != "new":
            if not doubt.take_over:
                raise not_of_one_store(here, layout, tables)
            text = yield from _compare_and_set(key, text, Layout("new", new_id()).text)
            continue
        own = tables.store == doubt.known or bool(here.redis and tables.redis == described(here))
        if tables.store and not (own or doubt.take_over):
            raise not_of_one_store(here, layout, tables)
        if (yield from schema.belong(tables.store, layout.store, described(here))) and tables.store:
            logger.warning(
                "Redis at %s (key_prefix %r) held nothing of the store of Postgres at %s, and was bound to it anew. "
                "What Postgres holds goes on; ephemeral threads and changes not flushed yet are lost with Redis's data",
                here.redis_display_url,
                here.prefix,
                here.postgres_display_url,
            )
    raise ConfigurationError(
        f"Redis at {here.redis_display_url} (key_prefix {here.prefix!r}) and Postgres at "
        f"{here.postgres_display_url} are being bound by others in turn. Make sure that nobody calls "
        "setup(take_over=True) all the time, and try again"
    )


def _compare_and_set(key: str, seen: str, text: str) -> Plan[str]:
    return (yield from Lua("bind", (key,), (seen, text), "*", bytes.decode))


def described(here: Here) -> str:
    """What `tiered_migrations` says of the Redis."""
    return f"{here.redis or here.redis_display_url}, key_prefix {here.prefix!r}"


def other_layout(text: str, prefix: str, display_url: str) -> ConfigurationError | SchemaError:
    """What is under the prefix cannot be read."""
    if _number(text) > _number(LAYOUT):
        return SchemaError(
            f"Redis at {display_url} holds layout {text.partition(' ')[0]!r} under the prefix {prefix!r}: a newer "
            f"version of langgraph-tiered-checkpoint has written; this one uses {LAYOUT!r}. Upgrade it. Nothing was "
            "read or written"
        )
    return ConfigurationError(
        f"Redis at {display_url} holds layout {text!r} under the prefix {prefix!r}, and this version "
        f"of langgraph-tiered-checkpoint uses {LAYOUT!r}. Choose another key_prefix, or use the version that wrote it"
    )


def _number(layout: str) -> int:
    number = layout.partition(":")[0]
    return int(number) if number.isdecimal() else 0


def needs_postgres(prefix: str, display_url: str, layout: Layout) -> ConfigurationError:
    """A saver without Postgres would take promoted threads for new ones."""
    theirs = f", at {layout.postgres}" if layout.postgres else ""
    return ConfigurationError(
        f"Redis at {display_url} (key_prefix {prefix!r}) is of a store with a Postgres{theirs}, and this saver has "
        "none: what is only in Postgres would look new to it. Pass that postgres_url and schema, or another key_prefix"
    )


def not_of_one_store(here: Here, layout: Layout, tables: Tables) -> ConfigurationError:
    """The two tiers are of different stores, or one of them is of none."""
    match layout.kind:
        case "hot":
            redis = "is of a store without Postgres"
        case "new":
            redis = "holds nothing yet"
        case _:
            redis = f"is of store {layout.store}, whose Postgres is {layout.postgres}"
    postgres = f"is of store {tables.store}, whose Redis is {tables.redis}" if tables.store else "is of no store yet"
    return ConfigurationError(
        f"Redis at {here.redis_display_url} (key_prefix {here.prefix!r}) {redis}; Postgres at "
        f"{here.postgres} {postgres}. They do not belong together, so nothing was read or written. "
        "Each Redis and key_prefix needs a schema of its own in Postgres: choose another schema or key_prefix. After a "
        "move or a restore, once nothing else uses "
        "either of them, setup(take_over=True) binds them to each other"
    )
