"""Every exception that this package raises. A caller's mistake and a tier's fault never share a class."""

from __future__ import annotations

import struct
from typing import Final


class TieredCheckpointError(RuntimeError):
    """Root of everything that this package raises on purpose.

    A `RuntimeError`, because of these the Agent Server passes the message on to its clients.
    """


class ConfigurationError(TieredCheckpointError, ValueError):
    """The caller's mistake: a setting, a URL, a thread id or a value that cannot be used."""


class InvalidThreadError(ConfigurationError):
    """A thread id, namespace or key that one of the tiers could not hold."""


class UnserializableError(ConfigurationError):
    """A value that the configured serde cannot carry. The call that was to store it has stored nothing."""


class ValueTooLargeError(ConfigurationError):
    """A value, or many in one call, that Redis does not take at once. Nothing of the call was stored."""


class StoreChangedError(ConfigurationError):
    """Redis and Postgres were bound to each other anew during the call, or one was replaced. Repeat the call."""


class NotPromotableError(ConfigurationError):
    """A tier operation that the thread or this configuration does not allow."""


class HotTierError(TieredCheckpointError):
    """Redis did not answer, or refused. Nothing is known to have been stored by the failed call."""


class HotFullError(HotTierError):
    """Redis is out of memory and refuses to store more; what it holds is safe. Back off, or give it memory."""


class HotRefusedError(HotTierError):
    """A script failed on this thread, and no state of the server is to blame. Trying again will not help by itself.

    Either a defect of this package, or something else has written under its keys. Nothing says that data is lost.
    """


class DamagedThreadError(TieredCheckpointError):
    """What a tier holds of the thread was looked at and cannot be read; the message names what, and the remedy."""


class UnreadableValueError(TieredCheckpointError):
    """The serde cannot read a value: it was written with another serde or key, or its bytes are damaged."""


class UnexpectedError(TieredCheckpointError):
    """A reply, or something stored, that this package has no meaning for: a defect of it, or of what wrote it."""


class ColdTierError(TieredCheckpointError):
    """Postgres did not answer, or refused."""


class ColdTimeoutError(ColdTierError):
    """Postgres did not answer in time, or gave a statement up that took too long."""


class ColdLockedError(ColdTierError):
    """Others hold in Postgres what this call needs; the message says who, where it is known. Try again."""


class ColdRefusedError(ColdTierError):
    """Postgres answered, and refused these rows: trying again will not help by itself."""


class FlushError(ColdTierError):
    """Some threads could not be flushed; the message names them. Their changes are safe in Redis."""


class SchemaError(ColdTierError):
    """The tables in Postgres are missing, or not of a version that this package knows."""


class ThreadDeletedError(TieredCheckpointError):
    """The thread that this run was reading was deleted, or has expired. Start a new run."""


class ThreadBusyError(TieredCheckpointError):
    """Others held the thread, or changed it under us, for longer than we wait: the message says who. Try again."""


DEFECTS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What code raises that does not understand what it was given: ours, a client's, or the caller's."""
