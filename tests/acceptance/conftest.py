"""The chat service, for the modules that test it from one side each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from acceptance.chat_service import Client, Service

from langgraph_tiered_checkpoint import EmbeddedServers

Visit: TypeAlias = Callable[..., Client]


@pytest.fixture(scope="module")
def chat_servers() -> Iterator[EmbeddedServers]:
    """In place of the session's: tests of the service kill and wipe them."""
    with EmbeddedServers() as running:
        yield running


@pytest.fixture(scope="module")
def service(chat_servers: EmbeddedServers) -> Iterator[Service]:
    """One service for a module; each test brings its own people."""
    running = Service(chat_servers, MODEL_WORD_S="0.05")
    yield running
    running.stop()


@pytest.fixture
def visit(service: Service) -> Iterator[Visit]:
    """Makes clients: of the module's service, or of the one at `url`."""
    with contextlib.ExitStack() as stack:

        def arrive(token: str | None = None, url: str | None = None) -> Client:
            client = Client(url or service.url, token)
            stack.enter_context(client.http)
            return client

        yield arrive
