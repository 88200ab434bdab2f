"""Ids of threads, namespaces and checkpoints, checked against what both tiers can key. No I/O."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from langgraph_tiered_checkpoint.arguments import wrong
from langgraph_tiered_checkpoint.errors import InvalidThreadError

MAX_THREAD_ID_BYTES = 1_000
MAX_KEY_BYTES = 2_600
"""Sum of a row's key columns: beyond it Postgres' B-tree refuses the row."""

_UUID6_EPOCH_100NS = 0x01B21DD213814000


class CheckpointKey(NamedTuple):
    """Which checkpoint a call is about, checked against what both tiers can key."""

    thread_id: str
    ns: str
    checkpoint_id: str
    parent_id: str

    @classmethod
    def of(cls, thread_id: str, ns: str, checkpoint_id: str, parent_id: str = "") -> CheckpointKey:
        """Check and build.

        Raises:
            InvalidThreadError: a part contains NUL or a lone surrogate, or the parts are too long together.
        """
        key = cls(thread_id, ns, checkpoint_id, parent_id)
        if not checkpoint_id:
            raise InvalidThreadError(f"thread {thread_id!r}: checkpoint_id must be a non-empty string")
        check_text(thread_id, "checkpoint_id", checkpoint_id)
        together = "".join(key)
        if not together.isascii() or "\0" in together or len(together) > MAX_KEY_BYTES:
            key.check()
            check_text(thread_id, "checkpoint_id", parent_id)
        return key

    def check(self, *parts: str) -> None:
        """Check the key columns of a row of this checkpoint.

        Raises:
            InvalidThreadError: see `of`.
        """
        total = sum(check_text(self.thread_id, "a key", part) for part in (*self[:3], *parts))
        if total > MAX_KEY_BYTES:
            raise InvalidThreadError(
                f"thread {self.thread_id[:80]!r}: thread id, namespace and names come to {total} bytes together, "
                f"more than the {MAX_KEY_BYTES} that a Postgres index takes. Shorten the thread id or the node names"
            )

    def check_all(self, rows: Sequence[tuple[str, str]]) -> None:
        """`check` every row, at little cost where all of them together are short enough for one.

        Raises:
            InvalidThreadError: see `of`.
        """
        try:
            together = "".join([part for row in rows for part in row])
        except TypeError:  # something is no string, which is told below
            together = "\0"
        longest = len(together) + 4 * sum(map(len, self[:3]))
        if longest > MAX_KEY_BYTES or not together.isascii() or "\0" in together:
            for row in rows:
                self.check(*row)


def check_text(thread_id: object, what: str, text: str) -> int:
    """The length of `text` in UTF-8 bytes.

    Raises:
        InvalidThreadError: not a string, or one that Postgres cannot store.
    """
    if not isinstance(text, str):
        raise InvalidThreadError(f"thread {thread_id!r}: {what} must be a string, not {type(text).__name__}")
    if "\0" in text:
        raise InvalidThreadError(f"thread {thread_id!r}: {what} {text!r} contains NUL, which Postgres cannot store")
    if text.startswith("\U0010ffff"):
        raise InvalidThreadError(f"thread {thread_id!r}: {what} {text!r} begins with U+10FFFF, which is reserved")
    try:
        return len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as exc:
        raise InvalidThreadError(f"thread {thread_id!r}: {what} {text!r} is not valid unicode") from exc


def text_of(what: str, value: object) -> str:
    """An id as text. What else has a text, such as a list or bytes, is passed by mistake.

    Raises:
        InvalidThreadError: neither a string nor an int nor a UUID.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | uuid.UUID):
        raise wrong(what, value, "a string, an int or a UUID", InvalidThreadError)
    return str(value)


def check_thread_id(thread_id: object) -> str:
    """The thread id as a string, as LangGraph makes it of an int or a UUID.

    Raises:
        InvalidThreadError: missing, of another type, empty, too long, or not storable.
    """
    if thread_id is None or thread_id == "":
        raise InvalidThreadError(
            'a checkpointer needs a non-empty thread id: pass config={"configurable": {"thread_id": "..."}}'
        )
    text = text_of("a thread id", thread_id)
    size = check_text(text, "the thread id", text)
    if size > MAX_THREAD_ID_BYTES:
        raise InvalidThreadError(
            f"thread {text[:80]!r}...: the thread id is {size} bytes long, more than {MAX_THREAD_ID_BYTES}; "
            "use a hash of it"
        )
    return text


def uuid6_time_ms(checkpoint_id: str) -> float:
    """Unix time in ms inside a version-6 UUID (RFC 9562); 0 for any other id."""
    try:
        parsed = uuid.UUID(checkpoint_id)
    except ValueError:
        return 0
    if parsed.version != 6:
        return 0
    ticks = ((parsed.int >> 80) << 12) | ((parsed.int >> 64) & 0xFFF)
    return max(0, ticks - _UUID6_EPOCH_100NS) / 10_000


RESERVED = "lgt-tenant:"
"""What the stored ids of all tenants begin with. An id that a caller brings must not."""


class ListedId(str):
    """The stored id of a tenant's thread, as an unscoped saver has listed it.

    Only what was listed is one: the same text from anywhere else, such as a visitor's cookie, reaches nothing.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """A mapping between the thread ids that a caller uses and the stored ones.

    A tenant's stored ids begin with its name and the name's length, so no two tenants share one, whatever
    characters their names and ids are made of.
    """

    prefix: str = ""

    @classmethod
    def of(cls, tenant: str) -> Scope:
        """The scope of one tenant.

        Raises:
            InvalidThreadError: an empty name, or one that Postgres cannot store.
        """
        if tenant in ("", None):
            raise InvalidThreadError(f"scoped({tenant!r}): the tenant must be a non-empty string")
        check_text(tenant, "the tenant", tenant)
        return cls(f"{RESERVED}{len(tenant)}:{tenant}:")

    @classmethod
    def holding(cls, stored: str) -> Scope:
        """The scope that a stored id belongs to: of no tenant, unless it begins as a tenant's do."""
        size, _, rest = stored.removeprefix(RESERVED).partition(":")
        if not (stored.startswith(RESERVED) and size.isdigit() and rest[int(size) : int(size) + 1] == ":"):
            return cls()
        return cls.of(rest[: int(size)])

    @property
    def tenant(self) -> str:
        """The tenant's name; empty without one."""
        return self.prefix.removeprefix(RESERVED)[:-1].partition(":")[2]

    def stored(self, thread_id: object) -> str:
        """The stored id of a thread.

        Raises:
            InvalidThreadError: an id that cannot be used, or one inside the tenants' reserved range.
        """
        plain = check_thread_id(thread_id)
        if self.prefix:
            return check_thread_id(self.prefix + plain)
        if plain.startswith(RESERVED) and not isinstance(thread_id, ListedId):
            raise InvalidThreadError(
                f"thread {plain!r}: ids that begin with {RESERVED!r} belong to tenants. Use scoped(tenant), or pass on "
                "the very object that thread_ids(), list(None) or stats() has given"
            )
        return plain

    def plain(self, stored: str) -> str:
        """The id that the caller knows a stored thread by. Unscoped, tenants' threads keep their stored ids."""
        if not self.prefix and stored.startswith(RESERVED):
            return ListedId(stored)
        return stored[len(self.prefix) :]
