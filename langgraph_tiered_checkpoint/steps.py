"""The vocabulary of plans: what a plan can ask its runner to do. No I/O, no clock.

A plan is a generator that yields steps and is sent their replies, so that every operation is written once and
runs unchanged under the sync and the async runner, and under a unit test that scripts the replies.

A step knows the type of its reply: a plan writes `reply = yield from step`, which yields the step itself, and makes of
the raw reply what the step is for. What cannot be made anything of is an error of the step, raised in the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from langgraph_tiered_checkpoint.errors import (
    DEFECTS,
    ConfigurationError,
    DamagedThreadError,
    TieredCheckpointError,
    UnexpectedError,
    UnreadableValueError,
)
from langgraph_tiered_checkpoint.records import Unreadable, UnreadableValue

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


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

    def __iter__(self) -> Plan[T]:
        reply: T = yield self
        return reply


SERVER_RUN: Final = "the server's run id"
"""As the last argument of a script: the port puts the id there under which the server that answers is running, or ""
where the server does not tell. A restart or a failover changes it."""


@dataclass(frozen=True, slots=True)
class Lua(Generic[R_co]):
    """One atomic script on one hash slot; the reply is what `parse` makes of the script's."""

    script: str
    """The name of a file in hot/lua/, without its ending."""
    keys: tuple[str, ...]
    args: tuple[bytes | str, ...]
    thread: str
    parse: Callable[[Any], R_co]
    """Raises what it likes where a reply has no meaning."""

    def __iter__(self) -> Plan[R_co]:
        return self.read((yield self))

    def read(self, reply: Any) -> R_co:
        """The script's reply, parsed.

        Raises:
            UnexpectedError: it has no meaning.
            DamagedThreadError: some of what is stored cannot be read.
        """
        try:
            return self.parse(reply)
        except TieredCheckpointError:
            raise
        except (Unreadable, *DEFECTS) as exc:
            raise misread(exc, self) from exc


@dataclass(frozen=True, slots=True)
class LuaBatch(Generic[R_co]):
    """Independent scripts, possibly on several slots, sent together; the reply lists their replies. See `together`."""

    calls: tuple[Lua[R_co], ...]

    def __iter__(self) -> Plan[list[R_co]]:
        replies: list[Any] = yield self
        return [call.read(reply) for call, reply in zip(self.calls, replies, strict=True)]


def together(calls: Iterable[Lua[R_co]]) -> Plan[list[R_co]]:
    """The replies of independent scripts: none is no step, and one is sent as it is."""
    match tuple(calls):
        case ():
            return []
        case (call,):
            return [(yield from call)]
        case several:
            return (yield from LuaBatch(several))


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

    def __iter__(self) -> Plan[bool]:
        reply: bool = yield self
        return reply


@dataclass(frozen=True, slots=True)
class Ask:
    """Questions to Redis about itself; the reply has an answer to each, an exception where it is refused.

    They go to one server; in a cluster, where its client sends them.
    """

    commands: tuple[tuple[str, ...], ...]

    def __iter__(self) -> Plan[list[Any]]:
        reply: list[Any] = yield self
        return reply


class Pooling(NamedTuple):
    """What is between us and Postgres."""

    between: bool = False
    """Whether something hands on what we send: we are not told the number of the process that serves us."""
    shared: bool = False
    """Whether it lets other connections of ours use our session, between two transactions."""
    forgets: bool | None = None
    """If shared, whether prepared statements are lost then; None if that could not be seen."""
    prepares: bool = True
    """Whether our connections prepare statements."""
    closes: bool = True
    """Whether the libpq here can say that a prepared statement is done with, so that a pooler notices."""


@dataclass(frozen=True, slots=True)
class AskPooling:
    """Find out what is between us and Postgres. Opens two connections of its own."""

    def __iter__(self) -> Plan[Pooling]:
        reply: Pooling = yield self
        return reply


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float

    def __iter__(self) -> Plan[None]:
        yield self


@dataclass(frozen=True, slots=True)
class Lanes:
    """Independent plans, run at once. The first error of any is raised when all have ended."""

    plans: tuple[Generator[Any, Any, Any], ...]

    def __iter__(self) -> Plan[None]:
        yield self


@dataclass(frozen=True, slots=True)
class Behind:
    """A plan that need not be waited for; the reply comes when its first step, a `Lua`, has been sent.

    So what is asked next comes after that step. The plan sees to its own errors, and may be begun a second time: what
    it asks can be repeated. If the process ends before it does, nobody goes on with it.
    """

    plan: Callable[[], Generator[Any, Any, None]]
    server_run: str | None = None
    """The run id of the Redis that the caller has to do with. If another one answers by now, the plan is waited for."""

    def __iter__(self) -> Plan[None]:
        yield self


Step = Lua[Any] | LuaBatch[Any] | Ask | Tx[Any] | Alone | AskPooling | Pause | Lanes | Behind
Plan = Generator[Step, Any, T]


def said_of(step: Step) -> str:
    """How messages call a step."""
    match step:
        case Lua():
            return f"{step.script} of thread {step.thread!r}"
        case LuaBatch():
            first = step.calls[0]
            return f"{first.script} of thread {first.thread!r} and {len(step.calls) - 1} more"
        case Ask():
            return " ".join(step.commands[0])
        case Tx() | Alone():
            return step.name if step.thread == "*" else f"{step.name} of thread {step.thread!r}"
        case _:
            return type(step).__name__


def misread(exc: Exception, step: Step | None) -> TieredCheckpointError:
    """What a plan made of the reply to `step` failed; without a step, what it made of its arguments."""
    if step is None:
        return ConfigurationError(f"the arguments cannot be used: {type(exc).__name__}: {exc}")
    at = said_of(step)
    match exc:
        case UnreadableValue():
            return UnreadableValueError(
                f"{at}: the serde cannot read {exc} ({type(exc.__cause__).__name__}). It was written with another "
                "serde or key, or its bytes are damaged. Read it with the serde that wrote it; nothing was changed"
            )
        case Unreadable():
            return DamagedThreadError(
                f"{at}: {exc} cannot be read ({type(exc.__cause__).__name__}): its bytes are damaged. explain() says "
                "which tiers hold the thread; its other checkpoints can be read by their ids"
            )
        case _:
            return UnexpectedError(
                f"{at}: the reply makes no sense ({type(exc).__name__}: {exc}). Please report it, with what explain() "
                "says of the thread; nothing is known to be lost"
            )
