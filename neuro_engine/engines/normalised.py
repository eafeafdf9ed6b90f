"""A layer whose current is normalised by the statistics of the batch, before the neurons take it.

    n[t] = gamma (I[t] - mean) / std + beta        mean and std over time, batch and positions

The neurons can only begin when all of the current is known, so the current is stored; and the gradient of I is dense,
whatever the surrogate: that is the price of batch statistics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuro_engine.engines import dispatch
from neuro_engine.engines.backward import Gradient, count_membrane, synapse_backward
from neuro_engine.engines.forward import LayerSpec, count_neuron, count_synapse, runs_native
from neuro_engine.engines.operand import read
from neuro_engine.engines.storage import stored
from neuro_engine.engines.weight_gradient import weight_gradient
from neuro_engine.kernels import native

_Gradients = tuple[Tensor | None, Tensor, Tensor, Tensor, None, None]


class _NormalisedLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, epsilon: float, spec: LayerSpec
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert spec.surrogate is not None
        weight, operand = stored(weight, spec.precision), read(x, spec.precision)
        current = dispatch.current(operand, weight, None, spec.synapse, spec.precision, dtype=spec.precision.storage)
        count = native.pixels(current.shape)
        mean, square = (native.channel_sums(current) / count).unbind()
        variance = (square - mean * mean).clamp_(min=0)
        inverse = torch.rsqrt(variance + epsilon)
        scale = (gamma * inverse).to(torch.float32)
        shift = (beta - mean * gamma * inverse).to(torch.float32)
        spikes, membrane, fired = native.neuron_forward(
            current, x.shape[0], spec.neuron, spec.surrogate, spec.precision.storage,
            constant=operand.constant, scale=scale, shift=shift,
        )  # fmt: skip
        if spec.trace is not None:
            count_synapse(operand, weight, spec)
            count_neuron(spikes, fired, spec)
        ctx.save_for_backward(weight, current, membrane, gamma, mean, inverse, *operand.tensors())
        ctx.spec, ctx.operand, ctx.steps = spec, operand.without_tensors(), x.shape[0]
        statistics = mean.to(torch.float32), variance.to(torch.float32)
        ctx.mark_non_differentiable(*statistics)
        return spikes.unflatten(0, (x.shape[0], -1)), *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *statistics: Tensor) -> _Gradients:
        weight, current, membrane, gamma, mean, inverse, *saved = ctx.saved_tensors
        spec, operand = ctx.spec, ctx.operand.restored(tuple(saved))
        if spec.trace is not None:
            count_membrane(membrane, spec)
        folded, sums, _ = native.neuron_backward(
            grad_output.flatten(0, 1), membrane, ctx.steps, spec.neuron, spec.surrogate,
            constant=operand.constant, current=current,
        )  # fmt: skip
        total, products = sums.unbind()
        grad_gamma = (products - mean * total) * inverse
        a = gamma * inverse
        b = -a * grad_gamma * inverse / native.pixels(current.shape)
        d = -a * total / native.pixels(current.shape) - b * mean
        counts = native.norm_backward_(folded, current, *(f.to(torch.float32) for f in (a, b, d)))
        grad = Gradient(folded, operand.steps, counts)
        grad_x = synapse_backward(grad, weight, operand, spec, propagate=ctx.needs_input_grad[0])
        grad_weight, _ = weight_gradient(grad, operand, weight.shape, spec, with_bias=False)
        return grad_x, grad_weight, grad_gamma.to(gamma.dtype), total.to(gamma.dtype), None, None


def can_run(x: Tensor, weight: Tensor, spec: LayerSpec) -> bool:
    """True if there are kernels for this layer, its input being `x`."""
    return runs_native(x, spec) and weight.dtype == torch.float32 and not spec.precision.stochastic


def run_normalised_layer(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, epsilon: float, spec: LayerSpec
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a whole layer with batch normalisation on the engines, differentiably, where `can_run` says so.

    Args:
        x: input (T, B, ...).
        weight: weights of the synapse, float32.
        gamma: factor of the normalised current (O,).
        beta: what is added to it (O,).
        epsilon: added to the variance.
        spec: the layer.

    Returns:
        Spikes (T, B, ...), and mean and (biased) variance of the current by channel (O,).
    """
    result: tuple[Tensor, Tensor, Tensor] = _NormalisedLayer.apply(x, weight, gamma, beta, epsilon, spec)  # type: ignore[no-untyped-call]
    return result
