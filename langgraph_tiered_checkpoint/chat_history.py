"""A thread as LangChain's chat message history, for programs that are no graphs, or not yet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict

from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.saver import TieredSaver

_NODE = "chat_history"


class TieredChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, kept in the thread of that id: hot under a TTL, and promoted as any other thread.

    Takes the place of `RedisChatMessageHistory(session_id=..., url=...)`, also in `RunnableWithMessageHistory`. A graph
    with `MessagesState` that is compiled with the same saver sees the same messages under `thread_id=session_id`, and
    what it says is part of the history. Other channels that a graph keeps in the thread stay as they are.

    Messages follow LangGraph's `add_messages`: one with the id of a message that is there already replaces it, and one
    without an id is given one, in the thread only.

    To be called one after another for one session. Adding to a thread in the middle of a run ends the run there, as
    LangGraph's `update_state` does.

    Args:
        session_id: the thread's id; for a saver that is `scoped`, within its scope.
        saver: where the thread is kept. It stays the caller's to close.
        channel: the channel that holds the messages.

    Raises:
        ConfigurationError: not a saver of this package. Its methods raise what those of the saver do.
    """

    def __init__(self, session_id: str, saver: TieredSaver, *, channel: str = "messages") -> None:
        if not isinstance(saver, TieredSaver):
            raise ConfigurationError(
                f"session {session_id!r}: saver={type(saver).__name__} must be a TieredSaver, such as "
                "TieredSaver.from_urls(redis_url, postgres_url)"
            )
        self.session_id = session_id
        self._saver = saver
        self._channel = channel
        self._graph: CompiledStateGraph[Any] = _builder(channel).compile(checkpointer=saver)
        self._config: RunnableConfig = {"configurable": {"thread_id": session_id}}

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # read-only: they are added by methods
        """All messages, oldest first; none if there is no such thread (any more). One round trip if resident."""
        return list(self._graph.get_state(self._config).values.get(self._channel, ()))

    async def aget_messages(self) -> list[BaseMessage]:
        """`messages`, without blocking the event loop."""
        return list((await self._graph.aget_state(self._config)).values.get(self._channel, ()))

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, all in one checkpoint."""
        if messages:
            self._graph.update_state(self._config, self._update(messages), as_node=_NODE)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """`add_messages`, without blocking the event loop."""
        if messages:
            await self._graph.aupdate_state(self._config, self._update(messages), as_node=_NODE)

    def clear(self) -> None:
        """Delete the thread, from both tiers and for good, with all that a graph has kept in it."""
        self._saver.delete_thread(self.session_id)

    async def aclear(self) -> None:
        """`clear`, without blocking the event loop."""
        await self._saver.adelete_thread(self.session_id)

    def _update(self, messages: Sequence[BaseMessage]) -> dict[str, list[BaseMessage]]:
        # LangGraph gives ids to the very objects, and the caller may add them to another session, or once more.
        return {self._channel: [message.model_copy() for message in messages]}


@cache
def _builder(channel: str) -> StateGraph[Any]:
    """A graph that only holds messages: how it stores them, and beside what, is LangGraph's business."""
    state = TypedDict("State", {channel: Annotated[list[BaseMessage], add_messages]})  # type: ignore[misc]  # by name
    return StateGraph(state).add_node(_NODE, lambda _: {}).add_edge(START, _NODE)
