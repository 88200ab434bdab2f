"""The chat model of the examples: a scripted one, so that they run offline and always say the same.

`MODEL=openai:gpt-5-mini python examples/quickstart.py` takes a real one instead, of any provider that LangChain's
`init_chat_model` knows (`pip install langchain` with the provider's package, and its API key in the environment).
"""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool


class ScriptedModel(BaseChatModel):
    """Not a language model. It knows "My name is X", "What is my name?", "What is 12*7?" and "Refund order 17".

    Like a real one it knows only the messages that it is given: what it remembers, the checkpointer remembered.
    """

    word_s: float = float(os.environ.get("MODEL_WORD_S", "0"))
    """How long it takes over each word, when it is asked to stream: real ones do not answer at once."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self,
        tools: Sequence[Any],  # noqa: ARG002 - it calls "calculator" and "refund", whatever it is offered
        *,
        tool_choice: str | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Itself: it knows its tools by heart."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=_answer(messages))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> Iterator[ChatGenerationChunk]:
        """Word by word, as real ones do."""
        answer = _answer(messages)
        for word in re.findall(r"\S+\s*", answer.text) or [""]:
            time.sleep(self.word_s)
            piece = ChatGenerationChunk(message=AIMessageChunk(word))
            if run_manager:
                run_manager.on_llm_new_token(word, chunk=piece)
            yield piece
        if answer.tool_calls:
            calls = [
                tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=0)
                for call in answer.tool_calls
            ]
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=calls))


def _answer(messages: Sequence[BaseMessage]) -> AIMessage:
    latest = messages[-1]
    if isinstance(latest, ToolMessage):
        return AIMessage(f"That makes {latest.text}." if latest.name == "calculator" else latest.text)
    text = latest.text
    introductions = [
        found[1]
        for message in messages
        if isinstance(message, HumanMessage) and (found := re.search(r"my name is (\w+)", message.text, re.IGNORECASE))
    ]
    if re.search(r"what is my name", text, re.IGNORECASE):
        return AIMessage(f"Your name is {introductions[-1]}." if introductions else "I don't know your name.")
    if re.search(r"my name is \w+", text, re.IGNORECASE):
        return AIMessage(f"Nice to meet you, {introductions[-1]}.")
    if sum_ := re.search(r"what is (\d[\d\s.+*/()-]*)", text, re.IGNORECASE):
        arguments = {"expression": sum_[1].strip()}
        return AIMessage("", tool_calls=[{"name": "calculator", "args": arguments, "id": f"call-{len(messages)}"}])
    if order := re.search(r"refund order (\d+)", text, re.IGNORECASE):
        return AIMessage(
            "", tool_calls=[{"name": "refund", "args": {"order": order[1]}, "id": f"call-{len(messages)}"}]
        )
    return AIMessage("I only know names, sums and refunds.")


def chat_model(tools: Sequence[BaseTool]) -> Runnable[LanguageModelInput, AIMessage]:
    """The model that `MODEL` names, or the scripted one, with its tools."""
    name = os.environ.get("MODEL")
    if not name:
        return ScriptedModel().bind_tools(tools)
    try:
        langchain = importlib.import_module("langchain.chat_models")
    except ImportError:
        raise SystemExit(f"MODEL={name} needs LangChain: pip install langchain, and the provider's package") from None
    model: BaseChatModel = langchain.init_chat_model(name)
    return model.bind_tools(tools) if tools else model  # providers refuse an empty list of tools
