"""Data-dependent gains: each layer fires at a chosen rate on one batch.

A spike train of rate r has second moment r, so with unit-norm weights each layer's input spread shrinks by sqrt(r), and
a deep network with gains chosen blindly is silent. Calibrated once, on the initial global model, all workers start
from the same gains.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from neuro_engine.engines.storage import widened
from neuro_engine.layers import SpikingLayer, engine_layers
from neuro_engine.network import SpikingNetwork

_LOWEST_GAIN, _HIGHEST_GAIN = 1e-2, 1e3
_HALVINGS = 20


@torch.no_grad()
def calibrate(model: nn.Module, batch: Tensor, target_rate: float = 0.1) -> dict[str, float]:
    """Set the gain of each spiking layer by bisection so that it fires at `target_rate` on `batch`.

    The model runs once; each spiking layer that it reaches is calibrated on the input it gets, before it goes on. What
    counts as gain depends on the layer's norm (`SpikingLayer.calibrated`); a frozen layer is left as it is.

    Args:
        model: any module with spiking layers, nested or not, in the mode in which it is to be calibrated. Only their
            gains change, and in training mode the running statistics of batch norms.
        batch: input (T, B, ...).
        target_rate: wanted fraction of neuron-steps that fire, 0..1.

    Returns:
        The rate reached, by layer, in the order in which they ran: a layer whose input is silent stays at 0.0.

    Raises:
        ValueError: if `target_rate` is not between 0 and 1.
    """
    if not 0.0 < target_rate < 1.0:
        raise ValueError(f"expected a target rate between 0 and 1, got {target_rate!r}")
    layers = model.engine_layers() if isinstance(model, SpikingNetwork) else engine_layers(model)
    names = {layer: name for name, layer in layers}
    rates: dict[str, float] = {}

    def reached(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(layer, SpikingLayer) and names[layer] not in rates:
            rates[names[layer]] = _fit_gain(layer, inputs[0], target_rate)

    with ExitStack() as hooks:
        for layer in names:
            hooks.callback(layer.register_forward_pre_hook(reached).remove)
        model(batch)
    return rates


def _fit_gain(layer: SpikingLayer, x: Tensor, target_rate: float) -> float:
    """Calibrate one layer; calls its `forward` itself, so that no hook runs."""
    calibrated = layer.calibrated()
    if calibrated is None:
        return _rate(layer, x)
    parameter, at_one = calibrated
    low, high = _LOWEST_GAIN, _HIGHEST_GAIN
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        parameter.copy_(at_one * middle)
        rate = _rate(layer, x)
        low, high = (low, middle) if rate > target_rate else (middle, high)
    return rate


def _rate(layer: SpikingLayer, x: Tensor) -> float:
    return widened(layer.forward(x)).mean().item()
