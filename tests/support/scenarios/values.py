"""Hypothesis strategies for values of every type that LangGraph's serializer carries. Its classes are importable."""

from __future__ import annotations

import dataclasses
import re
import zoneinfo
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta, timezone
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.types import Interrupt, Send
from pydantic import BaseModel

ZONES = [timezone.utc, timezone(timedelta(hours=-3, minutes=-30), "odd"), zoneinfo.ZoneInfo("Europe/Berlin")]


class Plain(Enum):
    RED = "red"
    ONE = 1


class Text(str, Enum):
    A = "a"


class Number(IntEnum):
    THREE = 3


@dataclasses.dataclass
class Record:
    name: str
    value: Any = None


class Model(BaseModel):
    name: str
    value: Any = None


class Pair(NamedTuple):
    left: Any
    right: Any


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", "nul\0inside", "\0", "\\u0000", "\U0001f600", "e\u0301", "\u2028", "true", "1", "x" * 255, "ä" * 257]
)
names = text.filter(lambda name: "\0" not in name)
"""Names of channels and the like: Postgres refuses NUL in them."""

integers = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([0, 1, -1, 2**53 + 1, 10**15])
floats = st.floats() | st.sampled_from(
    [-0.0, 0.0, 1e22, 1e16, 1.0, 5e-324, 2.2e-308, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf")]
)
moments = st.datetimes(timezones=st.sampled_from([None, *ZONES])) | st.datetimes()
scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    floats,
    text,
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
    moments,
    st.dates(),
    st.times(timezones=st.sampled_from([None, timezone.utc])),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False) | st.decimals(places=2, min_value=-9, max_value=9),
    st.sampled_from([*Plain, *Text, *Number]),
    st.lists(names.filter(lambda part: "/" not in part), max_size=3).map(lambda parts: Path(*parts)),
    st.ip_addresses(),
    st.sampled_from([re.compile("a+", re.IGNORECASE), re.compile("nul\0")]),
    st.sampled_from(ZONES),
)
hashables = st.one_of(
    st.booleans(),
    integers,
    text,
    st.binary(max_size=5),
    st.dates(),
    st.uuids(),
    st.sampled_from([*Plain]),
)
messages = st.one_of(
    st.builds(HumanMessage, content=text, id=text),
    st.builds(AIMessage, content=text, additional_kwargs=st.dictionaries(text, text, max_size=2)),
    st.builds(ToolMessage, content=text, tool_call_id=text),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(text | integers | st.none() | st.booleans(), inner, max_size=3),
        st.sets(hashables, max_size=3),
        st.frozensets(hashables, max_size=3),
        st.builds(Record, text, inner),
        st.builds(Model, name=text, value=inner),
        st.builds(Pair, inner, inner),
        st.builds(Send, text, inner),
        st.builds(Interrupt, value=inner, id=text),
    )


values = scalars | messages | st.recursive(scalars | messages, _containers, max_leaves=8)

UNSERIALIZABLE: Mapping[str, Callable[[], Any]] = {
    "object": object,
    "function": lambda: lambda: None,
    "iterator": lambda: iter([1]),
    "class": lambda: Plain,
    "complex": lambda: 1j,
    "nested object": lambda: {"fine": 1, "not": [object()]},
    "int of 65 bits beside what is no JSON": lambda: [2**64, {1}],
    "key with a lone surrogate": lambda: {"\ud800": 1},
}
