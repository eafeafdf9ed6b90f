"""DRAM traffic of a trace on a chip: by layer, engine and tensor class.

A trace holds what streams: layer by layer over the batch, every tensor that an engine reads or writes goes through DRAM
once. Buffers and policy change that, always by the buffers of all cores and by shapes, never by measured sparsity, as
a compiler would decide before it runs; so the bytes of summed traces are the sums of their bytes.

- Weights and their gradients stay on the chip if those of the whole network fit (`policy.weights`). If not, and a
  layer's do not fit either, they go through their buffer in slices, for each of which FP reads its input and BP its
  gradient again, WG both; or else input and gradient go through theirs in chunks, for each of which the weights are
  read, or the weight gradients summed up, again. A layer does what moves fewer bytes with nothing skipped.
- FP keeps the membranes of a spiking layer for BP as `policy.membrane` says.
- BP and WG share a read of the gradient while that of a sample, with nothing skipped, fits the state buffers.
- The tensor of each sample begins at a burst: the last burst is full only by chance, half on average where the size
  varies with sparsity.

What has no geometry streams.
"""

from __future__ import annotations

from typing import NamedTuple

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import MembranePolicy, WeightPolicy
from neuro_engine.cost.arrays import input_steps
from neuro_engine.cost.dataflow import pieces
from neuro_engine.trace import Engine, TensorClass, TensorCount, Trace

Bytes = dict[TensorClass, int]

_INPUTS = (TensorClass.INPUT, TensorClass.SPIKES)
_BY_WEIGHT = (TensorClass.WEIGHTS, TensorClass.WEIGHT_GRADIENT, TensorClass.OPTIMIZER)
"""Tensors without samples, contiguous for a whole layer."""
_MEMBRANE_BITS = {
    MembranePolicy.STORE16: 16,
    MembranePolicy.MASK8: 8,
    MembranePolicy.MASK1: 1,
    MembranePolicy.RECOMPUTE: 0,
}


class Traffic(NamedTuple):
    """Bytes read from and written to DRAM by tensor class; classes without traffic are left out."""

    reads: Bytes
    writes: Bytes

    @property
    def bytes(self) -> int:
        """Bytes in both directions."""
        return sum(self.reads.values()) + sum(self.writes.values())


def traffic(trace: Trace, chip: Chip) -> dict[tuple[str, Engine], Traffic]:
    """What each engine reads and writes for each layer."""
    kept = _kept(trace, chip)
    result = {}
    for layer in trace.layers:
        moves = _LayerMoves(layer, trace, chip, kept if layer in trace.geometry else frozenset())
        for engine in Engine:
            result[layer, engine] = moves.of(engine)
    return result


def fp_runs(trace: Trace, layer: str, chip: Chip) -> int:
    """How often FP runs on a layer: twice where it is to recompute the membranes for BP."""
    return 2 if chip.policy.membrane is MembranePolicy.RECOMPUTE and _spiking(trace, layer) else 1


def _spiking(trace: Trace, layer: str) -> bool:
    """Whether a layer fires; a readout has no surrogate, and its membrane leaves the chip."""
    return TensorClass.SPIKES in trace.count(layer, Engine.FP).writes


def _kept(trace: Trace, chip: Chip) -> frozenset[TensorClass]:
    """What of the whole network stays in the buffers."""
    if chip.policy.weights is WeightPolicy.STREAM:
        return frozenset()
    weights, memory, cores = sum(shape.weights for shape in trace.geometry.values()), chip.memory, chip.cores.count
    sizes = (
        (TensorClass.WEIGHTS, memory.word_bits, memory.weight_buffer_bytes),
        (TensorClass.WEIGHT_GRADIENT, memory.accumulator_bits, memory.weight_gradient_buffer_bytes),
    )
    return frozenset(tensor for tensor, bits, buffer in sizes if weights * bits <= 8 * buffer * cores)


class _Order(NamedTuple):
    """How often an engine moves its tensors to go through all products of a batch."""

    streamed: int
    """Inputs or gradient."""
    weights: int
    """Weights, or weight gradients."""


def _order(streamed: float, chunks: int, weights: float, slices: int, moves: int = 1) -> _Order:
    """All that streams for each slice of the weights, or all weights for each chunk of what streams.

    Args:
        streamed: bytes of input or gradient, or both, in a batch.
        chunks: in how many chunks they go through their buffers.
        weights: bytes of the weights.
        slices: in how many slices they go through theirs.
        moves: 1 if the weights are only read in each chunk, 2 if they are sums, written and read again.
    """
    if (slices - 1) * streamed <= moves * (chunks - 1) * weights:
        return _Order(slices, 1)
    return _Order(1, chunks)


