"""A TCP proxy between a saver and a server, which can be told to be slow, to lose answers, or to be gone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import Self
from waiting import HANGS_S

T = TypeVar("T")


@dataclass(eq=False)
class Fault:
    """What happens to connections, existing ones too; by default nothing.

    Args:
        delay_s: how long each piece of a reply is held up.
        piece: how many bytes are a piece.
        cut_after: replies end, with the connection, after so many bytes.
        once_asked: of the replies after this was seen in a request; before that they pass.
        skip: of those, after so many replies more (each a piece; for conversations of question and answer).
        times: how many connections are cut; None for all.
        swallow: requests arrive nowhere, and are never answered.
        rewrite: what replies say, and what arrives in place of it.
    """

    delay_s: float = 0.0
    piece: int = 65536
    cut_after: int | None = None
    once_asked: bytes = b""
    skip: int = 0
    times: int | None = None
    swallow: bool = False
    rewrite: tuple[bytes, bytes] = (b"", b"")
    cuts: int = 0
    """How many connections have been cut so far."""


@dataclass(eq=False)
class _Call:
    """One connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    asked: bytes = b""
    """Requests, since the fault was set."""
    passed: int = 0
    """Bytes of replies that count."""
    forgotten: bool = False

    def abort(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class Proxy:
    """Listens on a port of 127.0.0.1, for a server on a TCP port or a unix socket."""

    def __init__(self, server: int | Path) -> None:
        self._server = server
        self._fault = Fault()
        self._calls: set[_Call] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener: asyncio.Server | None = None
        self.port = 0
        self.accepted = 0
        """Connections accepted so far."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, fault: Fault) -> Fault:
        """From now on do this to every connection."""
        self._do(self._change(fault))
        return fault

    def heal(self) -> None:
        """Be a good proxy again. Connections that have stalled are closed."""
        stalled = self._fault.swallow
        self.set(Fault())
        if stalled:
            self._do(self._drop())
        if self._listener is None:
            self._do(self._listen())

    def refuse(self) -> None:
        """Close all connections and refuse new ones."""
        self._do(self._stop_listening())
        self._do(self._drop())

    def forget(self) -> None:
        """Pass on nothing of the connections that there are, as a firewall may: they look open, and nobody answers."""
        for call in list(self._calls):
            call.forgotten = True

    def drop(self) -> None:
        """Close all connections."""
        self._do(self._drop())

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(HANGS_S)

    async def _change(self, fault: Fault) -> None:
        self._fault = fault
        for call in self._calls:
            call.asked, call.passed = b"", 0

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _drop(self) -> None:
        for call in list(self._calls):
            call.abort()
        await asyncio.sleep(0)

    async def _end(self) -> None:
        await self._stop_listening()
        await asyncio.sleep(0)  # a connection that was just accepted gets its task
        while self._tasks:
            await self._drop()
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if isinstance(self._server, int):
                answers, server = await asyncio.open_connection("127.0.0.1", self._server)
            else:
                answers, server = await asyncio.open_unix_connection(self._server)
        except OSError:
            writer.transport.abort()
            return
        call = _Call(writer, server)
        self._calls.add(call)
        try:
            with contextlib.suppress(OSError, EOFError):
                await _first_of(self._forward(call, reader), self._answer(call, answers))
        finally:
            self._calls.discard(call)
            for end in (writer, server):
                end.close()

    async def _forward(self, call: _Call, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            if self._fault.swallow or call.forgotten:
                continue
            call.asked += data
            call.server.write(data)
            await call.server.drain()

    async def _answer(self, call: _Call, answers: asyncio.StreamReader) -> None:
        while data := await answers.read(65536):
            if self._fault.rewrite[0]:
                data = data.replace(*self._fault.rewrite)
            for start in range(0, len(data), self._fault.piece):
                if not await self._pass(call, data[start : start + self._fault.piece]):
                    return

    async def _pass(self, call: _Call, piece: bytes) -> bool:
        """Hand out a piece of a reply; False if the connection ends with it."""
        fault = self._fault
        if fault.swallow or call.forgotten:
            return True
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        counts = fault.once_asked in call.asked and (fault.times is None or fault.cuts < fault.times)
        if counts and fault.skip > 0:
            fault.skip -= 1
        elif counts and fault.cut_after is not None:
            left = fault.cut_after - call.passed
            call.passed += len(piece)
            if len(piece) > left:
                fault.cuts += 1
                call.client.write(piece[:left])
                await call.client.drain()
                return False
        call.client.write(piece)
        await call.client.drain()
        return True


async def _first_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
