"""What is looked at when a saver with a cold tier opens, and told to its log: what needs no round trip of its own.

All of it, and more, is asked by the doctor; see plans/examining.py.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from typing import Any, Final

from langgraph_tiered_checkpoint.hot.durability import ASKED, durability, message
from langgraph_tiered_checkpoint.io.targets import HotTarget

logger = logging.getLogger(__name__)

_FAR_OFF_S: Final = 60.0

_cautioned: set[str] = set()
"""What this process has been told once."""


def questions(target: HotTarget) -> Sequence[tuple[str, ...]]:
    """What to ask Redis."""
    return (*ASKED, ("TIME",), ("EXISTS", f"{target.key_prefix}:workers"))


def dangers(replies: Sequence[Any], target: HotTarget, *, flushes_later: bool, needs_worker: bool) -> list[str]:
    """Warn of what will lose data although nothing fails, which is returned; and of what else is not as it should be.

    The latter once a process, and not of a Redis of this machine's own, which is a developer's.

    Args:
        replies: to the `questions`, which have just come.
        target: where they were asked.
        flushes_later: Redis alone holds what is not flushed yet, also of promoted threads.
        needs_worker: nobody in this process flushes it.
    """
    *durable, told, workers = replies
    checks = durability(durable, cold=True, flushes_later=flushes_later)
    found = [message(check, target.display_url) for check in checks if check.verdict == "failure"]
    for danger in found:
        logger.error(danger)
    if not target.is_here:
        _caution([message(check, target.display_url) for check in checks if check.verdict == "warning"])
        _caution(_of_workers(workers, target) if needs_worker else [])
        _caution(_of_clocks(told, target))
    for danger in found:
        warnings.warn(danger, RuntimeWarning, stacklevel=2)
    return found


def _of_workers(exist: object, target: HotTarget) -> list[str]:
    said = (
        f"Redis at {target.display_url} (key_prefix {target.key_prefix!r}): no promoter has said within the last two "
        'minutes that it is alive, and promoter="external" leaves the flushing to others. Run `lgt worker`'
    )
    return [said] if exist == 0 else []


def _of_clocks(told: object, target: HotTarget) -> list[str]:
    ahead_s = int(told[0]) - time.time() if isinstance(told, list) else 0.0
    said = (
        f"Redis at {target.display_url}: its clock is a minute or more {'ahead' if ahead_s > 0 else 'behind'} of the "
        "one here, by which what was deleted is told from what is new. Let NTP keep the clocks of all machines"
    )
    return [said] if abs(ahead_s) > _FAR_OFF_S else []


def _caution(found: Sequence[str]) -> None:
    for caution in found:
        if caution not in _cautioned:
            _cautioned.add(caution)
            logger.warning(caution)
