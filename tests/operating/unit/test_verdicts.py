"""What the doctor makes of answers that no server at hand gives, and what a saver says when it opens."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from typing import Any

import pytest

from langgraph_tiered_checkpoint.cold.examination import Grants, Server
from langgraph_tiered_checkpoint.hot import permissions, scripts
from langgraph_tiered_checkpoint.io import opening
from langgraph_tiered_checkpoint.io.targets import HotTarget
from langgraph_tiered_checkpoint.plans import verdicts
from langgraph_tiered_checkpoint.records import Worker
from langgraph_tiered_checkpoint.steps import Pooling

MEMORY = b"used_memory:1000\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"
PERSISTENCE = b"aof_enabled:1\r\n"
FIT = Server(150_000, "15.0", is_standby=False, is_read_only=False, role="app", time_s=0)


def test_every_command_of_a_script_is_probed() -> None:
    texts = (path.read_text() for path in (files(scripts.__package__ or "") / "lua").iterdir())
    used = {name for text in texts for name in re.findall(r"\bp?call\('([A-Z]+)'", text)}
    probed = {call[0] for call in permissions.calls("k")}
    assert used - set(permissions.USEFUL) == probed


@pytest.mark.parametrize(
    ("info", "verdict", "found"),
    [
        ({"redis_version": "6.0.16"}, "failure", "Redis 6.0.16"),
        ({"redis_version": "6.2.0"}, "ok", "Redis 6.2.0"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, "ok", "Valkey 8.1.0"),
    ],
)
def test_redis_that_is_too_old(info: dict[str, str], verdict: str, found: str) -> None:
    check = verdicts.redis_itself([info])
    assert (check.verdict, check.found) == (verdict, found)


@pytest.mark.parametrize(
    ("server", "verdict"),
    [
        (FIT._replace(version=110_022, version_text="11.22"), "failure"),
        (FIT._replace(is_standby=True, is_read_only=True), "failure"),
        (FIT, "ok"),
    ],
    ids=["too old", "standby", "fit"],
)
def test_postgres_that_is_not_fit_for_use(server: Server, verdict: str) -> None:
    assert verdicts.postgres_itself(server).verdict == verdict


def test_role_that_cannot_make_the_tables_that_are_missing() -> None:
    grants = Grants("public", uses=True, creates=False, lacks=[])
    assert verdicts.postgres_permissions(grants, makes=False).verdict == "ok"
    assert "CREATE on schema public" in verdicts.postgres_permissions(grants, makes=True).found


def test_workers_that_do_not_keep_up() -> None:
    now = datetime.now(timezone.utc)
    worker = Worker(host="h", pid=1, program="lgt", version="1", started_at=now, seen_at=now, flushed_per_s=0)
    check = verdicts.promoter([worker], 7, timedelta(minutes=5))
    assert (check.verdict, "7 to flush, the first for 0:05:00" in check.found) == ("warning", True)


def test_pooler_that_was_not_seen_to_forget() -> None:
    assert verdicts.pooler(Pooling(between=True, shared=True, forgets=None)).verdict == "warning"
    assert verdicts.pooler(Pooling(between=True, shared=True, forgets=False, closes=False)).verdict == "warning"
    assert verdicts.pooler(Pooling(between=True, shared=True, forgets=False)).verdict == "ok"


def opened(url: str, caplog: pytest.LogCaptureFixture, *, needs_worker: bool = True, ahead_s: int = 0) -> list[str]:
    """What a saver says that opens on a Redis without a limit, and without a worker."""
    opening._cautioned.clear()
    caplog.clear()
    replies: list[Any] = [MEMORY, PERSISTENCE, [b"save", b""], [b"%d" % (time.time() + ahead_s), b"0"], 0]
    target = HotTarget(url=url)
    for _ in range(2):
        assert opening.dangers(replies, target, flushes_later=True, needs_worker=needs_worker) == []
    assert all(record.levelname == "WARNING" for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


def test_opening_says_once_what_is_not_as_it_should_be(caplog: pytest.LogCaptureFixture) -> None:
    limit, worker, clock = opened("redis://cache:6379/0", caplog, ahead_s=120)
    assert "maxmemory is not set" in limit
    assert "lgt worker" in worker
    assert "ahead" in clock
    assert len(opened("redis://cache:6379/0", caplog, needs_worker=False)) == 1


def test_opening_spares_developers_that(caplog: pytest.LogCaptureFixture) -> None:
    assert opened("redis://localhost/0", caplog) == []
    assert opened("unix:///tmp/redis.sock", caplog) == []
