"""What stands between a layer's parameters and its current: normalisation of the weights, of the current, or none.

| name | weights W', bias b' | current |
|---|---|---|
| "weight" | (W - mean) / norm over the fan-in, times `gain`; `bias` | W' x + b' |
| "batch" | W; none | gamma (I - mean) / std + beta over T, B, H, W; I = W x |
| "threshold" | W; none | as "batch", the quotient times alpha threshold |
| "affine" | W times `scale`; `shift` | W' x + b' |
| "none" | W; `bias` | W' x + b' |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neuro_engine.engines.forward import LayerSpec
from neuro_engine.engines.function import run_neuron, run_synapse
from neuro_engine.engines.normalised import can_run, run_normalised_layer
from neuro_engine.kernels import native, reference
from neuro_engine.neuron import LIF
from neuro_engine.trace import batch_norm_passes

_WEIGHT_STD = 0.05
"""Spread of fresh standardised weights. Their scale drops out of the forward pass, so the effective learning rate is
lr / norm^2: with N(0, 1) learning is far slower than with N(0, 0.05)."""
_EPSILON = 1e-5


class _Standardise(torch.autograd.Function):
    """y = gain (w - m) r with r = (|w - m|^2 + eps)^-1/2, row by row.

    With u = (w - m) r and p = G . u: dL/dgain = p and dL/dw = gain r (G - mean G - p u).
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, gain: Tensor) -> Tensor:
        run = native.standardise if _on_kernels(weight) else reference.standardise
        y, mean, r = run(weight, gain, _EPSILON)
        ctx.save_for_backward(weight, gain, mean, r)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, gain, mean, r = ctx.saved_tensors
        run = native.standardise_backward if _on_kernels(weight) else reference.standardise_backward
        return run(grad, weight, gain, mean, r)


def _on_kernels(weight: Tensor) -> bool:
    return native.library() is not None and weight.dtype == torch.float32 and weight.device.type == "cpu"


def standardise(weight: Tensor, gain: Tensor) -> Tensor:
    """Weights with mean 0 and unit norm over the fan-in, times `gain`.

    Weight standardisation of Qiao et al. 2019, scaled by the fan-in as by Brock et al. 2021.

    Args:
        weight: (O, ...), at least two-dimensional.
        gain: (O,).

    Returns:
        (O, ...).
    """
    rows: Tensor = _Standardise.apply(weight.flatten(1).contiguous(), gain)  # type: ignore[no-untyped-call]
    return rows.view(weight.shape)


