"""Runners of both kinds, scripts that do little, and a Redis that a test may stop and start."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from connections.runners.driving import Make, Runners
from own_redis import OwnRedis

from langgraph_tiered_checkpoint.hot.scripts import Script
from langgraph_tiered_checkpoint.io import exchanges
from langgraph_tiered_checkpoint.io.connections import Connections

SCRIPTS = {
    "echo": b"return {KEYS[1], ARGV[1]}",
    "count": b"return redis.call('INCR', KEYS[1])",
    "fill": b"return redis.call('SET', KEYS[1], string.rep('x', 1000000))",
    "fail": b"return redis.error_reply('ERR on purpose')",
}


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(name: str) -> Script:
        return Script(SCRIPTS[name], hashlib.sha1(SCRIPTS[name]).hexdigest())

    monkeypatch.setattr(exchanges, "script", script)


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[Runners] = []

    def maker(connections: Connections) -> Runners:
        made.append(Runners(request.param, connections))
        return made[-1]

    yield maker
    for runners in made:
        runners.close()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path)
    server.start()
    yield server
    server.stop()
