"""A real worker, scraped as Prometheus does: what dashboard, alerts and documents name is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import psycopg
import pytest
import yaml
from faults.outages import REFUSES, poison
from homes import at, put
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from waiting import wait_until

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.hot.keys import bucket_of

DOCS = Path(__file__).parents[2] / "docs"
ALERTS: list[dict[str, Any]] = yaml.safe_load((DOCS / "monitoring/alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DOCS / "monitoring/grafana.json").read_text())
TARGETS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
QUERIES = [alert["expr"] for alert in ALERTS] + TARGETS
PAGES = [(DOCS / name).read_text() for name in ("monitoring.md", "runbook.md")]

FULL, FENCED, POISON, WELL = "disk full", "outrun", "poison", "well off"
"""Threads. A promoter claims the first before the others, and leaves those alone when it finds a tier out."""

OUTAGE = "IF NEW.thread_id = 'disk full' THEN RAISE 'no space' USING ERRCODE = '53100'; END IF"


class Scraped:
    """A worker, and what it serves."""

    def __init__(self, url: str) -> None:
        self._url = url

    def samples(self) -> list[Sample]:
        with urllib.request.urlopen(self._url) as response:
            text = response.read().decode()
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        found = [s for s in self.samples() if s.name == name and labels.items() <= s.labels.items()]
        return sum(sample.value for sample in found)


@pytest.fixture
def worker(redis_url: str, postgres_url: str) -> Iterator[Scraped]:
    servers = ("--redis", redis_url, "--postgres", postgres_url)
    command = [sys.executable, "-m", "langgraph_tiered_checkpoint", *servers, "worker", "--metrics-port", "0"]
    with subprocess.Popen([*command, "--metrics-host", "127.0.0.1"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found is not None
            yield Scraped(found[0])
        finally:
            process.terminate()
            process.communicate(timeout=300)


@pytest.fixture
def troubled(redis_url: str, postgres_url: str) -> Iterator[None]:
    """Threads to flush: one that Postgres has no room for, one whose fence does not hold, one that it refuses."""
    assert bucket_of(FULL) < 64 <= min(map(bucket_of, (FENCED, POISON, WELL)))
    every = Promotion(checkpoints=1)
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", promotion=every) as saver:
        saver.setup()
        put(saver, at(FENCED), {"a": 1})
        saver.flush()
        for thread_id in (FULL, FENCED, POISON, WELL):
            put(saver, at(thread_id), {"a": 2}, 2)
        with psycopg.connect(postgres_url) as admin:
            admin.execute("UPDATE tiered_threads SET flushed = '9.somebody-else'")
        poison(postgres_url, "%", f"{OUTAGE}; IF NEW.thread_id = 'poison' THEN {REFUSES}; END IF")
        yield


def test_a_worker_tells_prometheus_all_that_dashboard_alerts_and_documents_name(
    troubled: None, worker: Scraped
) -> None:
    failures = {"lgt_operation": "flush_due", "lgt_outcome": "failed", "error_type": "ColdTierError"}
    wait_until(lambda: worker.value("lgt_operation_duration_seconds_count", **failures), "a failure")
    wait_until(lambda: worker.value("lgt_flush_parked_total") >= 1, "parking")
    wait_until(lambda: worker.value("lgt_flush_fenced_total") >= 1, "a fence that does not hold")
    wait_until(lambda: worker.value("lgt_promotions_total") == 1, "a first copy")
    wait_until(lambda: worker.value("lgt_threads_parked") == 1, "figures of the store")
    assert worker.value("lgt_tier_up", lgt_tier="hot") == worker.value("lgt_tier_up", lgt_tier="cold") == 1
    samples = worker.samples()
    known = {sample.name for sample in samples} | {label for sample in samples for label in sample.labels}
    named = {word for text in [*QUERIES, *PAGES] for word in re.findall(r"\b(?:lgt|db|error)_\w+", text)}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in known}
    assert named - known - families == set()


def test_the_queries_of_dashboard_and_alerts_are_promql() -> None:
    assert len(QUERIES) > 40
    for query in QUERIES:
        promql_parser.parse(query.replace("$__rate_interval", "5m"))


def test_the_runbook_has_a_section_for_each_alert() -> None:
    sections = re.findall("^## (Lgt.*)$", PAGES[1], re.MULTILINE)
    assert sections == [alert["alert"] for alert in ALERTS]
    assert [alert["annotations"]["runbook"] for alert in ALERTS] == [f"runbook.md#{name.lower()}" for name in sections]


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    assert DASHBOARD["schemaVersion"] >= 38  # Grafana 10
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
