"""Rounding of what the engines store."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro_engine.precision import Precision


def stored(x: Tensor, precision: Precision) -> Tensor:
    """The values of a float32 tensor as they are stored, in float32; float64 is left as it is.

    Args:
        x: any shape.
        precision: the number format.

    Returns:
        A tensor of the same shape; `x` itself where nothing is rounded.
    """
    x = x.detach()
    if x.dtype == torch.float64 or precision.storage == torch.float32:
        return x
    return x.to(precision.storage).to(torch.float32)
