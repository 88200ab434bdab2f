"""What the replies of scripts have in common. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from langgraph_tiered_checkpoint.steps import Lua

R_co = TypeVar("R_co", covariant=True)
E = TypeVar("E", bound=Enum)


class State(Enum):
    """Of a thread in the hot tier."""

    EPHEMERAL = "e"
    DIRTY = "d"
    CLEAN = "c"
    WAITING = "w"
    """Dirty, to be flushed when it would expire: what a write says of it."""


class Moved(NamedTuple):
    """Of scripts that read or write a thread: Postgres has to be asked first. See lua/run.lua."""

    incarnation: str
    flushed: str
    upload: bool
    """Whether it was compared already, and is to be uploaded."""


@dataclass(frozen=True, slots=True)
class Guarded(Lua[R_co | Moved]):
    """A script that does not trust what an older Redis may have brought back. See `ask` in plans/flushing.py."""


def parse_moved(reply: Sequence[Any]) -> Moved:
    """The reply of last resort.

    Raises:
        LookupError: it is another one, which nobody knows.
    """
    match reply:
        case [b"moved", incarnation, flushed, upload]:
            return Moved(incarnation.decode(), flushed.decode(), bool(upload))
        case _:
            raise unknown(reply)


def word(reply: Any) -> str:
    """The word that a reply begins with."""
    found = reply[0]
    if not isinstance(found, bytes):
        raise unknown(reply)
    return found.decode()


def texts(reply: Iterable[bytes]) -> list[str]:
    """Of bytes, as Redis has them."""
    return [text.decode() for text in reply]


def one_of(kind: type[E]) -> Callable[[Any], E]:
    """Parses replies that are one word: the value of a member."""
    return lambda reply: kind(word(reply))


def whether(yes: str, no: str) -> Callable[[Any], bool]:
    """Parses replies that begin with one of two words."""
    words = {yes: True, no: False}
    return lambda reply: words[word(reply)]


def unknown(reply: Any) -> LookupError:
    """No script is known to reply so."""
    return LookupError(f"it replied {reply[0] if isinstance(reply, list) and reply else reply!r}")
