"""What a value takes from its predecessor."""

from __future__ import annotations

import os
import random
import signal
from itertools import pairwise

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_tiered_checkpoint.hot.difference import SHORTEST, Item, difference
from langgraph_tiered_checkpoint.hot.known_values import SMALLEST_BYTES, KnownValues
from langgraph_tiered_checkpoint.records import BlobRow


def rebuilt(base: bytes, items: list[Item]) -> bytes:
    return b"".join(item if isinstance(item, bytes) else base[item[0] : sum(item)] for item in items)


def literal(items: list[Item]) -> int:
    return sum(len(item) for item in items if isinstance(item, bytes))


def messages(numbers: range) -> list[dict[str, object]]:
    source = random.Random(1)
    texts = [source.randbytes(60).hex() for _ in range(numbers.stop)]
    return [{"type": "human", "id": n, "content": texts[n], "kwargs": {}} for n in numbers]


def packed(value: object) -> bytes:
    return ormsgpack.packb(value)


@pytest.mark.parametrize("before", [14, 15, 16, 200, 65_535])
def test_appending_to_a_list_costs_what_is_appended(before: int) -> None:
    base, new = packed(messages(range(before))), packed(messages(range(before + 1)))
    items = difference(base, new)
    assert items is not None
    assert rebuilt(base, items) == new
    assert literal(items) <= len(packed(messages(range(before, before + 1)))) + 6


@pytest.mark.parametrize("before", [15, 300])
def test_appending_deep_inside_a_value_costs_what_is_appended(before: int) -> None:
    def nested(count: int) -> bytes:
        return packed({"summary": "s" * 100, "chat": {"messages": messages(range(count))}, "mood": "calm" * 40})

    base, new = nested(before), nested(before + 1)
    items = difference(base, new)
    assert items is not None
    assert rebuilt(base, items) == new
    assert literal(items) <= len(packed(messages(range(before, before + 1)))) + 60


def test_window_that_moves_on_costs_what_is_new() -> None:
    base, new = packed(messages(range(20))), packed(messages(range(1, 21)))
    items = difference(base, new)
    assert items is not None
    assert rebuilt(base, items) == new
    assert literal(items) <= 2 * len(packed(messages(range(20, 21))))


def test_edit_in_the_middle_costs_what_was_edited() -> None:
    state = messages(range(100))
    base = packed(state)
    state[50]["content"] = "changed " * 30
    new = packed(state)
    items = difference(base, new)
    assert items is not None
    assert rebuilt(base, items) == new
    assert literal(items) <= 400


def test_values_that_have_little_in_common_have_no_difference() -> None:
    source = random.Random(2)
    base = source.randbytes(10_000)
    assert difference(base, source.randbytes(10_000)) is None
    assert difference(base, base[:4_000] + source.randbytes(6_000)) is None


def test_stretches_are_worth_naming() -> None:
    items = difference(packed(messages(range(50))), packed(messages(range(51))))
    assert items is not None
    assert all(item[1] >= SHORTEST for item in items if isinstance(item, tuple))
    assert all(isinstance(a, tuple) or isinstance(b, tuple) for a, b in pairwise(items))


@st.composite
def related(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two byte strings that are made of the same parts, some repeated, some cut."""
    parts = draw(st.lists(st.binary(max_size=200), min_size=1, max_size=6))
    one = draw(st.lists(st.sampled_from(parts), max_size=12))
    other = draw(st.lists(st.sampled_from(parts) | st.binary(max_size=9), max_size=12))
    return b"".join(one), b"".join(other)


@given(pair=related())
def test_any_value_is_rebuilt_from_its_difference(pair: tuple[bytes, bytes]) -> None:
    items = difference(*pair)
    if items is not None:
        assert rebuilt(pair[0], items) == pair[1]


def blob(version: str, data: bytes, *, tag: str = "", type_: str = "msgpack") -> BlobRow:
    return BlobRow("", "messages", version, type_, data, tag)


STATE = packed(messages(range(30)))
NEXT = packed(messages(range(31)))


def test_what_was_written_last_is_the_predecessor() -> None:
    known = KnownValues(10**6)
    known.remember("t", "", [blob("1", STATE)], "op1")
    found = known.difference("t", blob("2", NEXT))
    assert found is not None
    assert (found[0].version, found[0].tag) == ("1", "op1")
    assert known.difference("other", blob("2", NEXT)) is None


def test_what_was_read_counts_under_its_own_tag_and_nothing_counts_without_one() -> None:
    known = KnownValues(10**6)
    known.remember("t", "", [blob("1", STATE)])
    assert known.difference("t", blob("2", NEXT)) is None
    known.remember("t", "", [blob("1", STATE, tag="theirs")])
    found = known.difference("t", blob("2", NEXT))
    assert found is not None
    assert found[0].tag == "theirs"


def test_memory_is_bounded_and_what_was_used_longest_ago_goes_first() -> None:
    known = KnownValues(10 * len(STATE))
    for n in range(40):
        known.remember(f"t{n}", "", [blob("1", STATE)], "op")
    held = [n for n in range(40) if known.known(f"t{n}", "")]
    assert held == list(range(40 - len(held), 40))
    assert 4 <= len(held) <= 10


def test_no_single_value_takes_the_place_of_all_others() -> None:
    known = KnownValues(3 * len(STATE))
    known.remember("t", "", [blob("1", STATE)], "op")
    assert known.difference("t", blob("2", NEXT)) is None


def test_small_and_encrypted_values_are_not_remembered() -> None:
    known = KnownValues(10**6)
    small = STATE[: SMALLEST_BYTES - 1]
    known.remember("t", "", [blob("1", small)], "op")
    assert known.difference("t", blob("2", small + STATE[SMALLEST_BYTES - 1 :])) is None
    known.remember("t", "", [blob("1", STATE, type_="msgpack+aes")], "op")
    assert known.difference("t", blob("2", NEXT, type_="msgpack+aes")) is None


def test_forked_child_is_not_held_up_by_what_a_thread_of_the_parent_was_doing() -> None:
    known = KnownValues(10**6)
    known.remember("t", "", [blob("1", STATE)], "op")
    with known._lock:
        child = os.fork()
        if not child:  # pragma: no cover - in the child
            signal.alarm(10)
            known.remember("t", "", [blob("2", NEXT)], "op")
            os._exit(0 if set(known.known("t", "")) == {"messages"} else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_another_type_is_no_successor() -> None:
    known = KnownValues(10**6)
    known.remember("t", "", [blob("1", STATE)], "op")
    assert known.difference("t", blob("2", NEXT, type_="json")) is None
