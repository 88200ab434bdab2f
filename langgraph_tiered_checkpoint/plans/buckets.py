"""All buckets, a page of each in one request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from langgraph_tiered_checkpoint.hot.keys import BUCKETS
from langgraph_tiered_checkpoint.steps import Lua, Plan, together

At = TypeVar("At")
R = TypeVar("R")


def of_each(call: Callable[[int], Lua[R]], buckets: Iterable[int] = range(BUCKETS)) -> Plan[dict[int, R]]:
    """What a script says of each bucket: one request."""
    asked = list(buckets)
    replies = yield from together(map(call, asked))
    return dict(zip(asked, replies, strict=True))


class BucketPages(Generic[At, R]):
    """One list of each bucket, in pages.

    Args:
        call: asks for the page of a bucket that begins somewhere.
        following: where the page after this one begins; None if there is none.
        start: where all of them begin.
        buckets: which.
    """

    def __init__(
        self,
        call: Callable[[int, At], Lua[R]],
        following: Callable[[int, R], At | None],
        start: At,
        buckets: Iterable[int] = range(BUCKETS),
    ) -> None:
        self._call = call
        self._following = following
        self.at = dict.fromkeys(buckets, start)
        """Where the next page begins, of those buckets that go on."""

    def next_pages(self, buckets: Iterable[int] | None = None) -> Plan[dict[int, R]]:
        """The next page of each bucket that goes on, or of some of them: one request."""
        asked = self.at if buckets is None else buckets
        pages = yield from of_each(lambda bucket: self._call(bucket, self.at[bucket]), asked)
        for bucket, page in pages.items():
            following = self._following(bucket, page)
            if following is None:
                del self.at[bucket]
            else:
                self.at[bucket] = following
        return pages
