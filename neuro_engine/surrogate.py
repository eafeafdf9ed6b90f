"""Surrogate derivatives of the spike: what BP uses in place of the derivative of a step.

With x = h - threshold, each is a bump around 0, of unit area but for the fast sigmoid. Rectangle and triangle are
exactly zero outside their width, which is what lets BP and WG skip work; the others never are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def _rectangle(x: Tensor, scale: float) -> Tensor:
    return (x.abs() < 0.5 / scale).to(x.dtype).mul_(scale)


def _triangle(x: Tensor, scale: float) -> Tensor:
    return x.abs().neg_().add_(scale).clamp_(min=0.0).mul_(1.0 / scale**2)


def _sigmoid(x: Tensor, scale: float) -> Tensor:
    s = torch.sigmoid(x.abs().mul_(-scale))  # on the other side 1 - s cancels to 0
    return scale * s * (1 - s)


def _atan(x: Tensor, scale: float) -> Tensor:
    return (x * (math.pi / 2 * scale)).square_().add_(1.0).reciprocal_().mul_(scale / 2)


def _fast_sigmoid(x: Tensor, scale: float) -> Tensor:
    return x.abs().mul_(scale).add_(1.0).square_().reciprocal_()


_DERIVATIVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "rectangle": _rectangle,
    "triangle": _triangle,
    "sigmoid": _sigmoid,
    "atan": _atan,
    "fast_sigmoid": _fast_sigmoid,
}


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A family of surrogate derivatives and its one parameter.

    Attributes:
        name: `rectangle`, `triangle`, `sigmoid`, `atan` or `fast_sigmoid`.
        scale: the family's parameter; see the functions of those names.
    """

    name: str
    scale: float

    def __post_init__(self) -> None:
        if self.name not in _DERIVATIVES:
            raise ValueError(f"expected a surrogate of {sorted(_DERIVATIVES)}, got {self.name!r}")
        if self.scale <= 0:
            raise ValueError(f"expected a positive scale for {self.name}, got {self.scale!r}")

    def derivative(self, x: Tensor) -> Tensor:
        """The surrogate derivative at x = h - threshold; same shape and type as `x`, computed in at least float32."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return _DERIVATIVES[self.name](wide, self.scale).to(x.dtype)


def rectangle(height: float = 1.0) -> Surrogate:
    """`height` where |x| < 1 / (2 height), else exactly 0 (Wu et al. 2018, STBP)."""
    return Surrogate("rectangle", height)


def triangle(width: float = 1.0) -> Surrogate:
    """max(0, width - |x|) / width^2: exactly 0 beyond `width` (Bellec et al. 2018)."""
    return Surrogate("triangle", width)


def sigmoid(slope: float = 4.0) -> Surrogate:
    """Derivative of the logistic function of slope `slope`."""
    return Surrogate("sigmoid", slope)


def atan(slope: float = 2.0) -> Surrogate:
    """(slope/2) / (1 + (pi/2 slope x)^2), SpikingJelly's default family (Fang et al. 2021)."""
    return Surrogate("atan", slope)


def fast_sigmoid(slope: float = 25.0) -> Surrogate:
    """1 / (1 + slope |x|)^2, snnTorch's family (Zenke and Ganguli 2018): as there its height is 1, its area 2 / slope.

    snnTorch's default surrogate is another: `atan()` of the same slope 2.
    """
    return Surrogate("fast_sigmoid", slope)
