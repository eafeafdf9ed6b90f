"""The closed form that the search minimises: cycles of a batch on a pipeline of stages.

A micro-batch passes each stage forwards and backwards, and a stage's FP, BP and WG engines and its NoC port work on
different micro-batches at the same time. For M equal micro-batches that is a flow shop, whose time is the sum of all
its steps and M - 1 times the longest: `fill + steady`, the fill summed over the stages, the steady part that of the
slowest stage. `docs/explanation/schedule.md` has the equations and what they leave out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import Engines
from neuro_engine.mapping.greedy import CoreMapping, Stage
from neuro_engine.mapping.split import Split, busiest_share, input_fraction
from neuro_engine.mapping.work import LayerWork

Array = NDArray[np.float64]
Shape = NDArray[np.int_]
Work = tuple[LayerWork, ...]


@dataclass(frozen=True, slots=True)
class Setup:
    """The chip, as far as the mapping depends on it, and how a batch runs.

    Attributes:
        cores: cores of the chip.
        micro_batches: micro-batches of a batch.
        tiles: parts of the time steps. A layer starts on a part as soon as the layers that it reads have done it.
        link_bytes_per_cycle: bytes that a core can send, and receive, in one cycle.
        dram_bytes_per_cycle: bytes that the DRAM moves in one cycle for all cores.
        buffer_bytes: room of a core for weights and weight gradients.
        shared_engines: FP, BP and WG of a core take turns on one array, BP and WG layer by layer.

    Raises:
        ValueError: a number that is not positive.
    """

    cores: int
    micro_batches: int
    tiles: int = 1
    link_bytes_per_cycle: float = math.inf
    dram_bytes_per_cycle: float = math.inf
    buffer_bytes: float = math.inf
    shared_engines: bool = False

    def __post_init__(self) -> None:
        counts = {"core": self.cores, "micro-batch": self.micro_batches, "tile": self.tiles}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"expected at least one {name}, got {count}")
        rates = self.link_bytes_per_cycle, self.dram_bytes_per_cycle, self.buffer_bytes
        if not all(rate > 0 for rate in rates):
            raise ValueError(f"expected links, DRAM and buffers of more than 0 bytes, got {rates}")

    @classmethod
    def of(cls, chip: Chip, micro_batches: int, tiles: int = 1) -> Setup:
        """A batch on a chip: bytes per cycle follow from its links, DRAM and clock."""
        return cls(
            chip.cores.count,
            micro_batches,
            tiles,
            chip.noc.flit_bits / 8 * chip.noc.flits_per_cycle,
            chip.dram.bandwidth_bytes_per_s * chip.dram.efficiency / chip.clock.frequency_hz,
            chip.memory.weight_buffer_bytes + chip.memory.weight_gradient_buffer_bytes,
            chip.cores.engines is Engines.SHARED,
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cycles of a batch.

    Attributes:
        fill: one micro-batch through all stages, forwards and backwards.
        steady: what the slowest stage takes beyond its share of the fill, its weight reduction and update included.
        refetch: what the DRAM takes to move weights and their gradients that do not fit the buffers.
    """

    fill: float
    steady: float
    refetch: float

    @property
    def cycles(self) -> float:
        """Cycles from the first micro-batch's start to the last update; the DRAM works beside the stages."""
        return self.fill + max(self.steady, self.refetch)


@dataclass(frozen=True, slots=True)
class Costs:
    """What each possible stage costs: arrays over first layer, last layer and shape.

    Attributes:
        shapes: cores of a replica and replicas, in the order of their product.
        fill: cycles that the stage adds to the fill; infinite where the last layer is before the first.
        steady: cycles that the stage takes beyond its fill.
        refetch: cycles of the DRAM.
    """

    shapes: tuple[tuple[int, int], ...]
    fill: Array
    steady: Array
    refetch: Array


