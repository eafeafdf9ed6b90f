"""BP engine: the error of the neuron, then of the synapse, for t = T..1.

    dI[t] = gain dh[t]                 (`neuro_engine.neuron.fire_backward` has dh)
    eps_in[t] = W^T * dI[t]            the only operation of the chip with two 16-bit operands

Zeros of dI are skipped. The first layer of a network has nobody to pass eps_in to and does only the neuron part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuro_engine.engines.forward import LayerSpec
from neuro_engine.neuron import fire_backward, integrate_backward
from neuro_engine.synapse import nonzero_mask, ones
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount


def backward(
    grad_output: Tensor,
    membrane: Tensor,
    weight: Tensor,
    input_shape: torch.Size,
    spec: LayerSpec,
    *,
    propagate: bool,
) -> tuple[Tensor, Tensor | None]:
    """Run the BP engine on one layer.

    Args:
        grad_output: dL/d output (T, B, ...).
        membrane: h as FP kept it (T, B, ...).
        weight: the synapse's weights.
        input_shape: shape of the layer's input (T, B, ...).
        spec: the layer.
        propagate: True where the layer below wants its gradient.

    Returns:
        dL/dI (T, B, ...), which WG shares, and dL/d input (T, B, ...) or None.
    """
    if spec.surrogate is None:
        grad_current = integrate_backward(grad_output, spec.neuron.leak, spec.neuron.gain)
    else:
        grad_current = fire_backward(grad_output, membrane, spec.neuron, spec.surrogate)
    folded_shape = torch.Size((input_shape[0] * input_shape[1], *input_shape[2:]))
    folded = grad_current.flatten(0, 1)
    if spec.trace is not None:
        spec.trace.record(spec.name, Engine.BP, _count(folded, weight, folded_shape, spec, propagate))
    if not propagate:
        return grad_current, None
    return grad_current, spec.synapse.input_gradient(folded, weight, folded_shape).view(input_shape)


def _count(grad: Tensor, weight: Tensor, input_shape: torch.Size, spec: LayerSpec, propagate: bool) -> EngineCount:
    mask = nonzero_mask(grad)
    gradient = TensorCount.sparse(grad.numel(), ones(mask))
    if not propagate:  # WG takes it from the shared buffer and nobody else wants it: it never reaches memory
        gradient = TensorCount(gradient.elements, gradient.nonzeros, bytes=0)
    reads = {TensorClass.MEMBRANE: TensorCount.values(grad.numel(), grad.numel())}
    if propagate:
        reads[TensorClass.WEIGHTS] = TensorCount.values(weight.numel(), weight.numel())
        reads[TensorClass.GRADIENT] = gradient
    return EngineCount(
        dense_ops=spec.synapse.dense_ops(grad.shape, weight.shape) if propagate else 0,
        executed_ops=spec.synapse.backward_ops(mask, input_shape, weight.shape) if propagate else 0,
        multiplies=True,
        neuron_updates=grad.numel(),
        reads=reads,
        writes={TensorClass.GRADIENT: gradient},
    )
