"""Conversations with Redis: what is said (generators, shared), and the sync and async connections that carry it.

redis-py makes the connections, so that TLS, authentication, Sentinel and RESP versions are its business. What
follows is ours, because its clients spend several times as long on a command as the network does.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError, ReadOnlyError

from langgraph_tiered_checkpoint.errors import ConfigurationError, StoreChangedError
from langgraph_tiered_checkpoint.hot.durability import ASKED, dangers, info_field
from langgraph_tiered_checkpoint.hot.scripts import script
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.io.addresses import UNNAMED
from langgraph_tiered_checkpoint.io.faults import RequestTooLargeError
from langgraph_tiered_checkpoint.io.slots import Slots
from langgraph_tiered_checkpoint.io.targets import HotTarget
from langgraph_tiered_checkpoint.plans.binding import Layout, needs_postgres, other_layout
from langgraph_tiered_checkpoint.steps import SERVER_RUN, Lua

logger = logging.getLogger(__name__)

SMALLEST_LIMIT_BYTES: Final = 1024 * 1024
"""The least that a server can be told to take as one value."""

MIN_VERSION: Final = (6, 2)

Words = tuple[bytes | str, ...]
"""One command."""

Conversation = Generator[Sequence[Words], list[Any], list[Any]]
"""Yields commands to send together, is sent their replies; an error reply is an exception among them."""


def invoke(calls: Sequence[Lua], *, one_server: bool = True) -> Conversation:
    """Run scripts; those that the server does not know yet are sent again with their text, which loads them.

    Args:
        calls: what to run.
        one_server: commands arrive at one server, and in order; so each text is sent once.

    Raises:
        redis.ResponseError: the first error among the replies.
    """
    replies = yield [("EVALSHA", script(c.script).sha, str(len(c.keys)), *c.keys, *c.args) for c in calls]
    unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        for i, reply in zip(unknown, (yield list(_with_text([calls[i] for i in unknown], one_server))), strict=True):
            replies[i] = reply
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _with_text(calls: Sequence[Lua], one_server: bool) -> Iterator[Words]:  # noqa: FBT001 - private
    loaded = set()
    for c in calls:
        text, sha = script(c.script)
        known = one_server and c.script in loaded
        loaded.add(c.script)
        yield ("EVALSHA" if known else "EVAL", sha if known else text, str(len(c.keys)), *c.keys, *c.args)


def packed(commands: Sequence[Words], run_id: str = "") -> list[bytes]:
    """Commands as they go over the wire to a server of that run id."""
    return [hiredis.pack_command(cast("tuple[Any]", addressed(words, run_id))) for words in commands]


def addressed(words: Words, run_id: str) -> Words:
    """A command with the run id of the server that it goes to, if it asks for that."""
    return (*words[:-1], run_id) if words[-1] is SERVER_RUN else words


def check_server(target: HotTarget, check: ServerCheck) -> Conversation:
    """Make sure that the server can be used: its version, and the store that its keys are of. One round trip.

    The result is the reply to INFO, for `run_id_of`.

    Raises:
        ConfigurationError: it is too old, or holds another layout under this prefix, or a store that has a Postgres
            where there is none here.
        StoreChangedError: it holds another store than before; Postgres has to be asked which one is right.
        redis.ResponseError: it says nothing of a store yet, and cannot be told.
    """
    key = f"{target.key_prefix}:layout"
    asked: list[Words] = [("INFO", "server"), ("SET", key, check.proposal.text, "NX"), ("GET", key)]
    curious = check.looks and not target.is_cluster
    info, written, said, *more = yield [*asked, *(ASKED if curious else ())]
    found = _version(info)
    if found and tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < MIN_VERSION:
        raise ConfigurationError(
            f"Redis at {target.place} is version {found}; 6.2 or newer is needed (or Valkey 7.2). Upgrade it"
        )
    for reply in (said, written):
        if isinstance(reply, Exception) and not isinstance(said, bytes | str):
            raise reply  # not if a full server, or a replica, has refused the SET of what is there already
    check.accept(target, said.decode(errors="replace") if isinstance(said, bytes) else str(said))
    if curious:
        check.look(more, target.place)
    return [info]


def run_id_of(info: object) -> str:
    """Enough of the run id in a reply to INFO to tell runs apart; empty where the server hides it."""
    return info_field(info, "run_id")[:16]


def _version(info: object) -> str:
    """The version in a reply to INFO; empty where the command is forbidden."""
    if isinstance(info, dict) and "redis_version" not in info:  # of a cluster: by node
        return next((_version(of_node) for of_node in info.values()), "")
    return info_field(info, "redis_version")


def weight(commands: Sequence[Words]) -> int:
    """About how many bytes commands are."""
    return sum(len(word) for words in commands for word in words)


def lost_on(commands: Sequence[Words], exc: redis.ConnectionError) -> redis.RedisError:
    """What it means that a connection that was just made is lost on a request: of a large one, that it is too large."""
    size = weight(commands)
    if size < SMALLEST_LIMIT_BYTES:
        return exc
    return RequestTooLargeError(f"it closed two connections on {size:,} bytes, {exc}")


class ServerCheck:
    """What a saver knows of its store, for all its connections to Redis.

    Args:
        postgres: tells the Postgres apart from others, empty if nothing does; None without a cold tier.
        flushes_later: Redis alone holds what is not flushed yet, also of promoted threads.
    """

    def __init__(self, postgres: str | None, *, flushes_later: bool = True) -> None:
        self.passed = False
        """Whether the server was found fit for use; a cluster client is not asked again."""
        self.store = ""
        """The store that both tiers were found to be of."""
        self.doubted = False
        """Whether Redis says something else by now: nothing is served until Postgres has been asked."""
        self.asking = False
        """Whether that is being found out, so that connections are needed whatever Redis says."""
        self.looks = postgres is not None
        """Whether the server is to be asked how it keeps what it is given, which it is once."""
        self.dangers: list[str] = []
        """What about that will lose data."""
        self._postgres = postgres
        self._flushes_later = flushes_later

    def look(self, replies: Sequence[Any], place: str) -> None:
        """Warn of what will lose data although nothing fails, once."""
        self.looks = False
        self.dangers += dangers(replies, place, flushes_later=self._flushes_later)
        for danger in self.dangers:
            logger.error(danger)
        for danger in self.dangers:
            warnings.warn(danger, RuntimeWarning, stacklevel=2)

    @property
    def proposal(self) -> Layout:
        """What a Redis that says nothing is told: that it is what was there before, or that it is new."""
        if self._postgres is None:
            return Layout("hot")
        if self.store:
            return Layout("bound", self.store, self._postgres)
        return Layout("new", new_id())

    def accept(self, target: HotTarget, said: str) -> None:
        """Judge what a server says of its store.

        Raises:
            ConfigurationError: it cannot be used.
            StoreChangedError: not before Postgres has been asked.
        """
        layout = Layout.parse(said)
        if layout is None:
            raise other_layout(said, target.key_prefix, target.place)
        if self._postgres is None:
            if layout.kind != "hot":
                raise needs_postgres(target.key_prefix, target.place, layout)
        elif not (self.doubted or self.asking or self._trusts(layout)):
            self.doubted = True
            raise StoreChangedError(
                f"Redis at {target.place} (key_prefix {target.key_prefix!r}) is of another store than before. Nothing "
                "was done; repeat the call"
            )
        self.passed = True

    def _trusts(self, layout: Layout) -> bool:
        """Whether threads that are in Redis may be served without a look at Postgres."""
        if self.store:
            return layout.store == self.store
        return layout.kind == "new" or (layout.kind == "bound" and layout.postgres == self._postgres != "")


class _Connection(Protocol):
    """What we use of redis-py's sync connections."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...  # noqa: FBT001 - redis-py's
    def read_response(self, disable_decoding: bool) -> Any: ...  # noqa: FBT001 - redis-py's


