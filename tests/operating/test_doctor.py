"""The doctor finds what would break the promises: each check on servers that are really in that condition."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import redis
from homes import at, put
from own_redis import OwnRedis, binaries, cluster_of_one, free_port
from psycopg import sql
from redis.asyncio import RedisCluster as AsyncRedisCluster
from waiting import wait_until

from langgraph_tiered_checkpoint import Check, DoctorReport, Promotion, TieredSaver
from langgraph_tiered_checkpoint.plans.promoting import beat
from langgraph_tiered_checkpoint.plans.verdicts import WHY

pytestmark = pytest.mark.bare  # tables are made, changed and hidden


@pytest.fixture
def opened(redis_url: str, postgres_url: str) -> Iterator[Callable[..., TieredSaver]]:
    """Opens savers that flush nothing; warnings at opening are not what is tested here."""
    made: list[TieredSaver] = []

    def open_saver(redis: Any = redis_url, postgres: str | None = postgres_url, **settings: Any) -> TieredSaver:
        made.append(TieredSaver(redis=redis, postgres=postgres, **{"promoter": "external", **settings}))
        return made[-1]

    yield open_saver
    for saver in made:
        saver.close()


def verdicts(report: DoctorReport) -> dict[str, str]:
    """What is not as it should be."""
    return {check.name: check.verdict for check in report.checks if check.verdict != "ok"}


def the(report: DoctorReport, name: str) -> Check:
    [found] = [check for check in report.checks if check.name == name]
    return found


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def configured(own_redis: OwnRedis) -> Iterator[Callable[..., str]]:
    """The URL of an empty Redis that is configured in some way."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()

        def configure(**settings: str) -> str:
            for name, value in settings.items():
                client.config_set(name.replace("_", "-"), value)
            return own_redis.url

        yield configure
        configure(maxmemory="0", maxmemory_policy="noeviction", appendonly="no", save="3600 1")


# A store that is in order


def test_all_is_well_where_it_is(opened: Callable[..., TieredSaver], configured: Callable[..., str]) -> None:
    saver = opened(redis=configured(maxmemory="100mb"))
    saver.setup()
    saver._sync.run(beat(saver._store, before="", now='["id", "host", 1, "lgt", "1", 0, 0]'))
    report = saver.doctor()
    assert verdicts(report) == {}
    assert report.verdict == "ok"
    assert [check.name for check in report.checks] == list(WHY)
    assert all(check.why and not check.remedy for check in report.checks)
    assert asyncio.run(adoctor(saver)) == report


async def adoctor(saver: TieredSaver) -> DoctorReport:
    try:
        return await saver.adoctor()
    finally:
        await saver._async.aclose()


def test_doctor_makes_nothing_and_changes_nothing(opened: Callable[..., TieredSaver], postgres_url: str) -> None:
    report = opened().doctor()
    assert verdicts(report) == {"memory limit": "warning", "promoter": "warning", "schema": "warning"}
    assert "no tables yet" in the(report, "schema").found
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_without_a_cold_tier_it_is_about_redis_alone(redis_url: str) -> None:
    with TieredSaver.from_urls(redis_url) as saver:
        names = {check.name for check in saver.doctor().checks}
    assert names == {"redis", "redis permissions", "eviction", "persistence", "memory limit", "clocks"}


# Redis


@pytest.mark.filterwarnings("ignore:Redis at:RuntimeWarning")
@pytest.mark.parametrize(
    ("settings", "name", "verdict", "found"),
    [
        ({"maxmemory": "100mb", "maxmemory_policy": "allkeys-lru"}, "eviction", "failure", "allkeys-lru"),
        ({"maxmemory_policy": "allkeys-lfu"}, "eviction", "warning", "once maxmemory is set"),
        ({"save": "", "appendonly": "no"}, "persistence", "failure", "keeps nothing on disk"),
        ({"maxmemory": "0"}, "memory limit", "warning", "not set"),
        ({"maxmemory": "20mb"}, "memory limit", "warning", "of 20 MB are used"),
    ],
    ids=["allkeys", "allkeys without a limit", "on no disk", "no limit", "almost full"],
)
def test_redis_that_does_not_keep_what_it_should(
    opened: Callable[..., TieredSaver],
    configured: Callable[..., str],
    settings: dict[str, str],
    name: str,
    verdict: str,
    found: str,
) -> None:
    with redis.Redis.from_url(configured()) as client:
        client.set("of somebody else", bytes(18_200_000))
    check = the(opened(redis=configured(**settings)).doctor(), name)
    assert check.verdict == verdict
    assert found in check.found
    assert check.remedy


@pytest.mark.filterwarnings("ignore:Redis at:RuntimeWarning")
def test_what_writes_through_needs_no_disk(opened: Callable[..., TieredSaver], configured: Callable[..., str]) -> None:
    saver = opened(redis=configured(save="", appendonly="no"), cold_writes="through")
    assert the(saver.doctor(), "persistence").verdict == "warning"


