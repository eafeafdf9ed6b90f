"""Regularisation: holding the firing rate where events pay.

The chip's energy and time grow with the spikes, so a layer that fires more than the target pays; one that fires less
does not.

    with collect_spikes(network) as spikes:
        output = network(x)
    loss = F.cross_entropy(output, y) + rate_penalty(spikes, target=0.1, weight=1.0)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neuro_engine.layers import SpikingLayer


class _FiringRate(torch.autograd.Function):
    """Counting neither widens 16-bit spikes nor overflows, and the gradient is one number, expanded."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor) -> Tensor:
        ctx.shape, ctx.dtype = spikes.shape, spikes.dtype
        rate = torch.count_nonzero(spikes).to(torch.float64) / spikes.numel()
        return rate.to(torch.promote_types(spikes.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        share: Tensor = (grad / ctx.shape.numel()).to(ctx.dtype)
        return share.expand(ctx.shape)


def firing_rate(spikes: Tensor) -> Tensor:
    """Fraction of neuron-steps that fired, differentiable as the mean of the spikes.

    Args:
        spikes: 0.0 or 1.0 (T, B, ...), not empty.

    Returns:
        One number, at least float32.

    Raises:
        ValueError: if there are no neuron-steps.
    """
    if spikes.numel() == 0:
        raise ValueError(f"expected spikes (T, B, ...), got none: {tuple(spikes.shape)}")
    rate: Tensor = _FiringRate.apply(spikes)  # type: ignore[no-untyped-call]
    return rate


def rate_penalty(spikes: Iterable[Tensor], target: float, weight: float = 1.0) -> Tensor:
    """Mean over the layers of max(0, rate - target)^2, times the weight.

    The rate is that of a whole layer: its neurons may share the target out as the task wants.

    Args:
        spikes: those of each layer, 0.0 or 1.0 (T, B, ...).
        target: fraction of neuron-steps that may fire at no cost, 0..1.
        weight: factor, at least 0.

    Returns:
        One number to add to the loss; its gradient flows through the spikes.

    Raises:
        ValueError: if there are no spikes, or target or weight is out of range.
    """
    if not 0.0 <= target <= 1.0:
        raise ValueError(f"expected a target rate of 0..1, got {target!r}")
    if not weight >= 0.0:
        raise ValueError(f"expected a weight of at least 0, got {weight!r}")
    rates = [firing_rate(s) for s in spikes]
    if not rates:
        raise ValueError("expected the spikes of at least one layer, got none")
    return weight * torch.stack([(rate - target).relu().square() for rate in rates]).mean()


@contextmanager
def collect_spikes(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the spiking layers inside `module` put out while the block runs.

    Args:
        module: a network, or a layer.

    Yields:
        The spikes (T, B, ...) of each call of each spiking layer, in the order of the calls.
    """
    spikes: list[Tensor] = []

    def keep(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
        spikes.append(output)

    hooks = [m.register_forward_hook(keep) for m in module.modules() if isinstance(m, SpikingLayer)]
    try:
        yield spikes
    finally:
        for hook in hooks:
            hook.remove()
