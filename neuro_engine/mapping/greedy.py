"""The greedy mapping: whole layers on one core, or one layer split over several, from one load a layer."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from neuro_engine.mapping.split import Split


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the layer pipeline.

    Attributes:
        layers: one layer, or neighbours that share the stage's cores and take turns.
        cores: the cores of one replica, over which every layer of the stage is split.
        load: the sum of the layers' loads.
        replicas: copies of the stage, among which micro-batches are dealt out in turn.
        splits: how each layer is split over the cores; empty where only loads were known, and the split is even.
    """

    layers: tuple[str, ...]
    cores: int
    load: float
    replicas: int = 1
    splits: tuple[Split, ...] = ()

    @property
    def time(self) -> float:
        """Load of each core of the stage, if it is split evenly."""
        return self.load / (self.cores * self.replicas)


@dataclass(frozen=True, slots=True)
class CoreMapping:
    """Stages in the order of the layers."""

    stages: tuple[Stage, ...]

    @property
    def bottleneck(self) -> float:
        """Load of the busiest core; 0.0 without layers."""
        return max((stage.time for stage in self.stages), default=0.0)

    @property
    def cores(self) -> int:
        """Cores in use."""
        return sum(stage.cores * stage.replicas for stage in self.stages)

    @property
    def balance(self) -> float:
        """Mean load of the cores in use over that of the busiest, from 0 to 1; 1.0 where nothing has a load."""
        if not self.bottleneck:
            return 1.0
        return sum(stage.load for stage in self.stages) / (self.cores * self.bottleneck)


def map_layers(loads: Mapping[str, float], cores: int) -> CoreMapping:
    """Give layers to cores so that the busiest core has as little to do as possible.

    With a core for every layer, each spare core goes to the layer with the highest load per core, which is optimal
    for whole cores. With more layers than cores, neighbours share a core: the contiguous partition with the least
    maximum, in which a layer heavier than that is split over cores of its own.

    Args:
        loads: the load of each layer in any one unit, such as cycles, in the order of the network.
        cores: cores of the chip.

    Raises:
        ValueError: fewer than one core, or a load that is negative or not finite.
    """
    if cores < 1:
        raise ValueError(f"expected at least one core, got {cores}")
    for layer, load in loads.items():
        if not (load >= 0 and math.isfinite(load)):
            raise ValueError(f"layer {layer!r}: expected a finite load of at least 0, got {load}")
    return CoreMapping(_split(loads, cores) if len(loads) <= cores else _partition(loads, cores))


def _split(loads: Mapping[str, float], cores: int) -> tuple[Stage, ...]:
    """Every layer on cores of its own."""
    shares = dict.fromkeys(loads, 1)
    for _ in range(cores - len(loads) if any(loads.values()) else 0):
        shares[max(loads, key=lambda layer: loads[layer] / shares[layer])] += 1
    return tuple(Stage((layer,), shares[layer], load) for layer, load in loads.items())


def _partition(loads: Mapping[str, float], cores: int) -> tuple[Stage, ...]:
    """Fewer cores than layers: the least limit on the load of a core that `cores` cores can keep."""
    # The optimum is the load of some run of neighbours, or an even share of a single layer.
    values = tuple(loads.values())
    runs = {run for start in range(len(values)) for run in accumulate(values[start:])}
    shares = {load / count for load in values for count in range(1, cores + 1)}
    floor = sum(values) / cores * (1 - 1e-9)  # no limit below the mean can be kept; the slack is for rounding
    limits = sorted(limit for limit in runs | shares if limit >= floor and limit > 0) or [1.0]
    fits = bisect_left(limits, True, key=lambda limit: sum(stage.cores for stage in _pack(loads, limit)) <= cores)
    return _pack(loads, limits[fits])


def _pack(loads: Mapping[str, float], limit: float) -> tuple[Stage, ...]:
    """Fill one core after the other up to `limit`, which takes the fewest cores possible."""
    stages: list[Stage] = []
    for layer, load in loads.items():
        last = stages[-1] if stages else None
        if last and last.cores == 1 and last.load + load <= limit:
            stages[-1] = Stage((*last.layers, layer), 1, last.load + load)
        else:
            # The slack keeps n cores for the limit load / n, whose quotient may round to just above n.
            stages.append(Stage((layer,), max(1, math.ceil(load / limit * (1 - 1e-12))), load))
    return tuple(stages)
