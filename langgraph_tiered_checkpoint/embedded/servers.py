"""One Redis and one Postgres process: how each is configured, started, recognised as ready, and stopped.

Only the supervisor process uses this module, without the package's `__init__`: standard library, account and
errors only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from langgraph_tiered_checkpoint.embedded.account import Account
from langgraph_tiered_checkpoint.errors import ColdTierError, HotTierError, TieredCheckpointError

START_S = 60.0
STOP_S = 10.0
RETRY_S = 5.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PORTS = (15000, 32000)
"""Below the usual ephemeral range: a client that reconnects to a dead server there cannot connect to itself."""


def adopt_orphans() -> None:
    """Become the parent of our servers' orphans (Linux): the first process of a container seldom reaps them."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(sig: signal.Signals) -> Callable[[], None] | None:
    """Something to run in a child before exec, so that the kernel signals the child when its parent dies (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def arm() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arm


def poll(seconds: float, interval_s: float = 0.01) -> Iterator[None]:
    """Yield for that long, pausing in between."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(interval_s)


def children_of(pid: int) -> list[int]:
    """The direct children of a process, zombies not counted."""
    if sys.platform.startswith("linux"):  # a minimal image has no ps
        lines = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                lines.append(f"{entry.parent.name} {entry.read_text(errors='replace').rpartition(')')[2]}")
    else:
        lines = subprocess.check_output(["/bin/ps", "-A", "-o", "pid=,state=,ppid="], text=True).splitlines()
    rows = [line.split()[:3] for line in lines]
    return [int(child) for child, state, parent in rows if int(parent) == pid and state[0] not in "ZX"]


class Server(ABC):
    """One server process. Subclasses know its command line, when it answers, and how it likes to be stopped."""

    fault: type[TieredCheckpointError]
    polite: signal.Signals
    """Stops the server in good order."""
    orphaned: signal.Signals
    """What the kernel sends it when this supervisor is killed."""
    transient: str
    """What its log says when it failed to start for a reason that passes."""

    def __init__(self, account: Account, state: Path, lock: int) -> None:
        self.account, self.lock = account, lock
        self.name = type(self).__name__
        self.data = state / self.name.lower()
        self.log = state / f"{self.name.lower()}.log"
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.old"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find the server."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line."""

    def config(self) -> bytes:
        """What the server reads on its standard input."""
        return b""

    @abstractmethod
    def ready(self, pid: int) -> bool:
        """Whether the process `pid` answers clients."""

    def start(self) -> None:
        """Start the server and wait until it answers."""
        lines: list[str] = []
        for _ in poll(RETRY_S, interval_s=0.1):
            written = self.log.stat().st_size if self.log.exists() else 0
            if self.attempt():
                return
            lines = self.log.read_bytes()[written:].decode(errors="replace").splitlines()
            if not any(self.transient in line for line in lines):
                break
        raise self.fault(f"{self.name} did not start. Its log ends:\n" + "\n".join(lines[-8:]))

    def attempt(self) -> bool:
        """Start the server; whether it answers, in the end."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.data,
                env=environment(),
                start_new_session=True,
                pass_fds=(self.lock,),  # whoever finds the lock free may be sure that no server is left
                preexec_fn=die_with_parent(self.orphaned),  # noqa: PLW1509 - this process has one thread
                **self.account.spawn,
            )
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
                pipe.write(self.config())
        for _ in poll(START_S):
            if self.process.poll() is not None:
                break
            if self.ready(self.process.pid):
                return True
        self.kill()
        return False

    @property
    def pid(self) -> int | None:
        """The process id, or None if the server does not run."""
        return None if self.process is None or self.process.poll() is not None else self.process.pid

    def ask_to_stop(self) -> None:
        """Begin an orderly stop; `wait` ends it."""
        if self.process is not None:
            self.process.send_signal(self.polite)
            self.process.send_signal(signal.SIGCONT)  # in case that a test had paused it

    def wait(self) -> None:
        """Reap the process, killing it if it does not stop in time."""
        if self.process is None:
            return
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """SIGKILL the server and whatever it started."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGSTOP)  # so that it starts no more children meanwhile
        killed: set[int] = set()
        for _ in poll(STOP_S):
            # Until they are gone, Postgres would refuse to start again: its shared memory is in use.
            children = children_of(self.process.pid)
            killed.update(children)
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not children:
                break
        self.process.kill()
        self.process.wait()
        self.process = None
        for pid in killed:
            with contextlib.suppress(ChildProcessError):  # inherited by init, unless `adopt_orphans` took effect
                os.waitpid(pid, 0)

    def restart(self) -> None:
        """Stop the server if it runs, and start it on the same address and data."""
        self.ask_to_stop()
        self.wait()
        self.start()


def environment() -> dict[str, str]:
    """Our environment without what would redirect Postgres or change the language of its messages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


