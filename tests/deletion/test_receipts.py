"""Who is asked to erase something can say what was removed from where, and that it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from homes import HOMES, at, put, settle
from scenarios.asking import converse

from langgraph_tiered_checkpoint import Promotion, Receipt, TieredSaver
from langgraph_tiered_checkpoint.errors import ConfigurationError


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=Promotion.never()) as made:
        yield made


@pytest.mark.parametrize("home", HOMES)
def test_receipt_says_what_was_removed_from_where(saver: TieredSaver, postgres_url: str, home: str) -> None:
    converse(saver)
    settle(saver, "t", home)
    before = saver.explain("t")
    planned = saver.erase("t", asked_by="ticket 7", dry_run=True)
    assert saver.explain("t").incarnation == before.incarnation
    assert (planned.erased_at, planned.gone) == (None, False)
    receipt = saver.erase("t", asked_by="ticket 7")
    assert (receipt.asked_by, receipt.existed, receipt.gone) == ("ticket 7", True, True)
    assert (receipt.hot_checkpoints, receipt.cold_checkpoints) == (before.hot_checkpoints, before.cold_checkpoints)
    assert (receipt.cold_values > 0, receipt.cold_pending_writes > 0, receipt.cold_bytes > 0) == (
        (home != "ephemeral",) * 3
    )
    assert receipt.incarnation == before.incarnation
    assert receipt.erased_at is not None
    assert abs(receipt.erased_at - datetime.now(tz=timezone.utc)) < timedelta(minutes=5)
    assert "Ada" not in repr(receipt)
    with psycopg.connect(postgres_url) as conn:
        [(left,)] = conn.execute("SELECT count(*) FROM checkpoint_writes WHERE thread_id = 't'").fetchall()
        assert left == 0
    again = saver.erase("t", asked_by="ticket 7")
    assert (again.existed, again.gone, again.hot_checkpoints, again.cold_bytes) == (False, True, 0, 0)


async def test_scope_is_erased_with_a_receipt_for_each_thread(saver: TieredSaver) -> None:
    tenant, stranger = saver.scoped("a"), saver.scoped("b")
    for thread in ("t", "u"):
        put(tenant, at(thread), {"a": [1]})
        put(stranger, at(thread), {"a": [1]})
    await tenant.apromote("u")
    assert [r.thread_id for r in await tenant.aerase_all(asked_by="me", dry_run=True)] == ["t", "u"]
    told: list[Receipt] = []
    receipts = await tenant.aerase_all(asked_by="me", on_receipt=told.append)
    assert [receipt.gone for receipt in receipts] == [True, True]
    assert told == receipts
    assert [list(one.thread_ids()) for one in (tenant, stranger)] == [[], ["t", "u"]]
    for refused in (lambda: saver.erase_all(asked_by="me"), lambda: saver.erase("t", asked_by="")):
        with pytest.raises(ConfigurationError):
            refused()
    assert [r.gone for r in stranger.erase_all(asked_by="me")] == [True, True]
