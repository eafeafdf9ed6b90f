"""WG engine: the gradient of the weights, summed over time and batch.

    dW = sum over t, n of dI[t, n] (x) s_in[t, n];   db = sum over t, n of dI[t, n]

Where the input is spikes, an operation selects a gradient and adds it; it is skipped unless spike and gradient are
both there. WG reads dI from the buffer that it shares with BP, so only BP's read of it reaches memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuro_engine.engines.forward import LayerSpec, input_count, input_mask
from neuro_engine.synapse import nonzero_mask
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount


def weight_gradient(
    grad_current: Tensor, x: Tensor, weight_shape: torch.Size, spec: LayerSpec, *, with_bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Run the WG engine on one layer.

    Args:
        grad_current: dL/dI from BP (T, B, ...).
        x: the layer's input as FP saw it (T, B, ...).
        weight_shape: shape of the weights.
        spec: the layer.
        with_bias: True where the layer has a bias.

    Returns:
        dL/dW and dL/db, or None where there is no bias.
    """
    grad, folded = grad_current.flatten(0, 1), x.flatten(0, 1)
    if spec.trace is not None:
        weights, mask = weight_shape.numel(), input_mask(x, spec)
        count = EngineCount(
            dense_ops=spec.synapse.dense_ops(grad.shape, weight_shape),
            executed_ops=spec.synapse.weight_ops(nonzero_mask(grad), mask, weight_shape),
            multiplies=spec.analog_input,
            reads=input_count(mask, spec),
            writes={TensorClass.WEIGHT_GRADIENT: TensorCount.values(weights, weights, bits=32)},
        )
        spec.trace.record(spec.name, Engine.WG, count)
    grad_weight = spec.synapse.weight_gradient(grad, folded, weight_shape)
    return grad_weight, spec.synapse.bias_gradient(grad) if with_bias else None
