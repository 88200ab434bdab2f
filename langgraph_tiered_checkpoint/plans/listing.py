"""Listing checkpoints newest first, from both tiers at once, a page at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from langgraph_tiered_checkpoint.cold.rows import merge_writes, sends_among
from langgraph_tiered_checkpoint.hot.keys import BUCKETS, PAGE_BYTES
from langgraph_tiered_checkpoint.hot.reading import NOWHERE, Known
from langgraph_tiered_checkpoint.hot.replies import Moved
from langgraph_tiered_checkpoint.ids import RESERVED, Scope
from langgraph_tiered_checkpoint.plans.buckets import BucketPages, of_each
from langgraph_tiered_checkpoint.plans.flushing import ask
from langgraph_tiered_checkpoint.plans.tiers import Store
from langgraph_tiered_checkpoint.records import CheckpointRow, StoredCheckpoint, Typed
from langgraph_tiered_checkpoint.steps import Lua, Plan, together

PAGE = 50
FILTERED_PAGE = 200
VALUE_BYTES_ALONG = 256_000
"""How many bytes of values come with a page that is filtered, before it is known which of them are wanted."""
THREAD_PAGE = 500
BUCKET_PAGE = 16
"""Thread ids that are read of each bucket at once."""


class Query(NamedTuple):
    """Which checkpoints of a thread are listed."""

    ns: str | None = None
    """None for all namespaces."""
    only: str = ""
    """Only checkpoints of this id."""
    below: str = ""
    """Only ids below this one."""
    below_ns: str = ""
    """Where to look for a checkpoint of that id, to begin at it."""
    limit: int | None = None
    wanted: Callable[[CheckpointRow], bool] | None = None
    """A filter. What it does not want may be listed all the same, without values and writes."""
    path: str | None = None
    """The same as far as Postgres can tell, for `ColdReader.page`."""


class Listed(NamedTuple):
    """One checkpoint of a listing."""

    thread_id: str
    stored: StoredCheckpoint
    sends: list[Typed]

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands within its thread: listings go from high to low."""
        return self.stored.row.checkpoint_id, self.stored.row.ns