def estimate(work: Work, mapping: CoreMapping, setup: Setup) -> Estimate:
    """Cycles of a batch in closed form.

    Args:
        work: the layers.
        mapping: where they are, of `search` or `greedy`.
        setup: the chip and how the batch runs.
    """
    if not work:
        return Estimate(0.0, 0.0, 0.0)
    costs = stage_costs(work, setup)
    first, fill, steady, refetch = 0, 0.0, 0.0, 0.0
    for stage in mapping.stages:
        at = first, first + len(stage.layers) - 1, costs.shapes.index((stage.cores, stage.replicas))
        fill += float(costs.fill[at])
        steady = max(steady, float(costs.steady[at]))
        refetch += float(costs.refetch[at])
        first += len(stage.layers)
    return Estimate(fill, steady, refetch)


def stage(work: Work, cores: int, replicas: int, setup: Setup) -> Stage:
    """A stage of the layers `work` with the best splits of each."""
    load = sum(layer.load for layer in work)
    splits = tuple(best_split(layer, cores, setup) for layer in work)
    return Stage(tuple(layer.name for layer in work), cores, load, replicas, splits)


@lru_cache(maxsize=8192)
def best_split(layer: LayerWork, cores: int, setup: Setup) -> Split:
    """The grid of `cores` cores on which the layer takes the fewest cycles for a micro-batch.

    Split by rows, cores read less input but share weights, whose gradients they must sum once a batch. The cycles
    compared are those of the busiest core's slowest engine, of its input and output, of a micro-batch's part of that
    sum and of the DRAM, if the layer alone does not fit; of equals, the one with the most channel parts.
    """

    def cycles(split: Split) -> float:
        moved = (layer.exchanged.spikes + layer.exchanged.gradients) * input_fraction(layer.geometry, split)
        ring = 2 * (split.rows - 1) / split.rows * layer.exchanged.weight_gradients / split.channels
        share = busiest_share(layer.geometry, split, layer.grain)
        refetched = refetch_fraction(layer.resident.bytes / split.channels, setup) * sum(layer.resident.refetched)
        return (
            layer.load * share
            + (moved + ring / setup.micro_batches) / setup.link_bytes_per_cycle
            + refetched * split.rows / setup.dram_bytes_per_cycle
        )

    grids = (Split(cores // rows, rows) for rows in range(1, cores + 1) if cores % rows == 0)
    return min(grids, key=cycles)


def refetch_fraction(resident_bytes: float, setup: Setup) -> float:
    """The part of a core's weights and weight gradients that its buffers have no room for, from 0 to 1."""
    return 1 - setup.buffer_bytes / resident_bytes if resident_bytes > setup.buffer_bytes else 0.0


@lru_cache(maxsize=16)
def stage_costs(work: Work, setup: Setup) -> Costs:
    """The costs of every run of layers on every shape of up to all cores."""
    cores = range(1, setup.cores + 1)
    shapes = tuple((total // n, n) for total in cores for n in range(1, total + 1) if total % n == 0)
    splits = [[best_split(layer, k, setup) for k in cores] for layer in work]
    fill, pace, last = _trips(work, splits, setup)
    each, replicas = np.array(shapes).T
    rounds = -(-setup.micro_batches // replicas) - 1
    end = _runs(_ends(work, splits, each, replicas, setup))
    steady = rounds * pace[:, :, each - 1] + last[:, :, each - 1] + end
    return Costs(shapes, fill[:, :, each - 1], steady, _refetch(work, splits, setup)[:, :, each - 1])


def _trips(work: Work, splits: list[list[Split]], setup: Setup) -> tuple[Array, Array, Array]:
    """A micro-batch in a stage of one replica: (first, last, cores) each.

    Returns:
        Cycles until the next stage and then the one before can start; until the next micro-batch is as far; and until
        the micro-batch has left, beyond the first.
    """
    share = np.array(
        [[busiest_share(of.geometry, split, of.grain) for split in row] for of, row in zip(work, splits, strict=True)]
    )
    fp, bp, wg = (share * np.array([[of.cycles[engine]] for of in work]) for engine in range(3))
    (taken, given), (taken_inside, given_inside) = _ports(work, splits, setup)
    forward, backward, weights = _runs(fp), _runs(bp), _runs(wg)
    if setup.tiles == 1:  # with more, a layer's first tiles travel while its last are computed
        forward, backward = forward + taken_inside, backward + given_inside
    # A stage works layer by layer and tile by tile: its last layer's first tile is the first that the next can use.
    last = (1 - 1 / setup.tiles) * (fp[None, :] + bp[:, None])
    fill = forward + backward - last + (taken + given) / setup.tiles
    if setup.shared_engines:
        fill += weights - wg[:, None]  # BP of the first layer comes after WG of the others
    fill[0] += wg[0] / setup.tiles  # nothing follows that could hide the last WG
    fill[np.tril_indices(len(work), -1)] = math.inf
    arrays = [forward + backward + weights] if setup.shared_engines else [forward, backward, weights]
    return fill, np.maximum.reduce([*arrays, taken + taken_inside, given + given_inside]), last


def _runs(values: Array) -> Array:
    """Sums over runs of layers: from values (layer, x) to sums (first, last, x)."""
    layers = len(values)
    inside = np.arange(layers)[:, None] <= np.arange(layers)
    return np.cumsum(np.where(inside[:, :, None], values, 0.0), axis=1)


def _ports(work: Work, splits: list[list[Split]], setup: Setup) -> tuple[Array, Array]:
    """Cycles for which a core's port takes in spikes and gives out gradients: two of (first, last, cores) each.

    Returns:
        Of layers in other stages, of which a core takes all that it reads; and of layers in its own stage, of which
        it takes all but its own part.
    """
    layers, cores = len(work), len(splits[0])
    outside, inside = np.zeros((2, 2, layers, layers, cores))
    others = 1 - 1 / np.arange(1, cores + 1)
    for place, layer in enumerate(work):
        fraction = np.array([input_fraction(layer.geometry, split) for split in splits[place]])
        cycles = fraction / setup.link_bytes_per_cycle
        for source in layer.inputs:
            inside[0, : source + 1, place] += work[source].exchanged.spikes * cycles * others
            outside[0, source + 1 : place + 1, place] += work[source].exchanged.spikes * cycles
        if layer.inputs:  # what is added up has one gradient, which goes to each stage once
            size = max(work[source].exchanged.gradients for source in layer.inputs)
            inside[1, : max(layer.inputs) + 1, place] = size * cycles * others
            outside[1, min(layer.inputs) + 1 : place + 1, place] = size * cycles
    return np.cumsum(outside, axis=2), np.cumsum(inside, axis=2)


def _refetch(work: Work, splits: list[list[Split]], setup: Setup) -> Array:
    """Cycles in which the DRAM moves the weights of a batch that the buffers cannot hold: (first, last, cores).

    A core with parts of several layers keeps as much of each as all of them leave room for. Cores that share weights
    have a copy each.
    """
    channels = np.array([[split.channels for split in row] for row in splits])
    resident = _runs(np.array([[layer.resident.bytes] for layer in work]) / channels)
    refetched = _runs(np.array([[sum(layer.resident.refetched)] for layer in work]) / channels)
    fraction = np.maximum(0.0, 1 - setup.buffer_bytes / np.maximum(resident, 1.0))
    moved: Array = setup.micro_batches * np.arange(1, len(splits[0]) + 1) * fraction * refetched
    return moved / setup.dram_bytes_per_cycle


def _ends(work: Work, splits: list[list[Split]], each: Shape, replicas: Shape, setup: Setup) -> Array:
    """Cycles after a batch: weight gradients summed over the cores that share them, and the update: (layer, shape)."""
    channels = np.array([[split.channels for split in row] for row in splits])[:, each - 1]
    members = np.array([[split.rows for split in row] for row in splits])[:, each - 1] * replicas
    summed = np.array([[layer.exchanged.weight_gradients] for layer in work]) / channels
    # Each member of a ring of n sends, and receives, 2 (n - 1) / n of the bytes.
    ring: Array = 2 * (members - 1) / members * summed / setup.link_bytes_per_cycle
    update: Array = np.array([[layer.cycles.update] for layer in work]) / (each * replicas)
    return ring + update
