"""BP engine: the error of the neuron, then of the synapse, for t = T..1.

    dI[t] = gain dh[t]                 (`neuro_engine.neuron.fire_backward` has dh)
    eps_in[t] = W^T * dI[t]            the only operation of the chip with two 16-bit operands

Zeros of dI are skipped. The first layer of a network has nobody to pass eps_in to and does only the neuron part.
Gradient and error are stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuro_engine.engines import dispatch
from neuro_engine.engines.forward import LayerSpec, by_step, runs_native
from neuro_engine.engines.operand import Operand
from neuro_engine.engines.storage import to_storage
from neuro_engine.kernels import native
from neuro_engine.neuron import fire_backward, integrate_backward
from neuro_engine.synapse import count_nonzeros
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount


@dataclass(frozen=True, slots=True)
class Gradient:
    """The gradient of a layer's current, which BP and WG share.

    Attributes:
        folded: (N, O, ...) as it is stored; one step where the current is the same at all steps.
        steps: its time steps.
        counts: non-zeros by position (N, ...) int32, where the neuron's half counted them.
        sums: sum by output channel (O,), where the neuron's half took it.
    """

    folded: Tensor
    steps: int
    counts: Tensor | None = None
    sums: Tensor | None = None

    def by_position(self, groups: int) -> Tensor:
        """Non-zeros by position and group of channels (N, G, ...) int32."""
        if self.counts is not None and groups == 1:
            return self.counts.unsqueeze(1)
        return count_nonzeros(self.folded, groups)

    def density(self) -> float:
        """Fraction that is not zero; 0.0 where there is none."""
        elements = self.folded.numel()
        total = self.counts.sum() if self.counts is not None else torch.count_nonzero(self.folded)
        return int(total) / elements if elements else 0.0


def fold(grad_current: Tensor, operand: Operand, spec: LayerSpec) -> Gradient:
    """The gradient of a current (T, B, ...) as the engines take it: rounded to storage, summed where it is constant."""
    if operand.constant:
        grad_current = grad_current.sum(0, keepdim=True)
    folded = to_storage(grad_current.flatten(0, 1), spec.precision)
    counted = native.library() is not None and folded.dim() in (2, 4) and folded.dtype != torch.float64
    return Gradient(folded, operand.steps, native.pack(folded)[1] if counted else None)


def neuron_backward(
    grad_output: Tensor, membrane: Tensor, spec: LayerSpec, leak: Tensor | None = None, *, constant: bool = False
) -> tuple[Gradient, Tensor | None]:
    """The neuron's half of BP.

    Args:
        grad_output: dL/d output (T, B, ...).
        membrane: h as FP kept it (T, B, ...).
        spec: the layer.
        leak: the learned leak that FP used, or None.
        constant: True where the current was the same at all steps; its gradient is then summed over them.

    Returns:
        dL/dI, and dL/d leak where it is learned.
    """
    steps, batch = membrane.shape[:2]
    if spec.trace is not None:
        count_membrane(membrane, spec)
    if spec.surrogate is not None and runs_native(membrane, spec) and not spec.precision.stochastic:
        folded, sums, counts = native.neuron_backward(
            grad_output.flatten(0, 1), membrane.flatten(0, 1), steps, spec.neuron, spec.surrogate, constant=constant
        )
        return Gradient(folded, folded.shape[0] // batch, counts, sums[0].to(torch.float32)), None
    if spec.surrogate is None:
        grad_current, grad_leak = integrate_backward(grad_output, membrane, spec.neuron, leak)
    else:
        grad_current, grad_leak = fire_backward(grad_output, membrane, spec.neuron, spec.surrogate, leak)
    if constant:
        grad_current = grad_current.sum(0, keepdim=True)
    folded = to_storage(grad_current.flatten(0, 1), spec.precision)
    return Gradient(folded, folded.shape[0] // batch), grad_leak


def count_membrane(membrane: Tensor, spec: LayerSpec) -> None:
    """Record the neuron's half of BP in the layer's trace."""
    assert spec.trace is not None
    elements = membrane.numel()
    reads = {TensorClass.MEMBRANE: TensorCount.values(elements, elements)}
    spec.trace.record(spec.name, Engine.BP, EngineCount(multiplies=True, neuron_updates=elements, reads=reads))


def synapse_backward(
    grad: Gradient, weight: Tensor, operand: Operand, spec: LayerSpec, *, propagate: bool
) -> Tensor | None:
    """The synaptic half of BP.

    Args:
        grad: dL/dI.
        weight: the synapse's weights, as they are stored.
        operand: the layer's input.
        spec: the layer.
        propagate: True where the layer below wants its gradient.

    Returns:
        dL/d input (T, B, ...) or None.
    """
    if spec.trace is not None:
        spec.trace.record(spec.name, Engine.BP, _count(grad, weight, operand, spec, propagate))
    if not propagate:
        return None
    error = dispatch.input_gradient(
        grad.folded, grad.density(), weight, operand.folded_shape, spec.synapse, spec.precision
    )
    unfolded: Tensor = error.unflatten(0, (operand.steps, -1))
    return unfolded


def _count(grad: Gradient, weight: Tensor, operand: Operand, spec: LayerSpec, propagate: bool) -> EngineCount:
    counts = grad.by_position(spec.synapse.groups)
    events = by_step(counts.flatten(1).sum(1), grad.steps)
    gradient = TensorCount.sparse(grad.folded.numel(), sum(events))
    if not propagate:  # WG takes it from the shared buffer and nobody else wants it: it never reaches memory
        gradient = TensorCount(gradient.elements, gradient.nonzeros, bytes=0)
        return EngineCount(multiplies=True, step_events=events, writes={TensorClass.GRADIENT: gradient})
    ops = by_step(spec.synapse.backward_ops(counts, operand.folded_shape, weight.shape), grad.steps)
    weights = TensorCount.values(weight.numel(), weight.numel())
    return EngineCount(
        dense_ops=spec.synapse.dense_ops(operand.folded_shape, weight.shape),
        executed_ops=sum(ops),
        step_ops=ops,
        step_events=events,
        multiplies=True,
        reads={TensorClass.WEIGHTS: weights, TensorClass.GRADIENT: gradient},
        writes={TensorClass.GRADIENT: gradient},
    )
