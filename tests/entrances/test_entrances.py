"""The ways to make a saver, and what a type checker knows of them."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from typing import get_type_hints

import psycopg
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_tiered_checkpoint import ConfigurationError, TieredSaver
from langgraph_tiered_checkpoint.config import SaverSettings

pytestmark = pytest.mark.bare


def talk(saver: TieredSaver) -> None:
    graph = StateGraph(MessagesState).add_node("answer", lambda _: {}).add_edge(START, "answer")
    config: RunnableConfig = {"configurable": {"thread_id": "1"}}
    graph.compile(checkpointer=saver).invoke({"messages": [HumanMessage("Hello")]}, config)


def test_typed_settings_are_the_keywords_of_the_class() -> None:
    keywords = get_type_hints(TieredSaver.__init__)
    settings = list(SaverSettings.__annotations__)
    assert list(inspect.signature(TieredSaver.__init__).parameters) == ["self", "redis", "postgres", *settings]
    assert get_type_hints(SaverSettings) == {name: keywords[name] for name in settings}


def test_setting_of_a_wrong_type_is_an_error_to_type_checkers_and_at_run_time(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match="ttl=3600"):
        TieredSaver.from_urls(redis_url, ttl=3600)  # type: ignore[arg-type]  # what type checkers are to complain about
    with pytest.raises(TypeError, match="unexpected keyword"):
        TieredSaver.from_urls(redis_url, tll=timedelta(hours=1))  # type: ignore[call-arg]  # likewise


def test_from_conn_string_is_from_urls(redis_url: str, postgres_url: str) -> None:
    with TieredSaver.from_conn_string(redis_url, postgres_url, hot_checkpoints=3) as saver:
        talk(saver)
        saver.promote("1")
        assert saver.explain("1").tier == "both"


def test_from_env_takes_servers_prefix_and_schema(
    redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LGT_REDIS_URL", redis_url)
    monkeypatch.setenv("LGT_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("LGT_KEY_PREFIX", "agents")
    monkeypatch.setenv("LGT_SCHEMA", "agents")
    with TieredSaver.from_env(ttl=timedelta(hours=1)) as saver:
        talk(saver)
        saver.promote("1")
    with TieredSaver.from_urls(redis_url, postgres_url, key_prefix="agents", schema="agents") as same:
        assert same.explain("1").tier == "both"


def test_from_env_prefers_what_is_passed_and_leaves_out_what_is_empty(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LGT_REDIS_URL", redis_url)
    monkeypatch.setenv("LGT_POSTGRES_URL", "")
    monkeypatch.setenv("LGT_KEY_PREFIX", "of-the-environment")
    monkeypatch.setenv("LGT_SCHEMA", "")
    with TieredSaver.from_env(key_prefix="passed") as saver:
        talk(saver)
    with TieredSaver.from_urls(redis_url, key_prefix="passed") as same:
        assert same.explain("1").tier == "hot"


@pytest.mark.parametrize("value", [None, ""])
def test_from_env_without_a_redis_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("LGT_REDIS_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("LGT_REDIS_URL", value)
    with pytest.raises(ConfigurationError, match="LGT_REDIS_URL"):
        TieredSaver.from_env()


def test_ddl_needs_no_server_and_makes_what_setup_makes(redis_url: str, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(TieredSaver.from_urls("redis://nowhere", "postgresql://nowhere").ddl())
    with TieredSaver.from_urls(redis_url, postgres_url, auto_setup=False) as saver:
        talk(saver)
        saver.promote("1")
    with pytest.raises(ConfigurationError, match="postgres_url"):
        TieredSaver.from_urls(redis_url).ddl()


def test_saver_says_where_it_is_without_its_passwords(redis_url: str, postgres_url: str) -> None:
    saver = TieredSaver.from_urls("redis://u:secret@h:1/2", "postgresql://u:secret@g/d", key_prefix="agents")
    assert repr(saver) == "<TieredSaver redis://h:1/2 postgresql://g/d, key_prefix='agents'>"
    assert (
        repr(saver.scoped("a:b")) == "<TieredSaver redis://h:1/2 postgresql://g/d, key_prefix='agents', scoped('a:b')>"
    )
    assert "without a cold tier" in repr(TieredSaver.from_urls("redis://h"))


def test_status_and_stats_print_as_tables(redis_url: str, postgres_url: str) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url) as saver:
        talk(saver)
        saver.pin("1")
        status, stats = repr(saver.explain("1")), repr(saver.stats())
    lines = dict(line.split(None, 1) for line in status.splitlines()[1:])
    assert status.startswith("ThreadStatus\n  thread_id         1\n")
    assert lines["state"] == "clean"
    assert lines["pinned"] == "yes"
    assert re.fullmatch(r"[\d-]{10} [\d:]{8}\+00:00", lines["expires_at"])
    assert not {"last_error", "lease", "warnings"} & set(lines), "what does not apply is left out"
    assert stats.splitlines()[:2] == ["TierStats", "  hot_threads      1"]
    assert "overdue_threads  0" in stats, "none is a figure too"
