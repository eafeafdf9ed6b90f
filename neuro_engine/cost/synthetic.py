"""The trace that training would leave, from a network's shape and how sparse its tensors are.

It has what the engines record, with their conventions (`neuro_engine.engines`), and expected values in place of
counted ones. With rho the density of a layer's input, delta that of its current's gradient, and N the synaptic
operations inside the map (`neuro_engine.cost.networks.window`), the executed operations are

    FP  rho N        BP  delta N        WG  rho delta N

FP and BP are exact in expectation where non-zeros are spread evenly over a map, whatever their correlation; WG also
takes an input's spike and an output's gradient to be independent, which trained networks need not obey. All counts
are rounded to whole numbers once, so that they add up over the time steps, among which they are spread evenly.
"""

from __future__ import annotations

from dataclasses import dataclass

from neuro_engine.cost.networks import NetworkShape
from neuro_engine.cost.networks.shape import nearest
from neuro_engine.cost.sparsity import Density, LayerSparsity, Sparsity
from neuro_engine.geometry import Geometry
from neuro_engine.trace import (
    Engine,
    EngineCount,
    TensorClass,
    TensorCount,
    Trace,
    batch_norm_passes,
    gradients_written,
)

__all__ = ["LayerSparsity", "Sparsity", "synthetic_trace"]


def synthetic_trace(
    shape: NetworkShape, sparsity: Sparsity | None = None, batch: int = 1, optimizer_moments: int = 1
) -> Trace:
    """The trace of one training step, modelled.

    Args:
        shape: the network.
        sparsity: how sparse its tensors are; None for `Sparsity.assumed`.
        batch: examples of the step.
        optimizer_moments: numbers that the optimizer keeps for each weight: 0 for plain SGD, 1 with momentum, 2 for
            Adam.

    Raises:
        ValueError: a batch below one, negative moments, or a layer in `sparsity` that the network has not.
    """
    if batch < 1 or optimizer_moments < 0:
        raise ValueError(f"expected a batch of at least 1 and moments from 0, got {batch} and {optimizer_moments}")
    sparsity = sparsity or Sparsity.assumed(shape)
    for name in sparsity.layers:
        if name not in shape.layers:
            raise ValueError(f"sparsity: network {shape.name!r} has no layer {name!r}{nearest(name, shape.layers)}")
    trace = Trace()
    trace.steps, trace.samples = 1, batch
    for name, geometry in shape.layers.items():
        layer = _Layer(shape, name, geometry, sparsity.density(shape, name), batch)
        trace.describe(name, geometry)
        trace.record(name, Engine.FP, layer.forward())
        trace.record(name, Engine.BP, layer.backward())
        trace.record(name, Engine.WG, layer.weight_gradient())
        if shape.normalised_by_batch and name not in shape.readouts:
            for engine, count in batch_norm_passes(batch * layer.steps * geometry.neurons).items():
                trace.record(name, engine, count)
        trace.record(name, Engine.UPDATE, _update(shape.parameters(name), optimizer_moments))
    return trace


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer on the engines, as `neuro_engine.engines` counts it."""

    shape: NetworkShape
    name: str
    geometry: Geometry
    density: Density
    batch: int

    @property
    def steps(self) -> int:
        """Steps for which a current is computed: one where it is the same in all."""
        return 1 if self.geometry.static else self.geometry.steps

    @property
    def neurons(self) -> int:
        return self.batch * self.geometry.steps * self.geometry.neurons

    @property
    def dense(self) -> int:
        return self.batch * self.steps * self.geometry.synapses

    def executed(self, density: float) -> int:
        return round(self.batch * self.steps * self.shape.inside(self.name) * density)

    def input(self) -> dict[TensorClass, TensorCount]:
        elements = self.batch * self.steps * self.geometry.inputs
        nonzeros = round(self.density.input * elements)
        if self.name in self.shape.values:
            return {TensorClass.INPUT: TensorCount.values(elements, nonzeros)}
        return {TensorClass.SPIKES: TensorCount.bitmap(elements, nonzeros)}

    def weights(self, bits: int = 16) -> TensorCount:
        return TensorCount.values(self.geometry.weights, self.geometry.weights, bits)

    def forward(self) -> EngineCount:
        ops, fired = self.executed(self.density.input), round(self.density.spikes * self.neurons)
        writes = {TensorClass.MEMBRANE: TensorCount.values(self.neurons, self.neurons)}
        fires = self.name not in self.shape.readouts
        if fires:
            writes[TensorClass.SPIKES] = TensorCount.bitmap(self.neurons, fired)
        return EngineCount(
            dense_ops=self.dense,
            executed_ops=ops,
            multiplies=self.name in self.shape.values,
            neuron_updates=self.neurons,
            reads={**self.input(), TensorClass.WEIGHTS: self.weights()},
            writes=writes,
            step_ops=_spread(ops, self.steps),
            step_events=_spread(fired, self.geometry.steps) if fires else (),
        )

    def backward(self) -> EngineCount:
        elements = self.batch * self.steps * self.geometry.neurons
        nonzeros = round(self.density.gradient * elements)
        gradient = TensorCount.sparse(elements, nonzeros)
        reads = {TensorClass.MEMBRANE: TensorCount.values(self.neurons, self.neurons)}
        propagates = bool(self.shape.sources(self.name))
        if propagates:
            reads |= {TensorClass.WEIGHTS: self.weights(), TensorClass.GRADIENT: gradient}
        else:  # only WG wants it, from the buffer that BP shares with it
            gradient = TensorCount(elements, nonzeros, bytes=0)
        ops = self.executed(self.density.gradient) if propagates else 0
        return EngineCount(
            dense_ops=self.dense if propagates else 0,
            executed_ops=ops,
            multiplies=True,
            neuron_updates=self.neurons,
            reads=reads,
            writes={TensorClass.GRADIENT: gradient},
            step_ops=_spread(ops, self.steps) if propagates else (),
            step_events=_spread(nonzeros, self.steps),
        )

    def weight_gradient(self) -> EngineCount:
        ops = self.executed(self.density.input * self.density.gradient)
        return EngineCount(
            dense_ops=self.dense,
            executed_ops=ops,
            multiplies=self.name in self.shape.values,
            reads=self.input(),
            writes=gradients_written(self.shape.parameters(self.name)).writes,
            step_ops=_spread(ops, self.steps),
        )


def _update(parameters: int, moments: int) -> EngineCount:
    """As `neuro_engine.core_group` counts the optimizer's step."""
    words = parameters * (1 + moments)
    master = TensorCount.values(words, words, bits=32)
    gradient = TensorCount.values(parameters, parameters, bits=32)
    return EngineCount(
        dense_ops=parameters,
        executed_ops=parameters,
        multiplies=True,
        neuron_updates=parameters,
        reads={TensorClass.OPTIMIZER: master, TensorClass.WEIGHT_GRADIENT: gradient},
        writes={TensorClass.OPTIMIZER: master, TensorClass.WEIGHTS: TensorCount.values(parameters, parameters)},
    )


def _spread(total: int, steps: int) -> tuple[int, ...]:
    """A total over the time steps, as evenly as whole numbers allow."""
    return tuple(total * (step + 1) // steps - total * step // steps for step in range(steps))
