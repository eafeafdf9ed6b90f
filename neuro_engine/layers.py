"""Layers for building networks: ordinary torch modules, time-major (T, B, ...), whose work is done by the engines.

Weights are standardised by default: mean 0 and unit norm over the fan-in, times a learned gain per output channel.
Unlike batch normalisation this leaves zeros of the back-propagated gradient zero, and has no statistics to reconcile
between federated workers. The gains need `neuro_engine.calibration.calibrate` once: with gains chosen blindly, deep
networks are silent.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuro_engine.engines.forward import LayerSpec
from neuro_engine.engines.function import run_layer
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate, triangle
from neuro_engine.synapse import ConvSynapse, LinearSynapse, Synapse
from neuro_engine.trace import Trace

_WEIGHT_STD = 0.05
"""Spread of fresh standardised weights. Their scale drops out of the forward pass, so the effective learning rate is
lr / norm^2: with N(0, 1) learning is far slower than with N(0, 0.05)."""
_EPSILON = 1e-5


def standardise(weight: Tensor, gain: Tensor) -> Tensor:
    """Weights with mean 0 and unit norm over the fan-in, times `gain`.

    Weight standardisation of Qiao et al. 2019, scaled by the fan-in as by Brock et al. 2021.

    Args:
        weight: (O, ...), at least two-dimensional.
        gain: (O,).

    Returns:
        (O, ...).
    """
    fan_in = tuple(range(1, weight.dim()))
    variance, mean = torch.var_mean(weight, fan_in, keepdim=True, correction=0)
    scale = torch.rsqrt(variance * weight[0].numel() + _EPSILON)
    return (weight - mean) * (scale * gain.view(-1, *(1 for _ in fan_in)))


class EngineLayer(nn.Module):
    """A layer that runs on the engines. Networks give it its name and, while recording, a trace."""

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__
        self.trace: Trace | None = None


class SpikingLayer(EngineLayer):
    """Synapse with standardised weights, then LIF neurons. `state_dict`: `weight`, `gain`, `bias`.

    Args:
        weight_shape: shape of the weights (O, ...).
        synapse: the linear map.
        neuron: the neuron's parameters.
        surrogate: derivative of the spike.
        analog_input: True where the input is values rather than spikes (the first layer of a network).
    """

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        synapse: Synapse,
        neuron: LIF,
        surrogate: Surrogate,
        analog_input: bool,
    ) -> None:
        super().__init__()
        self.synapse, self.neuron, self.surrogate = synapse, neuron, surrogate
        self.analog_input = analog_input
        self.weight = nn.Parameter(torch.randn(weight_shape) * _WEIGHT_STD)
        self.gain = nn.Parameter(torch.ones(weight_shape[0]))
        self.bias = nn.Parameter(torch.zeros(weight_shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, ...) to spikes (T, B, ...)."""
        spec = LayerSpec(self.name, self.synapse, self.neuron, self.surrogate, self.analog_input, self.trace)
        return run_layer(x, standardise(self.weight, self.gain), self.bias, spec)


class SpikingConv2d(SpikingLayer):
    """Spiking convolution: (T, B, C, H, W) to spikes (T, B, C', H', W').

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: side of the square kernel.
        stride: step of the kernel.
        padding: zeros added at each border.
        neuron: the neuron's parameters.
        surrogate: derivative of the spike.
        analog_input: True where the input is values rather than spikes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        neuron: LIF | None = None,
        surrogate: Surrogate | None = None,
        analog_input: bool = False,
    ) -> None:
        super().__init__(
            (out_channels, in_channels, kernel_size, kernel_size),
            ConvSynapse(stride, padding),
            neuron or LIF(),
            surrogate or triangle(),
            analog_input,
        )


class SpikingLinear(SpikingLayer):
    """Spiking full connection: (T, B, I) to spikes (T, B, O).

    Args:
        in_features: I.
        out_features: O.
        neuron: the neuron's parameters.
        surrogate: derivative of the spike.
        analog_input: True where the input is values rather than spikes.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        neuron: LIF | None = None,
        surrogate: Surrogate | None = None,
        analog_input: bool = False,
    ) -> None:
        super().__init__(
            (out_features, in_features),
            LinearSynapse(),
            neuron or LIF(),
            surrogate or triangle(),
            analog_input,
        )


class Readout(EngineLayer):
    """Leaky integrators that never fire, averaged over time: (T, B, I) to (B, O). `state_dict`: `weight`, `bias`.

    Args:
        in_features: I.
        out_features: O.
        leak: factor on the membrane from step to step; 0.0 has no memory.
    """

    def __init__(self, in_features: int, out_features: int, *, leak: float = 0.5) -> None:
        super().__init__()
        self.synapse, self.neuron = LinearSynapse(), LIF(leak=leak, reset="none")
        bound = 1.0 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T, B, I) to the mean membrane (B, O)."""
        spec = LayerSpec(self.name, self.synapse, self.neuron, None, trace=self.trace)
        return run_layer(x, self.weight, self.bias, spec).mean(0)


class MaxPool2d(nn.Module):
    """Maximum over square windows, which for spikes is an OR: (T, B, C, H, W) to (T, B, C, H/k, W/k)."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Pool each time step."""
        pooled = F.max_pool2d(x.flatten(0, 1), self.kernel_size)
        return pooled.view(*x.shape[:2], *pooled.shape[1:])


class Flatten(nn.Module):
    """All features in one axis: (T, B, ...) to (T, B, F)."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten all but time and batch."""
        return x.flatten(2)