@pytest.mark.parametrize("server", ["redis 6.2", "redis 8", "valkey 9"])
def test_commands_that_the_redis_user_lacks_are_named(
    opened: Callable[..., TieredSaver], tmp_path: Path, server: str
) -> None:
    own = OwnRedis(tmp_path, binary=binaries()[server])
    own.start()
    try:
        with redis.Redis.from_url(own.url) as client:
            acl = client.execute_command
            acl("ACL", "SETUSER", "app", "on", ">pw", "~lgt:*", "+@all", "-@dangerous", "+info", "-zadd", "-unlink")
            acl("ACL", "SETUSER", "elsewhere", "on", ">pw", "~other:*", "~lgt:layout", "+@all")
        url = own.url.replace("://", "://app:pw@")
        report = opened(redis=url).doctor()
        assert the(report, "redis permissions").found == "the user lacks UNLINK, ZADD"
        assert "+@all -@dangerous +info" in the(report, "redis permissions").remedy
        assert the(report, "persistence").verdict == "unknown"  # CONFIG is among what is dangerous
        assert "CONFIG is refused" in the(report, "persistence").found
        report = opened(redis=own.url.replace("://", "://elsewhere:pw@")).doctor()
        assert the(report, "redis permissions").verdict != "ok"
        assert "pw" not in str(report)
        with redis.Redis.from_url(own.url) as client:
            assert client.keys("*probe") == []  # which nothing could have removed
    finally:
        own.stop()


def test_probing_for_permissions_leaves_no_key(opened: Callable[..., TieredSaver], redis_client: redis.Redis) -> None:
    opened().doctor()
    assert redis_client.keys() == [b"lgt:layout"]


def test_redis_that_does_not_answer_is_told_of_and_postgres_looked_at(opened: Callable[..., TieredSaver]) -> None:
    report = opened(redis="redis://127.0.0.1:1/0").doctor()
    assert the(report, "redis").verdict == "failure"
    assert the(report, "eviction").verdict == the(report, "promoter").verdict == "unknown"
    assert the(report, "postgres").verdict == "ok"
    assert report.verdict == "failure"


def test_nobody_who_flushes(opened: Callable[..., TieredSaver]) -> None:
    saver = opened(promotion=Promotion(checkpoints=1))
    put(saver, at("t"), {"n": 1})
    check = the(saver.doctor(), "promoter")
    assert check.verdict == "failure"
    assert "1 to flush" in check.found
    with opened(promoter="embedded") as flushing:
        wait_until(lambda: the(flushing.doctor(), "promoter").verdict == "ok", "the promoter to be seen")


@pytest.mark.parametrize("twin", ["sync", "async"])
def test_cluster_is_asked_as_well_as_its_client_can(
    opened: Callable[..., TieredSaver], postgres_url: str, tmp_path: Path, twin: str
) -> None:
    async def examined(url: str) -> DoctorReport:
        async with AsyncRedisCluster.from_url(url) as client:
            return await adoctor(TieredSaver(redis=client, postgres=postgres_url, promoter="external"))

    with cluster_of_one(tmp_path) as node:
        if twin == "async":
            report = asyncio.run(examined(node.url))
        else:
            with redis.RedisCluster.from_url(node.url) as client:
                report = opened(redis=client).doctor()
    assert {check.name for check in report.checks if check.verdict == "failure"} == set()
    for name in ("redis", "redis permissions", "eviction", "binding", "clocks"):
        assert the(report, name).verdict == "ok"


# Postgres


def test_postgres_that_does_not_answer(opened: Callable[..., TieredSaver]) -> None:
    report = opened(postgres="postgresql://u:sesame@127.0.0.1:1/db").doctor()
    assert the(report, "postgres").verdict == "failure"
    assert the(report, "schema").verdict == the(report, "pooler").verdict == "unknown"
    assert the(report, "redis").verdict == "ok"
    assert "sesame" not in str(report)


def test_tables_that_are_behind_ahead_or_without_indexes(opened: Callable[..., TieredSaver], postgres_url: str) -> None:
    saver = opened(auto_setup=False)
    assert the(saver.doctor(), "schema").verdict == "failure"
    saver.setup()
    with psycopg.connect(postgres_url, autocommit=True) as dba:
        dba.execute("ALTER TABLE tiered_threads DROP COLUMN copied")
        dba.execute("DROP INDEX tiered_run_id_idx")
        dba.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tiered_order_idx'::regclass")
        report = saver.doctor()
        assert the(report, "schema").verdict == "failure"
        assert "tiered_threads.copied" in the(report, "schema").found
        assert the(report, "indexes").verdict == "warning"
        assert "missing: tiered_run_id_idx; invalid" in the(report, "indexes").found
        assert "tiered_order_idx" in the(report, "indexes").found
        dba.execute("INSERT INTO tiered_migrations (v) VALUES (99)")
        assert the(saver.doctor(), "schema").found.startswith("version 99")


