"""What an operation costs and how it ends, told to OpenTelemetry and to the log. See docs/monitoring.md.

Only the API of OpenTelemetry is used, and only where the application has imported and set it up: until then a plan runs
as it is. An operation is a plan that a caller runs; it is followed as a plan around that plan, the same under both
runners, which passes every step on and looks at the clock.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from langgraph_tiered_checkpoint.errors import ConfigurationError, ThreadBusyError, ThreadDeletedError
from langgraph_tiered_checkpoint.io.faults import code_of
from langgraph_tiered_checkpoint.io.instruments import Sdk, application
from langgraph_tiered_checkpoint.io.targets import ColdTarget, HotTarget
from langgraph_tiered_checkpoint.steps import Ask, Lanes, Lua, LuaBatch, Plan, Step, Tx

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

logger = logging.getLogger("langgraph_tiered_checkpoint.operations")

T = TypeVar("T")
Attributes = dict[str, str | int]

_OPERATIONS: Final = {
    "Listing.next_page": "list",
    "ThreadIdPages.next_page": "thread_ids",
    "Tenants.next_page": "scopes",
    "Export.next_page": "export",
    "Erasure.next_page": "erase",
    **dict.fromkeys(("Target.look", "Target.take", "compare", "settle_down"), "import_threads"),
    "flush_many": "flush_due",
    "claim_due": "claim",
    "sweep_in_turn": "sweep",
}
"""Where an operation is called otherwise than its plan."""

_REFUSALS: Final = (ConfigurationError, ThreadBusyError, ThreadDeletedError)
"""What says something of the call, or of its thread, and nothing of a tier."""


class Telemetry:
    """Follows the operations of one saver."""

    def __init__(self, hot: HotTarget, cold: ColdTarget | None) -> None:
        self.key_prefix = hot.key_prefix
        self._hot = hot
        self._cold = cold

    def follow(self, plan: Plan[T]) -> Plan[T]:
        """A plan that does the same, and is measured if anybody wants to know."""
        sdk = application.sdk()
        if sdk is not None or logger.isEnabledFor(logging.DEBUG):
            return _Operation(sdk, self, plan).follow(plan)
        return _told(plan) if logger.isEnabledFor(logging.INFO) else plan

    @cached_property
    def of_redis(self) -> Attributes:
        """What says which Redis it is, by the semantic conventions for clients of databases."""
        return {"db.system.name": "redis", **_place(self._hot)}

    @cached_property
    def of_postgres(self) -> Attributes:
        """What says which Postgres it is."""
        return {"db.system.name": "postgresql", **(_place(self._cold) if self._cold else {})}


def _operation_of(plan: Plan[Any]) -> str:
    qualified: str = getattr(plan, "__qualname__", "")
    return _OPERATIONS.get(qualified) or qualified.rpartition(".")[2]


def _told(plan: Plan[T]) -> Plan[T]:
    """A plan that says to the log when it is refused, and no more."""
    try:
        return (yield from plan)
    except _REFUSALS as exc:
        _say_refused(_operation_of(plan), exc)
        raise


def _say_refused(operation: str, exc: BaseException | None) -> None:
    """A caller's mistake is not quoted: there may be a value in it."""
    logger.info("%s was refused: %s", operation, type(exc).__name__ if isinstance(exc, ConfigurationError) else exc)


def _place(target: HotTarget | ColdTarget) -> Attributes:
    endpoints = target.address.endpoints
    if len(endpoints) != 1:
        return {}
    [(host, port)] = endpoints
    database = target.display_url.rpartition("/")[2].partition("?")[0]
    return {"server.address": host, "server.port": port, **({"db.namespace": database} if database else {})}


@dataclass(slots=True)
class _RoundTrip:
    """A step that asks a server, while it is under way."""

    attributes: Attributes
    started: float = field(default_factory=time.perf_counter)
    span: Span | None = None


