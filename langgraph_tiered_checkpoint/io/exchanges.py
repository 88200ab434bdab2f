"""What is said to a Redis, and in which order: generators that yield commands and are sent their replies.

What carries them is in redis_sync, redis_async and redis_cluster. redis-py makes the connections, so that TLS,
authentication, Sentinel and RESP versions are its business; what follows is ours, because its clients spend several
times as long on a command as the network does.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, cast

import hiredis
import redis
from redis.exceptions import NoScriptError, ReadOnlyError

from langgraph_tiered_checkpoint.errors import ConfigurationError, StoreChangedError
from langgraph_tiered_checkpoint.hot.durability import info_field
from langgraph_tiered_checkpoint.hot.scripts import script
from langgraph_tiered_checkpoint.incarnations import new_id
from langgraph_tiered_checkpoint.io.addresses import UNNAMED
from langgraph_tiered_checkpoint.io.faults import RequestTooLargeError
from langgraph_tiered_checkpoint.io.opening import dangers, questions
from langgraph_tiered_checkpoint.io.targets import CLIENT_NAME, HotTarget
from langgraph_tiered_checkpoint.plans.binding import Layout, needs_postgres, other_layout
from langgraph_tiered_checkpoint.steps import SERVER_RUN, Lua

SMALLEST_LIMIT_BYTES: Final = 1024 * 1024
"""The least that a server can be told to take as one value."""


MIN_VERSION: Final = (6, 2)


Command = tuple[bytes | str, ...]
"""One command."""


Exchange = Generator[Sequence[Command], list[Any], list[Any]]
"""Yields commands to send together, is sent their replies; an error reply is an exception among them."""


def invoke(calls: Sequence[Lua[Any]], *, one_server: bool = True) -> Exchange:
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


def _with_text(calls: Sequence[Lua[Any]], one_server: bool) -> Iterator[Command]:  # noqa: FBT001 - private
    loaded = set()
    for c in calls:
        text, sha = script(c.script)
        known = one_server and c.script in loaded
        loaded.add(c.script)
        yield ("EVALSHA" if known else "EVAL", sha if known else text, str(len(c.keys)), *c.keys, *c.args)


def packed(commands: Sequence[Command], run_id: str = "") -> list[bytes]:
    """Commands as they go over the wire to a server of that run id."""
    return [hiredis.pack_command(cast("tuple[Any]", addressed(command, run_id))) for command in commands]


def addressed(command: Command, run_id: str) -> Command:
    """A command with the run id of the server that it goes to, if it asks for that."""
    return (*command[:-1], run_id) if command[-1] is SERVER_RUN else command


def check_server(target: HotTarget, check: ServerCheck) -> Exchange:
    """Make sure that the server can be used: its version, and the store that its keys are of. One round trip.

    The connection is given a name, unless the user gave it one; a server that forbids that is none the worse.

    The result is the reply to INFO, for `run_id_of`.

    Raises:
        ConfigurationError: it is too old, or holds another layout under this prefix, or a store that has a Postgres
            where there is none here.
        StoreChangedError: it holds another store than before; Postgres has to be asked which one is right.
        redis.ResponseError: it says nothing of a store yet, and cannot be told.
    """
    key = f"{target.key_prefix}:layout"
    asked: list[Command] = [("INFO", "server"), ("SET", key, check.proposal.text, "NX"), ("GET", key)]
    curious = check.looks and not target.is_cluster
    named = () if target.is_cluster or target.client_name else (("CLIENT", "SETNAME", CLIENT_NAME),)
    info, written, said, *more = yield [*asked, *(questions(target) if curious else ()), *named]
    found = _version(info)
    if found and tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < MIN_VERSION:
        raise ConfigurationError(
            f"Redis at {target.display_url} is version {found}; 6.2 or newer is needed (or Valkey 7.2). Upgrade it"
        )
    for reply in (said, written):
        if isinstance(reply, Exception) and not isinstance(said, bytes | str):
            raise reply  # not if a full server, or a replica, has refused the SET of what is there already
    check.accept(target, said.decode(errors="replace") if isinstance(said, bytes) else str(said))
    if curious:
        check.look(target, more[: len(questions(target))])
    return [info]


def run_id_of(info: object) -> str:
    """Enough of the run id in a reply to INFO to tell runs apart; empty where the server hides it."""
    return info_field(info, "run_id")[:16]


def _version(info: object) -> str:
    """The version in a reply to INFO; empty where the command is forbidden."""
    if isinstance(info, dict) and "redis_version" not in info:  # of a cluster: by node
        return next((_version(of_node) for of_node in info.values()), "")
    return info_field(info, "redis_version")


def weight(commands: Sequence[Command]) -> int:
    """About how many bytes commands are."""
    return sum(len(word) for command in commands for word in command)


def lost_on(commands: Sequence[Command], exc: redis.ConnectionError) -> redis.RedisError:
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
        needs_worker: nobody in this process flushes it.
    """

    def __init__(self, postgres: str | None, *, flushes_later: bool = True, needs_worker: bool = False) -> None:
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
        self._needs_worker = needs_worker

    def look(self, target: HotTarget, replies: Sequence[Any]) -> None:
        """Warn of what will lose data although nothing fails, once."""
        self.looks = False
        needs_worker = self._needs_worker
        self.dangers += dangers(replies, target, flushes_later=self._flushes_later, needs_worker=needs_worker)

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
            raise other_layout(said, target.key_prefix, target.display_url)
        if self._postgres is None:
            if layout.kind != "hot":
                raise needs_postgres(target.key_prefix, target.display_url, layout)
        elif not (self.doubted or self.asking or self._trusts(layout)):
            self.doubted = True
            raise StoreChangedError(
                f"Redis at {target.display_url} (key_prefix {target.key_prefix!r}) is of another store than before. "
                "Nothing was done; repeat the call"
            )
        self.passed = True

    def _trusts(self, layout: Layout) -> bool:
        """Whether threads that are in Redis may be served without a look at Postgres."""
        if self.store:
            return layout.store == self.store
        return layout.kind == "new" or (layout.kind == "bound" and layout.postgres == self._postgres != "")


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
