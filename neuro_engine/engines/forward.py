"""FP engine: synaptic current, then the neuron, for t = 1..T.

    I[t] = W * s_in[t] + b
    h[t] = leak v[t-1] + gain I[t];  s[t] = 1(h[t] >= threshold);  v[t] = reset(h[t], s[t])

Where the input is spikes, a synaptic operation selects a weight and adds it: no multiplier. The analog input of a
first layer takes real multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuro_engine.neuron import LIF, fire, integrate
from neuro_engine.surrogate import Surrogate
from neuro_engine.synapse import Synapse, nonzero_mask, ones
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What the engines need to know of a layer, beside its tensors.

    Attributes:
        name: the layer's name in the trace.
        synapse: the linear map.
        neuron: the neuron.
        surrogate: the derivative of the spike; None makes the layer a readout, whose output is the membrane itself.
        analog_input: True where the input is not spikes.
        trace: where to count, or None.
    """

    name: str
    synapse: Synapse
    neuron: LIF
    surrogate: Surrogate | None
    analog_input: bool = False
    trace: Trace | None = None


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, spec: LayerSpec) -> tuple[Tensor, Tensor]:
    """Run the FP engine on one layer.

    Args:
        x: input spikes or values (T, B, ...).
        weight: the synapse's weights.
        bias: a current added at each step, per output channel.
        spec: the layer.

    Returns:
        The output (T, B, ...) and the membrane before the reset, kept for BP.
    """
    folded = spec.synapse.current(x.flatten(0, 1), weight, bias)
    current = folded.view(*x.shape[:2], *folded.shape[1:])
    if spec.surrogate is None:
        membrane = integrate(current, spec.neuron.leak, spec.neuron.gain)
        output = membrane
    else:
        output, membrane = fire(current, spec.neuron)
    if spec.trace is not None:
        spec.trace.record(spec.name, Engine.FP, _count(x, weight, output, folded.shape, spec))
    return output, membrane


def input_mask(x: Tensor, spec: LayerSpec) -> Tensor:
    """Where the layer's input is not zero, time folded into the batch. Spikes are their own mask."""
    folded = x.flatten(0, 1)
    return nonzero_mask(folded) if spec.analog_input else folded


def input_count(mask: Tensor, spec: LayerSpec) -> dict[TensorClass, TensorCount]:
    """The layer's input as FP and WG read it, given its mask."""
    if spec.analog_input:
        return {TensorClass.INPUT: TensorCount.values(mask.numel(), ones(mask))}
    return {TensorClass.SPIKES: TensorCount.bitmap(mask.numel(), ones(mask))}


def _count(x: Tensor, weight: Tensor, output: Tensor, folded_shape: torch.Size, spec: LayerSpec) -> EngineCount:
    elements, mask = output.numel(), input_mask(x, spec)
    writes = {TensorClass.MEMBRANE: TensorCount.values(elements, elements)}
    if spec.surrogate is not None:
        writes[TensorClass.SPIKES] = TensorCount.bitmap(elements, ones(output))
    weights = TensorCount.values(weight.numel(), weight.numel())
    return EngineCount(
        dense_ops=spec.synapse.dense_ops(folded_shape, weight.shape),
        executed_ops=spec.synapse.forward_ops(mask, folded_shape, weight.shape),
        multiplies=spec.analog_input,
        neuron_updates=elements,
        reads={**input_count(mask, spec), TensorClass.WEIGHTS: weights},
        writes=writes,
    )
