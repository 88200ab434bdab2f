"""What a worker serves to Prometheus: the metrics of its process and of its store. Needs the extra `[metrics]`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.io.instruments import application


def collect() -> None:
    """Set OpenTelemetry up so that `prometheus_client` knows the metrics of this process.

    Raises:
        ConfigurationError: without the extra, or where somebody has set it up otherwise.
    """
    try:
        from opentelemetry import metrics
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from opentelemetry.sdk.metrics import MeterProvider
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"metrics for Prometheus need {exc.name}: pip install 'langgraph-tiered-checkpoint[metrics]'"
        ) from None
    os.environ.setdefault("OTEL_SERVICE_NAME", "lgt-worker")
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
    application.look()


@contextmanager
def serving(host: str, port: int) -> Iterator[int]:
    """Serve metrics at `/metrics` meanwhile, from threads of their own; the port, which 0 leaves to the system.

    Raises:
        ConfigurationError: as `collect`, or the port is taken.
    """
    collect()
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host)
    except OSError as exc:
        raise ConfigurationError(
            f"metrics cannot be served at {host}:{port} ({exc.strerror}): choose another --metrics-port"
        ) from exc
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
