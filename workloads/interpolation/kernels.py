"""Classic interpolation of a directly decimated image: separable kernels on the grid HR(s i) = LR(i)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Kernel = Callable[[Tensor], Tensor]
"""Maps distances in low-resolution pixels to weights."""


def keys(x: Tensor) -> Tensor:
    """Keys' cubic convolution, a = -1/2: exact for polynomials up to degree two; reaches over two pixels."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def triangle(x: Tensor) -> Tensor:
    """Linear interpolation."""
    return (1 - x.abs()).clamp(min=0)


def box(x: Tensor) -> Tensor:
    """The nearest pixel; in the middle between two, the one before."""
    return ((x >= -0.5) & (x < 0.5)).to(x.dtype)


def lanczos3(x: Tensor) -> Tensor:
    """A sinc under a sinc of three times its width."""
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), torch.zeros_like(x))


def enlarge(image: Tensor, factor: int, kernel: Kernel = keys) -> Tensor:
    """Interpolate the last two axes; border pixels repeat beyond the border.

    Args:
        image: (..., H, W), floating.
        factor: s.
        kernel: weights by distance; they are divided by their sum.

    Returns:
        (..., s H, s W); every s-th pixel from the first is the image's own, to rounding.
    """
    rows = _weights(image.shape[-2], factor, kernel).to(image.dtype)
    columns = _weights(image.shape[-1], factor, kernel).to(image.dtype)
    return rows @ image @ columns.T


def _weights(length: int, factor: int, kernel: Kernel) -> Tensor:
    """The matrix (s n, n) of one axis."""
    reach = 3
    at = torch.arange(length * factor, dtype=torch.float64) / factor
    taps = at.floor().long()[:, None] + torch.arange(-reach + 1, reach + 1)
    weights = kernel(at[:, None] - taps)
    weights /= weights.sum(1, keepdim=True)
    matrix = torch.zeros(length * factor, length, dtype=torch.float64)
    return matrix.scatter_add_(1, taps.clamp(0, length - 1), weights)


def gaussian(image: Tensor, sigma: float) -> Tensor:
    """Blur an image (H, W) with a Gaussian, cut at four pixels; border pixels repeat beyond the border."""
    reach = 4
    offsets = torch.arange(-reach, reach + 1, dtype=image.dtype)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    padded = torch.nn.functional.pad(image[None, None], (reach,) * 4, mode="replicate")
    rows = torch.nn.functional.conv2d(padded, weights.view(1, 1, -1, 1))
    return torch.nn.functional.conv2d(rows, weights.view(1, 1, 1, -1))[0, 0]
