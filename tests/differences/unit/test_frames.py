"""The record of a checkpoint in the hot tier: what its JSON repeats of the header is stored once, and comes back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from langgraph_tiered_checkpoint.hot.frames import Parts, pack_frame
from langgraph_tiered_checkpoint.records import CheckpointRow

ALPHABET = 'a1,:".\\{}\x01\x07\x1f\n\té'
TEXTS = st.text(alphabet=ALPHABET + "\0", max_size=4)
VERSIONS = st.text(alphabet=ALPHABET, max_size=4)


def row(checkpoint: bytes, versions: list[str], root_id: str = "root") -> CheckpointRow:
    refs = tuple((f"channel {n}", version) for n, version in enumerate(versions))
    return CheckpointRow("ns", "id", "parent", checkpoint, b"{}", None, refs, (), "", root_id, 0)


def unpacked(frame: bytes) -> CheckpointRow:
    return Parts().checkpoint("ns", "id", frame, b"")


@given(
    checkpoint=st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)),
    versions=st.lists(VERSIONS, max_size=40),
    root_id=TEXTS,
    ascii_only=st.booleans(),
)
def test_any_json_comes_back_as_it_was_whatever_the_versions(
    checkpoint: object, versions: list[str], root_id: str, *, ascii_only: bool
) -> None:
    given_row = row(json.dumps(checkpoint, ensure_ascii=ascii_only).encode(), versions, root_id)
    assert unpacked(pack_frame(given_row)) == given_row


def test_versions_and_own_id_are_stored_once() -> None:
    version, id_ = "0" * 100, "1" * 100
    text = json.dumps({"id": id_, "channel_versions": {"a": version, "b": version}, "versions_seen": {"a": version}})
    frame = pack_frame(row(text.encode(), [version], id_))
    assert frame.count(version.encode()) == frame.count(id_.encode()) == 1


def test_more_versions_than_there_are_stand_ins_come_back_and_white_space_too() -> None:
    versions = [f"version {n}" for n in range(100)]
    given_row = row(json.dumps(versions, indent="\t").replace(" ", "\r").encode(), versions)
    assert unpacked(pack_frame(given_row)) == given_row
