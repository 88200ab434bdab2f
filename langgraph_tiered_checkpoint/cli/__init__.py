"""The command line `lgt`: what people who operate a store do, without writing Python. Needs the extra `[cli]`."""

from __future__ import annotations

import logging
import sys
import warnings

from langgraph_tiered_checkpoint.errors import (
    ColdTierError,
    ConfigurationError,
    HotTierError,
    NotPromotableError,
    TieredCheckpointError,
)

FAILED, USAGE, UNAVAILABLE = 1, 2, 3
"""Exit status: it was not done, or there is no such thread; a mistake in what was asked; a server did not answer.

Interrupted with Ctrl-C, it is 130, as typer has it."""


def main() -> None:
    """Run the command that the arguments of the process name, and exit."""
    try:
        import rich  # noqa: F401 - both are looked for before anything is imported that needs them
        import typer  # noqa: F401
    except ModuleNotFoundError as exc:
        _fail(f"the command line needs {exc.name}: pip install 'langgraph-tiered-checkpoint[cli]'", USAGE)
    from langgraph_tiered_checkpoint.cli.app import app

    # What is wrong with the servers is told by `doctor` and `status`; a worker logs it.
    logging.getLogger("langgraph_tiered_checkpoint").addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", "Redis at ", RuntimeWarning)
    try:
        app()
    except NotPromotableError as exc:  # the thread does not allow it, or is not there
        _fail(str(exc), FAILED)
    except ConfigurationError as exc:
        _fail(str(exc), USAGE)
    except (HotTierError, ColdTierError) as exc:
        _fail(str(exc), UNAVAILABLE)
    except TieredCheckpointError as exc:
        _fail(str(exc), FAILED)
    except BrokenPipeError:  # whoever reads the output has seen enough
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str, status: int) -> None:
    sys.stderr.write(f"lgt: {message}\n")
    sys.exit(status)
