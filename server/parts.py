"""Which worker trains on which part of the data."""

from __future__ import annotations

from collections.abc import Iterable


class Parts:
    """Gives out parts of the training data so that none lies idle while a worker does.

    A worker keeps its part as long as it is there when a round begins. One that comes when all parts are taken stands
    by. The part of a worker that is not there goes to one that stands by, if there is one; should the worker return, it
    stands by itself. All of this is a function of who is there and of who had which part before.

    Args:
        count: into how many parts the data is divided.

    Attributes:
        holders: the part by worker; of a resumed run, as in its checkpoint.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.holders: dict[str, int] = {}

    def give(self, present: Iterable[str]) -> dict[str, int]:
        """The parts of the workers that are there; those that stand by have none.

        Args:
            present: the names of who may train, without doubles.
        """
        present = sorted(present)
        free = sorted(set(range(self.count)) - set(self.holders.values()))
        left = sorted((part, name) for name, part in self.holders.items() if name not in present)
        for newcomer in [name for name in present if name not in self.holders]:
            if free:
                self.holders[newcomer] = free.pop(0)
            elif left:
                part, gone = left.pop(0)
                del self.holders[gone]
                self.holders[newcomer] = part
        return {name: self.holders[name] for name in present if name in self.holders}
