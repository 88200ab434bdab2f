"""Segments of the archive: what goes in comes out, and what is damaged is said to be so."""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_tiered_checkpoint.cold import segments
from langgraph_tiered_checkpoint.cold.packing import Packing
from langgraph_tiered_checkpoint.cold.segments import (
    BlobColumns,
    CheckpointColumns,
    Entry,
    Opened,
    Segment,
    WriteColumns,
    deflated,
    inflated,
    key_of,
)
from langgraph_tiered_checkpoint.errors import DamagedThreadError
from langgraph_tiered_checkpoint.hot.difference import difference
from langgraph_tiered_checkpoint.records import Outline

words = st.text(max_size=8)
bodies = st.binary(max_size=12) | st.integers(0, 40).map(lambda n: b"one turn after the other, " * n)
maybe = st.none() | words


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Checkpoints of some namespaces whose values mostly go on where those before them have ended."""
    made: list[Entry] = []
    values: dict[tuple[str, str], bytes | None] = {}
    for number in range(draw(st.integers(1, 6))):
        ns, id_ = draw(st.sampled_from(["", "sub:1", "é"])), f"{number}"
        blobs = []
        for channel in draw(st.sets(st.sampled_from(["a", "b"]))):
            before = values.get((ns, channel)) or b""
            more = draw(st.none() | bodies)
            value = before + more if more is not None and draw(st.booleans()) else more
            values[ns, channel] = value
            blobs.append(BlobColumns(ns, channel, draw(st.sampled_from(["v1", id_])), draw(words), value))
        blobs = [next((b for e in made for b in e.blobs if b[:3] == blob[:3]), blob) for blob in blobs]
        writes = [
            WriteColumns(ns, id_, task, idx, draw(words), draw(maybe), draw(bodies), draw(words))
            for task, idx in draw(st.sets(st.tuples(words, st.integers(-4, 3)), max_size=3))
        ]
        exact = draw(st.none() | st.tuples(words, st.binary(max_size=80), st.binary(min_size=32, max_size=32)))
        row = CheckpointColumns(ns, id_, draw(maybe), draw(maybe), draw(words), draw(words), *(exact or (None,) * 3))
        outline = Outline(ns, id_, row.parent_id or "", draw(words), draw(st.integers(0, 9)), draw(words))
        made.append(Entry(outline, row, blobs, writes))
    return made


def packed(made: list[Entry], *, compare: bool = True) -> Segment:
    packing = Packing(difference if compare else None)
    for entry in made:
        packing.add(entry)
    return packing.finish()


def opened(segment: Segment) -> Opened:
    return Opened("t", 7, segment.contents, segment.frame)


@given(made=entries(), compare=st.booleans())
def test_what_goes_in_comes_out(made: list[Entry], *, compare: bool) -> None:
    segment = packed(made, compare=compare)
    assert list(opened(segment).entries()) == made
    places = [entry.place for entry in made]
    assert (segment.first, segment.last) == (min(i for _, i in places), max(i for _, i in places))
    for ns, first, last in zip(segment.spaces, segment.firsts, segment.lasts, strict=True):
        ids = [id_ for of, id_ in places if of == ns]
        assert (first, last) == (min(ids), max(ids))
    assert set(segment.spaces) == {ns for ns, _ in places}
    assert sorted(segment.keys) == sorted(map(key_of, places))
    assert set(segment.runs) == {e.outline.run_id for e in made} - {""}


@given(made=entries(), data=st.data())
def test_bytes_that_are_damaged_are_an_error_that_names_thread_segment_and_remedy(
    made: list[Entry], data: st.DataObject
) -> None:
    segment = packed(made)
    part = data.draw(st.sampled_from(["contents", "frame"]))
    whole = getattr(segment, part)
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    bad = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    bad = data.draw(st.sampled_from([bad, whole[:at], whole + b"x"]))
    try:
        assert list(opened(segment._replace(**{part: bad})).entries()) == made
    except DamagedThreadError as exc:
        assert "thread 't'" in str(exc)  # noqa: PT017 - or it is as it was: not every bit of a frame's header matters
        assert "segment 7" in str(exc)  # noqa: PT017
        assert "from a backup" in str(exc)  # noqa: PT017


def longer_than_any(part: bytes) -> bytes:
    return struct.pack("!BI", 1, 2**32 - 1) + part[5:]


def shorter_than_it_is(part: bytes) -> bytes:
    return struct.pack("!BI", 1, 3) + part[5:]


def of_another_format(part: bytes) -> bytes:
    return b"\x02" + part[1:]


@pytest.mark.parametrize("bend", [longer_than_any, shorter_than_it_is, of_another_format])
def test_part_is_not_unpacked_beyond_what_it_may_be(bend: Callable[[bytes], bytes]) -> None:
    bomb = deflated(bytes(50_000_000))
    assert len(bomb) < 10_000
    assert len(inflated(bomb)) == 50_000_000
    with pytest.raises(ValueError, match="bytes"):
        inflated(bend(bomb))


def test_recipe_does_not_make_up_more_than_any_value_can_be() -> None:
    row = CheckpointColumns("", "1", None, None, "{}", "{}", None, None, None)
    made = Entry(Outline("", "1", "", "1", 0, ""), row, [BlobColumns("", "c", "1", "t", bytes(1_000_000))], [])
    segment = packed([made])
    contents = msgpack.unpackb(inflated(segment.contents))
    [[_, _, _, recipe]] = contents[3]
    contents[3][0][3] = recipe * 1_000
    with pytest.raises(DamagedThreadError):
        list(opened(segment._replace(contents=deflated(msgpack.packb(contents)))).entries())


def test_growing_value_costs_what_is_new_in_it() -> None:
    made = []
    for number in range(200):
        value = b"".join(f"message {n} ".encode() * 20 for n in range(number))
        row = CheckpointColumns("", f"{number:03}", None, None, "{}", "{}", None, None, None)
        blob = BlobColumns("", "messages", str(number), "msgpack", value)
        made.append(Entry(Outline("", row.checkpoint_id, "", "", 0, ""), row, [blob], []))
    segment = packed(made)
    assert segment.raw_bytes < 1.2 * len(made[-1].blobs[0].data or b"")
    assert list(opened(segment).entries()) == made


def test_segment_takes_512_checkpoints_and_some_mb() -> None:
    row = CheckpointColumns("", "", None, None, "{}", "{}", None, None, None)
    packing = Packing()
    for number in range(segments.FULL_CHECKPOINTS):
        assert not packing.is_full()
        packing.add(Entry(Outline("", str(number), "", "", 0, ""), row._replace(checkpoint_id=str(number)), [], []))
    assert packing.is_full()
    large = Packing()
    large.add(Entry(Outline("", "", "", "", 0, ""), row, [BlobColumns("", "c", "1", "", bytes(32 * 2**20))], []))
    assert large.is_full()
