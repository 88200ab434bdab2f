"""`make demo`: the quickstart does what it says, and notices when it does not."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANGS_S

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.py"


def run_quickstart(**environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in {"MODEL", "QUICKSTART_TTL_S"}}
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(QUICKSTART)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )


def test_quickstart_tells_the_whole_story_and_succeeds() -> None:
    done = run_quickstart(QUICKSTART_TTL_S="5")  # a slow machine may take a while to show a live one
    assert done.returncode == 0, done.stdout + done.stderr
    told = iter(done.stdout.splitlines())
    for line in (  # in this order
        "1. Two users talk to the agent:",
        "[ok] the answer to a sum comes from the tool",
        "[ok] neither session holds a message of the other",
        "Alice : Redis and Postgres",
        "Bob   : Redis, until it expires",
        "[ok] the server was killed",
        "2. Redis is killed too",
        "[ok] Bob never came back, and his session expired",
        "[ok] Postgres holds all of Alice's session",
        "[ok] Redis is empty",
        "[ok] Alice's session is read from Postgres",
        "agent > That makes 84.   (to Alice)",
        "agent > Your name is Alice.   (to Alice)",
        "agent > I don't know your name.   (to Bob)",
        "[ok] Postgres has caught up",
        "What was seen:",
        "5 s of silence           Redis and Postgres       gone",
        "Redis was wiped          Postgres only            gone",
        "a new server answered    Redis and Postgres",
        "Everything was as it said.",
    ):
        assert any(line in heard for heard in told), f"{line!r} is missing, or out of order, in:\n{done.stdout}"
    assert "\x1b" not in done.stdout, "colours, where there is no terminal"
    assert not done.stderr


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_terminal_gets_colours_unless_it_wants_none(environment: dict[str, str], coloured: bool) -> None:  # noqa: FBT001
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    terminal, inside = pty.openpty()
    command = [sys.executable, "-c", "import story; story.check('this is so', True)"]
    subprocess.run(command, cwd=QUICKSTART.parent, env=inherited | environment, stdout=inside, check=True)
    told = os.read(terminal, 1000)
    os.close(inside)
    os.close(terminal)
    assert b"this is so" in told
    assert (b"\x1b" in told) == coloured


def test_quickstart_fails_by_name_when_a_claim_is_false() -> None:
    done = run_quickstart(QUICKSTART_TTL_S="600")  # so Bob's session does not expire while the script waits
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.strip() == "FAILED: it is not so that Bob never came back, and his session expired"
    assert "[ok] the server was killed" in done.stdout
    assert "Everything was as it said." not in done.stdout
