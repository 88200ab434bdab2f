"""What an application that has set OpenTelemetry up hears of its savers, and what the log says."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redis
from everything import CALLS
from faults.ledger import Caller
from homes import at, put
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langgraph_tiered_checkpoint import (
    ConfigurationError,
    HotTierError,
    NotPromotableError,
    Promotion,
    ThreadDeletedError,
    TieredSaver,
)
from langgraph_tiered_checkpoint.config import Timeouts
from langgraph_tiered_checkpoint.io.instruments import application

PREFIX = "of this test"
SECRET = "I live in Elm Street"


class Heard:
    """What was told."""

    def __init__(self, reader: InMemoryMetricReader, spans: InMemorySpanExporter) -> None:
        self._reader = reader
        self._spans = spans

    def points(self, name: str) -> list[Any]:
        """The data points of a metric."""
        data = self._reader.get_metrics_data()
        found = [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [point for metric in found if metric.name == name for point in metric.data.data_points]

    def counts(self, name: str, *by: str) -> dict[tuple[Any, ...], int]:
        """How many measurements of a histogram there were, by some attributes."""
        counted: dict[tuple[Any, ...], int] = {}
        for point in self.points(name):
            key = tuple(point.attributes.get(attribute) for attribute in by)
            counted[key] = counted.get(key, 0) + point.count
        return counted

    def value(self, name: str) -> float:
        """The value of a counter, as far as it is the test's."""
        [point] = [point for point in self.points(name) if point.attributes["lgt.key_prefix"] == PREFIX]
        return float(point.value)

    def spans(self) -> list[ReadableSpan]:
        """Those that have ended since the last time."""
        ended = list(self._spans.get_finished_spans())
        self._spans.clear()
        return ended


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """An application that has set metrics and traces up; what that leads to is forgotten after the test."""
    gc.collect()  # with the savers of other tests their counts go
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    meters, tracers = MeterProvider([reader]), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    application.look()
    yield Heard(reader, spans)
    meters.shutdown()
    application.__init__()  # type: ignore[misc]  # as in a process in which nothing is set up


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """Flushes when told to."""
    with TieredSaver.from_urls(
        redis_url, postgres_url, promoter="external", promotion=Promotion.never(), key_prefix=PREFIX
    ) as made:
        made.setup()
        yield made


def call(loop: asyncio.AbstractEventLoop | None, method: Callable[..., Any], *args: Any) -> Any:
    if loop is None:
        return method(*args)
    twin = getattr(method.__self__, f"a{method.__name__}")  # type: ignore[attr-defined]
    return loop.run_until_complete(twin(*args))


def test_operations_are_told_by_kind_tier_and_outcome(
    saver: TieredSaver, loop: asyncio.AbstractEventLoop | None, heard: Heard
) -> None:
    saver.get_tuple(at("t"))
    put(saver, at("t"), {"a": 1})
    call(loop, saver.get_tuple, at("t"))
    call(loop, saver.promote, "t")
    call(loop, saver.evict, "t")
    call(loop, saver.get_tuple, at("t"))
    with pytest.raises(NotPromotableError):
        call(loop, saver.promote, "nobody")
    nobody = TieredSaver.from_urls("redis://localhost:1/0", timeouts=Timeouts())
    with pytest.raises(HotTierError):
        call(loop, nobody.stats)
    told = heard.counts("lgt.operation.duration", "lgt.operation", "lgt.tier", "lgt.outcome", "error.type")
    assert told[("get_tuple", "hot", "ok", None)] == 1
    assert told[("get_tuple", "both", "ok", None)] == 2  # of a thread that is new, and of one that is not resident
    assert told[("promote", "both", "refused", "NotPromotableError")] == 1
    assert told[("stats", "hot", "failed", "HotTierError")] == 1
    trips = heard.counts("db.client.operation.duration", "db.system.name", "db.stored_procedure.name")
    assert trips[("redis", "get")] == 3
    trips = heard.counts("db.client.operation.duration", "db.system.name", "db.query.summary", "server.address")
    assert trips[("postgresql", "commit", None)] == 1  # by a socket
    assert heard.value("lgt.promotions") == heard.value("lgt.evictions") == 1


def test_operations_are_named_as_the_methods_are(saver: TieredSaver, heard: Heard) -> None:
    for method in CALLS.values():
        method(Caller(saver, None))
    named = {name for (name,) in heard.counts("lgt.operation.duration", "lgt.operation")}
    assert {"put", "list", "thread_ids", "export", "delete_thread"} <= named
    assert named - CALLS.keys() == set()


def test_a_span_for_the_operation_has_one_for_each_round_trip_and_names_no_thread(
    saver: TieredSaver, loop: asyncio.AbstractEventLoop | None, heard: Heard
) -> None:
    put(saver, at("a thread"), {"a": SECRET})
    saver.promote("a thread")
    saver.evict("a thread")
    heard.spans()
    with trace.get_tracer_provider().get_tracer("the application").start_as_current_span("request"):
        call(loop, saver.get_tuple, at("a thread"))
    read, fetch, operation, request = sorted(heard.spans(), key=lambda span: span.end_time or 0)[:4]
    assert (read.name, fetch.name, operation.name) == ("EVALSHA get", "fetch", "lgt.get_tuple")
    assert operation.parent == request.context
    assert read.parent == fetch.parent == operation.context
    assert operation.attributes is not None
    assert operation.attributes["lgt.round_trips"] == 2
    with pytest.raises(NotPromotableError):
        call(loop, saver.promote, "nobody")
    spans = heard.spans()
    failed = spans[-1]
    assert (failed.status.status_code, failed.status.description) == (trace.StatusCode.ERROR, "NotPromotableError")
    told = "".join(span.to_json() for span in [read, fetch, operation, request, *spans])
    assert "a thread" not in told
    assert "nobody" not in told
    assert SECRET not in told


