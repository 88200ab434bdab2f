"""Ids that are hard to tell apart, whichever of them are used for what, never meet."""

from __future__ import annotations

import pytest
from hypothesis import settings
from model.machine import HostileMachine, play
from model.pair import Tiers


@pytest.mark.timeout(600)
def test_ids_that_are_nearly_the_same_never_meet(tiers: Tiers) -> None:
    play(HostileMachine, tiers, stateful_step_count=20, max_examples=settings().max_examples // 2)
