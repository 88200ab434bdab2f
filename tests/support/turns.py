"""How much a script does, as a number that does not depend on the machine: the turns that its loops take."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import redis

from langgraph_tiered_checkpoint.hot.scripts import script
from langgraph_tiered_checkpoint.steps import SERVER_RUN, Lua

_LOOP = re.compile(r"\b(do|repeat)\b")


class Counted(NamedTuple):
    """What a script that was counted came to."""

    turns: int
    reply: Any


def count_turns(client: redis.Redis, call: Lua[Any]) -> Counted:
    """Perform a call for real, and count the turns of all loops in it, as to a server that hides its run id."""
    text = _LOOP.sub(r"\1 TURNS = TURNS + 1 ", script(call.script).text.decode())
    text = f"local TURNS = 0\nlocal function body()\n{text}\nend\nlocal reply = body()\nreturn {{TURNS, reply}}"
    args = [b"" if arg is SERVER_RUN else arg for arg in call.args]
    turns, reply = client.eval(text, len(call.keys), *call.keys, *args)
    return Counted(turns, reply)
