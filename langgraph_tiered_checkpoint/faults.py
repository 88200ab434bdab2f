"""What the drivers raise, in this package's terms. Pure."""

from __future__ import annotations

import re

import psycopg
import redis
from psycopg import errors as pg
from redis.exceptions import NoPermissionError
from typing_extensions import assert_never

from langgraph_tiered_checkpoint.errors import (
    ColdRefusedError,
    ColdTierError,
    ColdTimeoutError,
    ConfigurationError,
    HotFullError,
    HotRefusedError,
    HotTierError,
    SchemaError,
    TieredCheckpointError,
)
from langgraph_tiered_checkpoint.quoting import words_of
from langgraph_tiered_checkpoint.steps import Behind, Lanes, Lua, LuaBatch, Pause, Step, Tx
from langgraph_tiered_checkpoint.targets import ColdTarget, HotTarget

DRIVER_ERRORS = (redis.RedisError, psycopg.Error, OSError)
"""What `translate` translates. Everything else that a step raises reaches the plan as it is."""

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

# What Redis answers to any thread, also from inside a script; everything else that fails a script is the thread's.
_STATE_OF_SERVER = re.compile(
    r"\b(BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOPERM|NOREPLICAS|OOM|READONLY|TRYAGAIN)\b"
)


class StatementTimeoutError(psycopg.OperationalError):
    """The server sent nothing for too long; the connection was given up."""


def translate(exc: Exception, step: Step, hot: HotTarget, cold: ColdTarget | None) -> Exception:
    """What the plan gets to see instead of `exc`, which `step` raised. The caller sets the cause."""
    if isinstance(exc, TieredCheckpointError) or not isinstance(exc, DRIVER_ERRORS):
        return exc
    match step:
        case Lua():
            return hot_fault(exc, f"{step.script} of thread {step.thread!r}", hot.place)
        case LuaBatch():
            first = step.calls[0]
            what = f"{first.script} of thread {first.thread!r} and {len(step.calls) - 1} more"
            return hot_fault(exc, what, hot.place)
        case Tx():
            place = cold.place if cold is not None else "nowhere"
            return cold_fault(exc, f"{step.name} of thread {step.thread!r}", place)
        case Pause() | Lanes() | Behind():
            return exc
        case _:
            assert_never(step)


def hot_fault(  # noqa: PLR0911 - a table
    exc: Exception, what: str, place: str
) -> TieredCheckpointError:
    """A fault of Redis, or the configuration error behind it."""
    text = str(exc) or type(exc).__name__
    at = f"{what}: Redis at {place}"
    match exc:
        case redis.AuthenticationError():
            return ConfigurationError(f"{at} refused the user or password ({text}). Correct the URL or the client")
        case redis.TimeoutError() | TimeoutError():
            return HotTierError(
                f"{at} did not answer in time ({text}). It may be overloaded or unreachable; see timeouts.hot"
            )
        case redis.BusyLoadingError():
            return HotTierError(f"{at} is still loading its data. Try again when it is up")
        case redis.ConnectionError() | OSError():
            return HotTierError(f"{at} cannot be reached ({text}). Check that it runs and that the address is right")
        case redis.ResponseError() if "OOM command" in text or "> 'maxmemory'" in text:
            return HotFullError(
                f"{at} is out of memory. Raise its maxmemory, shorten ttl and hot_ttl, or lower hot_checkpoints"
            )
        case redis.ResponseError() if "-READONLY" in text or text.startswith("READONLY"):
            return HotTierError(f"{at} is a replica ({text}). Point the URL at the primary, or use Sentinel")
        case redis.ResponseError() if "user_script" in text and not _STATE_OF_SERVER.search(text):
            return HotRefusedError(f"{at} could not run the script ({text}). The thread's hash is damaged: delete it")
        case NoPermissionError():
            return HotTierError(
                f"{at} denied something to this user ({text}). Grant it; on the keys of the prefix, "
                "+@all -@dangerous +info is enough"
            )
        case _:
            return HotTierError(f"{at} refused ({text})")


def cold_fault(  # noqa: C901, PLR0911 - a table
    exc: Exception, what: str, place: str
) -> TieredCheckpointError:
    """A fault of Postgres, or the configuration error behind it."""
    import psycopg_pool  # only its errors, and they are rare

    text = words_of(exc)
    at = f"{what}: Postgres at {place}"
    match exc:
        case psycopg_pool.PoolClosed():
            return ConfigurationError(f"{what}: the given pool is not open ({text}). Open it before use")
        case psycopg_pool.PoolTimeout():
            return ColdTierError(
                f"{at}: no connection became free in time ({text}). Raise the pool's max_size, or see timeouts.cold"
            )
        case StatementTimeoutError() | pg.QueryCanceled():
            return ColdTimeoutError(f"{at} did not answer in time ({text}). It may be overloaded; see timeouts.cold")
        case pg.ReadOnlySqlTransaction():
            return ColdTierError(
                f"{at} is read-only ({text}): a standby, or out of storage. Point the URL at the primary, or make room"
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
