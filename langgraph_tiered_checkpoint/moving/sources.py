"""Where threads are imported from: what is asked of any saver, and what more is known of those that many people have.

Asked of any saver are `list` and `get_tuple`. That leaves out the task paths and indexes of pending writes, keeps all
values of a thread in memory with some savers, and passes over checkpoints with others. So of LangGraph's own savers,
and of that in langgraph-checkpoint-redis, more is known: see the classes below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple

from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.moving.work import Call, Take, Work

PAGE = 500
_WITH_VALUES = 10
"""Checkpoints that are taken at once to see whose they are."""
_NO_LIMIT = 1_000_000
"""As much as a saver lists without a limit of its own: that of Redis stops at 10,000 otherwise."""

_SPECIAL = str.maketrans({char: "\\" + char for char in "*?[]\\^-"})

Place = tuple[str, str]
"""Of a checkpoint within its thread: its id and namespace."""


class FoundWrite(NamedTuple):
    """One pending write."""

    task_id: str
    idx: int
    channel: str
    value: Any
    task_path: str


class Found(NamedTuple):
    """One checkpoint with its pending writes."""

    read: CheckpointTuple
    writes: Sequence[FoundWrite]


class Source(Protocol):
    """Where threads are read, one checkpoint after the other."""

    content_in_ids: bool
    """Whether equal ids mean equal checkpoints, so that those need not be compared."""

    def next_threads(self) -> Work[list[str] | None]:
        """Ids of some more threads, None at the end."""

    def places(self, thread_id: str) -> Work[list[Place]]:
        """Of all checkpoints of a thread, in any order."""

    def checkpoint(self, thread_id: str, place: Place) -> Work[Found | None]:
        """One checkpoint; None if it is gone."""

    def ttl_ms(self, thread_id: str, places: Sequence[Place]) -> Work[int | None]:
        """How long the thread will live if nobody uses it; None for ever."""


def source_of(saver: BaseCheckpointSaver[Any], *, asynchronous: bool) -> Source:
    """What reads a saver, by its sync or its async methods."""
    if hasattr(saver, "storage") and hasattr(saver, "writes"):
        return MemorySource(saver, asynchronous)
    module = next((c.__module__ for c in type(saver).__mro__ if c.__module__.startswith("langgraph.checkpoint.")), "")
    if module.startswith("langgraph.checkpoint.sqlite"):
        return SqliteSource(saver, asynchronous)
    if module.startswith("langgraph.checkpoint.postgres") and "shallow" not in module:
        return PostgresSource(saver, asynchronous)
    if module.startswith("langgraph.checkpoint.redis"):
        from langgraph_tiered_checkpoint.moving.redis_sources import RedisSource

        return RedisSource(saver, asynchronous)
    return AnySource(saver, asynchronous)


class AnySource:
    """A saver of which nothing more is known."""

    content_in_ids = False

    def __init__(self, saver: Any, asynchronous: bool) -> None:  # noqa: FBT001 - of two kinds
        self._saver = saver
        self._asynchronous = asynchronous
        self._all: Any = None
        self._seen: set[str] = set()

    def next_threads(self) -> Work[list[str] | None]:
        if self._all is None:
            self._all = self._listing(None)
        try:
            page = yield Take(self._all, _WITH_VALUES)
        except NotImplementedError as exc:
            kind = type(self._saver).__name__
            other = "import_threads" if self._asynchronous else "aimport_threads"
            raise ConfigurationError(f"{kind} does not implement these methods: use {other}") from exc
        if not page:
            return None
        ids = dict.fromkeys(str(found.config["configurable"]["thread_id"]) for found in page)
        fresh = [thread_id for thread_id in ids if thread_id not in self._seen]
        self._seen.update(fresh)
        return fresh

    def places(self, thread_id: str) -> Work[list[Place]]:
        places: list[Place] = []
        listed = self._listing({"configurable": {"thread_id": thread_id}})
        while page := (yield Take(listed, 1)):  # with its values: one at a time
            at = page[0].config["configurable"]
            places.append((page[0].checkpoint["id"], at.get("checkpoint_ns") or ""))
        return places

    def checkpoint(self, thread_id: str, place: Place) -> Work[Found | None]:
        id_, ns = place
        saver = self._reader(thread_id, place)
        get = saver.aget_tuple if self._asynchronous else saver.get_tuple
        read = yield Call(get, (config_of(thread_id, ns, id_),))
        if read is None or read.checkpoint["id"] != id_:
            return None
        return Found(read, (yield from self._writes(thread_id, place, read)))

    def ttl_ms(self, thread_id: str, places: Sequence[Place]) -> Work[int | None]:  # noqa: ARG002
        yield from ()
        return None

    def _reader(self, thread_id: str, place: Place) -> Any:  # noqa: ARG002
        return self._saver

    def _writes(self, thread_id: str, place: Place, read: CheckpointTuple) -> Work[list[FoundWrite]]:  # noqa: ARG002
        yield from ()
        return in_order(read.pending_writes or ())

    def _listing(self, config: RunnableConfig | None) -> Any:
        listing = self._saver.alist if self._asynchronous else self._saver.list
        return listing(config, limit=_NO_LIMIT)


def in_order(writes: Iterable[tuple[str, str, Any]]) -> list[FoundWrite]:
    """Writes whose task paths and indexes are not known, with such as keep them in order.

    The order of tasks in which a saver gives them is that of their paths, where it keeps any.
    """
    tasks: dict[str, list[tuple[str, Any]]] = {}
    for task_id, channel, value in writes:
        tasks.setdefault(task_id, []).append((channel, value))
    ordered = list(tasks) == sorted(tasks)
    found = []
    for number, (task_id, of_task) in enumerate(tasks.items()):
        path = "" if ordered else f"~{number:08}"
        plain = [write for write in of_task if write[0] not in WRITES_IDX_MAP]
        for channel, value in of_task:
            if channel in WRITES_IDX_MAP:
                found.append(FoundWrite(task_id, WRITES_IDX_MAP[channel], channel, value, path))
        found += [FoundWrite(task_id, idx, *write, path) for idx, write in enumerate(plain)]
    return found


class MemorySource(AnySource):
    """`InMemorySaver`: what it holds is looked at."""

    def next_threads(self) -> Work[list[str] | None]:
        yield from ()
        if self._all is not None:
            return None
        self._all = list(self._saver.storage)
        return [str(thread_id) for thread_id in self._all]

    def places(self, thread_id: str) -> Work[list[Place]]:
        yield from ()
        spaces = self._saver.storage.get(thread_id) or {}
        return [(id_, ns) for ns, of_space in spaces.items() for id_ in of_space]

    def _writes(self, thread_id: str, place: Place, read: CheckpointTuple) -> Work[list[FoundWrite]]:  # noqa: ARG002
        yield from ()
        stored = self._saver.writes.get((thread_id, place[1], place[0]), {})
        loads = self._saver.serde.loads_typed
        return [
            FoundWrite(task_id, idx, channel, loads(typed), path)
            for (_, idx), (task_id, channel, typed, path) in stored.items()
        ]


class SqlSource(AnySource):
    """A saver with tables that are read beside it."""

    _mark: str
    _writes_table: str
    _value: str
    _path = "task_path"

    def __init__(self, saver: Any, asynchronous: bool) -> None:  # noqa: FBT001 - of two kinds
        super().__init__(saver, asynchronous)
        self._after: str | None = ""

    def next_threads(self) -> Work[list[str] | None]:
        if self._after is None:
            return None
        query = f"SELECT DISTINCT thread_id FROM checkpoints WHERE thread_id > {self._mark} ORDER BY thread_id"  # noqa: S608
        page = [row[0] for row in (yield self._rows(f"{query} LIMIT {PAGE}", self._after))]
        self._after = page[-1] if page else None
        return page or None

    def places(self, thread_id: str) -> Work[list[Place]]:
        query = f"SELECT checkpoint_id, checkpoint_ns FROM checkpoints WHERE thread_id = {self._mark}"  # noqa: S608
        return [tuple(row) for row in (yield self._rows(query, thread_id))]

    def _writes(self, thread_id: str, place: Place, read: CheckpointTuple) -> Work[list[FoundWrite]]:  # noqa: ARG002
        query = (
            f"SELECT task_id, idx, channel, type, {self._value}, {self._path} FROM {self._writes_table} "  # noqa: S608
            f"WHERE thread_id = {self._mark} AND checkpoint_id = {self._mark} AND checkpoint_ns = {self._mark}"
        )
        rows = yield self._rows(query, thread_id, *place)
        loads = self._saver.serde.loads_typed
        return [
            FoundWrite(task_id, idx, channel, loads((type_ or "", bytes(data or b""))), path)
            for task_id, idx, channel, type_, data, path in rows
        ]

    def _rows(self, query: str, *params: str) -> Call:
        return Call(self._afetch if self._asynchronous else self._fetch, (query, params))

    def _fetch(self, query: str, params: Sequence[str]) -> list[Any]:
        raise NotImplementedError

    async def _afetch(self, query: str, params: Sequence[str]) -> list[Any]:
        raise NotImplementedError


class SqliteSource(SqlSource):
    """`SqliteSaver`, `AsyncSqliteSaver`."""

    _mark, _writes_table, _value = "?", "writes", "value"

    @property
    def _path(self) -> str:  # type: ignore[override]
        return "task_path" if getattr(self._saver, "_has_task_path", True) else "''"

    def _fetch(self, query: str, params: Sequence[str]) -> list[Any]:
        with self._saver.cursor(transaction=False) as cursor:
            return list(cursor.execute(query, params))

    async def _afetch(self, query: str, params: Sequence[str]) -> list[Any]:
        await self._saver.setup()
        async with self._saver.lock, self._saver.conn.execute(query, params) as cursor:
            return list(await cursor.fetchall())


class PostgresSource(SqlSource):
    """`PostgresSaver`, `AsyncPostgresSaver`, whose `list` fetches a thread with all its values before it gives any."""

    _mark, _writes_table, _value = "%s", "checkpoint_writes", "blob"

    def _fetch(self, query: str, params: Sequence[str]) -> list[Any]:
        from psycopg import Connection
        from psycopg.rows import tuple_row

        conn = self._saver.conn
        with (
            self._saver.lock,
            nullcontext(conn) if isinstance(conn, Connection) else conn.connection() as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            return list(cursor.execute(query, params).fetchall())

    async def _afetch(self, query: str, params: Sequence[str]) -> list[Any]:
        from psycopg import AsyncConnection
        from psycopg.rows import tuple_row

        conn = self._saver.conn
        async with (
            self._saver.lock,
            nullcontext(conn) if isinstance(conn, AsyncConnection) else conn.connection() as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            return list(await (await cursor.execute(query, params)).fetchall())


def config_of(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    """Names a checkpoint."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def glob_of(prefix: str) -> str:
    """A pattern for Redis that matches what begins with exactly this."""
    return prefix.translate(_SPECIAL) + "*"
