"""A thread as LangChain's chat message history: the same messages as a graph on that thread sees."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.history import RunnableWithMessageHistory
from langgraph.graph import START, MessagesState, StateGraph
from waiting import wait_until

from langgraph_tiered_checkpoint import ConfigurationError, Promotion, TieredChatMessageHistory, TieredSaver


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as made:
        yield made


def said(messages: list[BaseMessage]) -> list[tuple[str, str]]:
    return [(message.type, message.text) for message in messages]


HELLO, HI = ("human", "Hello"), ("ai", "Hi")


def test_messages_are_what_was_added_in_order(saver: TieredSaver) -> None:
    history = TieredChatMessageHistory("cookie-1", saver)
    assert history.messages == []
    history.add_messages([HumanMessage("Hello"), AIMessage("Hi")])
    history.add_messages([HumanMessage("Bye")])
    assert said(history.messages) == [HELLO, HI, ("human", "Bye")]
    assert said(TieredChatMessageHistory("cookie-1", saver).messages) == said(history.messages)
    assert TieredChatMessageHistory("cookie-2", saver).messages == []


async def test_async_methods_are_the_same(saver: TieredSaver) -> None:
    history = TieredChatMessageHistory("cookie-1", saver)
    assert await history.aget_messages() == []
    await history.aadd_messages([HumanMessage("Hello"), AIMessage("Hi")])
    assert said(await history.aget_messages()) == [HELLO, HI]
    await history.aclear()
    assert await history.aget_messages() == []
    await saver.aclose()


def test_what_is_added_stays_the_callers_and_can_be_added_again(saver: TieredSaver) -> None:
    hello = HumanMessage("Hello")
    history = TieredChatMessageHistory("cookie-1", saver)
    history.add_messages([hello])
    history.add_messages([hello])
    assert hello.id is None
    assert said(history.messages) == [HELLO, HELLO]


def test_nothing_added_makes_no_thread(saver: TieredSaver) -> None:
    TieredChatMessageHistory("cookie-1", saver).add_messages([])
    assert list(saver.thread_ids()) == []


def test_a_graph_on_the_thread_and_the_history_see_each_others_messages(saver: TieredSaver) -> None:
    def answer(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [AIMessage(f"{len(state['messages'])} so far")]}

    graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile(checkpointer=saver)
    config: RunnableConfig = {"configurable": {"thread_id": "cookie-1"}}
    history = TieredChatMessageHistory("cookie-1", saver)
    history.add_messages([HumanMessage("Hello"), AIMessage("Hi")])
    assert said(graph.get_state(config).values["messages"]) == [HELLO, HI]
    assert graph.get_state(config).next == ()
    graph.invoke({"messages": [HumanMessage("And now?")]}, config)
    assert said(history.messages) == [HELLO, HI, ("human", "And now?"), ("ai", "3 so far")]
    history.add_messages([HumanMessage("Bye")])
    assert said(graph.get_state(config).values["messages"])[-1] == ("human", "Bye")


class Wider(MessagesState):
    """What a graph may keep beside the messages."""

    mood: str
    seen: list[int]


def test_other_channels_of_the_thread_stay(saver: TieredSaver) -> None:
    builder = StateGraph(Wider).add_node("answer", lambda _: {"mood": "fine", "seen": [1, 2]}).add_edge(START, "answer")
    graph = builder.compile(checkpointer=saver)
    config: RunnableConfig = {"configurable": {"thread_id": "cookie-1"}}
    graph.update_state(config, {"messages": [HumanMessage("Hello")], "mood": "fine", "seen": [1, 2]}, as_node="answer")
    TieredChatMessageHistory("cookie-1", saver).add_messages([AIMessage("Hi")])
    values = graph.get_state(config).values
    assert (values["mood"], values["seen"], said(values["messages"])) == ("fine", [1, 2], [HELLO, HI])


def test_clear_deletes_the_thread_from_both_tiers(saver: TieredSaver) -> None:
    history = TieredChatMessageHistory("cookie-1", saver)
    history.add_messages([HumanMessage("Hello")])
    saver.promote("cookie-1")
    history.clear()
    assert history.messages == []
    assert saver.explain("cookie-1").state == "absent"
    history.add_messages([HumanMessage("Again")])
    assert said(history.messages) == [("human", "Again")]


def test_history_outlives_eviction_once_promoted(saver: TieredSaver) -> None:
    history = TieredChatMessageHistory("cookie-1", saver)
    history.add_messages([HumanMessage("Hello")])
    saver.promote("cookie-1")
    saver.evict("cookie-1")
    assert said(history.messages) == [HELLO]


def test_history_of_a_visitor_who_does_not_come_back_expires(redis_url: str, postgres_url: str) -> None:
    ttl = timedelta(milliseconds=300)
    never = Promotion.never()
    with TieredSaver.from_urls(redis_url, postgres_url, ttl=ttl, refresh_on_read=False, promotion=never) as saver:
        history = TieredChatMessageHistory("cookie-1", saver)
        history.add_messages([HumanMessage("Hello")])
        wait_until(lambda: history.messages == [], "the thread to expire")


def test_scoped_histories_of_one_session_id_are_apart(saver: TieredSaver) -> None:
    ours, theirs = (TieredChatMessageHistory("1", saver.scoped(name)) for name in ("ours", "theirs"))
    ours.add_messages([HumanMessage("Hello")])
    assert theirs.messages == []
    assert said(ours.messages) == [HELLO]


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")  # which is why its users come here
def test_runnable_with_message_history_remembers_the_session(saver: TieredSaver) -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage("Hi"), AIMessage("You said hello")]))
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("past"), ("human", "{text}")])
    chain = RunnableWithMessageHistory(
        prompt | model,
        lambda session_id: TieredChatMessageHistory(session_id, saver),
        input_messages_key="text",
        history_messages_key="past",
    )
    config: RunnableConfig = {"configurable": {"session_id": "cookie-1"}}
    chain.invoke({"text": "Hello"}, config)
    chain.invoke({"text": "What did I say?"}, config)
    expected = [HELLO, HI, ("human", "What did I say?"), ("ai", "You said hello")]
    assert said(TieredChatMessageHistory("cookie-1", saver).messages) == expected


def test_another_channel_can_hold_the_messages(saver: TieredSaver) -> None:
    TieredChatMessageHistory("cookie-1", saver, channel="notes").add_messages([HumanMessage("Hello")])
    assert said(TieredChatMessageHistory("cookie-1", saver, channel="notes").messages) == [HELLO]
    assert TieredChatMessageHistory("cookie-1", saver).messages == []


def test_anything_but_a_saver_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"'cookie-1': saver=str must be a TieredSaver"):
        TieredChatMessageHistory("cookie-1", "redis://localhost")  # type: ignore[arg-type]  # as one would with Redis's
