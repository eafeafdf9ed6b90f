"""Each synaptic operation on the host: event-driven below a measured density, dense above.

Both compute the same sums of the same products; only the order differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuro_engine.engines.operand import Operand
from neuro_engine.engines.storage import to_storage
from neuro_engine.kernels import buffers, crossover, native
from neuro_engine.kernels.native import Geometry
from neuro_engine.neuron import LIF
from neuro_engine.precision import Precision
from neuro_engine.surrogate import Surrogate
from neuro_engine.synapse import ConvSynapse, ConvTransposeSynapse, LinearSynapse, Synapse


def _geometry(synapse: Synapse, x_shape: Sequence[int], y_shape: Sequence[int], kernel: Sequence[int]) -> Geometry:
    """How outputs (N, O, ...) meet inputs (N, C, ...)."""
    if isinstance(synapse, LinearSynapse):
        return Geometry(x_shape[0], 1, 1, x_shape[1], 1, 1, y_shape[1], 1, 1, 1, 0, 0)
    assert isinstance(synapse, ConvSynapse | ConvTransposeSynapse)
    n, c, h, w = x_shape
    _, o, oh, ow = y_shape
    transposed = isinstance(synapse, ConvTransposeSynapse)
    return Geometry(n, h, w, c, oh, ow, o, kernel[0], kernel[1], synapse.stride, synapse.padding, transposed)


def _swapped(g: Geometry) -> Geometry:
    """The way back: how inputs meet outputs."""
    return Geometry(g.n, g.oh, g.ow, g.oc, g.h, g.w, g.c, g.kh, g.kw, g.stride, g.padding, 1 - g.transposed)


def _pays(kernel: str, density: float, synapse: Synapse, geometry: Geometry, weight: Tensor) -> bool:
    if synapse.groups != 1 or weight.dtype == torch.float64 or native.library() is None:
        return False
    return density < crossover.crossover(kernel, geometry.c, geometry.oc)


def follows_events(operand: Operand, weight: Tensor, synapse: Synapse) -> bool:
    """True if FP follows the events of this input rather than multiply everything."""
    shape = synapse.output_shape(operand.folded_shape, weight.shape)
    geometry = _geometry(synapse, operand.folded_shape, shape, weight.shape[2:])
    kernel = crossover.GATHER if operand.spikes is not None else crossover.VALUED
    return _pays(kernel, operand.density(), synapse, geometry, weight)


def current(
    operand: Operand,
    weight: Tensor,
    bias: Tensor | None,
    synapse: Synapse,
    precision: Precision,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """FP's synaptic current (N, O, ...) in `dtype` (float64 for float64 weights)."""
    if follows_events(operand, weight, synapse):
        shape = synapse.output_shape(operand.folded_shape, weight.shape)
        geometry = _geometry(synapse, operand.folded_shape, shape, weight.shape[2:])
        transposed = isinstance(synapse, ConvTransposeSynapse)
        return native.gather(operand.events, weight, bias, geometry, shape, dtype, transposed=transposed)
    if weight.dtype == torch.float64:
        return synapse.current(operand.dense(torch.float64), weight, bias)
    dense = precision.dense
    low = synapse.current(operand.dense(dense), _converted(weight, dense), None if bias is None else bias.to(dense))
    return low.to(dtype)


def fire_events(
    operand: Operand,
    weight: Tensor,
    bias: Tensor | None,
    synapse: Synapse,
    neuron: LIF,
    surrogate: Surrogate,
    precision: Precision,
) -> tuple[Tensor, Tensor, Tensor]:
    """FP whole, event-driven: spikes and membrane (N, O, ...) as they are stored, and spikes at each step (T,)."""
    shape = synapse.output_shape(operand.folded_shape, weight.shape)
    geometry = _geometry(synapse, operand.folded_shape, shape, weight.shape[2:])
    transposed = isinstance(synapse, ConvTransposeSynapse)
    return native.layer_forward(
        operand.events, weight, bias, geometry, shape, operand.steps, neuron, surrogate, precision.storage,
        transposed=transposed,
    )  # fmt: skip


def input_gradient(
    grad: Tensor, density: float, weight: Tensor, input_shape: torch.Size, synapse: Synapse, precision: Precision
) -> Tensor:
    """BP's error (N, C, ...) as it is stored, from the gradient of the current (N, O, ...)."""
    geometry = _swapped(_geometry(synapse, input_shape, grad.shape, weight.shape[2:]))
    if _pays(crossover.VALUED, density, synapse, geometry, weight):
        rows_of_inputs = not isinstance(synapse, ConvTransposeSynapse)
        dtype = torch.float32 if precision.stochastic else precision.storage
        error = native.gather(grad, weight, None, geometry, input_shape, dtype, transposed=rows_of_inputs)
        return to_storage(error, precision)
    if weight.dtype == torch.float64:
        return synapse.input_gradient(grad, weight, input_shape)
    dense = precision.dense
    error = synapse.input_gradient(_converted(grad, dense), _converted(weight, dense), input_shape)
    return to_storage(error.to(torch.float32), precision)


def weight_gradient(
    operand: Operand, grad: Tensor, weight_shape: torch.Size, synapse: Synapse, precision: Precision
) -> Tensor:
    """WG's gradient of the weights, float32 (float64 for a float64 gradient)."""
    geometry = _geometry(synapse, operand.folded_shape, grad.shape, weight_shape[2:])
    if _pays(crossover.SCATTER, operand.density(), synapse, geometry, grad):
        if isinstance(synapse, ConvTransposeSynapse):
            rows = (weight_shape[1], weight_shape[0], *weight_shape[2:])
            return native.scatter(operand.events, grad, geometry, rows).transpose(0, 1)
        return native.scatter(operand.events, grad, geometry, weight_shape)
    dtype = torch.float64 if grad.dtype == torch.float64 else precision.dense
    result = synapse.weight_gradient(_converted(grad, dtype), operand.dense(dtype), weight_shape)
    return result if dtype == torch.float64 else result.to(torch.float32)


def _converted(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor in another type, in memory that is used again."""
    return x if x.dtype == dtype else buffers.empty(x.shape, dtype).copy_(x)


def pair_counts(synapse: Synapse, x_counts: Tensor, grad_counts: Tensor, weight_shape: torch.Size) -> Tensor:
    """WG operations of each folded sample (N,) whose input and gradient are both there."""
    if synapse.groups != 1 or native.library() is None:
        return synapse.weight_ops(grad_counts, x_counts, weight_shape)
    geometry = _geometry(synapse, x_counts.shape, grad_counts.shape, weight_shape[2:])
    return native.count_pairs(geometry, x_counts.contiguous(), grad_counts.contiguous())
