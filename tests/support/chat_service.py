"""The chat service of the examples, in processes of its own, and what it takes to be one of its clients."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import jwt
import psutil
import pytest
from typing_extensions import Self
from waiting import HANGS_S, wait_until

from langgraph_tiered_checkpoint import EmbeddedServers
from langgraph_tiered_checkpoint.embedded.servers import free_port

SERVER = Path(__file__).parents[2] / "examples" / "chat_server"
ASYNC_INTERRUPTS = pytest.mark.skipif(sys.version_info < (3, 11), reason="interrupt() in async code needs 3.11")
SECRET = "a secret of the server's, and of nobody else, that is long enough"
PROMOTE_AT = 9
"""Checkpoints: the third message of a conversation."""


def token(sub: str, secret: str = SECRET, lifetime: timedelta = timedelta(hours=1)) -> str:
    """What an identity provider issues."""
    return jwt.encode({"sub": sub, "exp": datetime.now(timezone.utc) + lifetime}, secret, algorithm="HS256")


def answers(url: str) -> bool:
    """Whether it does by now. A connection is taken before there is a worker."""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def imported(monkeypatch: pytest.MonkeyPatch, **settings: str) -> Any:
    """The service's module in this process; without servers, unless their URLs are among the settings."""
    urls = {"REDIS_URL": "redis://localhost:1", "POSTGRES_URL": "postgresql://localhost:2/none"}
    for name, value in {"CHAT_SECRET": SECRET, **urls, **settings}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MODEL", raising=False)
    folders = dict.fromkeys(("arithmetic", "model", "story"), SERVER.parent)
    for name in (*folders, "shared", "guard", "who", "agent", "answering", "page", "app"):
        path = folders.get(name, SERVER) / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return sys.modules["app"]


@contextlib.contextmanager
def started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A block with a process of its own, of which nothing is left afterwards: children that have lost it neither."""
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Service:
    """The service with two workers, on servers that the test owns; none of its processes outlives the block."""

    patience_s = HANGS_S

    def __init__(self, servers: EmbeddedServers, application: str = "app:app", **settings: str) -> None:
        self._application = application
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        found_first = settings.pop("PYTHONPATH", None)
        self._environment = {name: value for name, value in os.environ.items() if name != "MODEL"} | {
            "CHAT_SECRET": SECRET,
            "CHAT_PROMOTE_AT": str(PROMOTE_AT),
            "CHAT_REQUESTS_A_MINUTE": "1000000",
            "CHAT_MESSAGES_A_MINUTE": "1000000",
            "REDIS_URL": servers.redis_url,
            "POSTGRES_URL": servers.postgres_url,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(SERVER), str(SERVER.parent), found_first])),
            **settings,
        }

        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self) -> None:
        """Start on the same port as before."""
        command = [sys.executable, "-m", "uvicorn", self._application, "--port", str(self._port), "--workers", "2"]
        with contextlib.ExitStack() as stack:
            process = stack.enter_context(started([*command, "--log-level", "critical"], self._environment))
            wait_until(
                lambda: process.poll() is not None or answers(self.url), "the service to answer", self.patience_s
            )
            assert process.poll() is None, "the service has ended by itself"
            self._process, self._running = process, stack.pop_all()

    def stop(self) -> None:
        """Let it come to its end."""
        with self._running:
            self._process.terminate()
            self._process.wait(HANGS_S)

    def cpu_s(self) -> float:
        """What its processes have worked so far, in seconds."""
        supervisor = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (supervisor, *supervisor.children(recursive=True))]
        return sum(one.user + one.system for one in times)


class Client:
    """Somebody with a cookie jar, or a token."""

    def __init__(self, url: str, token: str | None = None) -> None:
        # A connection for each request: any worker may get it, and none waits for a delayed acknowledgement.
        headers = {"connection": "close"} | ({"authorization": f"Bearer {token}"} if token else {})
        self.http = httpx.Client(base_url=url, headers=headers, timeout=HANGS_S)

    def say(self, text: str, conversation: str = "") -> str:
        """The answer; `conversation` of a new one is in `self.latest`."""
        response = self.http.post(f"/conversations/{conversation}".rstrip("/"), json={"text": text}).raise_for_status()
        self.latest: str = response.headers["x-conversation"]
        return response.text

    def conversations(self) -> dict[str, dict[str, Any]]:
        return {one["id"]: one for one in self.http.get("/conversations").raise_for_status().json()}


Visit: TypeAlias = Callable[..., Client]
"""Makes clients: see the fixture `visit`."""
