"""What the drivers raise, in this package's terms. Pure."""

from __future__ import annotations

import re
from typing import TypeVar

import psycopg
import redis
from psycopg import errors as pg
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
)
from typing_extensions import assert_never

from langgraph_tiered_checkpoint.errors import (
    DEFECTS,
    ColdLockedError,
    ColdRefusedError,
    ColdTierError,
    ColdTimeoutError,
    ConfigurationError,
    DamagedThreadError,
    HotFullError,
    HotRefusedError,
    HotTierError,
    SchemaError,
    TieredCheckpointError,
    ValueTooLargeError,
)
from langgraph_tiered_checkpoint.hot.permissions import GRANTS
from langgraph_tiered_checkpoint.io.quoting import words_of
from langgraph_tiered_checkpoint.io.targets import ColdTarget, HotTarget
from langgraph_tiered_checkpoint.records import Unreadable
from langgraph_tiered_checkpoint.steps import (
    Alone,
    Ask,
    AskPooling,
    Behind,
    Lanes,
    Lua,
    LuaBatch,
    Pause,
    Step,
    Tx,
    misread,
    said_of,
)

ErrorT = TypeVar("ErrorT", bound=Exception)

DRIVER_ERRORS = (redis.RedisError, RedisClusterException, psycopg.Error, OSError)
"""What drivers raise. Everything else comes out of what is done with rows, or out of a client that fails."""

_WRONG_SCHEMA = (pg.UndefinedTable, pg.UndefinedColumn, pg.UndefinedFunction, pg.InvalidSchemaName)
_REFUSED = (
    psycopg.DataError,
    psycopg.IntegrityError,
    pg.ProgramLimitExceeded,
    pg.RaiseException,
    pg.InternalError_,  # what a field of more than 1 GB is refused with
    pg.OutOfMemory,
)
_TRANSIENT = (pg.SerializationFailure, pg.DeadlockDetected)
_MOVED = (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.ReadOnlySqlTransaction, pg.IdleSessionTimeout)

# libpq gives failed connections no SQLSTATE, so the text has to do; in other languages it stays a ColdTierError.
_REFUSED_LOGIN = re.compile(
    r"password authentication failed|no password supplied|(role|database) \".*\" does not exist"
)

# What Redis 6.2 puts around what a command inside a script was refused with, and what later ones and Valkey do.
_BEFORE = re.compile(
    r"^(?:ERR )?(?:Error running script \(call to \w+\): @user_script:\d+: )?(?:@user_script: \d+: )?-?"
)
_AFTER = re.compile(r"\s+script: (?:\w+, )?on @user_script:\d+\.$")

_CODE = re.compile(r"[A-Z]{3,}(?= |$)")

# redis-py takes the code off the text where it has a class for it. Subclasses come first.
_CLASSES: dict[type[Exception], str] = {
    MovedError: "MOVED",
    AskError: "ASK",
    ClusterCrossSlotError: "CROSSSLOT",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}

# A script that the user may run, and a command in it that it may not: Redis 6.2, and later ones.
_DENIED = re.compile(r"^The user executing the script can't|^ACL failure in script")


class RequestTooLargeError(redis.ResponseError):
    """The server gives its connection up on this request, and answers others."""


class StatementTimeoutError(psycopg.OperationalError):
    """The server sent nothing for too long; the connection was given up."""


def is_foreign(exc: BaseException) -> bool:
    """Whether `exc` has come from elsewhere, as a soft time limit does out of a signal handler: it is its caller's."""
    return not isinstance(exc, (TieredCheckpointError, Unreadable, *DRIVER_ERRORS, RedisClusterException, *DEFECTS))


def translate(  # noqa: PLR0911 - a table
    exc: Exception, step: Step, hot: HotTarget, cold: ColdTarget | None
) -> Exception:
    """What the plan gets to see instead of `exc`, which `step` raised. The caller sets the cause."""
    if isinstance(exc, TieredCheckpointError) or is_foreign(exc):
        return exc
    match step:
        case Lua():
            return hot_fault(exc, said_of(step), hot.display_url, key=step.keys[0])
        case LuaBatch():
            return hot_fault(exc, said_of(step), hot.display_url)
        case Ask():
            return hot_fault(exc, said_of(step), hot.display_url)
        case Tx() | Alone() | AskPooling():
            if not isinstance(exc, DRIVER_ERRORS):
                return misread(exc, step)
            return cold_fault(exc, said_of(step), cold.display_url if cold is not None else "nowhere")
        case Pause() | Lanes() | Behind():
            return exc
        case _:
            assert_never(step)


