"""EmbeddedServers: what they promise about data, addresses, errors, and above all about not being left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import redis
from own_redis import binaries
from typing_extensions import Self
from waiting import AT_ONCE_S, HANGS_S, wait_until

from langgraph_tiered_checkpoint.embedded import servers as server_module
from langgraph_tiered_checkpoint.embedded.account import Account
from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers
from langgraph_tiered_checkpoint.errors import ColdTierError, ConfigurationError, HotTierError


@pytest.fixture(autouse=True)
def _servers_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the oldest ones that other tests run on."""
    monkeypatch.delenv("LGT_REDIS_SERVER", raising=False)


linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc, or needs prctl")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def socket_dir(servers: EmbeddedServers) -> Path:
    return Path(parse_qs(urlsplit(servers.postgres_url).query)["host"][0])


def redis_ask(servers: EmbeddedServers, *command: str) -> object:
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        reply: object = client.execute_command(*command)
        return reply


def postgres_ask(servers: EmbeddedServers, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def path() -> Iterator[Path]:
    """A path that servers which don't run as root can reach; pytest's own temporary directories are private."""
    with tempfile.TemporaryDirectory(prefix="lgt-test-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "state"


class Parent:
    """Another Python process, with embedded servers of its own; `script` finds them in `servers`."""

    def __init__(self, script: str, path: Path | None = None) -> None:
        code = f"""
            import os, signal, sys, time
            from langgraph_tiered_checkpoint.embedded.client import EmbeddedServers
            servers = EmbeddedServers({None if path is None else str(path)!r}).start()
            print(servers._process.pid, servers.redis_pid, servers.postgres_pid, flush=True)
        """
        code = textwrap.dedent(code) + textwrap.dedent(script)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        self.supervisor, self.redis, self.postgres = map(int, self.output.readline().split())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:
            pass

    def expect_nothing_left(self) -> None:
        pids = [self.supervisor, self.redis, self.postgres]
        wait_until(lambda: not any(map(alive, pids)), "the end of supervisor, Redis and Postgres")


def test_servers_run_durably_and_in_the_documented_configuration(servers: EmbeddedServers) -> None:
    config = redis_ask(servers, "CONFIG", "GET", "append*")
    assert isinstance(config, dict)
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")
    assert postgres_ask(servers, "SELECT current_database(), current_user, current_setting('fsync')") == [
        ("app", "postgres", "off")
    ]
    assert postgres_ask(
        servers, "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'app'"
    ) == [("C", "UTF8")]


def test_strangers_reach_neither_server(servers: EmbeddedServers) -> None:
    port = urlsplit(servers.redis_url).port
    assert port is not None
    with redis.Redis(host="127.0.0.1", port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert stat.S_IMODE(socket_dir(servers).stat().st_mode) == 0o700
    assert postgres_ask(servers, "SHOW listen_addresses") == [("",)]


def test_close_stops_everything_and_removes_temporary_data() -> None:
    with EmbeddedServers() as servers:
        sockets = socket_dir(servers)
        pids = [pid for pid in (servers.redis_pid, servers.postgres_pid) if pid]
        assert sockets.exists()
        assert len(pids) == 2
    assert not sockets.parent.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    servers.close()
    with pytest.raises(ConfigurationError, match="not running"):
        _ = servers.redis_url


def test_one_object_can_be_started_again() -> None:
    servers = EmbeddedServers()
    with servers:
        redis_ask(servers, "SET", "k", "v")
    with servers:
        assert servers.start() is servers
        assert redis_ask(servers, "GET", "k") is None


def test_path_keeps_the_data_of_both(path: Path) -> None:
    with EmbeddedServers(path) as servers:
        redis_ask(servers, "SET", "k", "v")
        postgres_ask(servers, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedServers(os.fspath(path)) as servers:
        assert redis_ask(servers, "GET", "k") == "v"
        assert postgres_ask(servers, "SELECT answer FROM kept") == [(42,)]
        assert postgres_ask(servers, "SHOW fsync") == [("on",)]


def test_servers_of_the_extra_are_current_ones() -> None:
    with EmbeddedServers() as servers, redis.Redis.from_url(servers.redis_url) as client:
        assert client.info("server")["valkey_version"] >= "9."


def test_data_that_an_older_redis_has_kept_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LGT_REDIS_SERVER", str(binaries()["redis 6.2"]))
    with EmbeddedServers(path) as older:
        redis_ask(older, "SET", "k", "v")
        redis_ask(older, "HSET", "h", "field", "value")
    monkeypatch.delenv("LGT_REDIS_SERVER")
    for _ in range(2):
        with EmbeddedServers(path) as servers:
            assert redis_ask(servers, "GET", "k") == "v"
            assert redis_ask(servers, "HGET", "h", "field") == "value"


def test_path_too_long_for_a_socket_works(path: Path) -> None:
    with EmbeddedServers(path / ("long" * 30)) as servers:
        assert postgres_ask(servers, "SELECT 1") == [(1,)]


def test_path_in_use_is_refused_at_once(path: Path) -> None:
    with EmbeddedServers(path) as servers:
        started = time.monotonic()
        with pytest.raises(ConfigurationError, match="in use"):
            EmbeddedServers(path).start()
        assert time.monotonic() - started < AT_ONCE_S
        assert redis_ask(servers, "PING") is True
        assert postgres_ask(servers, "SELECT 1") == [(1,)]


def test_path_that_is_no_directory_is_refused(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(ConfigurationError, match=r"cannot keep|out of reach"):
        EmbeddedServers(path).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres as somebody else")
def test_root_is_told_when_the_path_is_out_of_reach_for_postgres(path: Path) -> None:
    path.parent.chmod(0o700)
    with pytest.raises(ConfigurationError, match="out of reach"):
        EmbeddedServers(path).start()


@linux_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres as somebody else")
def test_root_may_have_installed_where_postgres_cannot_look(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langgraph_tiered_checkpoint.embedded.client import _postgres_bin, _redis_server

    monkeypatch.delenv("LGT_POSTGRES_BIN", raising=False)
    package = _postgres_bin().parents[1]
    hidden = path.parent / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(package / "pginstall", hidden / package.name / "pginstall", symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), hidden / f"{package.name}.libs")
    redis_server = shutil.copy2(_redis_server(), hidden)
    monkeypatch.setenv("LGT_POSTGRES_BIN", str(hidden / package.name / "pginstall" / "bin"))
    monkeypatch.setenv("LGT_REDIS_SERVER", str(redis_server))
    with EmbeddedServers() as servers:
        assert postgres_ask(servers, "SELECT 1") == [(1,)]
        assert redis_ask(servers, "PING") is True


def test_several_start_at_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda _: EmbeddedServers().start(), range(4)))
    try:
        assert len({servers.redis_url for servers in several}) == 4
        for number, servers in enumerate(several):
            redis_ask(servers, "SET", "k", str(number))
            postgres_ask(servers, f"CREATE TABLE k AS SELECT {number} AS v")
        for number, servers in enumerate(several):
            assert redis_ask(servers, "GET", "k") == str(number)
            assert postgres_ask(servers, "SELECT v FROM k") == [(number,)]
    finally:
        for servers in several:
            servers.close()


def test_lost_port_is_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langgraph_tiered_checkpoint.embedded.client import _redis_server

    path.mkdir(mode=0o755)
    with socket.create_server(("127.0.0.1", 0)) as taken, (path / "lock").open("w") as lock:
        ports = iter([taken.getsockname()[1], server_module.free_port()])
        monkeypatch.setattr(server_module, "free_port", lambda: next(ports))
        account = Account(None)
        binary = account.executable(_redis_server(), _redis_server(), path / "staging")
        hot = server_module.Redis(account, path, lock.fileno(), binary)
        try:
            hot.start()
            assert hot.port != taken.getsockname()[1]
        finally:
            hot.kill()


def test_killed_servers_come_back_at_the_same_address_with_their_data() -> None:
    with EmbeddedServers() as servers:
        urls = servers.redis_url, servers.postgres_url
        redis_ask(servers, "SET", "k", "v")
        postgres_ask(servers, "CREATE TABLE kept AS SELECT 42 AS answer")
        idle = psycopg.connect(servers.postgres_url, autocommit=True)

        servers.kill_redis()
        assert servers.redis_pid is None
        with pytest.raises(redis.ConnectionError):
            redis_ask(servers, "PING")
        servers.restart_redis()
        assert redis_ask(servers, "GET", "k") == "v"

        servers.kill_postgres()
        assert servers.postgres_pid is None
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            postgres_ask(servers, "SELECT 1")
        servers.restart_postgres()
        assert postgres_ask(servers, "SELECT answer FROM kept") == [(42,)]
        idle.close()

        assert (servers.redis_url, servers.postgres_url) == urls


def test_restart_of_running_servers_is_orderly() -> None:
    with EmbeddedServers() as servers:
        before = servers.redis_pid, servers.postgres_pid
        redis_ask(servers, "SET", "k", "v")
        servers.restart_redis()
        servers.restart_postgres()
        assert redis_ask(servers, "GET", "k") == "v"
        assert postgres_ask(servers, "SELECT 1") == [(1,)]
        assert not {servers.redis_pid, servers.postgres_pid} & set(before)


def test_postgres_killed_behind_our_back_can_be_restarted() -> None:
    with EmbeddedServers() as servers:
        idle = psycopg.connect(servers.postgres_url)
        assert servers.postgres_pid is not None
        os.kill(servers.postgres_pid, signal.SIGKILL)
        servers.restart_postgres()
        assert postgres_ask(servers, "SELECT 1") == [(1,)]
        idle.close()


def test_paused_servers_do_not_hold_up_close() -> None:
    with EmbeddedServers() as servers:
        for pid in (servers.redis_pid, servers.postgres_pid):
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
    assert time.monotonic() - started < AT_ONCE_S


@linux_only
@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_parent(killer: signal.Signals) -> None:
    with Parent("time.sleep(600)") as parent:
        parent.process.send_signal(killer)
        parent.process.wait()
        parent.expect_nothing_left()


@linux_only
@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_supervisor(killer: signal.Signals) -> None:
    script = """
        print(servers._status["scratch"], flush=True)
        sys.stdin.readline()
        servers.close()
    """
    with Parent(script) as parent:
        scratch = Path(parent.output.readline().strip())
        os.kill(parent.supervisor, killer)
        wait_until(lambda: not alive(parent.redis) and not alive(parent.postgres), "the end of Redis and Postgres")
        parent.process.communicate("\n", timeout=HANGS_S)
        assert parent.process.returncode == 0
        assert not scratch.exists()


@linux_only
def test_lost_supervisor_is_an_error(path: Path) -> None:
    servers = EmbeddedServers(path).start()
    assert servers._process is not None
    servers._process.kill()
    with pytest.raises(Exception, match="ended with status"):
        servers.restart_redis()
    servers.close()
    with EmbeddedServers(path) as successor:
        assert postgres_ask(successor, "SELECT 1") == [(1,)]


@linux_only
def test_forked_child_does_not_keep_the_servers_alive() -> None:
    script = """
        child = os.fork()
        if child == 0:
            time.sleep(600)
        print(child, flush=True)
    """
    with Parent(script) as parent:
        child = int(parent.output.readline())
        try:
            assert parent.process.wait(HANGS_S) == 0
            parent.expect_nothing_left()
            assert alive(child)
        finally:
            os.kill(child, signal.SIGKILL)


@linux_only
def test_forked_child_can_neither_stop_nor_restart_the_servers() -> None:
    script = """
        child = os.fork()
        if child == 0:
            try:
                servers.kill_redis()
            except ValueError as exc:
                print(exc, flush=True)
            servers.close()
            os._exit(0)
        os.waitpid(child, 0)
        servers.restart_redis()
        print(servers.redis_pid, flush=True)
    """
    with Parent(script) as parent:
        assert "belong to the process that started them" in parent.output.readline()
        assert int(parent.output.readline()) != parent.redis


@linux_only
def test_path_is_free_again_after_a_crash(path: Path) -> None:
    with Parent("time.sleep(600)", path) as parent:
        parent.process.kill()
        parent.process.wait()
        with EmbeddedServers(path) as servers:
            assert postgres_ask(servers, "SELECT 1") == [(1,)]


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'langgraph-tiered-checkpoint\[embedded\]'"):
        EmbeddedServers().start()


@pytest.mark.parametrize("variable", ["LGT_REDIS_SERVER", "LGT_POSTGRES_BIN"])
def test_wrong_override_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/nonexistent")
    with pytest.raises(ConfigurationError, match=variable):
        EmbeddedServers().start()


def test_server_that_does_not_start_is_the_tiers_fault_with_its_log(path: Path) -> None:
    with EmbeddedServers(path):
        pass
    version = path / "postgres" / "PG_VERSION"
    version.write_text("9.6\n")
    with pytest.raises(ColdTierError, match=r"(?s)Postgres did not start.*not compatible"):
        EmbeddedServers(path).start()


def test_redis_that_does_not_start_is_the_tiers_fault_with_its_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = path.with_name("redis-server")
    fake.write_text("#!/bin/sh\necho no such luck\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("LGT_REDIS_SERVER", str(fake))
    with pytest.raises(HotTierError, match="no such luck"):
        EmbeddedServers(path).start()


def test_importing_the_module_is_light() -> None:
    code = """
        import sys, types
        package = types.ModuleType("langgraph_tiered_checkpoint")
        package.__path__ = [sys.argv[1]]
        sys.modules[package.__name__] = package
        import langgraph_tiered_checkpoint.embedded.client, langgraph_tiered_checkpoint.embedded.supervisor
        heavy = {"asyncio", "redis", "psycopg", "langgraph", "pydantic"} & set(sys.modules)
        assert not heavy, heavy
    """
    folder = Path(server_module.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), folder], check=False, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
