"""How much of a round's work each worker does, so that slow chips do not hold up fast ones.

Speeds are those of the emulated chips, as modelled and reported by the workers: the time of a training step in their
last update. They depend on no clock of ours, so a run that is done again or resumed shares the work out alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from neurofed import metrics


class Speeds:
    """The workers' speeds.

    Attributes:
        step_s: modelled time of a training step by worker, in seconds; of a resumed run, as in its checkpoint.
    """

    def __init__(self) -> None:
        self.step_s: dict[str, float] = {}

    def learn(self, worker: str, numbers: Mapping[str, float | int]) -> None:
        """Take in the numbers of a worker's update; what makes no sense as a speed is passed over."""
        chip_s, steps = numbers.get(metrics.CHIP_S), numbers.get(metrics.STEPS)
        if isinstance(chip_s, int | float) and isinstance(steps, int) and chip_s > 0 and steps > 0:
            step_s = chip_s / steps
            if 0 < step_s < math.inf:
                self.step_s[worker] = step_s

    def work(self, workers: Iterable[str]) -> dict[str, float]:
        """The fraction of its steps that each of these workers shall do: the fastest 1, a chip half as fast 0.5.

        One whose speed is not known yet does all.
        """
        workers = list(workers)
        fastest_s = min((self.step_s[name] for name in workers if name in self.step_s), default=0.0)
        return {name: fastest_s / self.step_s[name] if name in self.step_s else 1.0 for name in workers}