class _Operation:
    """One operation, from its call to its return."""

    def __init__(self, sdk: Sdk | None, telemetry: Telemetry, plan: Plan[Any]) -> None:
        self._sdk = sdk
        self._telemetry = telemetry
        self._name = _operation_of(plan)
        self._thread = ""
        self._asked_hot = self._asked_cold = False
        self._round_trips = 0
        self._span: Span | None = None
        self._context: Context | None = None

    def follow(self, plan: Plan[T]) -> Plan[T]:
        """The plan, with a look at the clock before and after it; its spans are children of the caller's."""
        started = time.perf_counter()
        leave = self._enter()
        outcome: BaseException | None = None
        try:
            return (yield from self._steps(plan))
        except BaseException as exc:
            outcome = exc
            raise
        finally:
            leave()
            self._end(time.perf_counter() - started, outcome)

    def _enter(self) -> Callable[[], None]:
        """Begin a span, and make it the current one; what is returned takes that back."""
        if self._sdk is None or self._sdk.tracer is None:
            return _nothing
        from opentelemetry import context, trace

        self._span = self._sdk.tracer.start_span(f"lgt.{self._name}")
        self._context = trace.set_span_in_context(self._span)
        token = context.attach(self._context)
        return lambda: context.detach(token)

    def _steps(self, plan: Plan[T]) -> Plan[T]:
        try:
            step = next(plan)
            while True:
                trip = self._begin(step)
                if isinstance(step, Lanes):  # whose round trips are this operation's
                    step = Lanes(tuple(self._steps(lane) for lane in step.plans))
                try:
                    reply = yield step
                except GeneratorExit:
                    plan.close()
                    raise
                except Exception as exc:  # noqa: BLE001 - the plan decides
                    self._answered(trip, exc)
                    step = plan.throw(exc)
                else:
                    self._answered(trip, None)
                    step = plan.send(reply)
        except StopIteration as done:
            value: T = done.value
            return value

    def _begin(self, step: Step) -> _RoundTrip | None:
        calls = 1
        match step:
            case Lua():
                attributes = {**self._telemetry.of_redis, **_of_script(step.script)}
            case LuaBatch():
                calls = len(step.calls)
                attributes = {**self._telemetry.of_redis, **_of_script(step.calls[0].script)}
            case Ask():
                calls = len(step.commands)
                attributes = {**self._telemetry.of_redis, "db.operation.name": str(step.commands[0][0])}
            case Tx():
                attributes = {**self._telemetry.of_postgres, "db.query.summary": step.name}
            case _:
                return None
        if isinstance(step, Tx):
            self._asked_cold = True
        else:
            self._asked_hot = True
        if not self._round_trips and isinstance(step, Lua) and step.thread != "*":
            self._thread = step.thread  # what begins with a request for several is about no one thread
        self._round_trips += 1
        trip = _RoundTrip(attributes)
        if self._sdk is not None and self._sdk.tracer is not None and self._span and self._span.is_recording():
            from opentelemetry.trace import SpanKind

            several: Attributes = {"db.operation.batch.size": calls} if calls > 1 else {}
            trip.span = self._sdk.tracer.start_span(
                _name_of(attributes), self._context, SpanKind.CLIENT, {**attributes, **several}
            )
        return trip

    def _answered(self, trip: _RoundTrip | None, error: Exception | None) -> None:
        if trip is None or self._sdk is None:
            return
        attributes = {**trip.attributes, **_of_error(error)}
        if self._sdk.measures is not None:
            self._sdk.measures.round_trips.record(time.perf_counter() - trip.started, attributes)
        if trip.span is not None:
            self._close(trip.span, attributes, error)

    def _end(self, duration_s: float, error: BaseException | None) -> None:
        outcome = _outcome_of(error)
        tiers = ("hot" if self._asked_hot else "", "cold" if self._asked_cold else "")
        tier = "both" if all(tiers) else "".join(tiers) or "none"
        if outcome == "refused":
            _say_refused(self._name, error)
        if logger.isEnabledFor(logging.DEBUG):
            at = f"{self._name} of thread {self._thread!r}" if self._thread else self._name
            logger.debug(
                "%s: %s, tier %s, %d round trips, %.2f ms", at, outcome, tier, self._round_trips, duration_s * 1000
            )
        if self._sdk is None:
            return
        attributes: Attributes = {
            "lgt.key_prefix": self._telemetry.key_prefix,
            "lgt.operation": self._name,
            "lgt.tier": tier,
            "lgt.outcome": outcome,
            **_of_error(error),
        }
        if self._sdk.measures is not None:
            self._sdk.measures.operations.record(duration_s, attributes)
        if self._span is not None:
            self._close(self._span, {**attributes, "lgt.round_trips": self._round_trips, **self._named_thread()}, error)

    def _named_thread(self) -> Attributes:
        if self._sdk is None or not self._thread:
            return {}
        match self._sdk.threads:
            case "plain":
                return {"lgt.thread.id": self._thread}
            case "hashed":
                return {"lgt.thread.hash": hashlib.sha256(self._thread.encode()).hexdigest()[:16]}
            case _:
                return {}

    def _close(self, span: Span, attributes: Attributes, error: BaseException | None) -> None:
        """End a span. The text of an error names its thread, so it is told where threads are."""
        if span.is_recording():
            span.set_attributes(attributes)
            if error is not None:
                from opentelemetry.trace import StatusCode

                plain = self._sdk is not None and self._sdk.threads == "plain"
                span.set_status(StatusCode.ERROR, str(error) if plain else type(error).__name__)
        span.end()


def _nothing() -> None:
    """Take nothing back."""


def _of_script(name: str) -> Attributes:
    return {"db.operation.name": "EVALSHA", "db.stored_procedure.name": name}


def _name_of(attributes: Attributes) -> str:
    if "db.query.summary" in attributes:
        return str(attributes["db.query.summary"])
    return " ".join(
        str(attributes[key]) for key in ("db.operation.name", "db.stored_procedure.name") if key in attributes
    )


def _of_error(error: BaseException | None) -> Attributes:
    if error is None:
        return {}
    told: Attributes = {"error.type": type(error).__name__}
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or (code_of(cause)[0] if isinstance(cause, Exception) else "")
    return {**told, "db.response.status_code": code} if code else told


def _outcome_of(error: BaseException | None) -> str:
    match error:
        case None:
            return "ok"
        case GeneratorExit():  # the runner was interrupted, and has closed the plan
            return "cancelled"
        case _ if isinstance(error, _REFUSALS):
            return "refused"
        case _:
            return "failed"
