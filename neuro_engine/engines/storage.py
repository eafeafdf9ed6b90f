"""Rounding of what the engines store."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro_engine.kernels import native, reference
from neuro_engine.precision import Precision

_HIDDEN_BITS = 13  # of binary32's mantissa, beyond binary16's
_SEEDS = 2**31 - 1


def to_storage(x: Tensor, precision: Precision) -> Tensor:
    """A tensor in the type in which it is stored; float64 is left as it is.

    Args:
        x: any shape.
        precision: the number format.

    Returns:
        A tensor of the same shape, of type `precision.storage`.
    """
    if x.dtype in (torch.float64, precision.storage):
        return x
    if precision.stochastic:
        return _dithered(x.to(torch.float32)).to(precision.storage)
    return x.to(precision.storage)


def stored(weight: Tensor, precision: Precision) -> Tensor:
    """Weights as they are stored, in the type of storage; float64 is left as it is.

    Args:
        weight: any shape.
        precision: the number format.

    Returns:
        A tensor of the same shape; `weight` itself where nothing is rounded.

    Raises:
        ValueError: if a weight is not finite, or too large for the format: neurons would be silent, not wrong to see.
    """
    weight = weight.detach()
    if weight.dtype == torch.float32 and precision.storage == torch.float16 and not precision.stochastic:
        rounded, finite = reference.to_half(weight) if native.library() is None else native.to_half(weight)
    else:
        rounded = weight if weight.dtype == torch.float64 else to_storage(weight, precision)
        finite = bool(torch.isfinite(rounded.sum(dtype=torch.promote_types(rounded.dtype, torch.float32))))
    if not finite:
        shape = tuple(weight.shape)
        raise ValueError(f"weights {shape}: expected finite numbers in {precision.name}, got NaN or infinity")
    return rounded


def _dithered(x: Tensor) -> Tensor:
    """Float32 rounded to binary16 up or down, with the probability of the remainder; torch's generator decides."""
    seed = int(torch.randint(1, _SEEDS, ()))
    if native.library() is not None:
        return native.round_half(x, seed)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 1 << _HIDDEN_BITS, x.shape, dtype=torch.int32, generator=generator)
    bits = (x.contiguous().view(torch.int32) + noise) & -(1 << _HIDDEN_BITS)
    return bits.view(torch.float32)


def widened(x: Tensor) -> Tensor:
    """What is stored, as it is computed with: at least float32."""
    return x if x.dtype == torch.float64 else x.to(torch.float32)
