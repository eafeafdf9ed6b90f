"""What the kernels compute, in plain torch: the references that tests hold them against.

Signatures are those of `neuro_engine.kernels.native`. Without a library for the machine, the engines run torch's
own dense operations and `neuro_engine.neuron` in their place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from neuro_engine import synapse
from neuro_engine.kernels.native import Geometry
from neuro_engine.neuron import LIF, fire, fire_backward
from neuro_engine.surrogate import Surrogate


def count_nonzeros(x: Tensor) -> Tensor:
    """Non-zeros at each pixel of a map, int32."""
    return synapse.count_nonzeros(x).squeeze(1)


def _map(x: Tensor) -> Tensor:
    """A map (N, C, H, W) in float64; (N, C) becomes one pixel."""
    return x.to(torch.float64).view(*x.shape[:2], *(x.shape[2:] or (1, 1)))


def _kernel(weight: Tensor) -> Tensor:
    return weight.to(torch.float64).view(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))


def gather(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    shape: Sequence[int],
    dtype: torch.dtype,
    *,
    transposed: bool = False,
) -> Tensor:
    """See `native.gather`; `x` is a map."""
    kernel = _kernel(weight)
    kernel = kernel.transpose(0, 1) if transposed else kernel  # (outputs, listed, kh, kw)
    if geometry.transposed:
        out_shape = [geometry.n, geometry.oc, geometry.oh, geometry.ow]
        out: Tensor = conv2d_input(out_shape, kernel.transpose(0, 1), _map(x), geometry.stride, geometry.padding)
    else:
        out = F.conv2d(_map(x), kernel, None, geometry.stride, geometry.padding)
    if bias is not None:
        out = out + bias.to(torch.float64).view(1, -1, 1, 1)
    return out.reshape(tuple(shape)).to(dtype)


def scatter(x: Tensor, grad: Tensor, geometry: Geometry, weight_shape: Sequence[int]) -> Tensor:
    """See `native.scatter`; `x` is a map."""
    outputs, inputs = weight_shape[:2]
    taps = [geometry.kh, geometry.kw]
    if geometry.transposed:  # the transposed map's inputs take the place of a convolution's outputs
        weight: Tensor = conv2d_weight(_map(grad), [inputs, outputs, *taps], _map(x), geometry.stride, geometry.padding)
        weight = weight.transpose(0, 1)
    else:
        weight = conv2d_weight(_map(x), [outputs, inputs, *taps], _map(grad), geometry.stride, geometry.padding)
    return weight.reshape(tuple(weight_shape)).to(torch.float32)


def count_pairs(geometry: Geometry, counts: Tensor, grad_counts: Tensor) -> Tensor:
    """See `native.count_pairs`."""
    one = torch.ones(1, 1, geometry.kh, geometry.kw, dtype=torch.float64)
    single = Geometry.from_buffer_copy(geometry)
    single.c = single.oc = 1
    maps = counts.to(torch.float64).view(geometry.n, 1, geometry.h, geometry.w)
    shape = (geometry.n, 1, geometry.oh, geometry.ow)
    met = gather(maps, one, None, single, shape, torch.float64)
    met = met * grad_counts.to(torch.float64).view(shape)
    return met.sum((1, 2, 3)).to(torch.int64)


def neuron_forward(
    current: Tensor, steps: int, neuron: LIF, surrogate: Surrogate, dtype: torch.dtype, *, constant: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """See `native.neuron_forward`."""
    over_time = current.expand(steps, *current.shape) if constant else current.unflatten(0, (steps, -1))
    spikes, membrane = fire(over_time, neuron, None, dtype)
    return spikes.flatten(0, 1), membrane.flatten(0, 1), spikes.flatten(1).to(torch.float64).sum(1).to(torch.int64)


def neuron_backward(
    grad: Tensor, membrane: Tensor, steps: int, neuron: LIF, surrogate: Surrogate, *, constant: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """See `native.neuron_backward`."""
    grad, h = (x.to(torch.float32).unflatten(0, (steps, -1)) for x in (grad, membrane))
    result, _ = fire_backward(grad, h, neuron, surrogate)
    result = (result.sum(0) if constant else result.flatten(0, 1)).to(membrane.dtype)
    dims = (0, *range(2, result.dim()))
    return result, result.to(torch.float32).sum(dims), count_nonzeros(result)


def pool_forward(x: Tensor, k: int) -> Tensor:
    """The maxima of `native.pool_forward`."""
    return F.max_pool2d(x.to(torch.float32), k).to(x.dtype)


def pool_backward(grad: Tensor, x: Tensor, k: int) -> Tensor:
    """The gradient of `x`, given that of `pool_forward`'s result."""
    leaf = x.to(torch.float32).requires_grad_()
    (result,) = torch.autograd.grad(F.max_pool2d(leaf, k), leaf, grad.to(torch.float32))
    return result.to(grad.dtype)


def to_half(x: Tensor) -> tuple[Tensor, bool]:
    """See `native.to_half`."""
    rounded = x.to(torch.float16)
    return rounded, bool(torch.isfinite(rounded).all())


def standardise(rows: Tensor, gain: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `native.standardise`; in the type of `rows`."""
    mean = rows.mean(1)
    centred = rows - mean.unsqueeze(1)
    inverse = torch.rsqrt(torch.linalg.vector_norm(centred, dim=1).square() + epsilon)
    return centred * (gain * inverse).unsqueeze(1), mean, inverse


def standardise_backward(
    grad: Tensor, rows: Tensor, gain: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """See `native.standardise_backward`; in the type of `rows`."""
    centred = rows - mean.unsqueeze(1)
    projection = inverse * torch.linalg.vecdot(grad, centred)
    a = (gain * inverse).unsqueeze(1)
    b = a * (inverse * projection).unsqueeze(1)
    return (grad - grad.mean(1, keepdim=True)) * a - centred * b, projection
