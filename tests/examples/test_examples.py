"""Each example does what it says: it checks its own claims, and exits non-zero at the first that is false."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANGS_S

EXAMPLES = Path(__file__).parents[2] / "examples"

CLAIMS = {
    "approval_agent.py": [
        "case-17: the agent waits for an answer to 'Refund order 17?'",
        "[ok] case-17 waits in Postgres",
        "[ok] nothing was paid",
        "case-17: approve. Order 17 is refunded.",
        "case-18: reject. The refund of order 18 was rejected.",
        "case-17: nothing waits for 'approve'",
        "[ok] one refund was paid, once",
        "4. Three clerks approve",
        "case-19: approve. Order 19 is refunded.",
        "[ok] it was paid once",
        "[ok] the process was killed",
        "[ok] the refund was paid",
        "case-20: approve. Order 20 is refunded.",
        "[ok] it was still paid once",
    ],
    "companion.py": [
        "[ok] after every silence the companion knew her name",
        "[ok] the first answer after a silence takes less than 1 s more (median)",
        "[ok] in every silence all keys in Redis, the saver's own, took",
        "[ok] Redis never held more than in the first months",
        "checkpoints of the years are there",
    ],
    "time_travel.py": [
        "[ok] the history is whole, from both tiers",
        "[ok] at that time her name was Alice",
        "[ok] the other branch knows Carol",
        "[ok] all old checkpoints are there",
        "[ok] the old end can still be read, as it was",
    ],
    "two_servers.py": [
        "[ok] B knows what A was told",
        "[ok] A knows what B was told",
        "[ok] B is at work",
        "A: (go on)              -> That makes 84.",
        "[ok] nothing is lost",
    ],
}


def run(example: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "MODEL"}
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(EXAMPLES / example)],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )


@pytest.mark.parametrize("example", CLAIMS)
def test_example_tells_its_story_and_succeeds(example: str) -> None:
    done = run(example)
    assert done.returncode == 0, done.stdout + done.stderr
    told = iter(done.stdout.splitlines())
    for claim in [*CLAIMS[example], "Everything was as it said."]:  # in this order
        assert any(claim in line for line in told), f"{claim!r} is missing, or out of order, in:\n{done.stdout}"
    assert not done.stderr


SLOW = ["quickstart.py", *(name for name in CLAIMS if name != "time_travel.py")]


@pytest.mark.parametrize("example", ["time_travel.py", *(pytest.param(one, marks=pytest.mark.nightly) for one in SLOW)])
def test_example_succeeds_with_a_model_of_other_words_that_refuses_an_empty_list_of_tools(
    example: str, another_model: dict[str, str]
) -> None:
    done = run(example, **another_model)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nice to meet you" not in done.stdout
    assert "Everything was as it said." in done.stdout
    assert not done.stderr


def test_model_that_is_asked_for_and_missing_is_named() -> None:
    if importlib.util.find_spec("langchain"):
        pytest.skip("LangChain is installed, and would be asked for the model")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "time_travel.py")],
        env={**os.environ, "MODEL": "openai:gpt-5-mini"},
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("MODEL=openai:gpt-5-mini needs LangChain: pip install langchain")


def test_every_example_is_tested_and_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    scripts = {path.name for path in EXAMPLES.glob("*.py")} - {"arithmetic.py", "model.py", "story.py"}
    assert scripts == set(CLAIMS) | {"quickstart.py"}
    assert all(f"]({name})" in listed for name in scripts)
