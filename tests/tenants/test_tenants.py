"""`scoped(tenant)` confines every operation, in both tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scenarios.threads import checkpoint_id, config, put, put_chain, steps

from langgraph_tiered_checkpoint import ConfigurationError, NotPromotableError, Promotion, TieredSaver

TENANTS = ("a", "A", "a:b", "{a}", "a*", "a\\", "a,b", "a\tb", "1", "\u00e9", "e\u0301", "\U0001f600")


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion.never(), promoter="external") as opened:
        yield opened


@pytest.fixture(params=[False, True], ids=["ephemeral", "evicted"])
def tenants(request: pytest.FixtureRequest, saver: TieredSaver) -> list[TieredSaver]:
    """One thread "t" with one checkpoint each, whose step says whose it is; the last saver is the unscoped one."""
    everyone = [*(saver.scoped(tenant) for tenant in TENANTS), saver]
    for number, tenant in enumerate(everyone, 1):
        put(tenant, number, thread_id="t", run_id="run")
        if request.param:
            tenant.promote("t")
            tenant.evict("t")
    return everyone


def test_tenants_of_alike_names_read_only_their_own(tenants: list[TieredSaver]) -> None:
    for number, tenant in enumerate(tenants, 1):
        found = tenant.get_tuple(config("t"))
        assert found is not None
        assert found.config == config("t", "", checkpoint_id(number))
        assert steps(tenant, "t") == [number]
        assert tenant.get_tuple(config("t", "", checkpoint_id(number % len(tenants) + 1))) is None


def test_enumerations_see_only_the_tenants_threads(tenants: list[TieredSaver]) -> None:
    for number, tenant in enumerate(tenants[:-1], 1):
        assert [found.metadata["step"] for found in tenant.list(None)] == [number]
        assert [found.config for found in tenant.list(None)] == [config("t", "", checkpoint_id(number))]
        assert list(tenant.thread_ids()) == ["t"]
        assert list(tenant.thread_ids("t")) == ["t"]
        assert list(tenant.thread_ids("tt")) == []
    assert len(list(tenants[-1].thread_ids())) == len(tenants)
    assert len(list(tenants[-1].list(None))) == len(tenants)


@pytest.mark.parametrize(
    "remove",
    [
        lambda tenant: tenant.delete_thread("t"),
        lambda tenant: tenant.delete_for_runs(["run"]),
        lambda tenant: tenant.prune(["t"], strategy="delete"),
    ],
    ids=["delete_thread", "delete_for_runs", "prune"],
)
def test_removal_touches_only_the_tenants_threads(
    remove: Callable[[TieredSaver], None], tenants: list[TieredSaver]
) -> None:
    removed = tenants[0]
    remove(removed)
    assert removed.get_tuple(config("t")) is None
    assert list(removed.list(None)) == []
    for number, tenant in list(enumerate(tenants, 1))[1:]:
        assert steps(tenant, "t") == [number]


def test_other_operations_know_only_the_tenants_threads(tenants: list[TieredSaver]) -> None:
    first, second = tenants[:2]
    put_chain(first, 2, thread_id="own")
    assert second.explain("own").state == "absent"
    for operation in (second.promote, second.pin):
        with pytest.raises(NotPromotableError, match=r"'.*own' does not exist"):
            operation("own")
    first.promote("own")
    put(first, 3, checkpoint_id(2), thread_id="own")
    second.flush()
    second.flush("own")
    second.evict("own")
    assert first.explain("own").state == "dirty"
    first.flush()
    assert (first.explain("own").state, first.explain("own").thread_id) == ("clean", "own")
    first.copy_thread("own", "copy")
    assert steps(first, "copy") == [3, 2, 1]
    first.prune(["own"], strategy="keep_latest")
    assert steps(first, "own") == [3]
    second.copy_thread("t", "copy")
    assert steps(second, "copy") == [2]
    assert steps(first, "copy") == [3, 2, 1]
    first.put_writes(config("own", "", checkpoint_id(3)), [("items", 1)], "task")
    for tenant, expected in ((first, 1), (second, 0)):
        found = tenant.get_tuple(config("own"))
        assert len(found.pending_writes or [] if found else []) == expected


def test_stored_ids_of_tenants_cannot_be_reached_by_their_text(tenants: list[TieredSaver]) -> None:
    """As a visitor's cookie might hold it, who has guessed how they are made up."""
    unscoped = tenants[-1]
    guessed = [str(name) for name in unscoped.thread_ids() if name != "t"]
    assert len(guessed) == len(TENANTS)
    calls: list[Callable[[str], object]] = [
        lambda name: unscoped.get_tuple(config(name)),
        lambda name: list(unscoped.list(config(name))),
        lambda name: put(unscoped, 9, thread_id=name),
        lambda name: unscoped.put_writes(config(name, "", checkpoint_id(1)), [("items", 1)], "task"),
        unscoped.delete_thread,
        unscoped.explain,
        unscoped.promote,
        lambda name: unscoped.prune([name]),
        lambda name: unscoped.copy_thread(name, "mine"),
        lambda name: unscoped.copy_thread("t", name),
    ]
    for name in guessed:
        for call in calls:
            with pytest.raises(ConfigurationError, match="scoped"):
                call(name)
        scoped = tenants[0]
        assert scoped.get_tuple(config(name)) is None
        scoped.delete_thread(name)
    for number, tenant in enumerate(tenants, 1):
        assert steps(tenant, "t") == [number]


