"""A TCP proxy in a process of its own: holds replies up for as long as a network would, and counts what passes.

Threads rather than asyncio, whose timers are no finer than a millisecond.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

PR_SET_TIMERSLACK = 29
Address = tuple[str, int] | str
"""A TCP address, or the path of a unix socket."""


class Passed(NamedTuple):
    """What has passed through a proxy."""

    requests: int
    """Times at which a connection turned from waiting for a reply to sending: round trips."""
    bytes_out: int
    bytes_in: int


@dataclass
class _Counts:
    requests: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Wire:
    """The handle on a proxy's process."""

    def __init__(self, control: Connection) -> None:
        self._control = control

    def listen(self, server: Address) -> int:
        """The port of 127.0.0.1 that leads to a server."""
        return int(self._ask("listen", server))

    def delay(self, seconds: float) -> None:
        """From now on, replies arrive that much later."""
        self._ask("delay", seconds)

    def passed(self) -> Passed:
        """What has passed so far."""
        return Passed(*self._ask("passed", None))

    def _ask(self, what: str, argument: object) -> Any:
        self._control.send((what, argument))
        return self._control.recv()


@contextmanager
def wire() -> Iterator[Wire]:
    """Start the process, and end it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Wire(ours)
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


class _Proxy:
    """What happens in the process."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.counts = _Counts()

    def listen(self, server: Address) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        threading.Thread(target=self._accept, args=(listener, server), daemon=True).start()
        return int(listener.getsockname()[1])

    def _accept(self, listener: socket.socket, server: Address) -> None:
        while True:
            client, _ = listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if isinstance(server, str):
                upstream = socket.socket(socket.AF_UNIX)
                upstream.connect(server)
            else:
                upstream = socket.create_connection(server)
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Line(self, client, upstream).start()


class _Line:
    """One connection."""

    def __init__(self, proxy: _Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._late: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._waiting = False
        """For a reply to what was sent."""

    def start(self) -> None:
        for target in (self._requests, self._replies, self._deliveries):
            threading.Thread(target=target, daemon=True).start()

    def _requests(self) -> None:
        counts = self._proxy.counts
        with suppress(OSError):
            while data := self._client.recv(1 << 20):
                with counts.lock:
                    counts.bytes_out += len(data)
                    counts.requests += not self._waiting
                    self._waiting = True
                self._server.sendall(data)
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)

    def _replies(self) -> None:
        counts = self._proxy.counts
        with suppress(OSError):
            while data := self._server.recv(1 << 20):
                with counts.lock:
                    counts.bytes_in += len(data)
                    self._waiting = False
                self._late.put((time.perf_counter() + self._proxy.delay_s, data))
        self._late.put((0.0, b""))

    def _deliveries(self) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        with suppress(OSError):
            while True:
                due, data = self._late.get()
                if not data:
                    break
                left = due - time.perf_counter()
                if left > 0:
                    time.sleep(left)
                self._client.sendall(data)
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _serve(control: Connection) -> None:
    proxy = _Proxy()
    with suppress(EOFError, OSError):
        while True:
            what, argument = control.recv()
            answer: object = None
            match what:
                case "listen":
                    answer = proxy.listen(argument)
                case "delay":
                    proxy.delay_s = argument
                case _:
                    counts = proxy.counts
                    with counts.lock:
                        answer = (counts.requests, counts.bytes_out, counts.bytes_in)
            control.send(answer)
