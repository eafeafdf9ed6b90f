"""What normalisation adds to the neurons: sums by channel, and the gradient that is spread over each channel."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro_engine.kernels.native.binding import call, int64, kernel, pointer
from neuro_engine.kernels.native.checks import VALUES, by_channel, check, pixels

_ROWS = 1024  # as in csrc


def channel_sums(y: Tensor) -> Tensor:
    """Sums of a map and of its squares over all pixels, by channel: (2, C) float64."""
    y = check("map", y, (2, 4), VALUES)
    count, c = pixels(y.shape), y.shape[1]
    tasks = -(-count // _ROWS)
    sums = torch.empty(tasks, 2, c)
    call(
        kernel("channel_sums"), pointer(y), y.dtype == torch.float16, int64(count), int64(c), pointer(sums),
        tasks=tasks,
    )  # fmt: skip
    return sums.sum(0, dtype=torch.float64)


def norm_backward_(grad: Tensor, y: Tensor, a: Tensor, b: Tensor, d: Tensor) -> Tensor:
    """Replace `grad` by a grad + b y + d, with factors by channel, in place.

    Args:
        grad: a map, channels next to each other.
        y: a map of the same shape and type.
        a: (C,) float32.
        b: (C,) float32.
        d: (C,) float32.

    Returns:
        Non-zeros of the result by pixel, (N, H, W) or (N,) int32.
    """
    y, kept = check("map", y, (2, 4), VALUES), check("gradient", grad, (2, 4), VALUES)
    if kept.data_ptr() != grad.data_ptr() or y.shape != grad.shape or y.dtype != grad.dtype:
        raise ValueError(
            f"gradient: expected channels-last {tuple(y.shape)} {y.dtype}, got {tuple(grad.shape)} {grad.dtype}"
        )
    count, c = pixels(y.shape), y.shape[1]
    factors = [by_channel(name, x, c) for name, x in (("a", a), ("b", b), ("d", d))]
    nonzeros = torch.empty((y.shape[0], *y.shape[2:]), dtype=torch.int32)
    call(
        kernel("norm_backward"), pointer(grad), pointer(y), y.dtype == torch.float16, *map(pointer, factors),
        int64(count), int64(c), pointer(nonzeros), tasks=-(-count // _ROWS),
    )  # fmt: skip
    return nonzeros
