"""What the layers of a network ask of a chip, as values; mapping and schedule do not know how they arose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from neuro_engine.geometry import Geometry
from neuro_engine.trace import Engine


class PerEngine(NamedTuple):
    """A number for each engine, in the order of `Engine`."""

    fp: float = 0.0
    bp: float = 0.0
    wg: float = 0.0
    update: float = 0.0


class Exchanged(NamedTuple):
    """Bytes that a layer exchanges.

    Attributes:
        spikes: its spikes, sent to each layer that reads them, for one micro-batch.
        gradients: their gradient, which comes back from each of those, for one micro-batch.
        weight_gradients: its weight gradients, summed once a batch over the cores that share its weights.
    """

    spikes: float = 0.0
    gradients: float = 0.0
    weight_gradients: float = 0.0

    @classmethod
    def of(cls, geometry: Geometry) -> Exchanged:
        """For one sample without compression: bitmaps, gradients of 16 bits, weight gradients of 32 bits."""
        outputs = geometry.neurons * geometry.steps
        return cls(outputs / 8, outputs * 2.0, geometry.weights * 4.0)


_Values = TypeVar("_Values", PerEngine, Exchanged)


class Resident(NamedTuple):
    """A layer's weights and weight gradients, which stay in the buffers of its cores where there is room.

    Attributes:
        bytes: what stays, for the whole layer.
        refetched: DRAM bytes of each engine for one micro-batch, for the whole layer, if nothing can stay.
    """

    bytes: float = 0.0
    refetched: PerEngine = PerEngine()

    @classmethod
    def of(cls, geometry: Geometry) -> Resident:
        """Weights of 16 bits, which FP and BP read, and gradients of 32 bits, which WG reads and writes."""
        weights = float(geometry.weights)
        return cls(6 * weights, PerEngine(2 * weights, 2 * weights, 8 * weights))


@dataclass(frozen=True, slots=True)
class LayerWork:
    """What one layer asks of the chip for one micro-batch, and its update for one batch.

    Attributes:
        name: the layer.
        cycles: cycles for which each engine would keep one core busy.
        geometry: its shape. Channels and rows bound how it can be split.
        exchanged: bytes that it exchanges with other layers and between the cores that share its weights.
        resident: its weights and their gradients.
        dram_bytes: other bytes that each engine reads from and writes to DRAM.
        inputs: places, in the network's order, of the layers that it reads; its own place where it is recurrent.
        grain: output channels that a core computes side by side; a split deals out whole grains.
    """

    name: str
    cycles: PerEngine
    geometry: Geometry
    exchanged: Exchanged
    resident: Resident
    dram_bytes: PerEngine
    inputs: tuple[int, ...] = ()
    grain: int = 1

    @property
    def load(self) -> float:
        """Cycles of its slowest engine for one micro-batch: the engines of a core work at the same time."""
        return max(self.cycles[:3])


def layer_work(
    loads: Mapping[str, Mapping[Engine, float]],
    geometry: Mapping[str, Geometry],
    exchanged: Mapping[str, Exchanged] | None = None,
    dram_bytes: Mapping[str, Mapping[Engine, float]] | None = None,
    samples: int = 1,
    grain: int = 1,
) -> tuple[LayerWork, ...]:
    """The work of a network.

    Args:
        loads: cycles of each engine on one core for one sample (UPDATE: for one batch), by layer, in the order of the
            network.
        geometry: the shape of each layer.
        exchanged: bytes exchanged for one sample; a layer left out has those of `Exchanged.of`.
        dram_bytes: DRAM bytes of each engine for one sample (UPDATE: for one batch); none for a layer left out. What
            weights that do not fit cost on top is counted by mapping and schedule.
        samples: samples of a micro-batch, whose work this is then.
        grain: output channels that a core computes side by side, such as the rows of its FP array.

    Raises:
        ValueError: a layer without a geometry, a number that is negative or not finite, samples or a grain below one,
            or a source that is no layer at the same place or before.
    """
    if min(samples, grain) < 1:
        raise ValueError(f"expected at least one sample and a grain of one channel, got {samples}, {grain}")
    places = {layer: place for place, layer in enumerate(loads)}
    work = []
    for layer, cycles in loads.items():
        if layer not in geometry:
            raise ValueError(f"layer {layer!r}: expected a geometry for every layer with a load")
        shape = geometry[layer]
        for source in shape.sources:
            if places.get(source, len(places)) > places[layer]:
                raise ValueError(f"layer {layer!r}: expected sources among the layers before it, got {source!r}")
        moved = _checked(layer, (exchanged or {}).get(layer, Exchanged.of(shape)))
        work.append(
            LayerWork(
                layer,
                _per_engine(layer, cycles, samples),
                shape,
                Exchanged(moved.spikes * samples, moved.gradients * samples, moved.weight_gradients),
                Resident.of(shape),
                _per_engine(layer, (dram_bytes or {}).get(layer, {}), samples),
                tuple(places[source] for source in shape.sources),
                grain,
            )
        )
    return tuple(work)


def _per_engine(layer: str, values: Mapping[Engine, float], samples: int) -> PerEngine:
    fp, bp, wg, update = _checked(layer, PerEngine(*(float(values.get(engine, 0.0)) for engine in Engine)))
    return PerEngine(fp * samples, bp * samples, wg * samples, update)


def _checked(layer: str, values: _Values) -> _Values:
    for value in values:
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"layer {layer!r}: expected finite numbers of at least 0, got {value}")
    return values
