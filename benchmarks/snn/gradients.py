"""The engines' gradients against plain autograd in float64, layer by layer on equal inputs.

Every layer of a calibrated net gets the spikes that it gets in the net, and a gradient drawn at random. The reference
takes the spikes that the engine put out: where a membrane comes to lie within rounding of the threshold, the two would
otherwise follow different trajectories, and a deep net different ones after a few layers, which is no error of the
gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.snn.nets import Net, batch
from benchmarks.snn.ours import OurTrainer, Variant
from neuro_engine.layers import EngineLayer
from neuro_engine.synapse import ConvSynapse

_EPSILON = 1e-5


class _Spike(torch.autograd.Function):
    """Given spikes forward; the triangle of a width backward."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, spikes: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.width = width
        return spikes

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (distance,) = ctx.saved_tensors
        return grad * (ctx.width - distance.abs()).clamp_min(0) / ctx.width**2, None, None


def _standardised(weight: Tensor, gain: Tensor) -> Tensor:
    rows = weight.flatten(1)
    centred = rows - rows.mean(1, keepdim=True)
    scale = torch.rsqrt(centred.square().sum(1, keepdim=True) + _EPSILON)
    return (centred * scale * gain[:, None]).view_as(weight)


def _current(layer: EngineLayer, p: Mapping[str, Tensor], x: Tensor) -> Tensor:
    weight = _standardised(p["weight"], p["gain"]) if "gain" in p else p["weight"]
    if isinstance(layer.synapse, ConvSynapse):
        current = F.conv2d(x, weight, p.get("bias"), layer.synapse.stride, layer.synapse.padding)
    else:
        current = F.linear(x, weight, p.get("bias"))
    if "norm.weight" not in p:
        return current
    return F.batch_norm(current, None, None, p["norm.weight"], p["norm.bias"], training=True, eps=_EPSILON)


def reference(layer: EngineLayer, p: Mapping[str, Tensor], x: Tensor, spikes: Tensor) -> Tensor:
    """What a layer computes, in operations that autograd differentiates.

    Args:
        layer: a layer with a hard, detached reset, or a readout.
        p: its parameters in float64.
        x: input (T, B, ...) in float64.
        spikes: the engine's output, taken as the neurons' spikes; unused by a readout.

    Returns:
        Spikes (T, B, ...), or the readout's mean membrane (B, ...).
    """
    neuron = layer.neuron
    currents = _current(layer, p, x.flatten(0, 1)).unflatten(0, x.shape[:2])
    v, outputs = torch.zeros_like(currents[0]), []
    for t, current in enumerate(currents):
        h = neuron.leak * v + neuron.gain * current
        if layer.surrogate is None:
            v = h
            outputs.append(h)
            continue
        assert (layer.surrogate.name, neuron.reset, neuron.detach_reset) == ("triangle", "hard", True)
        spike = _Spike.apply(h - neuron.threshold, spikes[t], layer.surrogate.scale)  # type: ignore[no-untyped-call]
        outputs.append(spike)
        v = h * (1 - spikes[t])
    output = torch.stack(outputs)
    return output.mean(0) if layer.surrogate is None else output


def _gradients(output: Tensor, grad: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(output, list(leaves.values()), grad.to(output.dtype))
    return dict(zip(leaves, found, strict=True))


def layer_errors(layer: EngineLayer, x: Tensor, *, of_input: bool = True) -> dict[str, float]:
    """Relative error of each gradient of a layer: the norm of the difference over the norm of the reference.

    Args:
        layer: the layer.
        x: its input (T, B, ...).
        of_input: False where the layer's input is data, which needs no gradient.
    """
    x = x.detach().requires_grad_(of_input)
    inputs = {"input": x} if of_input else {}
    output = layer(x)
    # Values of binary16, so that the gradient too is equal for both.
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).half()
    actual = _gradients(output, grad, {**inputs, **dict(layer.named_parameters())})
    exact = {name: p.detach().double().requires_grad_() for name, p in layer.named_parameters()}
    exact_x = x.detach().double().requires_grad_(of_input)
    expected = _gradients(
        reference(layer, exact, exact_x, output.detach().double()),
        grad,
        {**({"input": exact_x} if of_input else {}), **exact},
    )
    return {name: _relative(actual[name], expected[name]) for name in expected}


def _relative(actual: Tensor, expected: Tensor) -> float:
    norm = float(expected.norm())
    return float((actual.double() - expected).norm()) / norm if norm else math.inf


def worst_error(net: Net, variant: Variant) -> tuple[float, str]:
    """The greatest error of a net's layers, and where it is."""
    torch.manual_seed(0)
    x, _ = batch(net)
    model = OurTrainer(variant, net, x).model
    seen: dict[str, Tensor] = {}
    layers = dict(model.engine_layers())
    for name, layer in layers.items():

        def keep(_layer: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
            seen[name] = inputs[0].detach()

        layer.register_forward_pre_hook(keep)
    with torch.no_grad():
        model(x)
    found = []
    for n, (name, layer) in enumerate(layers.items()):
        layer._forward_pre_hooks.clear()
        errors = layer_errors(layer, seen[name], of_input=n > 0)
        found += [(error, f"{name}: {what}") for what, error in errors.items()]
    return max(found)
