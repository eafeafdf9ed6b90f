"""FP engine: synaptic current, then the neuron, for t = 1..T.

    I[t] = W * s_in[t] + b
    h[t] = leak v[t-1] + gain I[t];  s[t] = 1(h[t] >= threshold);  v[t] = reset(h[t], s[t])

Where the input is spikes, a synaptic operation selects a weight and adds it: no multiplier. The analog input of a
first layer takes real multiplications. Input, weights, membrane and spikes are stored; the current is not: it stays in
the accumulators, in binary32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuro_engine.engines import dispatch
from neuro_engine.engines.operand import Operand, read
from neuro_engine.geometry import Geometry
from neuro_engine.kernels import native
from neuro_engine.neuron import LIF, fire, integrate
from neuro_engine.precision import FP32, Precision
from neuro_engine.surrogate import Surrogate
from neuro_engine.synapse import ConvTransposeSynapse, Synapse
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
        precision: the number format of what is stored.
    """

    name: str
    synapse: Synapse
    neuron: LIF
    surrogate: Surrogate | None
    analog_input: bool = False
    trace: Trace | None = None
    precision: Precision = FP32


def synapse_forward(x: Tensor, weight: Tensor, bias: Tensor | None, spec: LayerSpec) -> tuple[Tensor, Operand]:
    """The synaptic half of FP.

    Args:
        x: input spikes or values (T, B, ...); where it is expanded over T, the current is computed once.
        weight: the synapse's weights, as they are stored.
        bias: a current added at each step, per output channel.
        spec: the layer.

    Returns:
        The synaptic current (T, B, ...), and the input as BP and WG need it.
    """
    operand = read(x, spec.precision)
    return _current(operand, weight, bias, spec), operand