class ThreadListing:
    """The checkpoints of one thread, in pages. Between pages it holds neither a connection nor a lock.

    What the hot tier knows to be complete comes from it alone; below that the tiers are merged, and what both
    hold comes from the hot one.

    Pages grow: the first of each tier is of what will do if all are wanted. They end after some MB, too. Where there is
    a filter, large values are fetched only of what it wants.
    """

    def __init__(self, store: Store, thread_id: str, query: Query) -> None:
        self._store = store
        self._thread_id = thread_id
        self._query = query
        self._longest = FILTERED_PAGE if query.wanted else PAGE
        self._hot_page = self._cold_page = min(query.limit or self._longest, self._longest)
        self._hot: list[Listed] = []
        self._listed: list[Listed] = []
        """What the hot tier has listed beyond that, in part without values that are wanted."""
        self._bare: set[tuple[str, str]] = set()
        """Where these are."""
        self._unwanted: set[tuple[str, str]] = set()
        self._left = query.limit
        """How many more will be taken, of those that are wanted."""
        self._value_bytes = VALUE_BYTES_ALONG if query.wanted else PAGE_BYTES
        self._cold: list[Listed] = []
        self._hot_cursor = (query.below, query.below_ns) if query.below else None
        self._cold_cursor: tuple[str, str] | None = None
        self._hot_done = False
        self._cold_exhausted = store.cold is None
        self._whole = False
        self._resident = False
        self._unsure: set[tuple[str, str]] = set()
        self._floor = NOWHERE

    @property
    def done(self) -> bool:
        """Whether nothing is left in either tier."""
        return self._hot_done and self._cold_done and not self._hot and not self._cold

    @property
    def _cold_done(self) -> bool:
        """Whether Postgres need not be asked any more. A thread can be trimmed, or lapse, between two pages."""
        return self._whole or self._cold_exhausted

    def next_page(self) -> Plan[list[Listed]]:
        """The next checkpoints; possibly none although the listing is not `done`."""
        if not self._hot and not self._hot_done:
            yield from self._fetch_hot()
        if self._sure():
            page, self._hot = self._take_sure()
            self._cold_cursor = page[-1].place
            yield from self._add_cold_writes(page)
            return page
        if not self._cold and not self._cold_done:
            yield from self._fetch_cold()
        page = []
        from_cold = []
        while self._hot or self._cold:
            if (not self._hot and not self._hot_done) or (not self._cold and not self._cold_done):
                break
            if self._hot and (not self._cold or self._hot[0].place >= self._cold[0].place):
                taken = self._hot.pop(0)
                if self._cold and self._cold[0].place == taken.place:
                    self._cold.pop(0)
            else:
                taken = self._cold.pop(0)
                from_cold.append(len(page))
            page.append(taken)
        if from_cold and self._resident:
            yield from self._add_hot_writes(page, from_cold)
        yield from self._add_cold_writes(page)
        return page

    def _sure(self) -> bool:
        return bool(self._hot) and (self._cold_done or self._hot[0].place[0] >= self._floor) and not self._cold

    def _take_sure(self) -> tuple[list[Listed], list[Listed]]:
        if self._cold_done:
            return self._hot, []
        cut = next((i for i, item in enumerate(self._hot) if item.place[0] < self._floor), len(self._hot))
        return self._hot[:cut], self._hot[cut:]

    def _fetch_hot(self) -> Plan[None]:
        if not self._listed:
            yield from self._list_hot()
        if self._listed and self._listed[0].place in self._bare:
            yield from self._complete_hot()
        cut = next((i for i, item in enumerate(self._listed) if item.place in self._bare), len(self._listed))
        self._hot, self._listed = self._listed[:cut], self._listed[cut:]
        if self._left is not None:
            self._left -= sum(item.place not in self._unwanted for item in self._hot)
        self._hot_done = self._hot_cursor is None and not self._listed

    def _list_hot(self) -> Plan[None]:
        query = self._query
        call = self._store.hot.list(
            self._thread_id,
            query.ns,
            below=query.below,
            cursor=self._hot_cursor,
            limit=self._hot_page,
            value_bytes=self._value_bytes,
            only=query.only,
        )
        self._hot_page = min(2 * self._hot_page, self._longest)
        page = yield from ask(self._store, self._thread_id, call)
        self._listed = [self._of_hot(record) for record in page.records]
        self._hot_cursor = page.cursor
        self._whole = page.whole
        self._resident = self._resident or page.kind is Known.HIT
        self._floor = page.floor
        self._unsure = page.unsure
        self._bare = page.bare
        if query.wanted is not None:
            self._unwanted = {item.place for item in self._listed if not query.wanted(item.stored.row)}
            self._bare = page.bare - self._unwanted
            came = len(page.records) - len(page.bare)
            if 2 * len(self._unwanted - page.bare) > came:  # most for nothing
                self._value_bytes = 0
        if page.records and query.only and query.ns is not None and not self._unsure:
            self._cold_exhausted = True

    def _complete_hot(self) -> Plan[None]:
        """Fetch values and writes of what lacks them, as many as there is room for: of the first one at least."""
        most = PAGE if self._left is None else min(PAGE, max(1, self._left))
        bare = [i for i, item in enumerate(self._listed) if item.place in self._bare][:most]
        call = self._store.hot.records(self._thread_id, [self._listed[i].place for i in bare])
        records = yield from ask(self._store, self._thread_id, call)
        gone = []
        for i, record in zip(bare, records, strict=False):
            self._bare.discard(self._listed[i].place)
            if record is None:
                gone.append(i)
            else:
                self._listed[i] = self._of_hot(record)
        if gone:  # trimmed, evicted or deleted meanwhile
            yield from self._complete_from_cold(gone)

    def _of_hot(self, stored: StoredCheckpoint) -> Listed:
        return Listed(self._thread_id, stored, sends_among(stored.sends))

    def _complete_from_cold(self, positions: list[int]) -> Plan[None]:
        found = []
        cold = self._store.cold
        if cold is not None:
            for i in positions:
                id_, ns = self._listed[i].place
                answer = yield from cold.fetch(self._thread_id, ns, id_)
                if answer.stored is not None:
                    self._listed[i] = Listed(self._thread_id, answer.stored, answer.sends)
                    found.append(i)
        if found:
            yield from self._add_hot_writes(self._listed, found)
        self._listed = [item for i, item in enumerate(self._listed) if i in found or i not in positions]

    def _fetch_cold(self) -> Plan[None]:
        if self._store.cold is None:
            return
        query = self._query
        page = yield from self._store.cold.page(
            self._thread_id,
            query.ns,
            before=self._cold_cursor,
            checkpoint_id=query.only or None,
            before_id=query.below or None,
            limit=self._cold_page,
            wanted=query.wanted,
            path=query.path,
        )
        self._cold = [Listed(self._thread_id, *one) for one in page.listed]
        self._cold_exhausted = not page.more or bool(query.only and query.ns is not None)
        self._cold_page = min(2 * (len(page.listed) if page.more else self._cold_page), self._longest)
        if self._cold:
            self._cold_cursor = self._cold[-1].place

    def _add_hot_writes(self, page: list[Listed], positions: list[int]) -> Plan[None]:
        """Writes to a checkpoint that is not resident wait in the hot tier until they are flushed."""
        hot = self._store.hot
        wanted = self._query.wanted
        positions = [i for i in positions if wanted is None or wanted(page[i].stored.row)]
        calls = tuple(
            hot.get(self._thread_id, page[i].place[1], page[i].place[0], root_id="", token="") for i in positions
        )
        replies = yield from together(calls)
        for i, call, found in zip(positions, calls, replies, strict=True):
            if isinstance(found, Moved):
                found = yield from ask(self._store, self._thread_id, call)  # noqa: PLW2901 - once Postgres was asked
            if found.writes:
                stored = page[i].stored
                merged = stored._replace(writes=merge_writes(stored.writes, found.writes))
                page[i] = page[i]._replace(stored=merged)

    def _add_cold_writes(self, page: list[Listed]) -> Plan[None]:
        """Writes that came before their checkpoint may be in Postgres alone, if the hot copy lapsed in between.

        So may sends, if the parent that has them was trimmed away.
        """
        positions = [i for i, item in enumerate(page) if item.place in self._unsure]
        if self._store.cold is None or not positions:
            return
        rows = [page[i].stored.row for i in positions]
        keys = [(row.ns, row.checkpoint_id) for row in rows]
        parents = [(row.ns, row.parent_id) for row in rows if row.sends_at_parent and row.parent_id]
        found = yield from self._store.cold.writes_of(self._thread_id, [*keys, *parents])
        for i, row in zip(positions, rows, strict=True):
            stored = page[i].stored
            merged = merge_writes(found.get((row.ns, row.checkpoint_id), []), stored.writes)
            page[i] = page[i]._replace(stored=stored._replace(writes=merged))
            if row.sends_at_parent:
                of_parent = merge_writes(found.get((row.ns, row.parent_id), []), stored.sends)
                page[i] = page[i]._replace(sends=sends_among(of_parent))


