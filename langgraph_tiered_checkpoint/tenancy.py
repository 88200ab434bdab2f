"""How the thread ids of a tenant are told apart from everybody else's, the same in both tiers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from langgraph_tiered_checkpoint.errors import InvalidThreadError
from langgraph_tiered_checkpoint.ids import check_text, check_thread_id

RESERVED = "lgt-tenant:"
"""What the stored ids of all tenants begin with. An id that a caller brings must not."""


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
        if not tenant:
            raise InvalidThreadError(f"scoped({tenant!r}): the tenant must be a non-empty string")
        check_text(tenant, "the tenant", tenant)
        return cls(f"{RESERVED}{len(tenant)}:{tenant}:")

    def stored(self, thread_id: object) -> str:
        """The stored id of a thread.

        Raises:
            InvalidThreadError: an id that cannot be used, or one inside the tenants' reserved range.
        """
        plain = check_thread_id(thread_id)
        if not self.prefix:
            if plain.startswith(RESERVED):
                raise InvalidThreadError(
                    f"thread {plain!r}: ids that begin with {RESERVED!r} belong to tenants; use scoped(tenant)"
                )
            return plain
        return check_thread_id(self.prefix + plain)

    def plain(self, stored: str) -> str:
        """The id that the caller knows a stored thread by. Unscoped, tenants' threads keep their stored ids."""
        return stored[len(self.prefix) :]
