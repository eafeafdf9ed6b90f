"""Max-pooling, and rounding to binary16."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from neuro_engine.kernels import buffers
from neuro_engine.kernels.native.binding import call, int64, kernel, pointer
from neuro_engine.kernels.native.checks import VALUES, check

_WIDEST_POOL = 15
_ROUNDED = 1 << 14  # as in csrc
_SEEDS = 2**32


def pool_forward(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Max-pooling over k x k windows: the maxima, and which of its window each was, uint8."""
    x = check("pool", x, (4,), VALUES)
    n, c, h, w = x.shape
    if not 1 <= k <= _WIDEST_POOL or h < k or w < k:
        raise ValueError(f"pool: expected a window of 1..{_WIDEST_POOL} within the map, got {k} for {tuple(x.shape)}")
    out, winner = buffers.empty((n, c, h // k, w // k), x.dtype), buffers.empty((n, c, h // k, w // k), torch.uint8)
    call(
        kernel("pool_forward"), pointer(x), x.dtype == torch.float16, int64(n), int64(h), int64(w), int64(c), int64(k),
        pointer(out), pointer(winner), tasks=n * (h // k),
    )  # fmt: skip
    return out, winner


def pool_backward(grad: Tensor, winner: Tensor, shape: Sequence[int], k: int) -> Tensor:
    """The gradient of `pool_forward`'s input, of `shape`."""
    grad = check("gradient", grad, (4,), VALUES)
    if not 1 <= k <= _WIDEST_POOL or len(shape) != 4 or winner.dtype != torch.uint8:
        raise ValueError(f"pool: expected a window of 1..{_WIDEST_POOL} and a map of 4 dimensions, got {k} for {shape}")
    winner = winner.contiguous(memory_format=torch.channels_last)
    if grad.shape != winner.shape or tuple(grad.shape) != (*shape[:2], shape[2] // k, shape[3] // k):
        raise ValueError(f"gradient: expected {tuple(winner.shape)}, got {tuple(grad.shape)} for a map of {shape}")
    n, c, h, w = shape
    out = buffers.empty(shape, grad.dtype)
    call(
        kernel("pool_backward"), pointer(grad), pointer(winner), grad.dtype == torch.float16, int64(n), int64(h),
        int64(w), int64(c), int64(k), pointer(out), tasks=n * h,
    )  # fmt: skip
    return out


def round_half(x: Tensor, seed: int = 0) -> Tensor:
    """Float32 values rounded to binary16, as float32.

    Args:
        x: any shape.
        seed: 0 rounds to nearest even; another number up or down, with the probability of the remainder.

    Raises:
        ValueError: if `x` is not float32 on the CPU, or the seed no 32-bit number.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu" or not 0 <= seed < _SEEDS:
        raise ValueError(f"expected float32 on the CPU and a seed below 2^32, got {x.dtype} on {x.device} and {seed}")
    out = torch.empty_like(x)  # of the same strides, where they leave no gaps
    if x.stride() != out.stride():
        x = x.contiguous()
        out = torch.empty_like(x)
    call(
        kernel("round_half"), pointer(x), int64(x.numel()), ctypes.c_uint32(seed), pointer(out),
        tasks=-(-x.numel() // _ROUNDED),
    )  # fmt: skip
    return out
