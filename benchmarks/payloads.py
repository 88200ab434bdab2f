"""What the savers are given: texts, messages, and supersteps of a chat that grows. Deterministic; no I/O."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

WORDS = re.findall(
    r"\w+",
    """
    about after again agent answer because before better between booking call change city could customer date
    delivery different document email every first flight found from great hotel house however important invoice
    itself know large later little market message might model morning never number offer often order other people
    person place please price question really reason result school should small something still street summary
    table their there think through today tool travel under until water weather where which while without write year
    """,
)

EPISODE = 8
"""Supersteps before a chat of constant length starts again with a new thread."""


class Superstep(NamedTuple):
    """One step of a chat: a checkpoint, and the writes of the task that it leads to."""

    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    new_versions: dict[str, str | int | float]
    head: RunnableConfig
    """The config of this checkpoint."""
    writes: list[tuple[str, Any]]
    task_id: str
    first: bool
    """Whether its thread is new: what comes before the steps that count."""


def text(source: random.Random, words: int) -> str:
    """Some words in no order: about as compressible as prose."""
    return " ".join(source.choices(WORDS, k=words))


def message(source: random.Random, number: int) -> BaseMessage:
    """A message of about 200 characters, by the user if its number is even."""
    kind = AIMessage if number % 2 else HumanMessage
    return kind(f"{number}: {text(source, 30)}", id=f"{source.getrandbits(128):032x}")


def at(thread_id: str, checkpoint_id: str = "") -> RunnableConfig:
    """A config of the root namespace."""
    configurable = {"thread_id": thread_id, "checkpoint_ns": ""}
    return {"configurable": configurable | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


class Chat:
    """One thread, whose list of messages gains one with every superstep, as a real one does."""

    def __init__(self, thread_id: str, messages: int, seed: int = 0) -> None:
        self.thread_id = thread_id
        self._source = random.Random(seed)
        self._messages = [message(self._source, number) for number in range(messages)]
        self._step = 0
        self.head = at(thread_id)
        """The config of the last checkpoint."""

    def resize(self, messages: int) -> None:
        """Drop the oldest messages, or add some, so that there are that many."""
        missing = messages - len(self._messages)
        added = [message(self._source, len(self._messages) + number) for number in range(missing)]
        self._messages = [*self._messages, *added][-messages:]

    def superstep(self) -> Superstep:
        """The next one."""
        self._step += 1
        answer = message(self._source, len(self._messages))
        self._messages = [*self._messages, answer]
        version = f"{self._step:032}.{self._source.random():016}"
        checkpoint = empty_checkpoint()
        checkpoint["v"] = 4  # as LangGraph's own are; for older ones savers look for sends at the parent
        checkpoint["id"] = str(uuid6(clock_seq=self._step % 0x3FFF))
        checkpoint["channel_values"] = {"messages": self._messages, "branch:to:assistant": None}
        checkpoint["channel_versions"] = {"__start__": version, "messages": version, "branch:to:assistant": version}
        checkpoint["versions_seen"] = {"__input__": {}, "assistant": {"branch:to:assistant": version}}
        parent, self.head = self.head, at(self.thread_id, checkpoint["id"])
        return Superstep(
            parent,
            checkpoint,
            {"source": "loop", "step": self._step, "parents": {}},
            {"messages": version, "branch:to:assistant": version},
            self.head,
            [("messages", [message(self._source, len(self._messages))]), ("branch:to:tools", None)],
            str(uuid6()),
            self._step == 1,
        )


def episodes(name: str, messages: int) -> Iterator[Superstep]:
    """Supersteps without end on chats of about that many messages: after `EPISODE` of them comes a new thread."""
    number = 0
    while True:
        number += 1
        chat = Chat(f"{name}-{number}", max(messages - EPISODE // 2, 1), seed=number)
        for _ in range(EPISODE + 1):
            yield chat.superstep()
