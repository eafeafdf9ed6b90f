"""The kernels of a training step on a GPU, and what each reads from and writes to DRAM.

For a layer of a batch, in FP16: x bytes of input, y of current, a of neurons' outputs (a = y, or T y where the input is
the same in all T steps and the current is computed once), w of weights. A tensor of S bytes that the kernel before has
left is found in a cache of C bytes by the share hit(S), and read from DRAM by

    miss(S) = 1 - hit(S) = min(max((S - C) / C, 0), 1)

What is written goes to DRAM, and what the way back needs of the way there is read from DRAM. Where the network runs
step by step, S is that of one step, and weights, their gradients and membranes come again in each step unless all that
a step touches is in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from neuro_engine.cost.networks import NetworkShape

VALUE_BYTES = 2
"""FP16."""
POSITION_BYTES = 8
"""Of a maximum in a pool: torch keeps them as int64 (quoted: torch.nn.functional.max_pool2d)."""


class Passes(NamedTuple):
    """Passes over all neurons of a time step."""

    reads: int
    writes: int
    kept: int
    """Of them, those that reach DRAM whatever the cache holds: the writes of the way there that the way back reads."""
    launches: int
    """Kernels in a time step."""


EAGER_FORWARD = Passes(reads=16, writes=12, kept=3, launches=12)
EAGER_BACKWARD = Passes(reads=15, writes=11, kept=2, launches=10)
"""Counted: operands and results of torch's operations in SpikingJelly 2.0.0's LIFNode (multi-step, torch backend, hard
reset, detached) at T = 4, by `python -m benchmarks.gpu_traffic`: 15.5 and 11.75 passes forward, 15.25 and 11.0
backward, two of them kept, and the spikes. Not measured on a GPU."""


class Variant(StrEnum):
    """How well the kernels are written."""

    EAGER = "eager"
    """Neurons as element-wise kernels, one operation and time step at a time, as without a compiler or kernels."""
    FUSED = "fused"
    """All steps of a layer's neurons in one kernel, as the libraries' own kernels; the rest as in eager."""
    IDEAL = "ideal"
    """Nothing read or written that the dependences between convolutions do not force; spikes of 8 bits."""


class GpuTensor(StrEnum):
    """What a tensor in the GPU's memory holds, FP16 where nothing is said; names as of `TensorClass`."""

    INPUT = "input"
    """The network's input."""
    SPIKES = "spikes"
    """Spikes, sums of them, and positions of the maxima of pools."""
    CURRENT = "current"
    """Synaptic current, before and after the norm."""
    MEMBRANE = "membrane"
    """What neurons keep for the way back, and, in eager, all that their operations hand on."""
    GRADIENT = "gradient"
    """Gradients of spikes and currents."""
    WEIGHTS = "weights"
    """Weights."""
    WEIGHT_GRADIENT = "weight_gradient"
    """Gradients of the weights."""
    OPTIMIZER = "optimizer"
    """Master weights and moments, 32 bit a value."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of a training step.

    Attributes:
        layer: for which layer it runs.
        name: what it does.
        reads: bytes read from DRAM by tensor.
        writes: bytes written to DRAM by tensor.
        operations: of its matrix product, a multiplication and an addition being two.
        launches: how often it is launched; 0 where another kernel does its work too.
    """

    layer: str
    name: str
    reads: Mapping[GpuTensor, float]
    writes: Mapping[GpuTensor, float]
    operations: float = 0.0
    launches: int = 1

    @property
    def bytes(self) -> float:
        """Bytes moved to and from DRAM."""
        return sum(self.reads.values()) + sum(self.writes.values())


@dataclass(frozen=True, slots=True)
class Step:
    """A training step.

    Attributes:
        shape: the network.
        batch: examples of the step.
        variant: how the kernels are written.
        folded: True where time is part of the batch, False where the network runs step by step.
        moments: numbers that the optimizer keeps for each weight.
        cache_bytes: what the cache carries from kernel to kernel.
    """

    shape: NetworkShape
    batch: int
    variant: Variant
    folded: bool
    moments: int
    cache_bytes: float

    def kernels(self) -> Iterator[Kernel]:
        """The kernels, layer by layer."""
        bound = set()
        touched = sum(_Layer(self, name, 0.0).touched for name in self.shape.layers)
        for name in self.shape.layers:
            layer = _Layer(self, name, self.miss(touched))
            if layer.sources and (layer.sources, layer.x) not in bound:  # readers of the same sum share it
                yield from layer.between()
                bound.add((layer.sources, layer.x))
            yield from layer.forward()
            yield from layer.backward()

    def miss(self, size: float) -> float:
        """Share of `size` bytes that the cache has lost."""
        return min(max(size / self.cache_bytes - 1.0, 0.0), 1.0)


