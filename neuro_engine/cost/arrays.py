"""The array of FP, BP or WG at work on one layer: cycles, operations and reads of the buffers.

The layer's matrix products (`Geometry.forward`, `.backward`, `.weight_gradient`) run on the tiles of
`neuro_engine.cost.dataflow`. Pixels lie along the columns of the FP and BP arrays, so that their R is the chip's
`columns`; in WG it is its `rows`. Groups of channels are products of their own.

Samples fold into m, so that a linear layer uses more than a single pixel's lanes. So do time steps, but where outputs
are stationary they fold into k: a tile does its steps one after the other on the same weights. In WG both fold into k,
the sum. An input that is the same at all steps has one.

Where zeros are skipped, what streams past is as long as its non-zeros. Ideal lanes take theirs each by itself; in
lock-step they wait for the one with the most, word by word (`neuro_engine.cost.rows.expected_lockstep_cycles`, where
zeros are independent of each other). In WG every lane sees its own: the AND of two bitmaps.

Skipping saves few reads: bitmaps are read whole, and so is what lanes with zeros of their own share. Values that
stream are read where they are not zero, and a bitmap with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import Dataflow, Feed, Grouping, Mode, Skipping
from neuro_engine.cost.dataflow import Product, even, full_tile, pieces, tiling
from neuro_engine.cost.rows import expected_lockstep_cycles
from neuro_engine.geometry import Geometry
from neuro_engine.trace import Engine, EngineCount


class Reads(NamedTuple):
    """What goes between buffers and lanes.

    Attributes:
        first: elements of the m x k operand.
        second: elements of the k x n operand.
        partial: partial sums.
        bitmap: bits that say where the m x k operand is not zero, if it has values.
    """

    first: float = 0.0
    second: float = 0.0
    partial: float = 0.0
    bitmap: float = 0.0


@dataclass(frozen=True, slots=True)
class ArrayWork:
    """What an array does for one layer.

    Attributes:
        cycles: cycles for which it is busy.
        balanced: cycles if its lanes did not wait for each other.
        ideal: cycles if every lane had an operation that counts in every cycle: the roofline.
        operations: operations whose arithmetic takes energy.
        reads: what goes between buffers and lanes.
    """

    cycles: int
    balanced: int
    ideal: int
    operations: float
    reads: Reads


IDLE = ArrayWork(0, 0, 0, 0.0, Reads())
"""What an array does that has nothing to do."""


def array_work(
    engine: Engine,
    count: EngineCount,
    shape: Geometry | None,
    batches: int,
    chip: Chip,
    *,
    gradient_density: float = 1.0,
    needed: float = 1.0,
) -> ArrayWork:
    """What the array of FP, BP or WG does for one layer of a trace.

    Args:
        engine: FP, BP or WG.
        count: what the layer asks of it.
        shape: the layer's shape. Without one, lanes are never idle while operations are left.
        batches: batches of the trace.
        chip: the chip.
        gradient_density: fraction of the current's gradient that is not zero.
        needed: fraction of BP's operations whose result is needed: the others go to neurons whose surrogate
            derivative and carry are zero. That is the second sparsity of H2Learn (TCAD 2022).

    Raises:
        ValueError: `needed` is no fraction.
    """
    if not 0 <= needed <= 1:
        raise ValueError(f"expected a fraction of results needed from 0 to 1, got {needed}")
    executed = count.executed_ops * (needed if engine is Engine.BP else 1.0)
    dense = max(count.dense_ops, executed)
    if not dense:
        return IDLE
    skips, (rows, columns) = chip.skipping.of(engine) is Mode.SKIP, oriented(engine, chip)
    operations = dense if chip.skipping.of(engine) is Mode.DENSE else executed
    ideal = math.ceil(executed / (rows * columns))
    if shape is None or not count.dense_ops:
        taken = executed if skips else dense
        cycles = math.ceil(taken / (rows * columns))
        reads = Reads(*(taken * part for part in full_tile(chip.dataflow.of(engine), rows, columns)))
        return ArrayWork(cycles, cycles, ideal, operations, reads)
    steps = 1 if engine is Engine.WG else tile_steps(engine, count, shape, chip)
    dataflow = chip.dataflow
    plan = _plan(engine, shape, count.dense_ops, batches, steps, dataflow.of(engine), dataflow.feed, rows, columns)
    if not skips:
        cycles = math.ceil(plan.filling + plan.stream)
        return ArrayWork(cycles, cycles, ideal, operations, Reads(plan.first, plan.second, plan.partial))
    density = executed / dense
    balanced, waiting = plan.stream * density, _waiting(plan, density, chip.skipping)
    reads = _skipping_reads(plan, engine, count, density, gradient_density if columns > 1 else density, steps)
    return ArrayWork(math.ceil(plan.filling + waiting), math.ceil(plan.filling + balanced), ideal, operations, reads)


def oriented(engine: Engine, chip: Chip) -> tuple[int, int]:
    """R and C of an engine's array, as `neuro_engine.cost.dataflow` has them."""
    rows, columns = chip.lanes.array(engine)
    return (rows, columns) if engine is Engine.WG else (columns, rows)


