"""Every public method of a saver, called on thread "t"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faults.ledger import Caller
from homes import at, make_checkpoint
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_tiered_checkpoint import TieredSaver

Call = Callable[[Caller], Any]


def _put(call: Caller) -> Any:
    made = make_checkpoint({"text": "x" * 500, "short": 1}, 9)
    return call("put", at("t"), made, {"source": "loop", "step": 9, "run_id": "run"}, made["channel_versions"])


def _put_writes(call: Caller) -> Any:
    return call("put_writes", at("t", checkpoint_id=make_checkpoint({}, 9)["id"]), [("text", "y")], "task")


def _elsewhere() -> InMemorySaver:
    """A saver to import from."""
    made = InMemorySaver()
    checkpoint = make_checkpoint({"text": "x" * 500}, 1)
    made.put(at("elsewhere"), checkpoint, {"source": "loop", "step": 1, "parents": {}}, checkpoint["channel_versions"])
    return made


# In an order in which each finds what it needs.
CALLS: dict[str, Call] = {
    "setup": lambda call: call("setup"),
    "put": _put,
    "put_writes": _put_writes,
    "get_tuple": lambda call: call("get_tuple", at("t")),
    "get": lambda call: call("get", at("t")),
    "list": lambda call: call("list", at("t")),
    "get_delta_channel_history": lambda call: call(
        "get_delta_channel_history", config=at("t"), channels=["text", "short"]
    ),
    "explain": lambda call: call("explain", "t"),
    "stats": lambda call: call("stats"),
    "doctor": lambda call: call("doctor"),
    "sweep": lambda call: call("sweep"),
    "scopes": lambda call: call("scopes"),
    "thread_ids": lambda call: call("thread_ids"),
    "copy_thread": lambda call: call("copy_thread", "t", "copy"),
    "prune": lambda call: call("prune", ["t"]),
    "promote": lambda call: call("promote", "t"),
    "pin": lambda call: call("pin", "t"),
    "unpin": lambda call: call("unpin", "t"),
    "flush": lambda call: call("flush", "t"),
    "evict": lambda call: call("evict", "t"),
    "archive": lambda call: call("archive", "t"),
    "unarchive": lambda call: call("unarchive", "t"),
    "delete_for_runs": lambda call: call("delete_for_runs", ["run"]),
    "restore": lambda call: call("restore", "again", call("list", at("t"))),
    "messages": lambda call: call("messages", "t", "no such channel"),
    "export": lambda call: call("export", "t"),
    "import_threads": lambda call: call("import_threads", _elsewhere()),
    "delete_thread": lambda call: call("delete_thread", "t"),
    "erase": lambda call: call("erase", "t", asked_by="somebody"),
}

OFFLINE = {
    "close",
    "config_specs",
    "ddl",
    "embedded",
    "erase_all",  # which a saver without a scope refuses
    "from_conn_string",
    "from_env",
    "from_urls",
    "get_next_version",
    "health",
    "report_stats",
    "scoped",
    "serde",
    "with_allowlist",
    "with_load_channels",
}
"""What asks no server, or is no method."""


def uncovered() -> set[str]:
    """Public names of the saver that are in neither table."""
    names = {name for name in dir(TieredSaver) if not name.startswith("_")}
    twins = {f"a{name}" for name in names}
    return {name for name in names - twins if name not in CALLS and name not in OFFLINE}