def connection_settings(pool: Any, timeout_s: float, no_retry: object) -> dict[str, Any]:
    """Keyword arguments for a connection as the pool would make it, but bounded in time; retries are our business."""
    settings: dict[str, Any] = {**UNNAMED, **pool.connection_kwargs}
    for name in ("socket_timeout", "socket_connect_timeout"):
        own = settings.get(name)
        settings[name] = timeout_s if own is None else min(own, timeout_s)
    settings |= {"retry": no_retry, "health_check_interval": 0}
    return settings


def is_stale(replies: Sequence[Any]) -> bool:
    """Whether the server said that it is not the one to talk to (any more, or yet)."""
    return any(
        isinstance(reply, ReadOnlyError | redis.ConnectionError)
        or (isinstance(reply, redis.ResponseError) and "-READONLY" in str(reply))
        for reply in replies
    )


class _Line(NamedTuple):
    """A connection, and the run id of the server at its other end."""

    connection: _Connection
    run_id: str


class SyncRedis:
    """Sync connections to one server, for any number of threads.

    A request is sent again once if its connection turns out to be lost: scripts can be repeated.
    """

    def __init__(self, target: HotTarget, check: ServerCheck) -> None:
        self._target = target
        self._check = check
        self._idle: list[_Line] = []
        self._slots = Slots(target.max_connections, target.timeout_s, self._late)

    def run(self, calls: Sequence[Lua]) -> list[Any]:
        """Run scripts, pipelined; their replies.

        Raises:
            redis.RedisError: the server did not answer, or with an error.
        """
        conversation = invoke(calls)
        commands = next(conversation)
        try:
            while True:
                commands = conversation.send(self._exchange(commands))
        except StopIteration as done:
            return cast("list[Any]", done.value)

    def check(self) -> None:
        """Make sure that the server is there and can be used.

        Raises:
            ConfigurationError: it cannot.
            redis.RedisError: it did not answer.
        """
        self._slots.run(lambda: self._idle.append(self._connect()))

    def close(self) -> None:
        """Close the connections that are not in use."""
        with contextlib.suppress(IndexError):  # another thread may take one first
            while True:
                self._idle.pop().connection.disconnect()

    def _late(self) -> redis.RedisError:
        return redis.MaxConnectionsError(
            f"all {self._target.max_connections} were in use for {self._target.timeout_s:g} s"
        )

    def _exchange(self, commands: Sequence[Words]) -> list[Any]:
        return self._slots.run(lambda: self._talk(commands))

    def _talk(self, commands: Sequence[Words]) -> list[Any]:
        try:
            line = self._idle.pop()
        except IndexError:
            line = self._connect()
        try:
            replies = self._attempt(line, commands)
            if not is_stale(replies):
                return replies
        except redis.TimeoutError:
            self.close()  # a server that has vanished without a word would cost every connection its patience
            raise
        except redis.ConnectionError:
            pass
        self.close()
        line = self._connect()
        try:
            return self._attempt(line, commands)
        except redis.ConnectionError as exc:
            raise lost_on(commands, exc) from exc

    def _attempt(self, line: _Line, commands: Sequence[Words]) -> list[Any]:
        """Say it, and keep the line if all was answered: one that an exception left half-way is not used again."""
        try:
            replies = self._say(line.connection, packed(commands, line.run_id))
        except BaseException:
            line.connection.disconnect()
            raise
        if is_stale(replies):
            line.connection.disconnect()
        else:
            self._idle.append(line)
        return replies

    @staticmethod
    def _say(connection: _Connection, data: list[bytes]) -> list[Any]:
        connection.send_packed_command(data, check_health=False)
        replies: list[Any] = []
        for _ in data:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except redis.ResponseError as refusal:
                replies.append(refusal)
        return replies

    def _connect(self) -> _Line:
        pool: Any = self._target.sync_pool
        no_retry = redis.retry.Retry(NoBackoff(), 0)
        connection: _Connection = pool.connection_class(**connection_settings(pool, self._target.timeout_s, no_retry))
        connection.connect()
        conversation = check_server(self._target, self._check)
        try:
            conversation.send(self._say(connection, packed(next(conversation))))
        except StopIteration as done:
            return _Line(connection, run_id_of(done.value[0]))
        except BaseException:
            connection.disconnect()
            raise
        raise AssertionError("unreachable: the conversation is one exchange")


