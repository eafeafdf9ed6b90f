"""Max-pooling between layers, for spikes an OR. Not an engine: the host does it and the trace leaves it out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuro_engine.kernels import native


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel_size: int) -> Tensor:
        out, winner = native.pool_forward(x, kernel_size)
        ctx.save_for_backward(winner)
        ctx.shape, ctx.kernel_size = x.shape, kernel_size
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (winner,) = ctx.saved_tensors
        return native.pool_backward(grad, winner, ctx.shape, ctx.kernel_size), None


def max_pool(x: Tensor, kernel_size: int) -> Tensor:
    """Maximum over square windows of maps (N, C, H, W), differentiably; of equals, the first wins.

    Args:
        x: the maps, of any float type.
        kernel_size: side of a window, and step to the next.

    Returns:
        (N, C, H // kernel_size, W // kernel_size).
    """
    if native.library() is None or x.dtype not in (torch.float32, torch.float16):
        return F.max_pool2d(x, kernel_size)
    pooled: Tensor = _MaxPool.apply(x, kernel_size)  # type: ignore[no-untyped-call]
    return pooled
