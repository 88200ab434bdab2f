"""What may be quoted of a driver's error: no value of a row, which would reach logs and `explain`. Pure."""

from __future__ import annotations

import re
from typing import Final

import psycopg

_OWN_WORDS: Final = frozenset(
    ["08", "0A", "23", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX"]
)
"""Classes of SQLSTATE whose primary message names objects and states of the server, and no values: those are in its
detail. Outside of functions, that is: what a trigger raises is free text, under whatever SQLSTATE it likes."""

_RAISED_IN: Final = re.compile(r"function (.+?) line \d+")


def words_of(exc: Exception) -> str:
    """What the driver said, if it is sure to hold no value; else what kind of error it is, and what it is about."""
    if not isinstance(exc, psycopg.Error) or exc.sqlstate is None:
        return " ".join(str(exc).split()) or type(exc).__name__
    diag = exc.diag
    if exc.sqlstate[:2] in _OWN_WORDS and not diag.context and diag.message_primary:
        return diag.message_primary
    about = [f"{type(exc).__name__}, SQLSTATE {exc.sqlstate}"]
    if raised := _RAISED_IN.search(diag.context or ""):
        about.append(f"raised in {raised[1]}")
    named = (("table", diag.table_name), ("column", diag.column_name), ("constraint", diag.constraint_name))
    about += [f"{what} {name}" for what, name in named if name]
    return ", ".join([*about, "see Postgres's own log"])
