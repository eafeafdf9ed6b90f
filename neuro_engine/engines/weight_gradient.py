"""WG engine: the gradient of the weights, summed over time and batch.

    dW = sum over t, n of dI[t, n] (x) s_in[t, n];   db = sum over t, n of dI[t, n]

Where the input is spikes, an operation selects a gradient and adds it; it is skipped unless spike and gradient are
both there. WG reads dI from the buffer that it shares with BP, so only BP's read of it reaches memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuro_engine.engines import dispatch
from neuro_engine.engines.backward import Gradient
from neuro_engine.engines.forward import LayerSpec, by_step, input_count
from neuro_engine.engines.operand import Operand
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount


def weight_gradient(
    grad: Gradient, operand: Operand, weight_shape: torch.Size, spec: LayerSpec, *, with_bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Run the WG engine on one layer.

    Args:
        grad: dL/dI from BP.
        operand: the layer's input as FP saw it.
        weight_shape: shape of the weights.
        spec: the layer.
        with_bias: True where the layer has a bias.

    Returns:
        dL/dW and dL/db in float32 (float64 from float64), or None where there is no bias.
    """
    if spec.trace is not None:
        spec.trace.record(spec.name, Engine.WG, _count(grad, operand, weight_shape, spec))
    grad_weight = dispatch.weight_gradient(operand, grad.folded, weight_shape, spec.synapse, spec.precision)
    if not with_bias:
        return grad_weight, None
    if grad.sums is not None:
        return grad_weight, grad.sums
    wide = grad.folded if grad.folded.dtype == torch.float64 else grad.folded.to(torch.float32)
    return grad_weight, spec.synapse.bias_gradient(wide)


def _count(grad: Gradient, operand: Operand, weight_shape: torch.Size, spec: LayerSpec) -> EngineCount:
    groups, weights = spec.synapse.groups, weight_shape.numel()
    x_counts = operand.counts(groups)
    pairs = dispatch.pair_counts(spec.synapse, x_counts, grad.by_position(groups), weight_shape)
    ops = by_step(pairs, operand.steps)
    return EngineCount(
        dense_ops=spec.synapse.dense_ops(operand.folded_shape, weight_shape),
        executed_ops=sum(ops),
        step_ops=ops,
        multiplies=spec.analog_input,
        reads=input_count(operand, int(x_counts.sum()), spec),
        writes={TensorClass.WEIGHT_GRADIENT: TensorCount.values(weights, weights, bits=32)},
    )