_T = GpuTensor


class _Layer:
    """The kernels of one layer; `lost` is the share of what a time step touches that is not there in the next."""

    def __init__(self, step: Step, name: str, lost: float) -> None:
        shape, self.name, self.step, self.lost = step.shape, name, step, lost
        geometry = self.geometry = shape.layers[name]
        self.sources = shape.sources(name)
        self.ideal, self.eager = step.variant is Variant.IDEAL, step.variant is Variant.EAGER
        self.steps, self.computed = geometry.steps, 1 if geometry.static else geometry.steps
        values = step.batch * VALUE_BYTES
        self.x = values * self.computed * geometry.inputs
        self.y = values * self.computed * geometry.neurons
        self.a = values * self.steps * geometry.neurons
        self.w = VALUE_BYTES * geometry.weights
        self.normalised = shape.normalised_by_batch and name not in shape.readouts
        self.input = _T.SPIKES if self.sources else _T.INPUT
        self.stored_x = self.x / 2 if self.ideal and self.sources else self.x  # ideal: 8-bit spikes
        self.operations = 2.0 * step.batch * self.computed * geometry.synapses
        self.launches = 1 if step.folded else self.computed
        self.passes = 1.0 if step.folded else 1.0 + (self.computed - 1) * lost  # over the weights

    @property
    def touched(self) -> float:
        """Bytes that one time step touches on the way there."""
        return self.w + (self.x + self.y) / self.computed

    def miss(self, size: float) -> float:
        """Share of what the kernel before has left that is read from DRAM."""
        return self.step.miss(size if self.step.folded else size / self.steps)

    def kernel(
        self,
        name: str,
        reads: Mapping[GpuTensor, float],
        writes: Mapping[GpuTensor, float],
        operations: float = 0.0,
        launches: int | None = None,
    ) -> Kernel:
        return Kernel(self.name, name, reads, writes, operations, self.launches if launches is None else launches)

    def forward(self) -> Iterator[Kernel]:
        x, y, a = self.stored_x, self.y, self.a
        in_registers = self.ideal and not self.normalised  # the neurons take the current where it was computed
        reads = {self.input: x * self.miss(x), _T.WEIGHTS: self.w * self.passes}
        yield self.kernel("synapse forward", reads, {} if in_registers else {_T.CURRENT: y}, self.operations)
        if self.normalised and not self.ideal:
            yield self.kernel("norm forward", {_T.CURRENT: 2 * y * self.miss(y)}, {_T.CURRENT: y})
        if self.computed < self.steps and not self.ideal:
            yield self.kernel("repeat", {_T.CURRENT: y * self.miss(y)}, {_T.CURRENT: a})
        yield self.neuron_forward(in_registers)

    def neuron_forward(self, in_registers: bool) -> Kernel:
        a, carried = self.a, self.carried
        if self.eager:
            reads = {_T.CURRENT: a * self.miss(a), _T.SPIKES: a * self.miss(a)}  # the steps' spikes are joined
            reads[_T.MEMBRANE] = a * ((EAGER_FORWARD.reads - 2) * self.between_operations + carried)
            written = EAGER_FORWARD.writes - EAGER_FORWARD.kept
            writes = {
                _T.MEMBRANE: a * (EAGER_FORWARD.kept - 1 + written * self.between_operations + carried),
                _T.SPIKES: a,
            }
            return self.kernel("neuron forward", reads, writes, launches=EAGER_FORWARD.launches * self.steps)
        if not self.ideal:
            reads = {_T.CURRENT: a * self.miss(a), _T.MEMBRANE: a * carried}
            return self.kernel("neuron forward", reads, {_T.MEMBRANE: a * (1 + carried), _T.SPIKES: a})
        if in_registers:
            writes = {_T.MEMBRANE: a * (1 + carried), _T.SPIKES: a / 2}
            return self.kernel("neuron forward", {_T.MEMBRANE: a * carried}, writes, launches=0)
        reads = {_T.CURRENT: self.y * self.miss(self.y), _T.MEMBRANE: a * carried}
        return self.kernel("neuron forward", reads, {_T.MEMBRANE: a * carried, _T.SPIKES: a / 2})

    @property
    def between_operations(self) -> float:
        """Share of what one operation of eager neurons hands to the next that goes through DRAM: three maps a step."""
        return self.step.miss(3 * self.a / self.steps)

    @property
    def carried(self) -> float:
        """Passes over the membranes (or their gradients) from one time step to the next; eager's have them already."""
        if self.step.folded:
            return 0.0
        return self.lost * (1.0 - self.between_operations) if self.eager else self.lost

    def backward(self) -> Iterator[Kernel]:
        y, a = self.y, self.a
        yield self.neuron_backward()
        if self.computed < self.steps and not self.ideal:
            yield self.kernel("sum over time", {_T.GRADIENT: a * self.miss(a)}, {_T.GRADIENT: y})
        if self.normalised and not self.ideal:  # sums over the batch first, then the gradient
            again = self.miss(2 * y)
            reads = {_T.GRADIENT: y * (self.miss(y) + again), _T.CURRENT: y * (1 + again)}
            yield self.kernel("norm backward", reads, {_T.GRADIENT: y})
        gradient = {_T.GRADIENT: y * self.miss(y)}
        if self.sources:
            reads = {**gradient, _T.WEIGHTS: self.w * self.passes}
            yield self.kernel("synapse backward", reads, {_T.GRADIENT: self.x}, self.operations)
        summed = {_T.WEIGHT_GRADIENT: self.w * (self.passes - 1)}
        writes = {_T.WEIGHT_GRADIENT: self.w * self.passes}
        yield self.kernel("weight gradient", {**gradient, **summed, self.input: self.stored_x}, writes, self.operations)
        yield self.update()

    def neuron_backward(self) -> Kernel:
        a, y, carried = self.a, self.y, self.carried
        error = a * self.miss(a)
        if self.eager:
            handed = EAGER_BACKWARD.reads - EAGER_BACKWARD.kept - 1
            reads = {_T.GRADIENT: error}
            reads[_T.MEMBRANE] = a * (EAGER_BACKWARD.kept + handed * self.between_operations + carried)
            rest = a * ((EAGER_BACKWARD.writes - 1) * self.between_operations + carried)
            writes, launches = {_T.GRADIENT: a, _T.MEMBRANE: rest}, EAGER_BACKWARD.launches * self.steps
            return self.kernel("neuron backward", reads, writes, launches=launches)
        if self.ideal and self.normalised:  # membranes from the current, twice: for the sums, then for the gradient
            again = self.miss(a + y)
            reads = {_T.GRADIENT: error + a * again, _T.CURRENT: y * (1 + again), _T.MEMBRANE: a * carried}
            return self.kernel("neuron backward", reads, {_T.GRADIENT: y, _T.MEMBRANE: a * carried})
        reads = {_T.GRADIENT: error, _T.MEMBRANE: a * (1 + carried)}
        writes = {_T.GRADIENT: y if self.ideal else a, _T.MEMBRANE: a * carried}
        return self.kernel("neuron backward", reads, writes)

    def update(self) -> Kernel:
        """FP16 weights and gradients, FP32 master weights and moments (Micikevicius et al., ICLR 2018)."""
        parameters = self.step.shape.parameters(self.name)
        master = 4.0 * parameters * (1 + self.step.moments)
        reads = {_T.WEIGHT_GRADIENT: float(VALUE_BYTES * parameters), _T.OPTIMIZER: master}
        writes = {_T.OPTIMIZER: master, _T.WEIGHTS: float(VALUE_BYTES * parameters)}
        return self.kernel("update", reads, writes, launches=1)

    def between(self) -> Iterator[Kernel]:
        """What stands between this layer and its sources: a sum of branches, gradients that meet, a pool."""
        shape = self.step.shape
        source = shape.layers[self.sources[0]]
        size = float(VALUE_BYTES * self.step.batch * self.steps * source.neurons)
        if len(self.sources) > 1:
            branches = size / 2 if self.ideal else size * (1 + self.miss(size))
            yield self.kernel("add", {_T.SPIKES: branches}, {} if self.ideal else {_T.SPIKES: size})
        meeting = self.readers() - 1
        if meeting:
            reads = meeting * (size if self.ideal else size * (1 + self.miss(size)))
            yield self.kernel(
                "add gradients", {_T.GRADIENT: reads}, {} if self.ideal else {_T.GRADIENT: meeting * size}
            )
        if source.neurons > self.geometry.inputs and not self.ideal:
            positions = 0.0 if self.name in shape.values else POSITION_BYTES / VALUE_BYTES * self.x
            yield self.kernel("pool", {_T.SPIKES: size * self.miss(size)}, {_T.SPIKES: self.x + positions})
            reads_back = {_T.GRADIENT: self.x * self.miss(self.x), _T.SPIKES: positions}
            yield self.kernel("pool backward", reads_back, {_T.GRADIENT: size})

    def readers(self) -> int:
        """Who reads the sum of this layer's sources: layers, and a longer sum that it is part of."""
        shape = self.step.shape
        read = [shape.sources(name) for name in shape.layers]
        return read.count(self.sources) + any(set(self.sources) < set(other) for other in read)
