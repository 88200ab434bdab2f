"""How the thread ids of a tenant are told apart from everybody else's, the same in both tiers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from langgraph_tiered_checkpoint.errors import InvalidThreadError
from langgraph_tiered_checkpoint.ids import check_text, check_thread_id

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
