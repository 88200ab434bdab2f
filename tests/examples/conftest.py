"""The chat service, for the modules that test it from one side each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from chat_service import Client, Service, Visit

from langgraph_tiered_checkpoint import EmbeddedServers

LANGCHAIN = '''
"""In place of LangChain's: does not stream, and says only the names and numbers that the scripted model says."""

import re
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from model import ScriptedModel


class AnotherModel(BaseChatModel):
    @property
    def _llm_type(self):
        return "another"

    def bind_tools(self, tools, **kwargs):
        if not tools:
            raise ValueError("[] is too short - 'tools'")
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        answer = ScriptedModel()._generate(messages).generations[0].message
        words = re.findall(r"Alice|Bob|Carol|[0-9]+", answer.text)
        text = "" if answer.tool_calls else "\\n".join(["It would seem:", *words])
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, tool_calls=answer.tool_calls))])


def init_chat_model(name):
    assert name == "fake:x"
    return AnotherModel()
'''


@pytest.fixture(scope="module")
def chat_servers() -> Iterator[EmbeddedServers]:
    """In place of the session's: tests of the service kill and wipe them."""
    with EmbeddedServers() as running:
        yield running


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, chat_servers: EmbeddedServers) -> Iterator[Service]:
    """One service for a module; each test brings its own people."""
    settings = getattr(request.module, "SETTINGS", {})
    with redis.Redis.from_url(chat_servers.redis_url, decode_responses=True) as client:
        directory = client.config_get("dir")["dir"]
    with Service(chat_servers, **{"MODEL_WORD_S": "0.05", "CHAT_DEMO": directory, **settings}) as running:
        yield running


@pytest.fixture
def visit(service: Service) -> Iterator[Visit]:
    """Makes clients: of the module's service, or of the one at `url`."""
    with contextlib.ExitStack() as stack:

        def arrive(token: str | None = None, url: str | None = None) -> Client:
            client = Client(url or service.url, token)
            stack.enter_context(client.http)
            return client

        yield arrive


@pytest.fixture
def another_model(tmp_path: Path) -> dict[str, str]:
    """The environment in which the examples meet a model other than the scripted one."""
    package = tmp_path / "langchain"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "chat_models.py").write_text(LANGCHAIN, encoding="utf-8")
    inherited = os.environ.get("PYTHONPATH")
    return {"MODEL": "fake:x", "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), inherited]))}
