"""The vocabulary of plans: what a plan can ask its runner to do. No I/O, no clock.

A plan is a generator that yields steps and is sent their replies, so that every operation is written once and
runs unchanged under the sync and the async runner, and under a unit test that scripts the replies.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Sql(NamedTuple):
    """One statement of a transaction. The reply is its rows as tuples (an empty list if it has none)."""

    text: str
    params: Sequence[Any] = ()


Statements = Generator[Sql, list[tuple[Any, ...]], T]


@dataclass(frozen=True, slots=True)
class Tx(Generic[T]):
    """A Postgres transaction; the reply is what `body` returns.

    The runner may run `body` again after a lost connection or a serialization failure, so each call must start
    afresh. A body that raises rolls the transaction back.
    """

    name: str
    thread: str
    """The thread (or threads) concerned, for error messages."""
    body: Callable[[], Statements[T]]
    timeout_ms: int | None = None
    """Statement timeout for this transaction, if tighter than the connection's."""
    together: bool = True
    """Whether its statements must take effect together. If not, each is a transaction of its own, and a lone one
    costs one round trip."""


SERVER_RUN: Final = "the server's run id"
"""As the last argument of a script: the port puts the id there under which the server that answers is running, or ""
where the server does not tell. A restart or a failover changes it."""


class Lua(NamedTuple):
    """One atomic script on one hash slot; the reply is the script's."""

    script: str
    """The name of a file in hot/lua/, without its ending."""
    keys: tuple[str, ...]
    args: tuple[bytes | str, ...]
    thread: str


class LuaBatch(NamedTuple):
    """Independent scripts, possibly on several slots or none at all, sent together; the reply lists their replies."""

    calls: tuple[Lua, ...]


@dataclass(frozen=True, slots=True)
class Alone:
    """Statements that no transaction can hold, by one session at a time; the reply is whether we were the one.

    The lock is taken in a transaction of a connection of its own, which is idle while they run. So the lock ends with
    it, whatever happens, and a transaction pooler keeps it where it was taken.
    """

    name: str
    lock: Sql
    """Its one value says whether we have it; to the end of the transaction."""
    work: Tx[list[str]]
    """Gives the statements, under the lock."""
    patience_s: float
    """How long to wait for each. One that takes longer is left to the server, which goes on with it."""
    thread: str = "*"


class Pause(NamedTuple):
    """Wait; the reply is None."""

    seconds: float


class Lanes(NamedTuple):
    """Independent plans, run at once; the reply is None. The first error of any is raised when all have ended."""

    plans: tuple[Generator[Any, Any, Any], ...]


@dataclass(frozen=True, slots=True)
class Behind:
    """A plan that need not be waited for; the reply is None, and comes when its first step, a `Lua`, has been sent.

    So what is asked next comes after that step. The plan sees to its own errors, and may be begun a second time: what
    it asks can be repeated. If the process ends before it does, nobody goes on with it.
    """

    plan: Callable[[], Generator[Any, Any, None]]
    server_run: str | None = None
    """The run id of the Redis that the caller has to do with. If another one answers by now, the plan is waited for."""


Step = Lua | LuaBatch | Tx[Any] | Alone | Pause | Lanes | Behind
Plan = Generator[Step, Any, T]
