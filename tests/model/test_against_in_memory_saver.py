"""Any sequence of operations gives what `InMemorySaver` gives, wherever the threads are and whoever moves them."""

from __future__ import annotations

import pytest
from model.machine import HostileMachine, Machine, play
from model.pair import Tiers


@pytest.mark.timeout(600)
def test_any_sequence_of_operations_gives_what_the_in_memory_saver_gives(tiers: Tiers) -> None:
    play(Machine, tiers, stateful_step_count=30)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("machine", [Machine, HostileMachine])
def test_two_thousand_sequences_of_operations(tiers: Tiers, machine: type[Machine]) -> None:
    play(machine, tiers, max_examples=2_000, stateful_step_count=50)
