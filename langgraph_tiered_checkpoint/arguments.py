"""What a caller passes, checked: the errors name the argument, what was passed, and what is wanted. No I/O."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from datetime import timedelta
from typing import Final

from langgraph_tiered_checkpoint.errors import ConfigurationError

LONGEST: Final = timedelta(days=36_500)
"""What is to last longer is to last for ever."""

_MILLISECOND: Final = timedelta(milliseconds=1)


def wrong(
    name: str, value: object, wanted: str, error: type[ConfigurationError] = ConfigurationError, none: str = ""
) -> ConfigurationError:
    """`value` is not what `name` takes; `none` says what None means, where it may be passed."""
    return error(f"{name}={reprlib.repr(value)} must be {wanted}, not {type(value).__name__}{_instead(none)}")


def check_duration(name: str, value: object, *, none: str = "", least: timedelta = _MILLISECOND) -> None:
    """Make sure of a duration; `none` says what None means, where it may be passed.

    Raises:
        ConfigurationError: something else, or too short or long.
    """
    if value is None and none:
        return
    if not isinstance(value, timedelta):
        such = f", such as timedelta(seconds={value})" if type(value) in {int, float} else ""
        raise wrong(name, value, f"a datetime.timedelta{such}", none=none)
    if value < least:
        bound = "be at least a millisecond" if least else "not be negative"
        raise ConfigurationError(f"{name}={value!r} must {bound}{_instead(none)}")
    if value > LONGEST:
        raise ConfigurationError(f"{name}={value!r} must be at most a hundred years{_instead(none)}")


def check_count(name: str, value: object, *, none: str = "", least: int = 1) -> None:
    """Make sure of a whole number; `none` says what None means, where it may be passed.

    Raises:
        ConfigurationError: something else, or too small.
    """
    if value is None and none:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(name, value, "an int", none=none)
    if value < least:
        raise ConfigurationError(f"{name}={value!r} must be at least {least}{_instead(none)}")


def check_name(name: str, value: object, *, none: str = "") -> None:
    """Make sure of a text that is not empty; `none` says what None means, where it may be passed.

    Raises:
        ConfigurationError: something else, or what no server could store.
    """
    if value is None and none:
        return
    if not isinstance(value, str) or not value or "\0" in value or _is_broken(value):
        usable = "a string that is not empty, without NUL and lone surrogates"
        raise ConfigurationError(f"{name}={reprlib.repr(value)} must be {usable}{_instead(none)}")


def check_flag(name: str, value: object) -> None:
    """Make sure of True or False.

    Raises:
        ConfigurationError: something else.
    """
    if not isinstance(value, bool):
        raise wrong(name, value, "True or False")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Make sure of one of some words.

    Raises:
        ConfigurationError: something else.
    """
    if not isinstance(value, str) or value not in choices:
        raise wrong(name, value, " or ".join(f'"{choice}"' for choice in choices))


def check_instance(name: str, value: object, wanted: type) -> None:
    """Make sure of an object of a class.

    Raises:
        ConfigurationError: something else.
    """
    if not isinstance(value, wanted):
        raise wrong(name, value, f"a {wanted.__name__}(...)")


def _instead(none: str) -> str:
    return f"; None {none}" if none else ""


def _is_broken(text: str) -> bool:
    return text.encode(errors="ignore").decode() != text