def neuron_forward(current: Tensor, spec: LayerSpec, leak: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The neuron's half of FP.

    Args:
        current: synaptic current (T, B, ...).
        spec: the layer.
        leak: a learned leak, one number; None takes the neuron's own.

    Returns:
        The output (T, B, ...) and the membrane before the reset, kept for BP, both as they are stored. A readout's
        output is not stored but leaves the chip.
    """
    if spec.surrogate is None:
        output = integrate(current, spec.neuron, leak)
        if spec.trace is not None:
            elements = output.numel()
            writes = {TensorClass.MEMBRANE: TensorCount.values(elements, elements)}
            spec.trace.record(spec.name, Engine.FP, EngineCount(neuron_updates=elements, writes=writes))
        return output, output
    output, membrane, fired = _fire(current, spec, spec.surrogate, leak)
    if spec.trace is not None:
        count_neuron(output, fired, spec)
    return output, membrane


def layer_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, spec: LayerSpec, leak: Tensor | None = None
) -> tuple[Tensor, Tensor, Operand]:
    """FP whole: both halves, in one pass over the events where that is possible.

    Args:
        x: as of `synapse_forward`.
        weight: as of `synapse_forward`.
        bias: as of `synapse_forward`.
        spec: the layer.
        leak: as of `neuron_forward`.

    Returns:
        Output and membrane (T, B, ...), and the input as BP and WG need it.
    """
    operand = read(x, spec.precision)
    whole = (
        spec.surrogate is not None
        and not operand.constant
        and runs_native(x, spec)
        and dispatch.follows_events(operand, weight, spec.synapse)
    )
    if not whole or spec.surrogate is None:
        current = _current(operand, weight, bias, spec)
        return *neuron_forward(current, spec, leak), operand
    spikes, membrane, fired = dispatch.fire_events(
        operand, weight, bias, spec.synapse, spec.neuron, spec.surrogate, spec.precision
    )
    if spec.trace is not None:
        count_synapse(operand, weight, spec)
        count_neuron(spikes, fired, spec)
    return spikes.unflatten(0, (operand.steps, -1)), membrane.unflatten(0, (operand.steps, -1)), operand


def _current(operand: Operand, weight: Tensor, bias: Tensor | None, spec: LayerSpec) -> Tensor:
    folded = dispatch.current(operand, weight, bias, spec.synapse, spec.precision)
    if spec.trace is not None:
        count_synapse(operand, weight, spec)
    current: Tensor = folded.unflatten(0, (operand.steps, operand.shape[1]))
    return current.expand(operand.shape[0], *current.shape[1:])


def runs_native(x: Tensor, spec: LayerSpec) -> bool:
    """True if the neuron's half of a layer runs on the kernels, where its maps look like `x`."""
    return (
        native.library() is not None
        and native.supports(spec.neuron, spec.surrogate)
        and x.dtype != torch.float64
        and x.dim() in (3, 5)
    )


def is_constant(current: Tensor) -> bool:
    """True if the current is the same at each of several steps."""
    return current.shape[0] > 1 and current.stride(0) == 0


def _fire(current: Tensor, spec: LayerSpec, surrogate: Surrogate, leak: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membrane and how many fired at each step."""
    steps, batch = current.shape[:2]
    if runs_native(current, spec):
        constant = is_constant(current)
        folded = (current[:1] if constant else current).flatten(0, 1)
        spikes, membrane, fired = native.neuron_forward(
            folded, steps, spec.neuron, surrogate, spec.precision.storage, constant=constant
        )
        return spikes.unflatten(0, (steps, batch)), membrane.unflatten(0, (steps, batch)), fired
    storage = current.dtype if current.dtype == torch.float64 else spec.precision.storage
    spikes, membrane = fire(current, spec.neuron, leak, storage)
    return spikes, membrane, spikes.flatten(1).sum(1, dtype=torch.float64).to(torch.int64)


def input_count(operand: Operand, nonzeros: int, spec: LayerSpec) -> dict[TensorClass, TensorCount]:
    """The layer's input as FP and WG read it."""
    elements = operand.folded_shape.numel()
    if spec.analog_input:
        return {TensorClass.INPUT: TensorCount.values(elements, nonzeros)}
    return {TensorClass.SPIKES: TensorCount.bitmap(elements, nonzeros)}


def by_step(samples: Tensor, steps: int) -> tuple[int, ...]:
    """Sums of folded samples (steps B,) over the batch."""
    return tuple(samples.view(steps, -1).sum(1).tolist())


def count_synapse(operand: Operand, weight: Tensor, spec: LayerSpec) -> None:
    """Record the synaptic half of FP in the layer's trace."""
    assert spec.trace is not None
    counts = operand.counts(spec.synapse.groups)
    ops = by_step(spec.synapse.forward_ops(counts, weight.shape), operand.steps)
    weights = TensorCount.values(weight.numel(), weight.numel())
    count = EngineCount(
        dense_ops=spec.synapse.dense_ops(operand.folded_shape, weight.shape),
        executed_ops=sum(ops),
        step_ops=ops,
        multiplies=spec.analog_input,
        reads={**input_count(operand, int(counts.sum()), spec), TensorClass.WEIGHTS: weights},
    )
    spec.trace.record(spec.name, Engine.FP, count)
    spec.trace.describe(spec.name, _geometry(operand, weight.shape, spec))


def _geometry(operand: Operand, weight_shape: torch.Size, spec: LayerSpec) -> Geometry:
    """The layer's shape, as the cost model wants it."""
    synapse, shape = spec.synapse, operand.folded_shape
    out = synapse.output_shape(shape, weight_shape)
    return Geometry(
        in_channels=shape[1],
        out_channels=out[1],
        in_size=_sides(shape),
        out_size=_sides(out),
        kernel=(weight_shape[2], weight_shape[3]) if len(weight_shape) == 4 else (1, 1),
        groups=synapse.groups,
        steps=operand.shape[0],
        transposed=isinstance(synapse, ConvTransposeSynapse),
        static=operand.constant,
    )


def _sides(shape: torch.Size) -> tuple[int, int]:
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def count_neuron(output: Tensor, fired: Tensor, spec: LayerSpec) -> None:
    """Record the neuron's half of FP in the layer's trace, given how many fired at each step (T,)."""
    assert spec.trace is not None
    elements, events = output.numel(), tuple(fired.tolist())
    writes = {
        TensorClass.MEMBRANE: TensorCount.values(elements, elements),
        TensorClass.SPIKES: TensorCount.bitmap(elements, sum(events)),
    }
    spec.trace.record(spec.name, Engine.FP, EngineCount(neuron_updates=elements, step_events=events, writes=writes))
