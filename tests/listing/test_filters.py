"""A filter gives what Python's equality gives, and Postgres is asked for little else."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from homes import at, put
from statements import connect

from langgraph_tiered_checkpoint import Promotion, TieredSaver
from langgraph_tiered_checkpoint.codec import matches, path_of
from langgraph_tiered_checkpoint.steps import Tx


class Colour(str, enum.Enum):
    RED = "red"


AWKWARD = "\"quoted\" \\ $.x '%s' %(a)s\n\t\x01\x7f"

IN_JSON = [
    *(
        '"text"',
        '"Text"',
        '"1"',
        '"true"',
        '"null"',
        '""',
        json.dumps(AWKWARD),
        '"é"',
        '"red"',
        "null",
        "true",
        "false",
    ),
    *(
        "0",
        "0.0",
        "1",
        "1.0",
        "1.00000000000000000000001",
        "0.99999999999999999999999",
        "2",
        "-1",
        "0.1",
        "0.3",
        "1e15",
    ),
    *(
        "59",
        "9007199254740992",
        "9007199254740993",
        "1" + "0" * 400,
        "0." + "0" * 400 + "1",
        "1e-9",
        '["text", 1]',
        "[]",
    ),
    *('{"a": "text"}', "{}", "[null]", "[true]"),
]
"""What metadata may have under a name, as whoever wrote them spells it."""

WANTED: list[Any] = [
    *("text", "1", "true", "null", "", AWKWARD, "é", "red", "nul\0", "\ud800", Colour.RED, None, True, False),
    *(0, 0.0, -0.0, 1, 1.0, 2, -1, 0.1, 0.1 + 0.2, 59, 59.0, 2**53, 2**53 + 1, 10**400, math.inf, math.nan, 1e-9, 1e15),
    *(["text", 1], [], {"a": "text"}, {}, [None], ("text", 1)),
]


def test_what_postgres_leaves_out_does_not_match(postgres_url: str) -> None:
    rows = ["{}", *(f'{{"k": {value}}}' for value in IN_JSON)]
    narrowed = 0
    with connect(postgres_url) as conn:
        for value in WANTED:
            if (path := path_of({"k": value})) is None:
                continue
            query = b"SELECT m::text, m @@ %s::jsonpath FROM unnest(%s::jsonb[]) AS m"
            for metadata, kept in conn.execute(query, [path, rows]):
                assert kept or not matches(json.loads(metadata), {"k": value}), (metadata, path)
                narrowed += not kept
    assert narrowed > len(WANTED) * len(rows) / 3


@pytest.mark.parametrize("name", ["k", 'k" == 1 || $."a', "a.b", "$", "", AWKWARD, "é", "*", "nul\0"])
def test_names_are_taken_literally(postgres_url: str, name: str) -> None:
    path = path_of({name: "text", "other": None, 5: "never"})
    assert path is not None
    with connect(postgres_url) as conn:
        rows = [json.dumps({name.replace("\0", ""): "text"}), '{"a": "text"}', '{"other": "text"}']
        query = b"SELECT array_agg(m @@ %s::jsonpath) FROM unnest(%s::jsonb[]) AS m"
        [(found,)] = conn.execute(query, [path, rows]).fetchall()
    assert found[0] is True
    if name.isascii() and "\0" not in name:
        assert found[1:] == [False, False]


@pytest.fixture
def saver(redis_url: str, postgres_url: str) -> Iterator[TieredSaver]:
    with TieredSaver.from_urls(redis_url, postgres_url, promotion=Promotion.never(), promoter="external") as made:
        yield made


@pytest.fixture
def fetched(saver: TieredSaver, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each page has brought from Postgres."""
    counts: list[int] = []
    perform = saver._sync._perform

    def noted(step: Any) -> Any:
        reply = perform(step)
        if isinstance(step, Tx) and step.name == "page":
            counts.append(len(reply.listed))
        return reply

    monkeypatch.setattr(saver._sync, "_perform", noted)
    return counts


def listed(saver: TieredSaver, thread_id: str | None, **search: Any) -> list[int]:
    config = None if thread_id is None else at(thread_id)
    return [found.metadata["step"] for found in saver.list(config, **search)]


def test_rows_that_cannot_match_stay_in_postgres(saver: TieredSaver, fetched: list[int]) -> None:
    for thread in range(6):
        config = at(f"t{thread}")
        for step in range(1, 21):
            exact = {"at": math.inf} if step == 5 else {}
            config = put(saver, config, {"n": step}, step, user=f"u{thread}", **exact)
        saver.promote(f"t{thread}")
        saver.evict(f"t{thread}")
    inexact = 6  # one in each thread, which Postgres cannot tell
    assert listed(saver, None, filter={"user": "u3"}) == list(range(20, 0, -1))
    assert sum(fetched) == 20 + inexact - 1
    fetched.clear()
    assert listed(saver, None, filter={"step": 5.0}) == [5] * 6
    assert sum(fetched) == 6
    fetched.clear()
    assert listed(saver, "t2", filter={"step": 7}) == [7]
    assert listed(saver, "t2", filter={"step": 7}, limit=1) == [7]
    assert listed(saver, "t2", filter={"at": math.inf}) == [5]
    assert listed(saver, "t2", filter={"nobody": None, "user": "u2", "step": 3}) == [3]
    assert sum(fetched) <= 2 + 2 + 20 + 2


def test_a_filter_over_both_tiers_gives_what_the_hot_copy_says(saver: TieredSaver) -> None:
    config = put(saver, at("t"), {"n": 1}, 1, tag="old")
    put(saver, config, {"n": 2}, 2, tag="old")
    saver.promote("t")
    saver.evict("t")
    assert saver.get_tuple(at("t")) is not None
    head = saver.get_tuple(at("t"))
    assert head is not None
    again: Any = {"source": "loop", "step": 2, "parents": {}, "tag": "new"}
    saver.put(config, head.checkpoint, again, {})
    assert listed(saver, "t", filter={"tag": "new"}) == [2]
    assert listed(saver, "t", filter={"tag": "old"}) == [1]