class Norm(nn.Module):
    """Plain weights and a bias; base of the others. Norms see weights as rows (O, fan-in).

    Attributes:
        has_gain: True where the layer has a `gain` for each output channel.
        has_bias: True where the layer has a `bias` for each output channel.
        on_current: True where `forward` maps the current, which the engines then hand over.
    """

    has_gain: ClassVar[bool] = False
    has_bias: ClassVar[bool] = True
    on_current: ClassVar[bool] = False

    def fresh(self, weight_shape: tuple[int, ...], fan_in: int) -> Tensor:
        """Random weights to begin with: uniform within 1 / sqrt(fan_in), as torch's own layers."""
        bound = 1.0 / math.sqrt(fan_in)
        return torch.empty(weight_shape).uniform_(-bound, bound)

    def synapse(self, rows: Tensor, gain: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The weights (O, fan-in) and the bias (O,) that the synapse takes."""
        return rows, bias

    def forward(self, current: Tensor) -> Tensor:
        """The current (T, B, O, ...) that the neuron takes."""
        return current

    def fire(self, x: Tensor, weight: Tensor, spec: LayerSpec, leak: Tensor | None) -> Tensor:
        """Input (T, B, ...) to spikes, of a layer whose current is normalised."""
        return run_neuron(self(run_synapse(x, weight, None, spec)), spec, leak)


class WeightNorm(Norm):
    """Weight standardisation with a learned gain, see `standardise`."""

    has_gain = True

    def fresh(self, weight_shape: tuple[int, ...], fan_in: int) -> Tensor:
        """Normal weights; their scale matters for the learning rate alone."""
        return torch.randn(weight_shape) * _WEIGHT_STD

    def synapse(self, rows: Tensor, gain: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See `Norm`."""
        assert gain is not None
        return standardise(rows, gain), bias


class FrozenAffine(Norm):
    """A fixed factor and summand for each output channel, as batch normalisation folded for deployment.

    `state_dict`: the buffers `scale` and `shift`.

    Args:
        channels: output channels O.
    """

    has_bias = False
    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("shift", torch.zeros(channels))

    def synapse(self, rows: Tensor, gain: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See `Norm`."""
        return rows * self.scale.unsqueeze(1), self.shift


class BatchNorm(Norm):
    """Batch normalisation of the current over time, batch and positions (Ioffe and Szegedy 2015).

    `state_dict`: `weight` (gamma), `bias` (beta), and the buffers `running_mean` and `running_var`.

    Args:
        channels: output channels O.
        factor: what the normalised current is multiplied by before gamma. Threshold-dependent batch normalisation
            (Zheng et al. 2021) has alpha times the threshold; alpha is 1, or 1 / sqrt(n) where n branches are added.
        momentum: weight of a batch in the running statistics.
    """

    has_bias, on_current = False, True
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, factor: float = 1.0, momentum: float = 0.1) -> None:
        super().__init__()
        self.factor, self.momentum = factor, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, current: Tensor) -> Tensor:
        """Normalise by the statistics of the batch in training, by the running ones otherwise."""
        steps = current.shape[0]
        constant = steps > 1 and current.stride(0) == 0  # the same at all steps: one has all the statistics
        folded = (current[:1] if constant else current).flatten(0, 1)
        if self.training and folded[:, 0].numel() < 2:
            raise ValueError(f"expected more than one value per channel in training, got {tuple(current.shape)}")
        normal = F.batch_norm(
            folded,
            self.running_mean,
            self.running_var,
            self.weight * self.factor,
            self.bias,
            self.training,
            self.momentum,
            _EPSILON,
        )
        return normal.view(-1, *current.shape[1:]).expand(current.shape)

    def fire(self, x: Tensor, weight: Tensor, spec: LayerSpec, leak: Tensor | None) -> Tensor:
        """As `Norm.fire`, in one pass in training where there are kernels for it."""
        if self.training and spec.trace is not None:
            steps = 1 if x.stride(0) == 0 else x.shape[0]
            shape = spec.synapse.output_shape(torch.Size((steps * x.shape[1], *x.shape[2:])), weight.shape)
            for engine, count in batch_norm_passes(shape.numel()).items():
                spec.trace.record(spec.name, engine, count)
        if not self.training or leak is not None or not can_run(x, weight, spec):
            return super().fire(x, weight, spec, leak)
        spikes, mean, variance = run_normalised_layer(x, weight, self.weight * self.factor, self.bias, _EPSILON, spec)
        values = spikes[0, :, 0].numel() * (1 if x.stride(0) == 0 else x.shape[0])
        if values < 2:
            raise ValueError(f"expected more than one value per channel in training, got {tuple(spikes.shape)}")
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (values / (values - 1)), self.momentum)
        return spikes

    @torch.no_grad()
    def frozen(self) -> FrozenAffine:
        """The fixed map that this norm is in evaluation."""
        affine = FrozenAffine(len(self.weight)).to(self.weight)
        affine.scale.copy_(self.weight * self.factor * torch.rsqrt(self.running_var + _EPSILON))
        affine.shift.copy_(self.bias - self.running_mean * affine.scale)
        return affine


NormName = Literal["weight", "batch", "threshold", "affine", "none"]
NormFactory = Callable[[int, LIF], Norm]
"""Makes the norm of a layer from its output channels and its neuron."""

_NORMS: dict[str, NormFactory] = {
    "weight": lambda channels, neuron: WeightNorm(),
    "batch": lambda channels, neuron: BatchNorm(channels),
    "threshold": lambda channels, neuron: BatchNorm(channels, neuron.threshold),
    "affine": lambda channels, neuron: FrozenAffine(channels),
    "none": lambda channels, neuron: Norm(),
}


def make_norm(norm: NormName | NormFactory, channels: int, neuron: LIF) -> Norm:
    """The norm of a layer.

    Args:
        norm: its name, or a function that makes it.
        channels: output channels of the layer.
        neuron: the layer's neuron.

    Raises:
        ValueError: if there is none of that name.
    """
    if not isinstance(norm, str):
        return norm(channels, neuron)
    if norm not in _NORMS:
        raise ValueError(f"expected a norm of {sorted(_NORMS)}, got {norm!r}")
    return _NORMS[norm](channels, neuron)
