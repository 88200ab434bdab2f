"""Makes each fault of the list in a copy of the package, and runs the tests that have to notice it: `make mutants`.

Words as arguments choose the faults whose description, file or tests hold one of them. Exit status 1: a fault was not
noticed, or cannot be made any more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants.mutations import MUTATIONS, PACKAGE, Mutation

ROOT = Path(__file__).parents[2]
WORKERS = int(os.environ.get("WORKERS", "2"))
COPIED = (PACKAGE, "tests", "pyproject.toml")
PASSED, FAILED = 0, 1
"""Exit statuses of pytest. All others mean that it did not come to run the tests."""


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """The exit status of these tests with the package that lies beside them, and what they printed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--timeout=200",
    ]
    done = subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def copied(to: Path) -> Path:
    """A copy of what the tests need, to make a fault in."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)
    return to


def verdict(mutation: Mutation) -> str:
    """What is wrong: nothing, if the fault was noticed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        try:
            (copy / PACKAGE / mutation.file).write_text(mutation.applied(ROOT))
        except ValueError as exc:
            return str(exc)
        status, output = run_tests(copy, mutation.tests)
    if status == PASSED:
        return "LIVES"
    if status != FAILED or "Error compiling script" in output or "SyntaxError" in output:
        return f"is no fault, but nonsense: pytest ended with {status}\n{output[-2000:]}"
    return ""


def main(words: Sequence[str]) -> int:
    """Try all faults, or those chosen by words; first that the tests pass without one."""
    chosen = [m for m in MUTATIONS if not words or any(word in repr(m) for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        status, output = run_tests(copied(Path(folder)), sorted({test for m in chosen for test in m.tests}))
    if status != PASSED:
        print(output)
        return 1
    wrong = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for mutation, what in zip(chosen, pool.map(verdict, chosen), strict=True):
            wrong += bool(what)
            print(f"{what or 'noticed':8} {mutation.file}: {mutation.what}", flush=True)
    print(f"{len(chosen) - wrong} of {len(chosen)} faults were noticed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
