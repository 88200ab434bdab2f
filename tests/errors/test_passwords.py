"""A password with any character in it works, or is refused; no outage shows it."""

from __future__ import annotations

import logging
import string
from datetime import timedelta
from urllib.parse import quote

import psycopg
import pytest
from homes import at, put, values_of
from waiting import wait_until

from langgraph_tiered_checkpoint import ColdTierError, HotTierError, Promotion, TieredSaver, Timeouts

PASSWORD = "5Ecret#w0rd?%2FmOre"
HALVES = ("5ecret", "w0rd", "more")
QUICK = Timeouts(hot=timedelta(seconds=5), drain=timedelta(0))


def shows(text: str) -> bool:
    return any(half in text.lower() for half in HALVES)


@pytest.mark.parametrize("promoter", ["embedded", "external"])
def test_outage_of_postgres_shows_no_password(
    redis_url: str, postgres_url: str, caplog: pytest.LogCaptureFixture, promoter: str
) -> None:
    """libpq takes # and ? in a password, where others see the end of it."""
    url = postgres_url.replace("postgres@", f"postgres:{PASSWORD}@")
    assert url != postgres_url
    settings = {"promotion": Promotion(checkpoints=2), "flush_interval": timedelta(milliseconds=1), "timeouts": QUICK}
    caplog.set_level(logging.DEBUG)
    with TieredSaver.from_urls(redis_url, url, promoter=promoter, **settings) as saver:  # type: ignore[arg-type]
        first = put(saver, at("t"), {"a": 1})
        [database] = (psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"],)
        with psycopg.connect(postgres_url.replace(f"/{database}", "/postgres"), autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
            put(saver, first, {"a": 2}, 2)
            told = [str(saver.stats()), str(saver.explain("t")), repr(vars(saver))]
            assert all("not currently accepting connections" in one for one in told[:2])
            with pytest.raises(ColdTierError) as caught:
                saver.get_tuple(at("another"))
            told.append(str(caught.value))
            if promoter == "embedded":
                wait_until(lambda: "flush postponed" in caplog.text, "the promoter's complaint")
            assert not shows(" ".join([*told, caplog.text]))
            admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
        saver.flush()
        assert values_of(saver, at("t")) == {"a": 2}


@pytest.mark.parametrize("written", ["as it is", "encoded"])
def test_outage_of_redis_shows_no_password_whatever_is_in_it(written: str) -> None:
    told: list[str] = []
    for character in string.printable:
        password = "5Ecret" + (character if written == "as it is" else quote(character, safe="")) + "w0rd"
        try:
            saver = TieredSaver.from_urls(f"redis://user:{password}@127.0.0.1:1/0?client_name=x", timeouts=QUICK)
        except ValueError as refused:
            told.append(str(refused))
            continue
        with pytest.raises(HotTierError, match=r"127\.0\.0\.1:1") as caught:
            saver.get_tuple(at("t"))
        assert not shows(f"{caught.value} {caught.value.__cause__} {vars(saver)}")
    assert not shows(" ".join(told))
    assert not told or written == "as it is"
