"""The state machines of the model, and how they are run."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, run_state_machine_as_test
from ids import hostile
from model.pair import Names, Tiers
from model.upkeep import Upkeep
from model.usage import Usage

THREADS = ("t", "T", "t:*,{}", "t\t\\ é", "e\u0301")
SPACES = ("", "sub:task 1", "sub:task 1|deep:task,2", "keeps")


class Machine(Usage, Upkeep):
    """Every rule does the same to both savers, or only to the tiers; afterwards both must say the same."""

    @initialize(
        threads=st.permutations(THREADS),
        others=st.permutations(SPACES[1:]),
        hot_checkpoints=st.sampled_from([None, 1, 2]),
        promotes_at=st.sampled_from([None, 3]),
    )
    def begin(
        self, threads: list[str], others: list[str], hot_checkpoints: int | None, promotes_at: int | None
    ) -> None:
        self._begin(Names(tuple(threads[:2]), ("", *others[:2])), hot_checkpoints, promotes_at)


NAMES = st.builds(
    Names,
    threads=hostile(2),
    spaces=hostile(2).map(lambda names: ("", *names)),
    channels=hostile(4),
    tasks=hostile(3),
    runs=hostile(2),
    ids=hostile(8),
)


class HostileMachine(Machine):
    """The same with ids of all kinds that are hard to tell apart, whichever of them are used for what."""

    @initialize(names=NAMES, hot_checkpoints=st.sampled_from([None, 1, 2]), promotes_at=st.sampled_from([None, 3]))
    def begin(self, names: Names, hot_checkpoints: int | None, promotes_at: int | None) -> None:
        self._begin(names, hot_checkpoints, promotes_at)


def play(machine: type[Machine], tiers: Tiers, **options: Any) -> None:
    class Bound(machine):  # type: ignore[misc, valid-type]
        pass

    Bound.tiers = tiers
    run_state_machine_as_test(Bound, settings=settings(**options))
    assert tiers.differences > 0
