"""Doing things to servers, and what callers must see while they are done."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from langgraph_tiered_checkpoint import TieredSaver
from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers
from langgraph_tiered_checkpoint.embedded.servers import children_of
from langgraph_tiered_checkpoint.errors import TieredCheckpointError

MakeSaver: TypeAlias = Callable[..., TieredSaver]

SLACK_S = 20.0
"""How much later than its timeouts say a call may raise, on a machine that is busy with other things."""


def noise(characters: int) -> str:
    """Text that has nothing in common with any other, so that it takes up all of its room wherever it is stored."""
    return os.urandom(characters // 2).hex()


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """The block ends in time, one way or another."""
    started = time.monotonic()
    try:
        yield
    finally:
        took = time.monotonic() - started
    assert took < seconds + SLACK_S, f"ended after {took:.1f} s"


@contextlib.contextmanager
def refused(
    error: type[TieredCheckpointError] | tuple[type[TieredCheckpointError], ...],
    thread_id: str = "",
    remedy: str = "",
    within_s: float = 1.0,
) -> Iterator[None]:
    """The block raises exactly this error, or one of these, in time; the message names the thread and a remedy."""
    with in_time(within_s), pytest.raises(error) as caught:
        yield
    assert type(caught.value) in (error if isinstance(error, tuple) else (error,))
    said = str(caught.value)
    if thread_id:
        assert repr(thread_id) in said
    assert re.search(remedy, said), said


@contextlib.contextmanager
def redis_killed(servers: EmbeddedServers) -> Iterator[None]:
    servers.kill_redis()
    yield
    servers.restart_redis()


@contextlib.contextmanager
def postgres_killed(servers: EmbeddedServers) -> Iterator[None]:
    servers.kill_postgres()
    yield
    servers.restart_postgres()


@contextlib.contextmanager
def frozen(pid: int | None) -> Iterator[None]:
    """A process and its children are stopped, as by a debugger or a hung disk: they accept, and say nothing."""
    assert pid is not None
    pids = [pid, *children_of(pid)]
    for one in pids:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT)


def redis_port(servers: EmbeddedServers) -> int:
    port = urlsplit(servers.redis_url).port
    assert port is not None
    return port


def postgres_socket(servers: EmbeddedServers) -> Path:
    return Path(parse_qs(urlsplit(servers.postgres_url).query)["host"][0]) / ".s.PGSQL.5432"


REFUSES = "RAISE 'poison' USING ERRCODE = '22000'"


def poison(postgres_url: str, threads: str, refuses: str = REFUSES) -> None:
    """Postgres refuses the checkpoints of threads like this pattern."""
    with psycopg.connect(postgres_url) as admin:
        admin.execute(
            f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF NEW.thread_id LIKE '{threads}' THEN {refuses}; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON checkpoints FOR EACH ROW EXECUTE FUNCTION refuse()
            """.encode()
        )