def test_role_that_lacks_what_is_needed_and_sees_not_all(opened: Callable[..., TieredSaver], postgres_url: str) -> None:
    opened().setup()
    with psycopg.connect(postgres_url, autocommit=True) as dba:
        with suppress(psycopg.errors.DuplicateObject):
            dba.execute("CREATE ROLE weak LOGIN")
        dba.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO weak")
        dba.execute("GRANT INSERT, UPDATE ON checkpoints, checkpoint_blobs, checkpoint_writes TO weak")
        dba.execute("ALTER TABLE checkpoints ENABLE ROW LEVEL SECURITY")
    report = opened(postgres=postgres_url.replace("postgres@", "weak@"), auto_setup=False).doctor()
    lacking = the(report, "postgres permissions")
    assert lacking.verdict == "failure"
    for privilege in ("DELETE on checkpoints", "INSERT on tiered_threads", "UPDATE on tiered_migrations"):
        assert privilege in lacking.found
    assert "INSERT on checkpoints," not in lacking.found
    assert the(report, "row security").verdict == "failure"
    assert "checkpoints" in the(report, "row security").found


def test_postgres_that_takes_no_writes(opened: Callable[..., TieredSaver], postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as dba:
        name = sql.Identifier(urlsplit(postgres_url).path[1:])
        dba.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    check = the(opened().doctor(), "postgres")
    assert (check.verdict, "read-only" in check.found) == ("failure", True)


def test_two_stores_on_one_postgres(opened: Callable[..., TieredSaver]) -> None:
    first = opened()
    put(first, at("t"), {"n": 1})
    first.promote("t")
    assert the(first.doctor(), "binding").verdict == "ok"
    check = the(opened(key_prefix="other").doctor(), "binding")
    assert check.verdict == "failure"
    assert "--take-over" in check.remedy
    with pytest.raises(Exception, match="do not belong together"):
        opened(key_prefix="other").promote("t")


def test_redis_that_was_emptied(opened: Callable[..., TieredSaver], redis_client: redis.Redis) -> None:
    first = opened()
    put(first, at("t"), {"n": 1})
    first.promote("t")
    redis_client.flushall()
    check = the(opened().doctor(), "binding")
    assert check.verdict == "warning"
    assert "lost all data" in check.found


def test_clocks_that_differ(opened: Callable[..., TieredSaver], monkeypatch: pytest.MonkeyPatch) -> None:
    saver, now = opened(), time.time
    for off_s, verdict in ((10, "warning"), (-300, "failure")):
        monkeypatch.setattr(time, "time", lambda off_s=off_s: now() + off_s)  # ours is the one that is wrong
        check = the(saver.doctor(), "clocks")
        assert check.verdict == verdict
        assert ("behind" if off_s > 0 else "ahead") in check.found


# Poolers


@pytest.fixture
def pgbouncer(postgres_url: str) -> Iterator[Callable[..., str]]:
    """Starts PgBouncers in front of Postgres, as its user; the URL of each."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("there is no pgbouncer here")
    started: list[subprocess.Popen[bytes]] = []
    parts = urlsplit(postgres_url)
    socket, database = parse_qs(parts.query)["host"][0], parts.path[1:]
    owner = Path(socket).stat()
    as_owner: dict[str, Any] = {} if os.geteuid() else {"user": owner.st_uid, "group": owner.st_gid}
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o755)
        (directory / "users").write_text('"postgres" ""\n')

        def start(mode: str) -> str:
            port, settings = free_port(), directory / "pgbouncer.ini"
            settings.write_text(
                f"[databases]\n{database} = host={socket} user=postgres dbname={database}\n"
                f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
                f"auth_type = trust\nauth_file = {directory}/users\npool_mode = {mode}\n"
            )
            command = [binary, "--quiet", str(settings)]
            started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, **as_owner))
            url = f"postgresql://postgres@127.0.0.1:{port}/{database}"

            def answers() -> bool:
                with suppress(psycopg.OperationalError), psycopg.connect(url):
                    return True
                return False

            wait_until(answers, "PgBouncer to answer", 60)
            return url

        yield start
        for process in started:
            process.kill()
            process.wait()


def test_pooler_that_shares_sessions(opened: Callable[..., TieredSaver], pgbouncer: Callable[..., str]) -> None:
    url = pgbouncer("transaction")
    check = the(opened(postgres=url).doctor(), "pooler")
    assert "shares sessions" in check.found
    assert check.verdict in {"failure", "warning"}  # PgBouncer from 1.21 on knows prepared statements
    assert "prepare_statements=False" in check.remedy
    assert the(opened(postgres=url, prepare_statements=False).doctor(), "pooler").verdict == "ok"


def test_pooler_that_keeps_sessions(opened: Callable[..., TieredSaver], pgbouncer: Callable[..., str]) -> None:
    check = the(opened(postgres=pgbouncer("session")).doctor(), "pooler")
    assert (check.verdict, "keeps each connection its session" in check.found) == ("ok", True)