@pytest.mark.parametrize(
    ("how", "attribute", "value"),
    [("hashed", "lgt.thread.hash", "abc3a47b8ad18b85"), ("plain", "lgt.thread.id", "user:1")],
)
def test_spans_name_threads_where_that_was_asked_for(
    saver: TieredSaver, monkeypatch: pytest.MonkeyPatch, heard: Heard, how: str, attribute: str, value: str
) -> None:
    monkeypatch.setenv("LGT_TRACE_THREADS", how)
    application.look()
    saver.get_tuple(at("user:1"))
    operation = heard.spans()[-1]
    assert operation.attributes is not None
    assert operation.attributes[attribute] == value
    put(saver, at("user:1"), {"a": 1})
    saver.promote("user:1")
    put(saver, at("user:1"), {"a": 2}, 2)
    heard.spans()
    saver.flush()
    operation = heard.spans()[-1]
    assert operation.name == "lgt.flush"
    assert operation.attributes is not None
    assert attribute not in operation.attributes  # it is about all threads, though there is one


def test_lanes_are_told_as_parts_of_their_operation(saver: TieredSaver, heard: Heard) -> None:
    for n in range(40):
        put(saver, at(f"t{n}"), {"a": n})
        saver.promote(f"t{n}")
        put(saver, at(f"t{n}"), {"a": n}, 2)
    heard.spans()
    saver.flush()
    spans = heard.spans()
    [operation] = [span for span in spans if span.name.startswith("lgt.")]
    assert sum(span.name == "commit" for span in spans) == 2
    assert all(span.parent == operation.context for span in spans if span is not operation)
    assert heard.value("lgt.flush.copies") == 80
    assert heard.value("lgt.flush.size") > 80


def test_the_log_says_what_happened_to_threads_and_no_values(
    saver: TieredSaver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "langgraph_tiered_checkpoint")
    put(saver, at("kept"), {"a": SECRET})
    saver.promote("kept")
    saver.evict("kept")
    saver.get_tuple(at("gone"))
    late = put(saver, at("gone"), {"a": SECRET})
    saver.get_tuple(at("gone"))
    TieredSaver.from_urls(*urls_of(saver), promoter="external", key_prefix=PREFIX).delete_thread("gone")
    with pytest.raises(ThreadDeletedError):
        saver.put_writes(late, [("a", SECRET)], "task")
    with pytest.raises(ConfigurationError, match=SECRET):
        saver.get_tuple(SECRET)  # type: ignore[arg-type]
    said = [(record.levelname, record.message) for record in caplog.records]
    told = [message for level, message in said if level == "INFO"]
    assert told[:3] == [
        "thread 'kept' was promoted (promote())",
        "thread 'kept' was evicted",
        "thread 'gone' was deleted",
    ]
    assert told[3].startswith("put_writes was refused: thread 'gone' was deleted")
    assert any(
        message.startswith("get_tuple of thread 'gone': ok, tier") for level, message in said if level == "DEBUG"
    )
    assert SECRET not in caplog.text


def urls_of(saver: TieredSaver) -> tuple[str, str]:
    connections = saver._sync._connections
    assert connections.cold is not None
    return connections.hot.url or "", connections.cold.url or ""


class NewClients:
    """Clients of a Redis that have come since."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._before = set(self._names())

    def _names(self) -> dict[str, str]:
        listed: Any = self._client.client_list()
        return {one["id"]: one["name"] for one in listed}

    def names(self) -> list[str]:
        return [name for id_, name in self._names().items() if id_ not in self._before]


def applications(postgres_url: str) -> set[str]:
    with psycopg.connect(postgres_url) as admin:
        rows = admin.execute("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")
        return {name for (name,) in rows}


def test_servers_list_our_connections_by_a_name(redis_url: str, redis_client: redis.Redis, postgres_url: str) -> None:
    clients = NewClients(redis_client)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as saver:
        saver.setup()
        assert clients.names() == ["langgraph-tiered-checkpoint"]

        async def read() -> list[str]:
            await saver.aget_tuple(at("t"))
            return clients.names()

        assert asyncio.run(read()) == ["langgraph-tiered-checkpoint"] * 2
        assert "langgraph-tiered-checkpoint" in applications(postgres_url)


def test_a_name_that_is_given_is_kept_and_a_redis_that_forbids_names_does(
    redis_url: str, redis_client: redis.Redis, postgres_url: str
) -> None:
    admin: Any = redis_client
    admin.execute_command("ACL", "SETUSER", "nameless", "on", ">pw", "~*", "+@all", "-client")
    try:
        forbidden = re.sub("//.*@", "//nameless:pw@", redis_url)
        for url, name in ((f"{redis_url}?client_name=mine", "mine"), (forbidden, "")):
            clients = NewClients(redis_client)
            named = f"{postgres_url}&application_name=mine"
            with TieredSaver.from_urls(url, named, promoter="external") as saver:
                saver.setup()
                assert clients.names() == [name]
                assert applications(postgres_url) == {"", "mine"}  # the first is who asks
    finally:
        admin.execute_command("ACL", "DELUSER", "nameless")
