"""The one place where the engines meet torch's autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuro_engine.engines.backward import backward
from neuro_engine.engines.forward import LayerSpec, forward
from neuro_engine.engines.weight_gradient import weight_gradient


class _Layer(torch.autograd.Function):
    """Forward calls FP; backward calls BP and WG."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, spec: LayerSpec) -> Tensor:
        output, membrane = forward(x, weight, bias, spec)
        ctx.save_for_backward(x, weight, membrane)
        ctx.spec, ctx.with_bias = spec, bias is not None
        return output.clone() if output is membrane else output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        x, weight, membrane = ctx.saved_tensors
        grad_current, grad_x = backward(
            grad_output, membrane, weight, x.shape, ctx.spec, propagate=ctx.needs_input_grad[0]
        )
        grad_weight, grad_bias = weight_gradient(grad_current, x, weight.shape, ctx.spec, with_bias=ctx.with_bias)
        return grad_x, grad_weight, grad_bias, None


def run_layer(x: Tensor, weight: Tensor, bias: Tensor | None, spec: LayerSpec) -> Tensor:
    """Run a layer on the engines, differentiably.

    Args:
        x: input (T, B, ...).
        weight: weights of the synapse.
        bias: bias current per output channel, or None.
        spec: the layer.

    Returns:
        Spikes, or the membrane of a readout (T, B, ...).
    """
    output: Tensor = _Layer.apply(x, weight, bias, spec)  # type: ignore[no-untyped-call]
    return output
