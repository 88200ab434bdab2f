"""What a worker answers to whoever watches over it: `/healthz`, whether it lives, and `/readyz`, whether it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from langgraph_tiered_checkpoint.cli.output import as_json
from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.records import Health


@contextmanager
def answering(host: str, port: int, health: Callable[[], Health]) -> Iterator[int]:
    """Answer meanwhile, from threads of their own; the port, which 0 leaves to the system.

    `/healthz` is 200 as long as the promoter runs: an outage is nothing that a restart could mend. `/readyz` is 200
    unless what it tried last has failed, and says what has. Neither asks a server.

    Raises:
        ConfigurationError: the port is taken.
    """

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = health()
            fine = {"/healthz": found.alive, "/readyz": found.alive and found.trouble is None}.get(self.path)
            body = as_json({"alive": found.alive, "trouble": found.trouble}).encode() if fine is not None else b"{}"
            self.send_response(404 if fine is None else 200 if fine else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """A probe every few seconds is nothing to tell."""

    try:
        server = ThreadingHTTPServer((host, port), Answers)
    except OSError as exc:
        raise ConfigurationError(
            f"health cannot be told at {host}:{port} ({exc.strerror}): choose another --health-port"
        ) from exc
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, name="lgt-health", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
