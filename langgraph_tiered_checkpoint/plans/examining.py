"""The plan of the doctor: asks both servers what would break the promises, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any, Final, TypeVar

from langgraph_tiered_checkpoint.cold.examination import Examination
from langgraph_tiered_checkpoint.cold.schema import Inventory
from langgraph_tiered_checkpoint.errors import TieredCheckpointError
from langgraph_tiered_checkpoint.hot.durability import ASKED, WHY, durability, nodes, text_of, time_of
from langgraph_tiered_checkpoint.plans import verdicts
from langgraph_tiered_checkpoint.plans.binding import Here
from langgraph_tiered_checkpoint.plans.buckets import of_each
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.plans.verdicts import Skew, check
from langgraph_tiered_checkpoint.records import Check, DoctorReport
from langgraph_tiered_checkpoint.steps import Ask, AskPooling, Plan

T = TypeVar("T")
Clock = Callable[[], float]
"""Unix time in s, here."""

_OF_REDIS: Final = ("redis permissions", *WHY, "promoter")
_OF_POSTGRES: Final = ("postgres permissions", "row security", "schema", "indexes", "pooler", "binding")


def examine(store: Store, here: Here, clock: Clock) -> Plan[DoctorReport]:
    """All checks, in the order of `verdicts.WHY`. What cannot be looked at is said to be so, with the reason."""
    skews: list[Skew] = []
    layouts: list[str] = []
    found = yield from _redis(store, clock, skews, layouts)
    if store.cold is not None:
        found += yield from _postgres(store, here, clock, skews, layouts)
    found.append(verdicts.clocks(skews) if skews else check("clocks", "unknown", "no server answered"))
    order = list(verdicts.WHY)
    return DoctorReport(checks=tuple(sorted(found, key=lambda one: order.index(one.name))))


def _redis(store: Store, clock: Clock, skews: list[Skew], layouts: list[str]) -> Plan[list[Check]]:
    before_s = clock()
    try:
        info, time, layout, *durable = yield from Ask(
            (("INFO", "server"), ("TIME",), ("GET", f"{store.settings.key_prefix}:layout"), *ASKED)
        )
    except TieredCheckpointError as exc:
        names = [name for name in _OF_REDIS if store.cold is not None or name != "promoter"]
        failed = check("redis", "failure", str(exc), "Make it answer; the message says what is in the way")
        return [failed, *(check(name, "unknown", "Redis cannot be asked") for name in names)]
    if (time_s := time_of(time)) is not None:
        skews.append(_skew("Redis", time_s, before_s, clock()))
    if (said := text_of(layout)) is not None:
        layouts.append(said)
    settings = store.settings
    behind = settings.cold_writes == "behind"
    found = [verdicts.redis_itself([dict(told) for told in nodes(info)])]
    found.append((yield from _tried("redis permissions", _redis_permissions(store))))
    found += durability(durable, cold=store.cold is not None, flushes_later=behind)
    if store.cold is not None:
        found.append((yield from _tried("promoter", _promoter(store))))
    return found


def _redis_permissions(store: Store) -> Plan[Check]:
    return verdicts.redis_permissions((yield from store.hot.probe()))


def _promoter(store: Store) -> Plan[Check]:
    workers = yield from store.hot.workers()
    figures = (yield from of_each(store.hot.figures)).values()
    overdue_ms = max(bucket.oldest_ms for bucket in figures)
    overdue = timedelta(milliseconds=overdue_ms) if overdue_ms >= 0 else None
    return verdicts.promoter(workers, sum(bucket.due for bucket in figures), overdue)


def _postgres(store: Store, here: Here, clock: Clock, skews: list[Skew], layouts: list[str]) -> Plan[list[Check]]:
    cold = store.need_cold("examined", "*")
    ask = Examination(store.settings.schema)
    before_s = clock()
    try:
        server = yield from ask.server()
    except TieredCheckpointError as exc:
        failed = check("postgres", "failure", str(exc), "Make it answer; the message says what is in the way")
        return [failed, *(check(name, "unknown", "Postgres cannot be asked") for name in _OF_POSTGRES)]
    skews.append(_skew("Postgres", server.time_s, before_s, clock()))
    found = [verdicts.postgres_itself(server)]
    inventory = yield from _answer(cold.inventory())
    auto_setup = store.settings.auto_setup

    def of_tables(name: str, judge: Callable[[Inventory], Check]) -> Check:
        return check(name, "unknown", str(inventory)) if isinstance(inventory, Exception) else judge(inventory)

    def grants() -> Plan[Check]:
        makes = auto_setup and not isinstance(inventory, Exception) and bool(inventory.lacks)
        return verdicts.postgres_permissions((yield from ask.grants()), makes=makes)

    def hiding() -> Plan[Check]:
        return verdicts.row_security((yield from ask.hiding()))

    def pooling() -> Plan[Check]:
        return verdicts.pooler((yield from AskPooling()))

    def binding() -> Plan[Check]:
        if not layouts:
            return check("binding", "unknown", "Redis cannot be asked")
        if not isinstance(inventory, Exception) and inventory.lacks:
            return check("binding", "ok", "not bound yet: there are no tables that could tell of a Redis")
        return verdicts.binding(here, layouts[0], (yield from cold.belonging()))

    found.append((yield from _tried("postgres permissions", grants())))
    found.append((yield from _tried("row security", hiding())))
    found.append(of_tables("schema", lambda tables: verdicts.schema(tables, auto_setup=auto_setup)))
    found.append(of_tables("indexes", verdicts.indexes))
    found.append((yield from _tried("pooler", pooling())))
    found.append((yield from _tried("binding", binding())))
    return found


def _tried(name: str, plan: Plan[Check]) -> Plan[Check]:
    """The check, or why it could not look."""
    found = yield from _answer(plan)
    return check(name, "unknown", str(found)) if isinstance(found, Exception) else found


def _answer(plan: Any) -> Generator[Any, Any, Any]:
    """The result, or the error of this package that has come of it."""
    try:
        return (yield from plan)
    except TieredCheckpointError as exc:
        return exc


def _skew(of: str, told_s: float, before_s: float, after_s: float) -> Skew:
    return Skew(of, told_s - (before_s + after_s) / 2, (after_s - before_s) / 2)
