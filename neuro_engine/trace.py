"""The trace: what the engines did, as integers.

A trace is passive: the engines fill it while they compute and nothing reads it back, so results do not depend on it.
It knows nothing of any chip; `neuro_engine.cost` turns a trace and a chip into cycles, joules and bytes.
Traces add up: the trace of a round is the sum of the traces of its steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import zip_longest
from types import MappingProxyType

from neuro_engine.geometry import Geometry


class Engine(StrEnum):
    """A unit of the core that does work."""

    FP = "fp"
    """Feedforward propagation: synaptic current and neuron dynamics."""
    BP = "bp"
    """Back-propagation: neuron and synaptic error."""
    WG = "wg"
    """Weight gradient."""
    UPDATE = "update"
    """Optimizer step, once per batch."""


class TensorClass(StrEnum):
    """What a tensor in memory holds."""

    INPUT = "input"
    """Analog input of the first layer, 16 bit a value."""
    SPIKES = "spikes"
    """Spikes as bitmaps, 1 bit a neuron and time step."""
    CURRENT = "current"
    """Synaptic current, and its gradient, that normalisation by batch goes through again, 16 bit a value."""
    MEMBRANE = "membrane"
    """Membrane potential before the reset, kept for BP, 16 bit a value."""
    GRADIENT = "gradient"
    """Gradient of the synaptic current: a bitmap and 16 bit for each non-zero value."""
    WEIGHTS = "weights"
    """Weights, 16 bit a value."""
    WEIGHT_GRADIENT = "weight_gradient"
    """Weight gradients, 32 bit a value."""
    OPTIMIZER = "optimizer"
    """Master weights and moments, 32 bit a value, beside the 16-bit weight."""


@dataclass(frozen=True, slots=True)
class TensorCount:
    """One tensor, or a sum of tensors, as an engine reads or writes it."""

    elements: int = 0
    nonzeros: int = 0
    bytes: int = 0

    def __add__(self, other: TensorCount) -> TensorCount:
        return TensorCount(self.elements + other.elements, self.nonzeros + other.nonzeros, self.bytes + other.bytes)

    @classmethod
    def bitmap(cls, elements: int, nonzeros: int) -> TensorCount:
        """A tensor of spikes: one bit an element."""
        return cls(elements, nonzeros, -(-elements // 8))

    @classmethod
    def values(cls, elements: int, nonzeros: int, bits: int = 16) -> TensorCount:
        """A dense tensor of `bits` bits an element."""
        return cls(elements, nonzeros, -(-elements * bits // 8))

    @classmethod
    def sparse(cls, elements: int, nonzeros: int, bits: int = 16) -> TensorCount:
        """A bitmap and `bits` bits for each non-zero element."""
        return cls(elements, nonzeros, -(-elements // 8) + -(-nonzeros * bits // 8))


def _merge(
    a: Mapping[TensorClass, TensorCount], b: Mapping[TensorClass, TensorCount]
) -> dict[TensorClass, TensorCount]:
    return {k: a.get(k, TensorCount()) + b.get(k, TensorCount()) for k in {**a, **b}}


def _add(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip_longest(a, b, fillvalue=0))


@dataclass(frozen=True, slots=True)
class EngineCount:
    """What one engine did for one layer.

    Attributes:
        dense_ops: synaptic operations if nothing were skipped, padding included.
        executed_ops: synaptic operations whose operands are both non-zero and inside the map.
        multiplies: True where an operation is a multiplication and an addition, False where the operand is a
            spike and the operation only adds.
        neuron_updates: neuron-steps whose membrane (FP) or membrane gradient (BP) was computed; in UPDATE, weights.
        reads: tensors read, by class.
        writes: tensors written, by class.
        step_ops: the executed operations by time step; empty where there are no time steps.
        step_events: the non-zeros produced by time step: FP's spikes, BP's gradients.
    """

    dense_ops: int = 0
    executed_ops: int = 0
    multiplies: bool = False
    neuron_updates: int = 0
    reads: Mapping[TensorClass, TensorCount] = field(default_factory=dict)
    writes: Mapping[TensorClass, TensorCount] = field(default_factory=dict)
    step_ops: tuple[int, ...] = ()
    step_events: tuple[int, ...] = ()

    def __add__(self, other: EngineCount) -> EngineCount:
        return EngineCount(
            self.dense_ops + other.dense_ops,
            self.executed_ops + other.executed_ops,
            self.multiplies or other.multiplies,
            self.neuron_updates + other.neuron_updates,
            _merge(self.reads, other.reads),
            _merge(self.writes, other.writes),
            _add(self.step_ops, other.step_ops),
            _add(self.step_events, other.step_events),
        )


class Trace:
    """Counts by layer and engine, in the order in which the layers first ran.

    Attributes:
        steps: batches traced.
        samples: examples traced, summed over the batches.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.samples = 0
        self._counts: dict[str, dict[Engine, EngineCount]] = {}
        self._geometry: dict[str, Geometry] = {}

    def describe(self, layer: str, geometry: Geometry) -> None:
        """Say what shape the synapses of `layer` have.

        Batches may differ in size and length. Operations are counted for each; the shape is that of the first.
        """
        self._geometry.setdefault(layer, geometry)

    @property
    def geometry(self) -> Mapping[str, Geometry]:
        """The shapes of the layers that were described."""
        return MappingProxyType(self._geometry)

    def record(self, layer: str, engine: Engine, count: EngineCount) -> None:
        """Add what `engine` did for `layer`."""
        counts = self._counts.setdefault(layer, {})
        counts[engine] = counts[engine] + count if engine in counts else count

    def count(self, layer: str, engine: Engine) -> EngineCount:
        """What `engine` did for `layer`; zeros where it did nothing."""
        return self._counts.get(layer, {}).get(engine, EngineCount())

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers, in the order in which they first ran."""
        return tuple(self._counts)

    def __iter__(self) -> Iterator[tuple[str, Engine, EngineCount]]:
        for layer, counts in self._counts.items():
            for engine, count in counts.items():
                yield layer, engine, count

    def __iadd__(self, other: Trace) -> Trace:
        self.steps += other.steps
        self.samples += other.samples
        for layer, shape in other.geometry.items():
            self.describe(layer, shape)
        for layer, engine, count in other:
            self.record(layer, engine, count)
        return self

    def spike_rate(self, layer: str) -> float:
        """Fraction of the layer's neuron-steps that fired; 0.0 for a layer without spikes."""
        spikes = self.count(layer, Engine.FP).writes.get(TensorClass.SPIKES, TensorCount())
        return spikes.nonzeros / spikes.elements if spikes.elements else 0.0

    def gradient_density(self, layer: str) -> float:
        """Fraction of the layer's current gradients that are not zero."""
        gradient = self.count(layer, Engine.BP).writes.get(TensorClass.GRADIENT, TensorCount())
        return gradient.nonzeros / gradient.elements if gradient.elements else 0.0


def batch_norm_passes(elements: int) -> dict[Engine, EngineCount]:
    """What normalisation by the statistics of a batch adds to FP and BP: passes over a current in memory.

    The statistics need the whole batch before its first value can be normalised, so FP writes the current and reads it
    again. BP sums over the gradient and over its product with the current, and then needs both once more: it reads the
    current twice, and writes the gradient and reads it again.

    Args:
        elements: values of the current, over batch and time.
    """
    once = TensorCount.values(elements, elements)
    return {
        Engine.FP: EngineCount(reads={TensorClass.CURRENT: once}, writes={TensorClass.CURRENT: once}),
        Engine.BP: EngineCount(reads={TensorClass.CURRENT: once + once + once}, writes={TensorClass.CURRENT: once}),
    }


def gradients_written(parameters: int) -> EngineCount:
    """What WG writes for the optimizer, which reads it again: a sum in FP32 for each parameter.

    Args:
        parameters: weights, and gains, shifts and biases beside them.
    """
    return EngineCount(writes={TensorClass.WEIGHT_GRADIENT: TensorCount.values(parameters, parameters, bits=32)})
