"""What a training step of a network costs on a chip, and where it goes: the cost model as a whole.

`profile` brings the parts together: a trace, counted or expected from a shape; the closed-form bill; the best mapping
for it; and the simulated schedule, whose traffic on the mesh goes back into the bill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from neuro_engine.chip import Chip
from neuro_engine.cost import Cost, cost
from neuro_engine.cost.networks import NetworkShape
from neuro_engine.cost.noc import NocParameters
from neuro_engine.cost.sparsity import Sparsity
from neuro_engine.cost.synthetic import synthetic_trace
from neuro_engine.geometry import Geometry
from neuro_engine.mapping import CoreMapping, Exchanged, LayerWork, Setup, layer_work, search
from neuro_engine.schedule import Schedule, schedule
from neuro_engine.trace import Engine, TensorClass, Trace

_MOST_TILES = 4
"""Parts of the time steps in which layers of the pipeline follow each other, where the network has as many steps."""
_MOST_SLOWER = 2
"""Sizes of micro-batches in a row that may be slower before smaller ones are given up."""
Mapper = Callable[[Sequence[LayerWork], Setup], CoreMapping]
_WEIGHTS = (TensorClass.WEIGHTS, TensorClass.WEIGHT_GRADIENT)


@dataclass(frozen=True, slots=True)
class Profile:
    """A training step on a chip.

    Attributes:
        shape: the network.
        chip: the chip.
        batch: samples of the step.
        sparsity: how sparse its tensors were taken to be.
        trace: what the engines do.
        bill: what that costs.
        samples: samples of a micro-batch of the pipeline.
        mapping: which cores do what.
        schedule: the step in time.
    """

    shape: NetworkShape
    chip: Chip
    batch: int
    sparsity: Sparsity
    trace: Trace
    bill: Cost
    samples: int
    mapping: CoreMapping
    schedule: Schedule

    @property
    def seconds(self) -> float:
        """Time of the step by the schedule."""
        return self.schedule.cycles / self.chip.clock.frequency_hz


def profile(
    shape: NetworkShape,
    chip: Chip,
    batch: int,
    sparsity: Sparsity | None = None,
    *,
    optimizer_moments: int = 1,
    samples: int | None = None,
) -> Profile:
    """Profile one training step.

    Args:
        shape: the network.
        chip: the chip.
        batch: samples of the step.
        sparsity: how sparse its tensors are; None for `Sparsity.assumed`.
        optimizer_moments: as of `synthetic_trace`.
        samples: samples of a micro-batch; None for that of `fastest_plan`.

    Raises:
        ValueError: the batch is no multiple of `samples`, or as of `check_fits` and `synthetic_trace`.
    """
    check_fits(shape, chip)
    sparsity = sparsity or Sparsity.assumed(shape)
    trace = synthetic_trace(shape, sparsity, batch, optimizer_moments)
    needed = needed_fractions(shape, sparsity)
    bill = cost(trace, chip, needed=needed)
    if samples is not None and (samples < 1 or batch % samples):
        raise ValueError(f"expected micro-batches of equal size of a batch of {batch}, got {samples}")
    plan = fastest_plan(bill, trace, chip, (samples,) if samples else divisors(batch))
    bill = cost(trace, chip, byte_hops=plan.schedule.byte_hops, needed=needed)
    return Profile(shape, chip, batch, sparsity, trace, bill, *plan)


def check_fits(shape: NetworkShape, chip: Chip) -> None:
    """Check that a core can hold the weights, and their gradients, of one output channel of each layer.

    A layer goes through the buffers in slices of whole output channels; less cannot be computed.

    Raises:
        ValueError: a layer of which it cannot.
    """
    memory = chip.memory
    for key, bits in (("weight_buffer", memory.word_bits), ("weight_gradient_buffer", memory.accumulator_bits)):
        room = getattr(memory, f"{key}_bytes")
        for name, geometry in shape.layers.items():
            least = -(-geometry.weights // geometry.out_channels * bits // 8)
            if least > room:
                raise ValueError(
                    f"{chip.name}: memory.{key}_bytes = {room}: layer {name!r} fits no core, an output channel of it "
                    f"takes {least} bytes"
                )


def needed_fractions(shape: NetworkShape, sparsity: Sparsity) -> dict[str, float]:
    """The fraction of each layer's BP whose result is needed, by the surrogates of the layers that it reads.

    An error is needed where any of the added sources wants it, of which the one that wants the most is taken.
    """
    return {
        layer: max((sparsity.density(shape, source).surrogate for source in shape.sources(layer)), default=1.0)
        for layer in shape.layers
    }


def divisors(batch: int) -> tuple[int, ...]:
    """Sizes of micro-batches worth trying: powers of two that divide the batch."""
    return tuple(size for size in (2**power for power in range(batch.bit_length())) if batch % size == 0)


class Plan(NamedTuple):
    """How a chip goes through a training step: samples of a micro-batch, which cores do what, and that in time."""

    samples: int
    mapping: CoreMapping
    schedule: Schedule


def fastest_plan(bill: Cost, trace: Trace, chip: Chip, sizes: Iterable[int], mapped: Mapper = search) -> Plan:
    """The plan with the least simulated cycles, one for each size of the micro-batches; of equals the largest size.

    Sizes are tried from the largest, whose schedules are short to simulate, down to the second in a row that is slower
    than the best so far.

    Args:
        bill: the bill of `trace`.
        trace: one batch, each of whose layers has a geometry.
        chip: the chip.
        sizes: samples of a micro-batch to choose from.
        mapped: finds the mapping for a size.

    Raises:
        ValueError: no size.
    """
    best, slower = None, 0
    for samples in sorted(sizes, reverse=True):
        work = chip_work(bill, trace, chip, samples)
        setup = Setup.of(chip, trace.samples // samples, tiles_of(trace.geometry))
        mapping = mapped(work, setup)
        plan = Plan(samples, mapping, schedule(work, mapping, setup, NocParameters.of(chip)))
        if best is None or plan.schedule.cycles < best.schedule.cycles:
            best, slower = plan, 0
        elif (slower := slower + 1) == _MOST_SLOWER:
            break
    if best is None:
        raise ValueError("expected at least one size of micro-batches, got none")
    return best


def tiles_of(geometry: Mapping[str, Geometry]) -> int:
    """Parts of the time steps of a pipeline."""
    return min(_MOST_TILES, max((shape.steps for shape in geometry.values()), default=1))


def chip_work(bill: Cost, trace: Trace, chip: Chip, samples: int) -> tuple[LayerWork, ...]:
    """What each layer asks of the chip, for mapping and schedule.

    Weights and weight gradients are left out of the DRAM's bytes: the schedule counts how often they are fetched.

    Args:
        bill: the bill of `trace`.
        trace: one batch, each of whose layers has a geometry.
        chip: the chip.
        samples: samples of a micro-batch.
    """
    loads: dict[str, dict[Engine, float]] = {}
    moved: dict[str, dict[Engine, float]] = {}
    for (layer, engine), part in bill.layers.items():
        share = 1 if engine is Engine.UPDATE else trace.samples
        loads.setdefault(layer, {})[engine] = part.cycles / share
        kept = {} if engine is Engine.UPDATE else dict.fromkeys(_WEIGHTS, 0)
        streamed = sum({**part.dram_reads, **kept}.values()) + sum({**part.dram_writes, **kept}.values())
        moved.setdefault(layer, {})[engine] = streamed / share
    exchanged = {layer: _exchanged(trace, layer) for layer in loads}
    shape = NetworkShape.of_trace(trace)
    geometry = {layer: replace(shape.layers[layer], sources=shape.sources(layer)) for layer in loads}
    return layer_work(loads, geometry, exchanged, moved, samples, grain=chip.lanes.fp_rows)


def _exchanged(trace: Trace, layer: str) -> Exchanged:
    """Bytes between cores for one sample: bitmaps of spikes, non-zero gradients with a bitmap, weight gradients."""
    shape = trace.geometry[layer]
    outputs = shape.neurons * shape.steps
    return Exchanged.of(shape)._replace(gradients=outputs * (1 / 8 + 2 * trace.gradient_density(layer)))