class _LayerMoves:
    """The traffic of one layer.

    Args:
        layer: its name.
        trace: what it did.
        chip: the chip.
        kept: what stays on the chip.
    """

    def __init__(self, layer: str, trace: Trace, chip: Chip, kept: frozenset[TensorClass]) -> None:
        self._chip, self._kept, self._shape = chip, kept, trace.geometry.get(layer)
        self._counts = {engine: trace.count(layer, engine) for engine in Engine}
        self._spiking, self._fp_runs = _spiking(trace, layer), fp_runs(trace, layer, chip)
        self._gradient = self._counts[Engine.BP].writes.get(TensorClass.GRADIENT, TensorCount())
        self._orders = self._loop_orders(max(1, trace.steps))

    def of(self, engine: Engine) -> Traffic:
        """What one engine reads and writes."""
        count = self._counts[engine]
        reads = {tensor: self._times(engine, tensor) * self._size(tensor, of) for tensor, of in count.reads.items()}
        writes = {tensor: self._size(tensor, of, written=True) for tensor, of in count.writes.items()}
        if engine is Engine.BP:
            if self._gradient_reads() and not writes.get(TensorClass.GRADIENT, 1):
                writes[TensorClass.GRADIENT] = self._gradient_bytes()
            if self._spiking and self._chip.policy.membrane is MembranePolicy.MASK1:
                spikes = self._counts[Engine.FP].writes[TensorClass.SPIKES]
                reads[TensorClass.SPIKES] = self._size(TensorClass.SPIKES, spikes, written=True)
        if engine is Engine.WG:
            sums, chunks = writes.get(TensorClass.WEIGHT_GRADIENT, 0), self._orders[Engine.WG].weights
            reads[TensorClass.GRADIENT] = self._gradient_reads() * self._gradient_bytes()
            reads[TensorClass.WEIGHT_GRADIENT] = (chunks - 1) * sums
            writes[TensorClass.WEIGHT_GRADIENT] = chunks * sums
        return Traffic(*({tensor: size for tensor, size in side.items() if size} for side in (reads, writes)))

    def _times(self, engine: Engine, tensor: TensorClass) -> int:
        """How often an engine reads a tensor."""
        if engine is Engine.UPDATE or tensor in (TensorClass.MEMBRANE, TensorClass.CURRENT):
            return 1
        way = self._orders[engine]
        times = way.weights if tensor is TensorClass.WEIGHTS else way.streamed
        return times * (self._fp_runs if engine is Engine.FP else 1)

    def _loop_orders(self, batches: int) -> dict[Engine, _Order]:
        shape, memory, cores = self._shape, self._chip.memory, self._chip.cores.count
        if shape is None:
            return dict.fromkeys(Engine, _Order(1, 1))
        reads = self._counts[Engine.FP].reads
        inputs = sum(reads[tensor].bytes for tensor in _INPUTS if tensor in reads) / batches
        gradient = self._gradient.elements * (1 + memory.word_bits) / 8 / batches
        of_inputs = pieces(inputs, cores * memory.spike_in_buffer_bytes)
        of_gradient = pieces(gradient, cores * memory.state_buffer_bytes)
        weights, sums = shape.weights * memory.word_bits / 8, shape.weights * memory.accumulator_bits / 8
        slices = pieces(weights, cores * memory.weight_buffer_bytes)
        of_sums = pieces(sums, cores * memory.weight_gradient_buffer_bytes)
        return {
            Engine.FP: _order(inputs, of_inputs, weights, slices),
            Engine.BP: _order(gradient, of_gradient, weights, slices),
            Engine.WG: _order(inputs + gradient, max(of_inputs, of_gradient), sums, of_sums, moves=2),
        }

    def _size(self, tensor: TensorClass, of: TensorCount, *, written: bool = False) -> int:
        """Bytes of a tensor by the policy, in whole bursts."""
        if tensor in self._kept:
            return 0
        shape, size = self._shape, of.bytes
        if tensor is TensorClass.MEMBRANE and self._spiking:
            size = -(-size * _MEMBRANE_BITS[self._chip.policy.membrane] // 16)  # the trace has 16 bits a value
        if shape is None or not size or not of.elements or tensor in _BY_WEIGHT or tensor is TensorClass.CURRENT:
            return size
        burst = self._chip.dram.burst_bytes
        if tensor is TensorClass.GRADIENT:
            return size + round(of.elements / (shape.neurons * input_steps(shape))) * (burst // 2)
        read = tensor in _INPUTS and not written
        samples = of.elements / (shape.inputs * input_steps(shape) if read else shape.neurons * shape.steps)
        return round(samples * burst * pieces(size / samples, burst))

    def _gradient_reads(self) -> int:
        """How often WG reads the gradient from memory, beside the read that it shares with BP."""
        shape, memory = self._shape, self._chip.memory
        if shape is None or not self._counts[Engine.WG].dense_ops:
            return 0
        bits = shape.neurons * input_steps(shape) * (1 + memory.word_bits)
        shared = bits <= 8 * memory.state_buffer_bytes * self._chip.cores.count
        return self._orders[Engine.WG].streamed - shared

    def _gradient_bytes(self) -> int:
        """Bytes of the gradient in memory, also where BP alone would leave it on the chip."""
        of = self._gradient
        stored = TensorCount.sparse(of.elements, of.nonzeros, self._chip.memory.word_bits).bytes
        return self._size(TensorClass.GRADIENT, TensorCount(of.elements, of.nonzeros, of.bytes or stored))
