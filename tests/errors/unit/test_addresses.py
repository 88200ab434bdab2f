"""URLs are read as the drivers read them, and what is shown of them holds no secret."""

from __future__ import annotations

import string
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from psycopg import conninfo
from psycopg_pool import ConnectionPool

from langgraph_tiered_checkpoint import ConfigurationError, TieredSaver
from langgraph_tiered_checkpoint.io.targets import ColdTarget, HotTarget

ASCII = st.text(st.sampled_from([*map(chr, range(128))]), max_size=3)
HALVES = ("5Ecret", "w0rdS")


def secret(between: str) -> str:
    return between.join(HALVES)


def parts_of_redis(url: str) -> list[dict[str, Any]]:
    target = HotTarget(url=url)
    return [
        dict(target.sync_pool.connection_kwargs),
        dict(target.async_pool.connection_kwargs),
        {"shown": repr(target)},
    ]


def parts_of_postgres(url: str) -> list[dict[str, Any]]:
    target = ColdTarget(url=url)
    return [dict(conninfo.conninfo_to_dict(url)), {"shown": repr(target)}]


@pytest.mark.parametrize(
    ("read", "forms"),
    [
        (
            parts_of_redis,
            [
                "redis://{user}:{password}@{host}:6379/{db}?client_name={more}",
                "rediss://{user}:{password}@{host}/{db}",
                "redis://{user}:{password}@{host}",
                "redis://{host}:6379/{db}?username={user}&password={password}&client_name={more}",
                "rediss://{host}/0?ssl_password={password}&client_name={more}",
                "unix://{user}:{password}@/{db}?client_name={more}",
                "{user}:{password}@{host}:6379",
                "redis:{user}:{password}@{host}",
                "//{user}:{password}@{host}",
                "http://{user}:{password}@{host}",
            ],
        ),
        (
            parts_of_postgres,
            [
                "postgresql://{user}:{password}@{host}:5432/{db}?application_name={more}",
                "postgres://{user}:{password}@{host}/{db}",
                "postgresql://{user}:{password}@{host}",
                "postgresql://{user}:{password}@{host}:1,other:2/{db}",
                "postgresql://{host}/{db}?user={user}&password={password}&application_name={more}",
                "postgresql://{host}/{db}?sslpassword={password}",
                "postgresql+psycopg://{user}:{password}@{host}/{db}",
                "host={host} user={user} password={password} dbname={db} application_name={more}",
                "host={host} password='{password}' dbname={db}",
                "{user}:{password}@{host}/{db}",
                "mysql://{user}:{password}@{host}/{db}",
            ],
        ),
    ],
    ids=["redis", "postgres"],
)
@given(between=ASCII, user=ASCII, host=ASCII, db=ASCII, more=ASCII, which=st.integers(0, 10))
def test_no_part_of_a_password_is_shown_or_taken_for_something_else(
    read: Callable[[str], list[dict[str, Any]]],
    forms: list[str],
    between: str,
    user: str,
    host: str,
    db: str,
    more: str,
    which: int,
) -> None:
    form = forms[which % len(forms)]
    if "=" in form and "://" not in form:  # a backslash there takes in the space after it, and so the next parameter
        user, host, db, more = (part.replace("\\", "\\\\") for part in (user, host, db, more))
    url = form.format(user=f"u{user}", password=secret(between), host=f"h{host}", db=f"{db}", more=f"m{more}")
    try:
        told = read(url)
    except ConfigurationError as refused:
        told = [{"shown": "".join(traceback.format_exception_only(refused))}]
        if not refused.__suppress_context__:
            told.append({"context": refused.__context__})
    for parts in told:
        shown = " ".join(f"{name}={value}" for name, value in parts.items() if "password" not in name)
        for half in HALVES:
            assert half.lower() not in shown.lower(), url