def tile_steps(engine: Engine, count: EngineCount, shape: Geometry, chip: Chip) -> int:
    """Time steps that an output-stationary tile of FP or BP does one after the other on the same weights.

    Its lanes hold a sum for each, and the input buffer (FP) or state buffer (BP) the rows that the kernel reaches.
    """
    if engine is Engine.FP:
        row_bits = shape.in_size[1] * shape.in_channels * (chip.memory.word_bits if count.multiplies else 1)
        buffer = chip.memory.spike_in_buffer_bytes
    else:
        row_bits = shape.out_size[1] * shape.out_channels * chip.memory.word_bits
        buffer = chip.memory.state_buffer_bytes
    fit = 8 * buffer // (shape.kernel[0] * row_bits)
    return max(1, min(input_steps(shape), chip.lanes.accumulators, fit))


def input_steps(shape: Geometry) -> int:
    """Time steps of a sample for which the synapses work."""
    return 1 if shape.static else shape.steps


class _Plan(NamedTuple):
    """How a layer's products run in all batches, whatever is zero: `Tiling`, summed over them.

    Attributes:
        filling: cycles in which tiles load, fill and drain.
        stream: cycles in which operands stream past.
        length: operands that stream past a tile.
        group: lanes with zeros of their own.
        first: elements of the m x k operand that come from their buffer.
        second: elements of the k x n operand.
        partial: partial sums that go to a buffer or come from it.
    """

    filling: float
    stream: float
    length: int
    group: int
    first: float
    second: float
    partial: float


@lru_cache(maxsize=16384)
def _plan(
    engine: Engine,
    shape: Geometry,
    dense_ops: int,
    batches: int,
    steps: int,
    dataflow: Dataflow,
    feed: Feed,
    rows: int,
    columns: int,
) -> _Plan:
    stays = dataflow is Dataflow.OUTPUT_STATIONARY
    product = _folded(engine, shape, dense_ops, batches, stays)
    tiled = tiling(dataflow, product, rows, columns, feed)
    group, rounds = tiled.group, 1
    if stays and engine is Engine.WG:
        group *= even(product.n, columns)
    elif stays:
        rounds = pieces(input_steps(shape), steps)
    products = max(1, batches) * shape.groups
    return _Plan(
        products * tiled.tiles * rounds * tiled.fill,
        products * tiled.tiles * tiled.stream,
        max(1, math.ceil(tiled.stream)),
        group,
        products * tiled.first,
        products * tiled.second * rounds / (input_steps(shape) if stays and engine is not Engine.WG else 1),
        products * tiled.partial,
    )


def _folded(engine: Engine, shape: Geometry, dense_ops: int, batches: int, outputs_stay: bool) -> Product:
    """The product of one group of channels in one batch."""
    m, _, n = {Engine.FP: shape.forward, Engine.BP: shape.backward, Engine.WG: shape.weight_gradient}[engine]
    # Taps that meet nothing, back through a stride or at an edge, are not visited: k is the mean, not rounded.
    k = shape.synapses / (shape.groups * m * n)
    steps = input_steps(shape)
    samples = dense_ops / (shape.synapses * steps * max(1, batches))
    if engine is Engine.WG:
        return Product(m, k * steps * samples, n)
    if outputs_stay:
        return Product(m * samples, k * steps, n)
    return Product(m * steps * samples, k, n)


def _waiting(plan: _Plan, density: float, skipping: Skipping) -> float:
    """Cycles in which operands stream past where the zeros among them are skipped."""
    balanced = plan.stream * density
    if skipping.lanes is Grouping.IDEAL:
        return balanced
    word = min(skipping.word_bits, plan.length)
    cycles = _word_cycles(density, word, plan.group, skipping.queue_depth, skipping.empty_word_cycles)
    # Never longer than a dense stream, which takes a cycle for each position.
    return max(balanced, min(plan.stream, plan.stream / word * cycles))


_word_cycles = lru_cache(maxsize=65536)(expected_lockstep_cycles)


def _skipping_reads(
    plan: _Plan, engine: Engine, count: EngineCount, density: float, gradient_density: float, steps: int
) -> Reads:
    """What goes between buffers and lanes where zeros are skipped; what a lane has to itself is read for it alone."""
    alone = engine is not Engine.WG and plan.group == steps == 1
    second = plan.second * (density if alone else 1.0)
    if engine is Engine.FP and not count.multiplies:  # the operand is the bitmap
        return Reads(plan.first, second, plan.partial)
    return Reads(plan.first * (gradient_density if engine is Engine.WG else density), second, plan.partial, plan.first)
