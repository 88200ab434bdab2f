"""What an error reply of Redis means, in the words of each kind of server and client."""

from __future__ import annotations

import pytest
import redis
from redis import exceptions
from scripted import as_it_is

from langgraph_tiered_checkpoint import errors
from langgraph_tiered_checkpoint.io.faults import translate
from langgraph_tiered_checkpoint.io.redis_async import _refusal
from langgraph_tiered_checkpoint.io.targets import HotTarget
from langgraph_tiered_checkpoint.steps import Lua, LuaBatch

HOT = HotTarget(url="redis://:secret@localhost:1/0")
PUT = Lua("put", ("lgt:{00}:t:t1",), (), "t1", as_it_is)

AROUND = {
    "redis 6.2": "ERR Error running script (call to f_0123456789abcdef0123456789abcdef01234567): @user_script:1: {}",
    "redis 7 and 8": "{} script: 0123456789abcdef0123456789abcdef01234567, on @user_script:1.",
    "valkey 9": "{} script: on @user_script:1.",
}

INSIDE = [
    ("-OOM command not allowed when used memory > 'maxmemory'.", errors.HotFullError, "out of memory.*maxmemory"),
    ("-READONLY You can't write against a read only replica.", errors.HotTierError, "is a replica.*primary"),
    ("-NOREPLICAS Not enough good replicas to write.", errors.HotTierError, "NOREPLICAS Not enough"),
    ("-MISCONF Redis is configured to save RDB snapshots, but", errors.HotTierError, "MISCONF Redis is"),
    ("-MASTERDOWN Link with MASTER is down", errors.HotTierError, "MASTERDOWN Link"),
    ("-CLUSTERDOWN Hash slot not served", errors.HotTierError, "CLUSTERDOWN Hash"),
    ("-TRYAGAIN Multiple keys request during rehashing of slot", errors.HotTierError, "TRYAGAIN Multiple"),
    ("The user executing the script can't run this command or subcommand", errors.HotTierError, "denied.*Grant"),
    ("ACL failure in script: User u has no permissions to run 'restore'", errors.HotTierError, "denied.*Grant"),
    ("Unknown Redis command called from Lua script", errors.HotTierError, "refused .Unknown Redis command"),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", errors.HotRefusedError, "WRONGTYPE.*TYPE"),
    ("user_script:1: attempt to index local 'x' (a nil value)", errors.HotRefusedError, r"report.*explain\(\)"),
    ('LGTDAMAGED its field "n a" cannot be read', errors.DamagedThreadError,
     r"its field \"n a\" cannot be read.*explain\(\).*UNLINK 'lgt:\{00\}:t:t1'.*delete_thread\(\)"),
]  # fmt: skip


def says(server: str, inside: str) -> str:
    """As it stands on the wire."""
    if server == "redis 6.2":
        native = inside.startswith(("-", "The user", "Unknown"))
        return AROUND[server].format(f"@user_script: 1: {inside}" if native else inside)
    said = AROUND[server].format(inside.removeprefix("-"))
    return said if inside.startswith(("-", "WRONGTYPE")) else f"ERR {said}"


@pytest.mark.parametrize("client", ["sync", "async"])
@pytest.mark.parametrize("server", AROUND)
@pytest.mark.parametrize(("inside", "kind", "remedy"), INSIDE, ids=[inside[:20] for inside, *_ in INSIDE])
def test_only_what_was_shown_to_be_unreadable_is_advised_to_be_deleted(
    inside: str, kind: type[errors.TieredCheckpointError], remedy: str, server: str, client: str
) -> None:
    text = says(server, inside)
    raised = _refusal(text) if client == "async" else exceptions_of_redis_py(text)
    error = translate(raised, PUT, HOT, None)
    assert type(error) is kind, error
    with pytest.raises(kind, match=f"put of thread 't1'.*(?:{remedy})"):
        raise error
    assert ("delete" in str(error)) == (kind is errors.DamagedThreadError)
    assert "user_script" not in str(error) or inside.startswith("user_script")


def exceptions_of_redis_py(text: str) -> Exception:
    from redis._parsers.base import BaseParser

    return BaseParser.parse_error(text)  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.parametrize(
    ("raised", "kind", "remedy"),
    [
        (exceptions.NoPermissionError("User u has no permissions"), errors.HotTierError, "denied.*Grant"),
        (exceptions.ClusterDownError("The cluster is down"), errors.HotTierError, "CLUSTERDOWN The cluster"),
        (exceptions.MovedError("1 127.0.0.1:7000"), errors.ConfigurationError, "node of a cluster.*RedisCluster"),
        (exceptions.BusyLoadingError("Redis is loading the dataset"), errors.HotTierError, "still loading"),
        (redis.ResponseError("BUSY Redis is busy running a script."), errors.HotTierError, "BUSY Redis is busy"),
        (exceptions.RedisClusterException("Redis Cluster cannot be connected"), errors.HotTierError, "cannot be conn"),
        (exceptions.SlotNotCoveredError("Slot 1 not covered"), errors.HotTierError, "not covered"),
    ],
)
def test_states_of_the_server_are_nobody_s_data(
    raised: Exception, kind: type[errors.TieredCheckpointError], remedy: str
) -> None:
    error = translate(raised, LuaBatch((PUT, PUT)), HOT, None)
    assert type(error) is kind
    with pytest.raises(kind, match=f"put of thread 't1' and 1 more.*{remedy}"):
        raise error
    assert "delete" not in str(error)
