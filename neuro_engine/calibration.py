"""Data-dependent gains: each layer fires at a chosen rate on one batch.

A spike train of rate r has second moment r, so with unit-norm weights each layer's input spread shrinks by sqrt(r), and
a deep network with gains chosen blindly is silent. Calibrated once, on the initial global model, all workers start
from the same gains.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuro_engine.layers import SpikingLayer
from neuro_engine.network import SpikingNetwork

_LOWEST_GAIN, _HIGHEST_GAIN = 1e-2, 1e3
_HALVINGS = 20


@torch.no_grad()
def calibrate(network: SpikingNetwork, batch: Tensor, target_rate: float = 0.1) -> dict[str, float]:
    """Set the gain of each spiking layer by bisection, layers in order, so that it fires at `target_rate` on `batch`.

    Args:
        network: the network; only the gains of its spiking layers change.
        batch: input (T, B, ...).
        target_rate: wanted fraction of neuron-steps that fire, 0..1.

    Returns:
        The rate reached, by layer: a layer whose input is silent stays at 0.0.

    Raises:
        ValueError: if `target_rate` is not between 0 and 1.
    """
    if not 0.0 < target_rate < 1.0:
        raise ValueError(f"expected a target rate between 0 and 1, got {target_rate!r}")
    rates: dict[str, float] = {}
    x = batch
    for name, layer in network.layers.items():
        if isinstance(layer, SpikingLayer):
            x, rates[name] = _fit_gain(layer, x, target_rate)
        else:
            x = layer(x)
    return rates


def _fit_gain(layer: SpikingLayer, x: Tensor, target_rate: float) -> tuple[Tensor, float]:
    low, high = _LOWEST_GAIN, _HIGHEST_GAIN
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        layer.gain.fill_(middle)
        spikes: Tensor = layer(x)
        rate = spikes.mean().item()
        low, high = (low, middle) if rate > target_rate else (middle, high)
    return spikes, rate
