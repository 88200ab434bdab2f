"""No two tenants share a stored thread id, whatever their names and ids are made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from ids import hostile

from langgraph_tiered_checkpoint.errors import InvalidThreadError
from langgraph_tiered_checkpoint.ids import RESERVED, Scope


@given(tenants=hostile(2), threads=hostile(2))
def test_stored_ids_of_tenants_never_meet(tenants: tuple[str, ...], threads: tuple[str, ...]) -> None:
    scopes = [Scope.of(tenant) for tenant in tenants]
    stored = [scope.stored(thread) for scope in scopes for thread in threads]
    assert len(set(stored)) == 4
    assert [scope.plain(id_) for scope in scopes for id_ in stored if id_.startswith(scope.prefix)] == [*threads] * 2
    assert not set(stored) & {Scope().stored(thread) for thread in threads}


@given(tenants=hostile(2), threads=hostile(1))
def test_ids_of_one_tenant_are_never_anothers_or_nobodys(tenants: tuple[str, ...], threads: tuple[str, ...]) -> None:
    first, second = map(Scope.of, tenants)
    taken = first.stored(threads[0])
    assert second.stored(taken) != taken
    with pytest.raises(InvalidThreadError, match=RESERVED):
        Scope().stored(taken)