class ThreadIds:
    """The ids of all threads that begin with a prefix, in order, in pages.

    The lists of the buckets are merged with that of Postgres. A page goes as far as each of them is known. What is
    there from the first page to the last is listed, also if it leaves the hot tier: Postgres is asked afterwards.
    """

    def __init__(self, store: Store, prefix: str, after: str = "") -> None:
        self._store = store
        self._prefix = prefix
        self._waiting: list[list[str]] = [[] for _ in range(BUCKETS)]
        """Of each bucket: ids that are known, and have not been listed."""
        after = after if after > prefix else ""  # nothing that begins with the prefix comes before it
        self._pages = BucketPages(self._names, _after, after)
        self._after = after
        self.done = False

    def next_page(self) -> Plan[list[str]]:
        """The next ids; possibly none although the listing is not `done`."""
        yield from self._read_hot()
        known = min(self._pages.at.values(), default=None)
        cold: list[str] = []
        if self._store.cold is not None:
            cold = yield from self._store.cold.thread_ids(self._after, self._prefix, THREAD_PAGE, upto=known)
            if len(cold) == THREAD_PAGE:
                known = cold[-1]
        page = set(cold)
        for names in self._waiting:
            cut = len(names) if known is None else bisect_right(names, known)
            page.update(names[:cut])
            del names[:cut]
        self._after = known or ""
        self.done = known is None
        return sorted(page)

    def _read_hot(self) -> Plan[None]:
        """Go on with the lists of which little is known. What has lapsed, and is not swept yet, is left out."""
        buckets = [bucket for bucket in self._pages.at if len(self._waiting[bucket]) < BUCKET_PAGE]
        if not buckets:
            return
        pages = yield from self._pages.next_pages(buckets)
        pages = {bucket: names for bucket, names in pages.items() if names}
        there = yield from of_each(lambda bucket: self._store.hot.present(pages[bucket]), pages)
        for bucket, names in pages.items():
            self._waiting[bucket] += [name for name, is_there in zip(names, there[bucket], strict=True) if is_there]

    def _names(self, bucket: int, after: str) -> Lua[list[str]]:
        return self._store.hot.threads(bucket, prefix=self._prefix, after=after, limit=BUCKET_PAGE)


class Tenants:
    """The names of all tenants that have threads, in the order of their threads, in pages.

    From the last tenant of a page it goes on with the next one: a tenant costs a page at most, however many threads it
    has.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._after = ""
        self.done = False

    def next_page(self) -> Plan[list[str]]:
        """The next names; possibly none although the listing is not `done`."""
        ids = ThreadIds(self._store, RESERVED, self._after)
        page: list[str] = []
        while not (page or ids.done):
            page = yield from ids.next_page()
        scopes = list(dict.fromkeys(Scope.holding(stored) for stored in page))
        self.done = ids.done
        if scopes:
            last = scopes[-1].prefix
            self._after = last + NOWHERE if last else page[-1]
        return [scope.tenant for scope in scopes if scope.prefix]


def _after(_: int, names: list[str]) -> str | None:
    return names[-1] if len(names) == BUCKET_PAGE else None
