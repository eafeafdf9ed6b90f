"""Steps of all contestants, interleaved, so that what else the machine does falls on all alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from benchmarks.snn.trainers import Trainer

WARM_UP_STEPS = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a step, one mean for each round.

    Attributes:
        cpu_s: processor time, all threads summed.
        wall_s: time by the clock.
    """

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """Medians, and quartiles of the processor time."""
        low, _, high = quartiles(self.cpu_s)
        return {
            "cpu_ms": 1e3 * statistics.median(self.cpu_s),
            "cpu_ms_lower_quartile": 1e3 * low,
            "cpu_ms_upper_quartile": 1e3 * high,
            "wall_ms": 1e3 * statistics.median(self.wall_s),
        }


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile; of one value, that value."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3


def ratio(slower: Timing, faster: Timing) -> float:
    """How many times `faster` is faster: the median of the ratios of processor time, round by round."""
    return statistics.median(s / f for s, f in zip(slower.cpu_s, faster.cpu_s, strict=True))


def interleaved(
    trainers: Mapping[str, Trainer], inputs: Tensor, targets: Tensor, *, rounds: int, passes: int
) -> dict[str, Timing]:
    """Time the steps of all trainers.

    Args:
        trainers: the contestants by name; their first steps are not timed.
        inputs: (T, B, ...), the same for all.
        targets: (B,).
        rounds: measurements.
        passes: steps of each contestant in a round, one after the other's; the processor's clock may tick coarsely.
    """
    for trainer in trainers.values():
        for _ in range(WARM_UP_STEPS):
            trainer.step(inputs, targets)
    timings = {name: Timing() for name in trainers}
    for _ in range(rounds):
        spent = dict.fromkeys(trainers, (0.0, 0.0))
        for _ in range(passes):
            for name, trainer in trainers.items():
                cpu_s, wall_s = time.process_time(), time.perf_counter()
                trainer.step(inputs, targets)
                spent_cpu_s, spent_wall_s = spent[name]
                spent[name] = (spent_cpu_s + time.process_time() - cpu_s, spent_wall_s + time.perf_counter() - wall_s)
        for name, (cpu_s, wall_s) in spent.items():
            timings[name].cpu_s.append(cpu_s / passes)
            timings[name].wall_s.append(wall_s / passes)
    return timings


def load() -> float:
    """Runnable processes over the last minute."""
    return os.getloadavg()[0]
