"""Layers without weights, which the host computes and a trace leaves out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuro_engine.engines.pool import max_pool
from neuro_engine.engines.storage import widened
from neuro_engine.layers.base import check_input


def _check_maps(module: nn.Module, x: Tensor, kernel_size: int = 1) -> None:
    """Refuse what is not (T, B, C, H, W) with maps at least as large as the window."""
    name = type(module).__name__
    check_input(name, x, "C", "H", "W")
    if min(x.shape[3:]) < kernel_size:
        raise ValueError(f"{name}: expected maps of at least {kernel_size} x {kernel_size}, got {tuple(x.shape)}")


class MaxPool2d(nn.Module):
    """Maximum over square windows, which for spikes is an OR: (T, B, C, H, W) to (T, B, C, H // k, W // k).

    Args:
        kernel_size: side k of a window, and step to the next.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Pool each time step."""
        _check_maps(self, x, self.kernel_size)
        pooled = max_pool(x.flatten(0, 1), self.kernel_size)
        return pooled.view(*x.shape[:2], *pooled.shape[1:])

    def follow(self, values: bool) -> bool:
        """Spikes stay spikes."""
        return values


class AvgPool2d(nn.Module):
    """Mean over square windows: (T, B, C, H, W) to values (T, B, C, H // k, W // k).

    Args:
        kernel_size: side k of a window, and step to the next.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Pool each time step."""
        _check_maps(self, x, self.kernel_size)
        pooled = F.avg_pool2d(widened(x.flatten(0, 1)), self.kernel_size)
        return pooled.view(*x.shape[:2], *pooled.shape[1:])

    def follow(self, values: bool) -> bool:
        """A mean is a value."""
        return True


class GlobalAvgPool2d(nn.Module):
    """Mean over each map: (T, B, C, H, W) to values (T, B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool each time step."""
        _check_maps(self, x)
        return widened(x).mean((3, 4))

    def follow(self, values: bool) -> bool:
        """A mean is a value."""
        return True


class Flatten(nn.Module):
    """All features in one axis: (T, B, ...) to (T, B, F)."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten all but time and batch."""
        return x.flatten(2)

    def follow(self, values: bool) -> bool:
        """Spikes stay spikes."""
        return values


class Dropout(nn.Module):
    """In training, silence features of each sample, the same ones at all time steps: (T, B, ...) to (T, B, ...).

    Args:
        p: probability that a feature is silenced, at least 0.0 and below 1.0.
        scaled: True divides what is left by 1 - p, which keeps the mean but makes spikes values, charged as such.
            False keeps spikes spikes; the layer above then gets 1 / (1 - p) times as many of them in evaluation.

    Raises:
        ValueError: if `p` is out of range.
    """

    def __init__(self, p: float = 0.5, *, scaled: bool = True) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"expected a probability of at least 0 and below 1, got {p!r}")
        self.p, self.scaled = p, scaled

    def forward(self, x: Tensor) -> Tensor:
        """Draw a mask and apply it to each time step."""
        if not self.training or not self.p:
            return x
        kept = torch.empty_like(x[:1], requires_grad=False).bernoulli_(1.0 - self.p)
        return x * (kept / (1.0 - self.p) if self.scaled else kept)

    def follow(self, values: bool) -> bool:
        """Scaled spikes are values."""
        return values or self.scaled
