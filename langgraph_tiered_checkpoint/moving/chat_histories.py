"""`RedisChatMessageHistory` of langchain-community and of langchain-redis, as a source of threads.

The first has a list of JSON a session, `message_store:<session>`, newest first; the second a JSON document a message,
`chat:<session>:<ULID>`, which needs the module RedisJSON.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage, messages_from_dict
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple, empty_checkpoint
from redis import Redis
from redis.exceptions import RedisError

from langgraph_tiered_checkpoint.arguments import check_name
from langgraph_tiered_checkpoint.errors import ConfigurationError, TieredCheckpointError
from langgraph_tiered_checkpoint.moving.sources import Found, Place, config_of, glob_of
from langgraph_tiered_checkpoint.moving.work import Call, Work

T = TypeVar("T")

_LISTS, _DOCUMENTS = "message_store:", "chat:"
_SCANNED = 1_000
_VERSION = f"{1:032}.{0:016}"


class RedisChatHistories:
    """All chat histories in a Redis, for `TieredSaver.import_threads`: the messages of a session become a thread.

    It is a finished turn, in which nothing is pending: a graph with `MessagesState` goes on from it, and
    `TieredChatMessageHistory` shows it. A session keeps what is left of its TTL; one without a TTL is promoted.

    Args:
        redis: a URL, or a client of redis-py that is not async.
        key_prefix: what the keys begin with; None looks for the prefixes that both packages have by default.
        channel: the channel that gets the messages.

    Raises:
        ConfigurationError: a URL or a client that cannot be used.
    """

    content_in_ids = True

    def __init__(self, redis: str | Redis, *, key_prefix: str | None = None, channel: str = "messages") -> None:
        check_name("key_prefix", key_prefix, none="takes message_store: and chat:")
        check_name("channel", channel)
        try:
            self._redis: Any = Redis.from_url(redis) if isinstance(redis, str) else redis
        except ValueError as exc:
            raise ConfigurationError(f"the URL of the Redis with chat histories cannot be used: {exc}") from exc
        if not isinstance(self._redis, Redis):
            raise ConfigurationError(f"redis={type(redis).__name__} must be a URL or a redis.Redis, which is not async")
        self._lists, self._documents = (key_prefix or _LISTS), (key_prefix or _DOCUMENTS)
        self._channel = channel
        self._keys: dict[str, list[bytes]] | None = None
        """Of each session, the key of its list, or those of its documents."""

    def next_threads(self) -> Work[list[str] | None]:
        """Ids of sessions, None at the end."""
        if self._keys is not None:
            return None
        self._keys = yield from self._look()
        return list(self._keys)

    def places(self, thread_id: str) -> Work[list[Place]]:
        """Of the one checkpoint that a session becomes. Its id is made of what is in it."""
        stored = yield from self._stored(thread_id)
        return [(_id_of(thread_id, stored), "")] if stored else []

    def checkpoint(self, thread_id: str, place: Place) -> Work[Found | None]:
        """The session as a checkpoint."""
        stored = yield from self._stored(thread_id)
        if not stored or _id_of(thread_id, stored) != place[0]:
            return None
        messages = messages_from_dict([{"type": item["type"], "data": item["data"]} for item in stored])
        made = self._checkpoint(place[0], messages)
        metadata: Any = {"source": "update", "step": 0, "parents": {}}
        return Found(CheckpointTuple(config_of(thread_id, "", place[0]), made, metadata, None, []), ())

    def ttl_ms(self, thread_id: str, places: Sequence[Place]) -> Work[int | None]:  # noqa: ARG002 - there is one
        """What is left of the session's TTL; of documents, of the one that lives longest."""
        keys = yield from self._keys_of(thread_id)
        left = yield from self._ask(lambda: self._each("PTTL", keys))
        return None if not left or -1 in left else max(left)

    def _checkpoint(self, id_: str, messages: list[BaseMessage]) -> Checkpoint:
        for number, message in enumerate(messages):
            if message.id is None:  # a graph would give it another one each time that it reads the thread
                message.id = str(uuid.uuid5(uuid.UUID(id_), str(number)))
        made = empty_checkpoint()
        made["id"] = id_
        made["ts"] = datetime.now(tz=timezone.utc).isoformat()
        made["channel_values"] = {self._channel: messages}
        made["channel_versions"] = {self._channel: _VERSION}
        made["versions_seen"] = {"__input__": {}}
        return made

    def _stored(self, session: str) -> Work[list[dict[str, Any]]]:
        """The messages of a session as they are stored, oldest first."""
        keys = yield from self._keys_of(session)
        if keys and keys[0] == (self._lists + session).encode():
            items = yield from self._ask(lambda: self._redis.lrange(keys[0], 0, -1))
            return [json.loads(item) for item in items[::-1]]
        documents = yield from self._ask(lambda: self._each("JSON.GET", keys))
        found = [json.loads(document) for document in documents if document is not None]
        return sorted(found, key=lambda item: item["timestamp"])

    def _keys_of(self, session: str) -> Work[list[bytes]]:
        if self._keys is None:
            self._keys = yield from self._look()
        return self._keys.get(session, [])

    def _look(self) -> Work[dict[str, list[bytes]]]:
        of_list = len(self._lists.encode())
        lists = yield from self._ask(lambda: list(self._scan(self._lists, "list")))
        # What is no text is refused later, as a thread id.
        found = {key[of_list:].decode(errors="surrogateescape"): [key] for key in lists}
        keys = yield from self._ask(lambda: list(self._scan(self._documents, "ReJSON-RL")))
        documents: dict[str, list[bytes]] = defaultdict(list)
        for first in range(0, len(keys), _SCANNED):
            page = keys[first : first + _SCANNED]
            sessions = yield from self._ask(partial(self._each, "JSON.GET", page, ".session_id"))
            for key, session in zip(page, sessions, strict=True):
                if session is not None:
                    documents[str(json.loads(session))].append(key)
        return {**documents, **found}

    def _scan(self, prefix: str, type_: str) -> Iterator[bytes]:
        for key in self._redis.scan_iter(glob_of(prefix), _SCANNED, type_):
            yield key if isinstance(key, bytes) else key.encode()

    def _each(self, command: str, keys: Sequence[bytes], *args: str) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for key in keys:
            pipe.execute_command(command, key, *args)
        return pipe.execute()  # type: ignore[no-any-return]

    def _ask(self, ask: Callable[[], T]) -> Work[T]:
        def asked() -> T:
            with _told():
                return ask()

        return (yield Call(asked))  # type: ignore[no-any-return]


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RedisError as exc:
        raise TieredCheckpointError(
            f"the Redis with the chat histories did not answer as it should: {exc}. Nothing of the session at hand was "
            "imported; repeating the import goes on where it ended"
        ) from exc


def _id_of(session: str, stored: list[dict[str, Any]]) -> str:
    """An id that begins with the time 0, so that it is below all that follow, and is the same for the same messages."""
    digest = hashlib.sha256(json.dumps([session, stored], sort_keys=True).encode()).digest()
    return str(uuid.UUID(bytes=bytes(6) + b"\x60\x00" + bytes([digest[0] & 0x3F | 0x80]) + digest[1:8]))
