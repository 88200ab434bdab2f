"""Keys of the hot tier, and what calls of all scripts have in common. No I/O, no clock.

The layout of a thread's hash is described in lua/common.lua; what each script promises, in its own header.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from langgraph_tiered_checkpoint.config import Settings
from langgraph_tiered_checkpoint.hot.replies import Guarded, Moved
from langgraph_tiered_checkpoint.hot.scripts import header
from langgraph_tiered_checkpoint.steps import SERVER_RUN, Lua

R = TypeVar("R")

BUCKETS: Final = 256
PAGE_BYTES: Final = 4_000_000
"""How much one page of a flush carries, about."""


class Keys:
    """Keys under one prefix, and the policies that are arguments of several scripts."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.key_prefix
        self._buckets = [f"{self._prefix}:{{{bucket:02x}}}:" for bucket in range(BUCKETS)]
        self._ttl_ms, self._hot_ttl_ms = str(settings.ttl_ms), str(settings.hot_ttl_ms)
        self._interval_ms = str(int(settings.flush_interval.total_seconds() * 1000))
        self._kept = str(settings.hot_checkpoints or 0)
        self._cold = "1" if settings.cold else "0"
        self._refresh = "1" if settings.refresh_on_read else "0"
        self._run = SERVER_RUN if settings.cold else ""
        self._lists: dict[tuple[str, int], tuple[str, ...]] = {}
        """Keys of a bucket, for each script that has been called for it."""

    def thread_key(self, thread_id: str) -> str:
        return f"{self._buckets[bucket_of(thread_id)]}t:{thread_id}"

    def bucket_key(self, bucket: int, what: str) -> str:
        return self._buckets[bucket] + what

    def _call(
        self,
        script: str,
        thread_id: str,
        parse: Callable[[Any], R],
        /,
        *,
        rest: Iterable[bytes | str] = (),
        **args: bytes | str,
    ) -> Lua[R]:
        """The call of a script that opens a thread; its header names the keys and the arguments."""
        return Lua(script, self._keys(script, thread_id), self._args(script, args, rest), thread_id, parse)

    def _guarded(
        self,
        script: str,
        thread_id: str,
        parse: Callable[[Any], R | Moved],
        /,
        *,
        rest: Iterable[bytes | str] = (),
        **args: bytes | str,
    ) -> Guarded[R]:
        return Guarded(script, self._keys(script, thread_id), self._args(script, args, rest), thread_id, parse)

    def _by_position(
        self,
        script: str,
        thread_id: str,
        parse: Callable[[Any], R | Moved],
        args: tuple[bytes | str, ...],
        rest: Iterable[bytes | str],
    ) -> Guarded[R]:
        """The same where each superstep makes some, and names would cost too much: a test holds the arguments."""
        return Guarded(script, self._keys(script, thread_id), (*args, *rest, self._run), thread_id, parse)

    def _of_bucket(
        self, script: str, bucket: int, parse: Callable[[Any], R], /, *, list_: str = "", **args: bytes | str
    ) -> Lua[R]:
        """The call of a script that looks at lists of a bucket; at one of several, which is named."""
        names = (list_,) if list_ else header(script).keys
        keys = tuple(self.bucket_key(bucket, name) for name in names)
        return Lua(script, keys, self._args(script, args, ()), f"bucket {bucket:02x}", parse)

    def _keys(self, script: str, thread_id: str) -> tuple[str, ...]:
        bucket = bucket_of(thread_id)
        lists = self._lists.get((script, bucket))
        if lists is None:
            names = header(script).keys[1:]
            lists = self._lists[script, bucket] = tuple(self.bucket_key(bucket, name) for name in names)
        return (f"{self._buckets[bucket]}t:{thread_id}", *lists)

    def _args(
        self, script: str, args: Mapping[str, bytes | str], rest: Iterable[bytes | str]
    ) -> tuple[bytes | str, ...]:
        named = header(script)
        if tuple(args) != named.args or (rest and not named.list_):
            raise TypeError(f"{script}.lua takes {named.args} {named.list_}, not {tuple(args)}")
        return (*args.values(), *rest, self._run) if named.takes_run else (*args.values(), *rest)


def bucket_of(thread_id: str) -> int:
    """The bucket whose hash tag puts the thread and its bookkeeping in one slot."""
    return zlib.crc32(thread_id.encode()) % BUCKETS