class SyncCluster:
    """A given `redis.RedisCluster`, which has its own connections and retries."""

    def __init__(self, client: redis.RedisCluster, target: HotTarget, check: ServerCheck) -> None:
        self._client: Any = client
        self._target = target
        self._check = check

    def run(self, calls: Sequence[Lua]) -> list[Any]:
        """Run scripts one by one, each on its node; their replies."""
        if not self._check.passed:
            self.check()
        return self._carry(invoke(calls, one_server=False))

    def check(self) -> None:
        """Make sure that the cluster is there and can be used."""
        self._carry(check_server(self._target, self._check))

    def close(self) -> None:
        """The client is the caller's."""

    def _carry(self, conversation: Conversation) -> list[Any]:
        try:
            commands = next(conversation)
            while True:
                commands = conversation.send([self._execute(words) for words in commands])
        except StopIteration as done:
            return cast("list[Any]", done.value)

    def _execute(self, words: Words) -> Any:
        try:
            return self._client.execute_command(*addressed(words, ""), **raw(words))
        except redis.ResponseError as refusal:
            return refusal


def raw(words: Words) -> dict[str, Any]:
    """Options that keep a cluster client from decoding a reply. INFO has to be: it comes as a dict anyway."""
    return {} if words[0] == "INFO" else {NEVER_DECODE: True}
