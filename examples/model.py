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

CONFESSION = """I only know names, sums and refunds: I am a script, not a language model. Say

- **My name is Alice.** and then *What is my name?*
- **What is 12*7?** for a calculator
- **Refund order 17.** for something to approve
- **What have I said?** for my memory"""
TRY = ["Ask me **What is 12*7?**", "Say **Refund order 17**, and see what happens.", "Ask me **What have I said?**"]


class ScriptedModel(BaseChatModel):
    """Not a language model. It knows the sentences of `CONFESSION`, and asks for tools where a real one would.

    Like a real one it knows only the messages that it is given: what it remembers, the checkpointer remembered.
    """

    word_s: float = float(os.environ.get("MODEL_WORD_S", "0"))
    """How long it takes over each word, when it is asked to stream: real ones do not answer at once."""
    offered: frozenset[str] | None = None
    """The names of the tools that it has; None for whatever it could ask for."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: str | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The same with these tools."""
        return self.model_copy(update={"offered": frozenset(tool.name for tool in tools)})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> Iterator[ChatGenerationChunk]:
        """Word by word, as real ones do."""
        answer = self._answer(messages)
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

    def _answer(self, messages: Sequence[BaseMessage]) -> AIMessage:
        latest = messages[-1]
        if isinstance(latest, ToolMessage):
            is_sum = latest.name == "calculator" and re.fullmatch(r"[\d.e+-]+", latest.text)
            return AIMessage(f"That makes {latest.text}." if is_sum else latest.text)
        if sum_ := re.search(r"what is ([\d(][\d\s.+*/()-]*)", latest.text, re.IGNORECASE):
            return self._call("calculator", {"expression": sum_[1].strip()}, len(messages))
        if order := re.search(r"refund order (\d+)", latest.text, re.IGNORECASE):
            return self._call("refund", {"order": order[1]}, len(messages))
        return AIMessage(_from_memory([message.text for message in messages if isinstance(message, HumanMessage)]))

    def _call(self, tool: str, arguments: dict[str, str], number: int) -> AIMessage:
        if self.offered is not None and tool not in self.offered:
            return AIMessage(f"I would need a {tool} for that, and have none here.")
        return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": f"call-{number}"}])


def _from_memory(said: list[str]) -> str:
    """The answer to the last of these."""
    latest = said[-1].lower()
    names = [found[1] for one in said if (found := re.search(r"my name is (\w+)", one, re.IGNORECASE))]
    if "what is my name" in latest:
        return f"Your name is {names[-1]}." if names else "I don't know your name."
    if "my name is" in latest and names:
        return f"Nice to meet you, {names[-1]}."
    if "what have i said" in latest:
        listed = "\n".join(f"{number}. {one}" for number, one in enumerate(said[:-1], 1))
        return f"So far you have said:\n\n{listed}" if listed else "Nothing yet. This is the beginning."
    return CONFESSION if len(said) == 1 else f"That is beyond me. {TRY[len(said) % len(TRY)]}"


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
