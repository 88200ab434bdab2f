"""What the application has been promised on one path."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import NamedTuple


class Item(NamedTuple):
    """Something that the application was told is stored."""

    checkpoint_id: str
    task_id: str
    """Empty for the checkpoint itself."""
    incarnation: str

    def is_in(self, held: AbstractSet[tuple[str, str]]) -> bool:
        """Whether it is among (checkpoint id, task id)."""
        return (self.checkpoint_id, self.task_id) in held


@dataclass(frozen=True)
class Facts:
    """What has been promised so far, and what has been withdrawn."""

    stored: frozenset[Item] = frozenset()
    excused: frozenset[str] = frozenset()
    """Incarnations that may be gone, whole or in part."""
    lost: frozenset[Item] = frozenset()
    """What a failover has lost, which nobody can help."""
    condemned: frozenset[str] = frozenset()
    """Incarnations that a delete which has not returned yet is to remove."""
    dead: frozenset[str] = frozenset()
    """Incarnations that must be gone."""
    deleting: bool = False
    met: frozenset[str] = frozenset()
    """Incarnations that were written to while a delete was under way, which may take them along, but not in part."""
    pruned: bool = False
    floors: tuple[tuple[int, str], ...] = ()
    """By actor, the latest checkpoint when it began to read."""

    def owed(self, latest: str = "") -> frozenset[Item]:
        """What must be there, if that is the latest checkpoint that is."""
        lost = {i.checkpoint_id for i in self.lost if not i.task_id}
        alive = [
            i
            for i in self.stored - self.lost
            if i.incarnation not in self.excused | self.dead and i.checkpoint_id not in lost
        ]
        if self.pruned and alive:
            head = max(latest, *(i.checkpoint_id for i in alive))
            alive = [i for i in alive if i.checkpoint_id == head]
        return frozenset(alive)

    def beside_a_delete(self, incarnation: str) -> Facts:
        """What becomes of it is the delete's to decide until it returns."""
        return replace(self, met=self.met | {incarnation}, excused=self.excused | {incarnation})

    def deleted(self, held: AbstractSet[tuple[str, str]]) -> Facts:
        """A delete has returned: of what it met, it has taken all, or nothing."""
        spared = replace(self, excused=self.excused - self.met)
        taken = {i.incarnation for i in spared.owed(latest(held)) if i.incarnation in self.met and not i.is_in(held)}
        return replace(spared, dead=self.dead | self.condemned | taken, deleting=False, met=frozenset())

    @property
    def head(self) -> str:
        """The latest checkpoint that must be there."""
        return max((i.checkpoint_id for i in self.owed() if not i.task_id), default="")


def latest(held: AbstractSet[tuple[str, str]]) -> str:
    """The highest checkpoint id among (checkpoint id, task id)."""
    return max(held, default=("", ""))[0]