def test_ids_that_a_listing_without_scope_has_given_can_be_used(tenants: list[TieredSaver]) -> None:
    unscoped = tenants[-1]
    for name in unscoped.thread_ids():
        expected = steps(unscoped, name)
        assert len(expected) == 1
        unscoped.promote(name)
        unscoped.flush(name)
        unscoped.evict(name)
        assert unscoped.explain(name).state == "cold"
        unscoped.prune([name])
        if name != "t":
            copied = f"copy of {name[-20:]}"
            unscoped.copy_thread(name, copied)
            assert steps(unscoped, copied) == expected
    for found in unscoped.list(None):
        again = unscoped.get_tuple(found.config)
        assert again is not None
        assert again.config == found.config
    assert [steps(tenant, "t") for tenant in tenants] == [[number] for number in range(1, len(tenants) + 1)]
    for name in unscoped.thread_ids():
        unscoped.delete_thread(unscoped.explain(name).thread_id)
    assert list(unscoped.thread_ids()) == []
    assert all(tenant.get_tuple(config("t")) is None for tenant in tenants)


def test_listed_id_means_nothing_to_another_tenant(tenants: list[TieredSaver]) -> None:
    first, second, unscoped = tenants[0], tenants[1], tenants[-1]
    [listed] = [name for name in unscoped.thread_ids() if steps(unscoped, name) == [1]]
    for tenant in (first, second):
        assert tenant.get_tuple(config(listed)) is None
        tenant.delete_thread(listed)
    assert steps(first, "t") == [1]


def test_saver_of_a_tenant_cannot_be_scoped_to_another(saver: TieredSaver) -> None:
    with pytest.raises(ConfigurationError, match=r"scoped\('b'\)"):
        saver.scoped("a").scoped("b")
    for name in (None, 5, b"a", ["a"], ""):
        with pytest.raises(ConfigurationError, match="tenant"):
            saver.scoped(name)  # type: ignore[arg-type]  # on purpose


def test_thread_ids_are_those_of_both_tiers_that_begin_with_the_prefix(saver: TieredSaver) -> None:
    names = ["user:1", "user:10", "user:*", "USER:1", "user", "u%ser:1", "u_er:1", "üser"]
    for number, name in enumerate(names, 1):
        put(saver, number, thread_id=name)
        if number % 2:
            saver.promote(name)
        if number % 4 == 1:
            saver.evict(name)
    assert list(saver.thread_ids()) == sorted(names)
    assert list(saver.thread_ids("user:")) == ["user:*", "user:1", "user:10"]
    assert list(saver.thread_ids("user:*")) == ["user:*"]
    assert list(saver.thread_ids("u_")) == ["u_er:1"]
    assert list(saver.thread_ids("u%")) == ["u%ser:1"]
    assert list(saver.thread_ids("nobody")) == []
