"""The one place where the engines meet torch's autograd.

`run_layer` is a whole layer; `run_synapse` and `run_neuron` are its halves, for what comes between them
(normalisation by batch, a residual current, a recurrent connection).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuro_engine.engines.backward import fold, neuron_backward, synapse_backward
from neuro_engine.engines.forward import LayerSpec, layer_forward, neuron_forward, synapse_forward
from neuro_engine.engines.storage import stored
from neuro_engine.engines.weight_gradient import weight_gradient

# Gradients of the arguments of `_Layer`, `_Synapse` and `_Neuron`; None for the specification.
_LayerGradients = tuple[Tensor | None, Tensor, Tensor | None, Tensor | None, None]
_SynapseGradients = tuple[Tensor | None, Tensor, Tensor | None, None]


class _Layer(torch.autograd.Function):
    """Forward calls FP; backward calls BP and WG."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, leak: Tensor | None, spec: LayerSpec
    ) -> Tensor:
        weight = stored(weight, spec.precision)
        output, membrane, operand = layer_forward(x, weight, bias, spec, leak)
        ctx.save_for_backward(weight, membrane, leak, *operand.tensors())
        ctx.spec, ctx.with_bias, ctx.operand = spec, bias is not None, operand.without_tensors()
        return output.clone() if output is membrane else output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> _LayerGradients:
        weight, membrane, leak, *saved = ctx.saved_tensors
        operand = ctx.operand.restored(tuple(saved))
        grad, grad_leak = neuron_backward(grad_output, membrane, ctx.spec, leak, constant=operand.constant)
        grad_x = synapse_backward(grad, weight, operand, ctx.spec, propagate=ctx.needs_input_grad[0])
        grad_weight, grad_bias = weight_gradient(grad, operand, weight.shape, ctx.spec, with_bias=ctx.with_bias)
        return grad_x, grad_weight, grad_bias, grad_leak, None


class _Synapse(torch.autograd.Function):
    """The synaptic halves of FP and BP, and WG."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, spec: LayerSpec) -> Tensor:
        weight = stored(weight, spec.precision)
        current, operand = synapse_forward(x, weight, bias, spec)
        ctx.save_for_backward(weight, *operand.tensors())
        ctx.spec, ctx.with_bias, ctx.operand = spec, bias is not None, operand.without_tensors()
        return current

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_current: Tensor) -> _SynapseGradients:
        weight, *saved = ctx.saved_tensors
        operand = ctx.operand.restored(tuple(saved))
        grad = fold(grad_current, operand, ctx.spec)
        grad_x = synapse_backward(grad, weight, operand, ctx.spec, propagate=ctx.needs_input_grad[0])
        grad_weight, grad_bias = weight_gradient(grad, operand, weight.shape, ctx.spec, with_bias=ctx.with_bias)
        return grad_x, grad_weight, grad_bias, None


class _Neuron(torch.autograd.Function):
    """The neuron's halves of FP and BP."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, leak: Tensor | None, spec: LayerSpec) -> Tensor:
        output, membrane = neuron_forward(current, spec, leak)
        ctx.save_for_backward(membrane, leak)
        ctx.spec, ctx.dtype = spec, current.dtype
        return output.clone() if output is membrane else output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None, None]:
        membrane, leak = ctx.saved_tensors
        grad, grad_leak = neuron_backward(grad_output, membrane, ctx.spec, leak)
        return grad.folded.unflatten(0, (grad.steps, -1)).to(ctx.dtype), grad_leak, None


def run_layer(x: Tensor, weight: Tensor, bias: Tensor | None, spec: LayerSpec, leak: Tensor | None = None) -> Tensor:
    """Run a layer on the engines, differentiably.

    Args:
        x: input (T, B, ...).
        weight: weights of the synapse.
        bias: bias current per output channel, or None.
        spec: the layer.
        leak: a learned leak, one number; None takes the neuron's own.

    Returns:
        Spikes, or the membrane of a readout (T, B, ...).
    """
    output: Tensor = _Layer.apply(x, weight, bias, leak, spec)  # type: ignore[no-untyped-call]
    return output


def run_synapse(x: Tensor, weight: Tensor, bias: Tensor | None, spec: LayerSpec) -> Tensor:
    """Run the synapse alone, differentiably; arguments as of `run_layer`.

    Returns:
        The synaptic current (T, B, ...).
    """
    current: Tensor = _Synapse.apply(x, weight, bias, spec)  # type: ignore[no-untyped-call]
    return current


def run_neuron(current: Tensor, spec: LayerSpec, leak: Tensor | None = None) -> Tensor:
    """Run the neuron alone, differentiably.

    Args:
        current: synaptic current (T, B, ...).
        spec: the layer.
        leak: a learned leak, one number; None takes the neuron's own.

    Returns:
        Spikes, or the membrane of a readout (T, B, ...).
    """
    output: Tensor = _Neuron.apply(current, leak, spec)  # type: ignore[no-untyped-call]
    return output