@pytest.mark.parametrize("character", [*string.printable, "\0", "é", "\ud800"])
def test_every_character_in_a_password_is_refused_or_understood(character: str) -> None:
    password = secret(character)
    shown: list[str] = []
    for url, read in (
        (f"redis://u:{password}@127.0.0.1:1/0", parts_of_redis),
        (f"postgresql://u:{password}@127.0.0.1:1/d", parts_of_postgres),
    ):
        try:
            [parts, *_] = read(url)
        except ConfigurationError as refused:
            shown.append(str(refused))
            continue
        assert parts["host"] == "127.0.0.1"
        if character not in "%\t\n\r\0":
            assert parts["password"] == password
    assert "127.0.0.1" not in "".join(shown), "nothing that is cut out is shown"
    if character == "\ud800":
        return
    encoded = secret(f"%{ord(character):02X}" if ord(character) < 128 else character)
    [parts, *_] = parts_of_redis(f"redis://u:{encoded}@127.0.0.1:1/0")
    assert parts["password"] == password
    if character != "\0":
        [parts, *_] = parts_of_postgres(f"postgresql://u:{encoded}@127.0.0.1:1/d")
        assert parts["password"] == password


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (HotTarget(url="redis://localhost"), "redis://localhost:6379/0"),
        (HotTarget(url="rediss://u:p@Host:1/2"), "rediss://host:1/2"),
        (HotTarget(url="redis://:a@b@host/0"), "redis://host:6379/0"),
        (HotTarget(url="redis://host/0?password=p&db=1"), "redis://host:6379/1"),
        (HotTarget(url="unix://u:p@/run/redis.sock?db=1"), "unix:///run/redis.sock"),
        (HotTarget(sync_client=redis.Redis(password="p")), "redis://localhost:6379/0"),
        (ColdTarget(url="postgresql://u:p@h1,h2:7/db?sslpassword=p"), "postgresql://h1,h2:7/db"),
        (ColdTarget(url="postgresql://u:a#b?c@h/db"), "postgresql://h/db"),
        (ColdTarget(url="host=h user=u password=p dbname=d port=7"), "postgresql://h:7/d"),
        (ColdTarget(url="postgresql://u:p@/d?host=/run/pg"), "postgresql:///d?host=/run/pg"),
        (
            ColdTarget(sync_pool=ConnectionPool("postgresql://h/d", kwargs={"password": "p", "port": 7}, open=False)),
            "postgresql://h:7/d",
        ),
        (ColdTarget(sync_pool=ConnectionPool("password='p", open=False)), "the given pool's server"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_place_is_host_port_and_database(target: HotTarget | ColdTarget, shown: str) -> None:
    assert target.display_url == shown


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        (("", None), r"redis: the URL is empty.*looks like redis://"),
        (("localhost:7631", None), r"redis: 'localhost:7631' is no URL.*looks like redis://"),
        (
            ("http://localhost", None),
            r"redis: what was passed, http://\.\.\. is no URL.*like redis://",
        ),
        (("redis://h/0?no_such_option=1", None), r"is no URL that redis-py understands"),
        (("redis://u:p#w@h", None), r"write .* # as %23"),
        (("postgresql://h/d", "redis://h"), r"redis: a URL of Postgres was passed; the URL of Redis comes first"),
        (("redis://h", "redis://h"), r"postgres: a URL of Redis was passed"),
        (("redis://h", ""), r"postgres: the URL is empty.*None"),
        (("redis://h", "postgresql+psycopg://h/d"), r"SQLAlchemy.*postgresql://"),
        (("redis://h", "localhost:5432"), r"postgres: 'localhost:5432' is no URL.*looks like postgresql://"),
        (("redis://h", "postgresql://h:1:2/d"), r"is no URL that libpq understands"),
        (("redis://h:7631", "postgresql://h:7631/d"), r"both said to be at h:7631"),
        (("redis://localhost", "postgresql://127.0.0.1:6379/d"), r"both said to be at localhost:6379"),
    ],
)
def test_url_that_cannot_be_right_is_refused_with_the_form_wanted(urls: tuple[str, str | None], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        TieredSaver.from_urls(*urls)
