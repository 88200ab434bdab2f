"""Every setting is looked at where it is passed: its type and its range. Opens nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_tiered_checkpoint import Archive, ConfigurationError, Promotion, TieredSaver, Timeouts
from langgraph_tiered_checkpoint.config import SaverSettings

URL = "redis://localhost:6379/0"

NO_DURATION = [5, "1h", True, {}, timedelta(0), timedelta(microseconds=1), timedelta(seconds=-1), timedelta.max]
NO_COUNT = ["5", 5.0, True, 0, -1, [1]]
NO_FLAG = [None, 0, 1, "yes"]
NO_TEXT = ["", 5, b"lgt", "\ud800", ["lgt"]]

WRONG: dict[str, list[Any]] = {
    "ttl": NO_DURATION,
    "hot_ttl": NO_DURATION,
    "flush_interval": [None, *NO_DURATION],
    "hot_checkpoints": NO_COUNT,
    "remembered_bytes": [None, "5", True, -1, 0.5],
    "refresh_on_read": NO_FLAG,
    "auto_setup": NO_FLAG,
    "prepare_statements": NO_FLAG,
    "cold_writes": [None, "sideways", ["behind"], True],
    "promoter": [None, "nobody", ["embedded"], True],
    "key_prefix": [None, "a{b}", "nul\0inside", *NO_TEXT],
    "schema": NO_TEXT,
    "promotion": [{}, {"checkpoints": 5}, Promotion, "never", 5],
    "archive": [{}, {"checkpoints": 5}, Archive, "never", 5],
    "timeouts": [{}, 5, timedelta(seconds=5), Timeouts],
    "inline": [0, "yes"],
    "serde": ["json", 5, object(), JsonPlusSerializer],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_setting_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}=.* must ") as caught:
        TieredSaver.from_urls(URL, **{name: value})
    assert repr(value)[:9] in str(caught.value), "says what was passed"


def test_every_setting_is_among_those_that_are_tried() -> None:
    assert set(WRONG) == set(SaverSettings.__annotations__)


def test_number_where_a_duration_is_wanted_is_told_how_to_become_one() -> None:
    wanted = r"^ttl=3600 must be a datetime\.timedelta, such as timedelta\(seconds=3600\), not int; None means never$"
    with pytest.raises(ConfigurationError, match=wanted):
        TieredSaver.from_urls(URL, ttl=3600)  # type: ignore[arg-type]  # as somebody without mypy


async def agree(candidate: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("record", "name", "value"),
    [
        *((Timeouts, name, value) for name in ("hot", "cold") for value in (None, *NO_DURATION)),
        *((Timeouts, name, value) for name in ("busy", "drain") for value in (None, 5, "1h", timedelta(seconds=-1))),
        *((Promotion, name, value) for name in ("checkpoints", "bytes") for value in NO_COUNT),
        *((Archive, "checkpoints", value) for value in NO_COUNT),
        *((Archive, "idle", value) for value in (5, "1h", True, timedelta(seconds=-1))),
        *((Promotion, "after", value) for value in (5, "1h", True, timedelta(seconds=-1))),
        *((Promotion, name, value) for name in ("on_interrupt", "before_expiry") for value in NO_FLAG),
        *((Promotion, "when", value) for value in (True, "always", agree)),
    ],
)
def test_part_of_a_setting_that_makes_no_sense_is_refused_where_it_is_made(
    record: type[Timeouts | Promotion | Archive], name: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{record.__name__}\.{name}=.* must "):
        record(**{name: value})


def test_settings_at_their_limits_are_taken() -> None:
    nothing = timedelta(0)
    TieredSaver.from_urls(
        URL,
        ttl=timedelta(milliseconds=1),
        hot_ttl=None,
        hot_checkpoints=None,
        remembered_bytes=0,
        promotion=Promotion(after=nothing, checkpoints=1, bytes=None, when=lambda _: True),
        timeouts=Timeouts(hot=timedelta(milliseconds=1), busy=nothing, drain=nothing),
    )


@pytest.mark.parametrize(
    ("ttl", "warned"), [(timedelta(seconds=59), True), (timedelta(minutes=1), False), (None, False)]
)
def test_ttl_that_a_node_may_outlast_is_warned_of(
    caplog: pytest.LogCaptureFixture, ttl: timedelta | None, *, warned: bool
) -> None:
    TieredSaver.from_urls(URL, ttl=ttl)
    assert ("ThreadDeletedError" in caplog.text) == warned


def test_write_through_needs_a_cold_tier() -> None:
    with pytest.raises(ConfigurationError, match="postgres_url"):
        TieredSaver.from_urls(URL, None, cold_writes="through")
