"""What is exported is imported again byte for byte, and is all that there is."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from homes import HOMES, at, make_checkpoint, put, settle
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import ChannelVersions
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.types import Command
from sameness import difference
from scenarios.asking import conversation, converse, everything

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.errors import ConfigurationError, SchemaError

SETTINGS: Any = {"promoter": "external", "promotion": Promotion.never(), "hot_checkpoints": 2}


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, schema="one", **SETTINGS) as made:
        yield made


@pytest.fixture
def other(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    """Another store."""
    with TieredSaver.from_urls(redis_url, postgres_url, key_prefix="other", schema="another", **SETTINGS) as made:
        yield made


@pytest.mark.parametrize("home", HOMES)
def test_exported_thread_is_imported_as_it_was(saver: TieredSaver, other: TieredSaver, home: str) -> None:
    converse(saver)
    settle(saver, "t", home)
    lines = list(saver.export("t"))
    if home != "ephemeral":
        saver.pin("t")
        saver.evict("t")
        lines = list(saver.export("t"))
    report = other.import_threads(lines)
    assert (report.imported, report.refused) == (1, ())
    assert everything(other, "t") == everything(saver, "t")
    assert list(other.export("t"))[2:] == lines[2:]
    status = other.explain("t")
    assert (status.state, status.pinned) == (("ephemeral", False) if home == "ephemeral" else ("clean", True))
    assert conversation(other).invoke(Command(resume="36"), at("t"))["answered"] == "36"
    other.import_threads(lines, thread_ids=["u"])
    assert "exists" in other.import_threads(lines).refused[0].why


def test_scope_is_exported_thread_by_thread_and_nobody_else_s(saver: TieredSaver, other: TieredSaver) -> None:
    tenant, stranger = saver.scoped("a"), saver.scoped("b")
    for thread in ("t", "u"):
        put(tenant, at(thread), {"a": [1]})
        put(stranger, at(thread), {"b": [1]})
    tenant.promote("u")
    lines = [json.loads(line) for line in tenant.export()]
    assert [line["thread"] for line in lines if "thread" in line] == ["t", "u"]
    assert {v["channel"] for line in lines for v in line.get("values", ())} == {"a"}
    assert len([line for line in lines if "checkpoint" in line]) == 2
    report = other.scoped("c").import_threads(tenant)
    assert report.imported == 2
    assert list(other.thread_ids()) == [f"lgt-tenant:1:c:{thread}" for thread in ("t", "u")]
    assert len(list(other.export("no such thread"))) == len(list(other.scoped("empty").export())) == 1


def test_whole_store_is_exported_and_imported_with_its_tenants(saver: TieredSaver, other: TieredSaver) -> None:
    put(saver.scoped("a"), at("t"), {"a": [1]})
    put(saver, at("t"), {"a": [2]})
    lines = list(saver.export())
    assert other.import_threads(lines).imported == 2
    assert list(other.scoped("a").thread_ids()) == ["t"]
    assert other.scoped("a").messages("t", "a") == [1]
    # A tenant may call a thread whatever it likes: that reaches nobody else's.
    put(saver.scoped("b"), at("lgt-tenant:1:a:u"), {"a": [3]})
    [refused] = other.import_threads(saver.scoped("b")).refused
    assert "belong to tenants" in refused.why
    assert list(other.scoped("a").thread_ids()) == ["t"]


async def test_async_export_is_the_same(saver: TieredSaver, other: TieredSaver) -> None:
    await asyncio.to_thread(converse, saver)
    assert [line async for line in saver.aexport("t")] == list(saver.export("t"))
    assert (await other.aimport_threads(saver)).imported == 3
    assert await asyncio.to_thread(everything, other, "t") == await asyncio.to_thread(everything, saver, "t")


def test_file_that_is_cut_off_is_told_and_goes_on_when_it_is_whole(saver: TieredSaver, other: TieredSaver) -> None:
    converse(saver)
    lines = list(saver.export("t"))
    of_another = list(saver.export("other"))[1:]
    report = other.import_threads([*lines[:5], *of_another])
    assert "cut off" in report.refused[0].why
    assert report.imported == 1
    for damaged in (
        '{"checkpoint": "x"}',
        lines[4][:20],
        lines[4].replace('"type":"msgpack","data":"', '"type":"msgpack","data":"$'),
    ):
        assert "line 5" in other.import_threads([*lines[:4], damaged, lines[-1]]).refused[0].why
    missing = [*lines[:3], *lines[4:]]
    assert "exists" in other.import_threads(missing).refused[0].why
    assert other.import_threads(lines).imported == 1
    assert everything(other, "t") == everything(saver, "t")


def test_values_that_came_before_are_found_where_they_have_gone(
    saver: TieredSaver, redis_url: str, postgres_url: str
) -> None:
    """The thread is promoted and evicted after each of its checkpoints."""
    config = put(saver, at("t"), {"a": ["kept"], "b": [1]})
    for number in (2, 3):
        found = saver.get_tuple(config)
        assert found is not None
        made = make_checkpoint({}, number)
        made["channel_values"] = {**found.checkpoint["channel_values"], "b": [number]}
        made["channel_versions"] = {**found.checkpoint["channel_versions"], "b": f"{number:032}.1"}
        fresh: ChannelVersions = {"b": f"{number:032}.1"}
        config = saver.put(config, made, {"source": "loop", "step": number, "parents": {}}, fresh)
    settings: Any = {**SETTINGS, "promotion": Promotion(checkpoints=1)}
    with TieredSaver.from_urls(redis_url, postgres_url, key_prefix="other", schema="another", **settings) as eager:

        def lines() -> Iterator[str]:
            for line in saver.export("t"):
                yield line
                if eager.explain("t").tier is not None:
                    eager.evict("t")

        assert eager.import_threads(lines()).refused == ()
        assert everything(eager, "t") == everything(saver, "t")


def test_what_is_read_back_otherwise_is_told(saver: TieredSaver, other: TieredSaver) -> None:
    config = put(saver, at("t"), {"a": [1]})

    def lines() -> Iterator[str]:
        for line in saver.export("t"):
            if '"end"' in line:
                contextvars.Context().run(other.put_writes, config, [("a", "somebody else's")], "task")
            yield line

    assert "is not as it is where it comes from" in other.import_threads(lines()).refused[0].why


def test_file_of_a_newer_version_or_of_something_else_is_refused(saver: TieredSaver) -> None:
    with pytest.raises(SchemaError, match="upgrade"):
        saver.import_threads(['{"format": "langgraph-tiered-checkpoint", "version": 2}'])
    for other in ("{}", "no JSON", '["a"]'):
        with pytest.raises(ConfigurationError):
            saver.import_threads([other])
    with pytest.raises(ConfigurationError):
        saver.import_threads([])


def test_what_is_encrypted_is_moved_by_who_cannot_read_it(
    redis_url: str, postgres_url: str, saver: TieredSaver, other: TieredSaver
) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"1" * 16)
    with TieredSaver.from_urls(redis_url, postgres_url, schema="one", serde=serde, **SETTINGS) as encrypted:
        put(encrypted, at("t"), {"a": "secret word"})
        lines = list(saver.export("t"))
        assert "secret word" not in "".join(lines)
        assert other.import_threads(lines).imported == 1
        assert list(other.export("t"))[2:] == lines[2:]
        [_, _, readable, _] = encrypted.export("t", decoded=True)
        assert json.loads(readable)["decoded"]["checkpoint"]["channel_values"] == {"a": "secret word"}


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.text(), max_size=3),
)
PUTS = st.lists(
    st.tuples(
        st.integers(0, 3),  # which of the checkpoints before is the parent
        st.sampled_from(["", "inner"]),
        st.dictionaries(st.sampled_from(["a", "b", "__interrupt__x"]), VALUES, max_size=2),
        st.lists(st.tuples(st.sampled_from(["a", "__error__", "__resume__"]), VALUES), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


NUMBERS = itertools.count()


@settings(max_examples=10)
@given(puts=PUTS, promote=st.booleans())
def test_whatever_was_put_comes_through_both_ways(
    saver: TieredSaver, other: TieredSaver, puts: list[Any], *, promote: bool
) -> None:
    """A memory saver's threads are imported, exported and imported again: at each place they are what they were."""
    source: InMemorySaver = InMemorySaver()
    thread = f"t{next(NUMBERS)}"
    made: dict[str, list[Any]] = {"": [], "inner": []}
    for version, (parent, ns, values, writes) in enumerate(puts, 1):
        chain = made[ns]
        config = chain[-1 - parent % len(chain)] if chain else at(thread, ns)
        before = source.get_tuple(config) if chain else None
        kept = before.checkpoint["channel_values"] if before else {}
        versions = before.checkpoint["channel_versions"] if before else {}
        made_now = make_checkpoint({}, version)
        fresh: ChannelVersions = dict.fromkeys(values, f"{version:032}.{version}")
        made_now["channel_values"] = {**kept, **values}
        made_now["channel_versions"] = {**versions, **fresh}
        config = source.put(config, made_now, {"source": "loop", "step": version, "parents": {}}, fresh)
        chain.append(config)
        source.put_writes(config, writes, f"task {version % 2}", f"~{version % 3}")
        source.put_writes(config, writes[:1], "another")
    context = contextvars.Context()
    assert context.run(saver.import_threads, source, promote=promote).refused == ()
    assert difference(everything(saver, thread), everything(source, thread)) == ""
    assert context.run(other.import_threads, saver.export(thread)).imported == 1
    assert difference(everything(other, thread), everything(source, thread)) == ""
