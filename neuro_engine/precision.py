"""Number formats of the engines.

In `fp16` everything that an engine hands over or stores is rounded to IEEE binary16, to nearest even: weights, input,
membrane, spikes, gradient. Products of two binary16 numbers are exact in binary32, in which the engines accumulate;
weight gradients, master weights and moments stay binary32. Tensors between layers then are torch.float16: their type
is their rounding. Gradients need a loss scale (`loss_scaler`), or small ones underflow to zero and would be counted as
sparsity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


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


def loss_scaler(precision: Precision) -> torch.amp.GradScaler:
    """Torch's dynamic loss scaling (Micikevicius et al. 2018), switched off where gradients are not binary16.

    After a step whose gradients overflow, which is left out, the scale is halved; after 200 good steps in a row it is
    doubled. It is a power of two, so that scaling itself rounds nothing. It begins low enough that the short rounds of
    a federation lose no step to finding it.
    """
    enabled = precision.storage == torch.float16
    return torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=200, enabled=enabled)
