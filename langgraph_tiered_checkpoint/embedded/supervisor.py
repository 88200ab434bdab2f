"""The process behind `EmbeddedServers`: starts one Redis and one Postgres, and stops them when its parent is gone.

`EmbeddedServers` starts it without running the package's `__init__`, so it uses the standard library, account, servers
and errors only. Its configuration is one JSON object; it answers every line on its standard input with one JSON line
on its standard output, and takes the end of its input, or of its parent, as the order to stop.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypedDict

from langgraph_tiered_checkpoint.embedded.account import Account
from langgraph_tiered_checkpoint.embedded.servers import Postgres, Redis, Server, adopt_orphans, poll
from langgraph_tiered_checkpoint.errors import ConfigurationError, TieredCheckpointError

LOCK_WAIT_S = 15.0
"""How long the servers of a parent that is gone may take to stop before their path counts as in use."""
SOCKET_PATH_BYTES = 107
"""The limit of the kernel; what is left of it after the socket's own name is the directory's."""


class Settings(TypedDict):
    """What `EmbeddedServers` passes."""

    path: str | None
    parent: int
    redis_server: str
    postgres_bin: str


class Status(TypedDict):
    """What every successful command answers."""

    redis_url: str
    postgres_url: str
    redis_pid: int | None
    postgres_pid: int | None
    scratch: str
    """What is left to remove if the supervisor is killed."""


def main(settings: Settings) -> None:
    """Start both servers, obey commands until the parent is gone, stop both servers."""
    for ignored in (signal.SIGINT, signal.SIGHUP):  # a terminal's; whether to stop is the parent's decision
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit_once)
    adopt_orphans()
    with contextlib.ExitStack() as stack:
        try:
            servers = _start(settings, stack)
        except Exception as exc:  # noqa: BLE001 - the parent raises it
            _reply(_failure(exc))
            return
        _reply(_status(servers))
        for command in _commands(settings["parent"]):
            _reply(_obey(command, servers))


def _exit_once(signum: int, _frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_IGN)
    sys.exit(0)


def _start(settings: Settings, stack: contextlib.ExitStack) -> tuple[Redis, Postgres]:
    path = settings["path"]
    account = Account(Path(path, "postgres") if path else None)
    scratch = _scratch(account, stack)
    try:
        state = _state(Path(path) if path else scratch / "state", account)
        lock = _lock(state, settings["parent"])
    except OSError as exc:
        raise ConfigurationError(f"cannot keep the servers' data in {path or scratch}: {exc}") from exc

    redis_server, postgres_bin = Path(settings["redis_server"]), Path(settings["postgres_bin"])
    staging = account.admit(scratch / "x")
    redis_server = account.executable(redis_server, redis_server, staging)
    postgres_bin = account.executable(postgres_bin / "postgres", postgres_bin.parent, staging).parent
    redis = Redis(account, state, lock, redis_server)
    postgres = Postgres(account, state, lock, postgres_bin, account.own(scratch / "s"), kept=path is not None)
    stack.callback(_stop, redis, postgres)
    redis.start()
    postgres.initialize()
    postgres.start()
    return redis, postgres


def _scratch(account: Account, stack: contextlib.ExitStack) -> Path:
    """A directory that goes when we go, with a path short enough for the socket of Postgres."""
    parent = tempfile.gettempdir()
    if len(os.fsencode(f"{parent}/lgt-12345678/s/.s.PGSQL.5432")) > SOCKET_PATH_BYTES or not account.can_enter(parent):
        parent = "/tmp"  # noqa: S108 - mkdtemp makes it private
    scratch = Path(tempfile.mkdtemp(prefix="lgt-", dir=parent))
    stack.callback(shutil.rmtree, scratch, ignore_errors=True)
    return account.admit(scratch)


def _state(state: Path, account: Account) -> Path:
    """The directory of both servers' data, made if need be."""
    if not state.exists():
        account.admit(state)
    if not account.can_enter(state):
        raise ConfigurationError(
            f"{state} is out of reach for user id {account.uid}, which runs the servers because Postgres refuses root: "
            "choose a path whose parents others may traverse (chmod o+x)"
        )
    for data in (state / "redis", state / "postgres"):
        if data.exists() and not account.can_enter(data):
            raise ConfigurationError(
                f"{data} belongs to user id {data.stat().st_uid}: run as that user, or choose another path"
            )
    return state


def _lock(state: Path, parent: int) -> int:
    """Take the state for this process and the servers that inherit the descriptor; the kernel gives it back."""
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    for _ in poll(LOCK_WAIT_S):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = int(os.pread(lock, 20, 0) or 0)
            if owner and _alive(owner):
                break
        else:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(parent).encode(), 0)
            return lock
    raise ConfigurationError(
        f"{state} is in use by the embedded servers of another process or object: close that one first"
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _commands(parent: int) -> Iterator[str]:
    """Yield the lines of the standard input until it ends or the parent is gone."""
    pending = b""
    while os.getppid() == parent:  # the pipe alone can be kept open by a child of the parent's
        if select.select([0], [], [], 1.0)[0]:
            chunk = os.read(0, 4096)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            yield from (line.decode() for line in lines)


def _obey(command: str, servers: tuple[Redis, Postgres]) -> Status | dict[str, str]:
    redis, postgres = servers
    server: Server
    verb, _, name = command.partition(" ")
    server = redis if name == "redis" else postgres
    try:
        match verb:
            case "kill":
                server.kill()
            case "restart":
                server.restart()
            case _:
                pass
    except Exception as exc:  # noqa: BLE001 - the parent raises it
        return _failure(exc)
    return _status(servers)


def _status(servers: tuple[Redis, Postgres]) -> Status:
    redis, postgres = servers
    return Status(
        redis_url=redis.url,
        postgres_url=postgres.url,
        redis_pid=redis.pid,
        postgres_pid=postgres.pid,
        scratch=str(postgres.sockets.parent),
    )


def _failure(exc: Exception) -> dict[str, str]:
    if isinstance(exc, TieredCheckpointError):
        return {"error": type(exc).__name__, "message": str(exc)}
    message = "".join(traceback.format_exception(exc))
    return {"error": TieredCheckpointError.__name__, "message": f"the embedded servers' supervisor failed: {message}"}


def _reply(answer: Status | dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent is gone, which the next read tells as well
        os.write(1, json.dumps(answer).encode() + b"\n")


def _stop(*servers: Server) -> None:
    for server in servers:
        server.ask_to_stop()
    for server in servers:
        server.wait()
