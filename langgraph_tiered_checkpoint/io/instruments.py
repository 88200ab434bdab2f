"""What of OpenTelemetry the application has set up, and the instruments that are told. Imports nothing of it before."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from langgraph_tiered_checkpoint.io.gauges import observe

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Tracer

logger = logging.getLogger(__name__)

SCOPE: Final = "langgraph_tiered_checkpoint"
"""The name of the meter and of the tracer."""

THREADS_VARIABLE: Final = "LGT_TRACE_THREADS"
"""Says how spans name threads: `hashed` or `plain`; not at all without it."""

_LOOK_EVERY_S: Final = 0.1
"""How often it is looked whether the application has set OpenTelemetry up, until it has."""

_BOUNDARIES_S: Final = (
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
)  # fmt: skip


class Measures(NamedTuple):
    """What is measured."""

    operations: Histogram
    round_trips: Histogram


@dataclass(frozen=True, slots=True)
class Sdk:
    """Where the application wants to have it told. What it has not set up is None."""

    measures: Measures | None = None
    tracer: Tracer | None = None
    threads: str = ""
    """How spans name threads."""


class _Application:
    """What of OpenTelemetry the application has set up: metrics and traces once each, in either order."""

    def __init__(self) -> None:
        self._sdk = Sdk()
        self.start_afresh()

    def start_afresh(self) -> None:
        """Look again, as a forked child has to: there, another thread's lock would stay held for ever."""
        self._look_at = 0.0
        self._looking = threading.Lock()

    def sdk(self) -> Sdk | None:
        """Where to tell it; None without."""
        if (self._sdk.measures is None or self._sdk.tracer is None) and time.monotonic() >= self._look_at:
            self.look()
        return self._sdk if self._sdk.measures or self._sdk.tracer else None

    def look(self) -> None:
        """Find out what the application has set up. What it has not imported it has not, and is not imported here."""
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        if not self._looking.acquire(blocking=False):
            return
        try:
            measures = self._sdk.measures or ("opentelemetry.metrics" in sys.modules and _measures()) or None
            tracer = self._sdk.tracer or ("opentelemetry.trace" in sys.modules and _tracer()) or None
            self._sdk = Sdk(measures, tracer, os.environ.get(THREADS_VARIABLE, ""))
        except Exception as exc:  # noqa: BLE001 - no operation is to fail of that
            self._look_at = float("inf")
            logger.warning("OpenTelemetry cannot be used, so nothing is measured: %s: %s", type(exc).__name__, exc)
        finally:
            self._looking.release()


def _measures() -> Measures | None:
    from opentelemetry import metrics

    provider = metrics.get_meter_provider()
    if _does_nothing(provider):
        return None
    meter = provider.get_meter(SCOPE)
    observe(meter)
    return Measures(
        meter.create_histogram(
            "lgt.operation.duration",
            unit="s",
            description="Operations of a saver, from call to return",
            explicit_bucket_boundaries_advisory=_BOUNDARIES_S,
        ),
        meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Requests to Redis and transactions in Postgres",
            explicit_bucket_boundaries_advisory=_BOUNDARIES_S,
        ),
    )


def _tracer() -> Tracer | None:
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    return None if _does_nothing(provider) else provider.get_tracer(SCOPE)


def _does_nothing(provider: object) -> bool:
    """Whether a provider is one of the API's own, which stand in until the application has set one."""
    return type(provider).__module__.startswith(("opentelemetry.metrics", "opentelemetry.trace"))


application: Final = _Application()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=application.start_afresh)
