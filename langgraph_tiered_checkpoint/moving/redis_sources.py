"""The savers of langgraph-checkpoint-redis, as a source of threads."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from langgraph_tiered_checkpoint.moving.sources import AnySource, FoundWrite, Place, glob_of
from langgraph_tiered_checkpoint.moving.work import Call, Work

_NO_NS = "__empty__"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _many(client: Any, commands: Sequence[tuple[Any, ...]], *, asynchronous: bool) -> Call:
    """Several commands in one round trip."""

    def run() -> Any:
        pipe = client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute()

    async def arun() -> Any:
        return await run()

    return Call(arun if asynchronous else run)


class RedisSource(AnySource):
    """`RedisSaver`, `ShallowRedisSaver` and their async twins.

    Their `list` passes over what comes after the first 10,000, and gives bytes and messages as they are stored; their
    `get_tuple` leaves out writes that came before their checkpoint, and gives others in an order of its own. So their
    keys are found by one `SCAN`, whose ids are remembered, and writes are read where they are stored.
    """

    def __init__(self, saver: Any, asynchronous: bool) -> None:  # noqa: FBT001 - of two kinds
        super().__init__(saver, asynchronous)
        self._redis = saver._redis  # noqa: SLF001 - it has no other name
        self._prefix = _text(getattr(saver, "_checkpoint_prefix", "checkpoint"))
        self._write_prefix = _text(getattr(saver, "_checkpoint_write_prefix", "checkpoint_write"))
        self._shallow: Any = None
        self._found: dict[str, dict[Place, str]] | None = None
        """Of each thread, the keys of its checkpoints."""

    def next_threads(self) -> Work[list[str] | None]:
        if self._found is not None:
            return None
        yield from self._look()
        return list(self._places_of)

    def places(self, thread_id: str) -> Work[list[Place]]:
        if self._found is None:
            yield from self._look()
        return list(self._places_of.get(thread_id, ()))

    def ttl_ms(self, thread_id: str, places: Sequence[Place]) -> Work[int | None]:
        key = self._places_of[thread_id][max(places)]
        left = yield Call(self._redis.pttl, (key,))
        return int(left) if left > 0 else None

    def _reader(self, thread_id: str, place: Place) -> Any:
        """A shallow saver has one key a namespace, without the id, which the other one does not find."""
        of_full = self._places_of[thread_id][place].endswith(f":{place[0]}")
        if of_full or "shallow" in type(self._saver).__module__:
            return self._saver
        if self._shallow is None:
            from langgraph.checkpoint.redis import AsyncShallowRedisSaver, ShallowRedisSaver

            kind = AsyncShallowRedisSaver if self._asynchronous else ShallowRedisSaver
            self._shallow = kind(redis_client=self._redis)
        return self._shallow

    @property
    def _places_of(self) -> dict[str, dict[Place, str]]:
        return self._found or {}

    def _look(self) -> Work[None]:
        found: dict[str, dict[Place, str]] = defaultdict(dict)
        cursor = -1
        while cursor:
            cursor, keys = yield Call(
                self._redis.scan, (max(cursor, 0), glob_of(f"{self._prefix}:"), 1_000, "ReJSON-RL")
            )
            names = ("thread_id", "checkpoint_ns", "checkpoint_id")
            commands = [("JSON.GET", key, *names) for key in keys]
            documents = (yield _many(self._redis, commands, asynchronous=self._asynchronous)) if keys else []
            for key, document in zip(keys, documents, strict=True):
                if document is not None:
                    thread_id, ns, id_ = (str(_loaded(document)[name]) for name in names)
                    found[thread_id][id_, "" if ns == _NO_NS else ns] = _text(key)
        self._found = found

    def _writes(self, thread_id: str, place: Place, read: CheckpointTuple) -> Work[list[FoundWrite]]:
        id_, ns = place
        keys: list[Any] = []
        of_full = f"write_keys_zset:{thread_id}:{ns or _NO_NS}:{id_}"
        for registry in (of_full, f"write_registry:{thread_id}:{ns or _NO_NS}:shallow"):
            keys += yield Call(self._redis.zrange, (registry, 0, -1))
        if not keys:
            return (yield from super()._writes(thread_id, place, read))
        documents = yield _many(self._redis, [("JSON.GET", key) for key in keys], asynchronous=self._asynchronous)
        found = []
        for document in map(_loaded, filter(None, documents)):
            if document["checkpoint_id"] == id_:
                typed = document["type"], base64.b64decode(document["blob"])
                value = self._saver.serde.loads_typed(typed)
                path = document.get("task_path") or ""
                found.append(FoundWrite(document["task_id"], document["idx"], document["channel"], value, path))
        return found


def _loaded(document: Any) -> dict[str, Any]:
    """A JSON document, which some clients have parsed already."""
    return document if isinstance(document, dict) else json.loads(document)