class Redis(Server):
    """redis-server (or valkey-server) on a free port of 127.0.0.1, behind a random password."""

    fault = HotTierError
    polite = signal.SIGTERM
    orphaned = signal.SIGKILL  # safe: the kernel has the append-only file; SIGTERM would wait for a running script
    transient = "Address already in use"

    def __init__(self, account: Account, state: Path, lock: int, binary: Path) -> None:
        super().__init__(account, state, lock)
        self.binary = binary
        self.port = self.fixed_port = 0
        self.password = secrets.token_urlsafe(12)
        account.own(self.data)

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """redis-server, reading its configuration from standard input."""
        return [str(self.binary), "-"]

    def config(self) -> bytes:
        """The configuration: this way the password is neither in a file nor in the process list."""
        return (
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"
            'appendonly yes\nappendfsync everysec\nsave ""\ndaemonize no\n'
        ).encode()

    def ready(self, pid: int) -> bool:  # noqa: ARG002 - the password proves that the answer comes from our process
        """Whether the server behind the port knows the password, and has loaded its data."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
            sock.sendall(f"AUTH {self.password}\r\nPING\r\nQUIT\r\n".encode())
            return b"".join(iter(lambda: sock.recv(4096), b"")).startswith(b"+OK\r\n+PONG")
        return False

    def attempt(self) -> bool:
        """Start on a free port; once that has worked, always on the same."""
        self.port = self.fixed_port or free_port()
        if super().attempt():
            self.fixed_port = self.port
            return True
        return False


def free_port() -> int:
    """A port that is free at this moment; the caller must be ready to lose it."""
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class Postgres(Server):
    """postgres on a unix socket in a private directory, with a database `app` and trust for user `postgres`."""

    fault = ColdTierError
    polite = signal.SIGINT
    orphaned = signal.SIGQUIT  # "immediate": bounded in time, and crash recovery is always safe
    transient = "shared memory block"  # of a crashed predecessor, whose last backends are still going

    def __init__(self, account: Account, state: Path, lock: int, bin_dir: Path, sockets: Path, *, kept: bool) -> None:
        super().__init__(account, state, lock)
        self.kept = kept
        self.bin_dir = bin_dir
        self.sockets = sockets

    @property
    def url(self) -> str:
        """The URL of the database `app`."""
        return f"postgresql://postgres@/app?host={quote(str(self.sockets))}"

    def command(self) -> list[str]:
        """Postgres, in the foreground, with what differs from its defaults."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self.sockets}"',
            "unix_socket_permissions": "0700",
            "fsync": "on" if self.kept else "off",  # what goes with the servers has not to survive the machine
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.bin_dir / "postgres"), "-D", str(self.data), *flags]

    def ready(self, pid: int) -> bool:
        """What pg_ctl looks at: the process id on line 1 of the lock file, the status on line 8."""
        try:
            lines = (self.data / "postmaster.pid").read_text(errors="replace").split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def initialize(self) -> None:
        """Create the cluster and the database `app`, unless they are there. Whole or not at all: renamed at the end."""
        if self.data.exists():
            return
        fresh = self.data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self.account.own(fresh)
        initdb: list[str | Path] = [
            self.bin_dir / "initdb",
            "-D",
            fresh,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
        ]
        self.run([*initdb, "--locale=C", *([] if self.kept else ["--no-sync"])], "", fresh)
        single: list[str | Path] = [
            self.bin_dir / "postgres",
            "--single",
            "-D",
            fresh,
            "-c",
            "exit_on_error=on",
            "postgres",
        ]
        self.run(single, "CREATE DATABASE app;\n", fresh)
        fresh.rename(self.data)

    def run(self, command: list[str | Path], stdin: str, cwd: Path) -> None:
        """Run a program of Postgres to its end, under our account."""
        done = subprocess.run(
            [str(part) for part in command],
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START_S,
            check=False,
            cwd=cwd,
            env=environment(),
            preexec_fn=die_with_parent(signal.SIGKILL),
            **self.account.spawn,
        )
        if done.returncode:
            raise ColdTierError(f"{Path(command[0]).name} failed:\n{done.stdout[-2000:]}")
