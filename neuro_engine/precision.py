"""Number formats of the engines.

In `fp16` everything that an engine hands over or stores is rounded to IEEE binary16, to nearest even: weights, input,
membrane, spikes, gradient. Products of two binary16 numbers are exact in binary32, in which the engines accumulate;
weight gradients, master weights and moments stay binary32. Tensors between layers then are torch.float16: their type
is their rounding. Gradients need a loss scale (`LossScaler`), or small ones underflow to zero and would be counted as
sparsity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Precision:
    """A number format.

    Attributes:
        name: how settings call it.
        storage: type of what is stored between engines.
        dense: type in which the host multiplies where it does not follow events.
        stochastic: True where weights and gradients are rounded up or down with the probability of the remainder.
    """

    name: str
    storage: torch.dtype
    dense: torch.dtype = torch.float32
    stochastic: bool = False


FP16 = Precision("fp16", torch.float16)
"""The chip's own numbers."""
FP16_STOCHASTIC = Precision("fp16-stochastic", torch.float16, stochastic=True)
"""As FP16, with weights and gradients rounded stochastically; membranes are rounded to nearest."""
FP32 = Precision("fp32", torch.float32)
"""No rounding."""
BF16 = Precision("bf16", torch.float32, dense=torch.bfloat16)
"""FP32, but dense products are bfloat16: fast on hosts that have it, and approximate: not what the chip computes."""
PRECISIONS = {p.name: p for p in (FP16, FP16_STOCHASTIC, FP32, BF16)}


def precision(name: str) -> Precision:
    """A number format by name.

    Raises:
        ValueError: if there is none of that name.
    """
    try:
        return PRECISIONS[name]
    except KeyError:
        raise ValueError(f"expected a precision of {sorted(PRECISIONS)}, got {name!r}") from None


class LossScaler:
    """Dynamic loss scaling (Micikevicius et al. 2018): gradients are computed for `scale` times the loss.

    After a step whose gradients overflow, which is to be left out, the scale is halved; after `interval` good steps in
    a row it is doubled. It is a power of two, so that scaling itself rounds nothing.

    Args:
        scale: the first scale.
        interval: good steps before it is doubled.
    """

    LOWEST, HIGHEST = 1.0, 2.0**24

    def __init__(self, scale: float = 2.0**12, interval: int = 200) -> None:
        self.scale, self.interval = scale, interval
        self._good = 0

    def unscale(self, parameters: Iterable[Tensor]) -> bool:
        """Divide the gradients by the scale, in place, and adapt the scale.

        Args:
            parameters: whose gradients.

        Returns:
            True if all gradients are finite; otherwise the step must be left out.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return True
        torch._foreach_mul_(gradients, 1.0 / self.scale)
        finite = all(bool(torch.isfinite(norm)) for norm in torch._foreach_norm(gradients, float("inf")))
        if not finite:
            self.scale, self._good = max(self.scale / 2, self.LOWEST), 0
            return False
        self._good += 1
        if self._good >= self.interval:
            self.scale, self._good = min(self.scale * 2, self.HIGHEST), 0
        return True
