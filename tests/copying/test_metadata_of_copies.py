"""A copy has its own thread id in its metadata, wherever it was copied, so that a filter tells it from its source."""

from __future__ import annotations

from typing import Any

import pytest
from homes import HOMES, at, put, settle
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_tiered_checkpoint import TieredSaver

EXACT: dict[str, dict[str, Any]] = {"plain": {}, "exact": {"limit": float("inf"), "size": (1, 2)}}
"""Besides the thread id: metadata that JSON carries, and such that are kept exactly beside it."""


def named(saver: TieredSaver, thread_id: str) -> list[str]:
    """The threads whose metadata name this one, checkpoint by checkpoint."""
    found = saver.list(None, filter={"thread_id": thread_id})
    return [item.config["configurable"]["thread_id"] for item in found]


@pytest.mark.parametrize("tenant", ["", "acme"])
@pytest.mark.parametrize("more", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("home", HOMES)
def test_copy_has_its_own_thread_id_in_metadata(
    redis_url: str, postgres_url: str, home: str, more: dict[str, Any], tenant: str
) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as root:
        saver = root.scoped(tenant) if tenant else root
        config = at("t")
        for n in range(3):
            config = put(saver, config, {"a": n}, n + 1, thread_id="t", **more)
        put(saver, config, {"a": 3}, 4, thread_id="another", **more)
        before = list(saver.list(at("t")))
        settle(saver, "t", home)
        saver.copy_thread("t", "copy")
        saver.copy_thread("copy", "copy of it")
        assert [item.metadata.get("thread_id") for item in saver.list(at("copy"))] == ["another", *["copy"] * 3]
        for thread_id in ("t", "copy", "copy of it"):
            assert named(saver, thread_id) == [thread_id] * 3
        for copied, item in zip(saver.list(at("copy")), before, strict=True):
            assert copied.checkpoint == item.checkpoint
            assert {**copied.metadata, "thread_id": ""} == {**item.metadata, "thread_id": ""}
        assert list(saver.list(at("t"))) == before


class Refusing(JsonPlusSerializer):
    """Reads nothing while it is told so, as where the application's classes are not at hand."""

    refuses = False

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if self.refuses:
            raise ValueError("unknown")
        return super().loads_typed(data)


@pytest.mark.parametrize("home", HOMES)
def test_metadata_that_cannot_be_read_are_copied_as_they_are(redis_url: str, postgres_url: str, home: str) -> None:
    serde = Refusing()
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external", serde=serde) as saver:
        put(saver, at("t"), {"a": 1}, thread_id="t", **EXACT["exact"])
        settle(saver, "t", home)
        serde.refuses = True
        saver.copy_thread("t", "copy")
        serde.refuses = False
        [source], [copy] = saver.list(at("t")), saver.list(at("copy"))
        assert copy.metadata == source.metadata
        assert copy.metadata.get("thread_id") == "t"