def caused_by(fault: Exception, error: ErrorT) -> ErrorT:
    """`error`, which says what `fault` means, with `fault` behind it, and behind that nothing.

    What a driver's error came out of is in its text; its own chain would only be more to scroll past.
    """
    if error is not fault:
        error.__cause__ = fault
        if isinstance(fault, DRIVER_ERRORS):
            fault.__cause__, fault.__suppress_context__ = None, True
    return error


def code_of(exc: Exception) -> tuple[str, str]:
    """The code of a refusal, or "", and its text, whichever server and client it comes from."""
    text = _AFTER.sub("", _BEFORE.sub("", str(exc).strip()))
    for kind, code in _CLASSES.items():
        if isinstance(exc, kind):
            return code, text.removeprefix(f"{code} ")
    if _DENIED.match(text):
        return "NOPERM", text
    found = _CODE.match(text)
    return (found[0], text[found.end() :].lstrip()) if found else ("", text)


def hot_fault(  # noqa: PLR0911 - a table
    exc: Exception, what: str, display_url: str, key: str = ""
) -> TieredCheckpointError:
    """A fault of Redis, or the configuration error behind it."""
    text = str(exc) or type(exc).__name__
    at = f"{what}: Redis at {display_url}"
    match exc:
        case redis.AuthenticationError():
            return ConfigurationError(f"{at} refused the user or password ({text}). Correct the URL or the client")
        case redis.TimeoutError() | TimeoutError():
            tls = (
                "That port may be without TLS: then write redis://. Or it"
                if display_url.startswith("rediss:")
                else "It"
            )
            return HotTierError(
                f"{at} did not answer in time ({text}). {tls} may be overloaded or unreachable; see timeouts.hot"
            )
        case redis.BusyLoadingError():
            return HotTierError(f"{at} is still loading its data. Try again when it is up")
        case redis.MaxConnectionsError():
            return HotTierError(
                f"{at}: no connection became free in time ({text}). Call from fewer threads at once, raise "
                "max_connections (in the URL, or of the client's pool), or see timeouts.hot"
            )
        case redis.ConnectionError() | OSError():
            return HotTierError(f"{at} cannot be reached ({text}). Check that it runs and that the address is right")
        case redis.ResponseError():
            return _refusal(exc, at, key)
        case redis.RedisError() | RedisClusterException():
            return HotTierError(f"{at} refused ({text})")
        case _:  # redis-py's cluster clients, where the cluster changes under them
            return HotTierError(f"{at}: the client failed ({type(exc).__name__}: {text}). Try again")


def _refusal(exc: redis.ResponseError, at: str, key: str) -> TieredCheckpointError:  # noqa: PLR0911 - a table
    """What an error reply means: a state of the server, which concerns every thread, or what it says of this one."""
    code, text = code_of(exc)
    if isinstance(exc, RequestTooLargeError) or text.startswith("Protocol error: invalid bulk length"):
        return ValueTooLargeError(
            f"{at} does not take that much at once ({text}): its proto-max-bulk-len, 512 MB by default, bounds a "
            "value, and its client-query-buffer-limit a call. Nothing of the call was stored. Keep large values "
            "elsewhere, and their names in the state, or raise the limit"
        )
    match code:
        case "OOM":
            return HotFullError(
                f"{at} is out of memory. Raise its maxmemory, shorten ttl and hot_ttl, or lower hot_checkpoints"
            )
        case "READONLY":
            return HotTierError(f"{at} is a replica ({text}). Point the URL at the primary, or use Sentinel")
        case "NOPERM":
            return HotTierError(f"{at} denied something to this user ({text}). Grant it: {GRANTS}")
        case "MOVED" | "ASK" | "CROSSSLOT":
            return ConfigurationError(f"{at} is a node of a cluster ({code} {text}). Pass a RedisCluster client")
        case "WRONGTYPE":
            return HotRefusedError(
                f"{at} holds something else where this package keeps its lists ({code} {text}). Find the key of "
                "the prefix whose TYPE is not as it should be, and who writes there; nothing is known to be lost"
            )
        case "LGTDAMAGED":
            return DamagedThreadError(
                f"{at} holds a hot copy that cannot be read: {text}. explain() says what Postgres holds of the thread. "
                f"If that is to be kept, UNLINK {key!r} in Redis by hand: the next read takes the thread from there, "
                "without what had not been flushed. delete_thread() removes it from both tiers"
            )
        case "" if text.startswith("user_script:"):
            return HotRefusedError(
                f"{at} could not run the script ({text}). Please report it, with what explain() says of the thread; "
                "nothing is known to be lost"
            )
        case _:
            return HotTierError(f"{at} refused ({f'{code} {text}'.strip()})")


def cold_fault(  # noqa: C901, PLR0911, PLR0912 - a table
    exc: Exception, what: str, display_url: str
) -> TieredCheckpointError:
    """A fault of Postgres, or the configuration error behind it."""
    import psycopg_pool  # only its errors, and they are rare

    text = words_of(exc)
    at = f"{what}: Postgres at {display_url}"
    match exc:
        case psycopg_pool.PoolClosed():
            return ConfigurationError(f"{what}: the given pool is not open ({text}). Open it before use")
        case psycopg_pool.PoolTimeout():
            return ColdTierError(
                f"{at}: no connection became free in time ({text}). Raise the pool's max_size, or see timeouts.cold"
            )
        case pg.ConnectionTimeout():
            return ColdTierError(
                f"{at} did not make a connection in time ({text}). If it is a Postgres that listens there, it may be "
                "overloaded; see timeouts.cold"
            )
        case StatementTimeoutError() | pg.QueryCanceled():
            return ColdTimeoutError(f"{at} did not answer in time ({text}). It may be overloaded; see timeouts.cold")
        case pg.ReadOnlySqlTransaction():
            return ColdTierError(
                f"{at} is read-only ({text}): a standby, or out of storage. Point the URL at the primary, or make room"
            )
        case pg.LockNotAvailable():
            return ColdLockedError(f"{at}: others hold what it needs ({text}). Try again")
        case pg.InsufficientPrivilege():
            return ColdTierError(
                f"{at} denied something to this role ({text}). To use the tables it needs USAGE on their schema, and "
                "SELECT, INSERT, UPDATE and DELETE on them; to make them, CREATE on the schema; to change them, to own "
                "them. Grant that, or let their owner run what saver.ddl() prints"
            )
        case pg.DiskFull():
            return ColdTierError(f"{at} is out of storage ({text}). Make room; what waits in Redis is flushed then")
        case pg.DuplicatePreparedStatement() | pg.InvalidSqlStatementName():
            return ColdTierError(
                f"{at} mixes up prepared statements, as behind a transaction pooler ({text}). Pass "
                "prepare_statements=False, or a pool with prepare_threshold=None"
            )
        case _ if isinstance(exc, _WRONG_SCHEMA):
            return SchemaError(f"{at} lacks what this package needs ({text}). Run setup()")
        case _ if isinstance(exc, _REFUSED):
            return ColdRefusedError(f"{at} refused the data ({text}). Trying again will not help by itself")
        case psycopg.OperationalError() if exc.sqlstate is None and _REFUSED_LOGIN.search(text):
            return ConfigurationError(f"{at} refused the login ({text}). Correct the URL")
        case psycopg.OperationalError() | OSError():
            return ColdTierError(f"{at} cannot be reached or has failed ({text}). Check that it runs, and its log")
        case _:
            return ColdTierError(f"{at} refused ({text})")


def may_repeat(exc: Exception, *, closed: bool) -> bool:
    """Whether a transaction that failed with `exc` is worth a second run; `closed`: its connection is lost."""
    if isinstance(exc, StatementTimeoutError):
        return False
    return closed or isinstance(exc, _TRANSIENT + _MOVED)


def is_transient(exc: Exception) -> bool:
    """Whether the connection that `exc` came from is as good as new."""
    return isinstance(exc, _TRANSIENT)
