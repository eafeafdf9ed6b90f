"""Synapse, norm and neuron in one layer, and the readout."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neuro_engine.engines.function import run_layer, run_synapse
from neuro_engine.layers.base import EngineLayer, check_input
from neuro_engine.layers.norms import BatchNorm, NormFactory, NormName, make_norm
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate, triangle
from neuro_engine.synapse import ConvSynapse, ConvTransposeSynapse, LinearSynapse, Synapse


class SpikingLayer(EngineLayer):
    """Synapse, norm, then LIF neurons.

    `state_dict`: `weight`, then as the norm has them `gain`, `bias` and `norm.*`, and `leak_logit` of a learned leak.

    Args:
        weight_shape: shape of the weights.
        out_channels: output channels O.
        synapse: the linear map.
        features: axes of the input beyond time and batch; a name stands for any size.
        norm: name or maker of the normalisation, see `neuro_engine.layers.norms`.
        neuron: the neuron's parameters; None for `LIF()`.
        surrogate: derivative of the spike; None for a triangle.
        analog_input: True where the input is values rather than spikes (the first layer of a network).
    """

    gain: nn.Parameter | None
    bias: nn.Parameter | None
    leak_logit: nn.Parameter | None

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        out_channels: int,
        synapse: Synapse,
        features: tuple[int | str, ...],
        *,
        norm: NormName | NormFactory,
        neuron: LIF | None,
        surrogate: Surrogate | None,
        analog_input: bool,
    ) -> None:
        neuron = neuron or LIF()
        super().__init__(synapse, neuron, surrogate or triangle(), analog_input)
        made = make_norm(norm, out_channels, neuron)
        self._features = features
        self.weight = nn.Parameter(made.fresh(weight_shape, math.prod(weight_shape) // out_channels))
        self.register_parameter("gain", nn.Parameter(torch.ones(out_channels)) if made.has_gain else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_channels)) if made.has_bias else None)
        self.norm = made
        logit = torch.logit(torch.tensor(neuron.leak)) if neuron.learn_leak else None
        self.register_parameter("leak_logit", None if logit is None else nn.Parameter(logit))

    @property
    def leak(self) -> Tensor | None:
        """The learned leak, between 0 and 1; None where it is fixed."""
        return None if self.leak_logit is None else torch.sigmoid(self.leak_logit)

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, ...) to spikes (T, B, ...).

        Raises:
            ValueError: if the input has another shape than the layer wants.
        """
        self._check(x)
        if self.norm.on_current:
            return self.norm.fire(x, self.synapse_weights()[0], self.spec, self.leak)
        return run_layer(x, *self.synapse_weights(), self.spec, self.leak)

    def current(self, x: Tensor) -> Tensor:
        """Input (T, B, ...) to the current that the neurons take (T, B, ...)."""
        self._check(x)
        return self.norm(run_synapse(x, *self.synapse_weights(), self.spec))  # type: ignore[no-any-return]

    def synapse_weights(self) -> tuple[Tensor, Tensor | None]:
        """The weights and the bias (O,) that the synapse takes, after the norm."""
        rows, bias = self.norm.synapse(self.synapse.by_output(self.weight), self.gain, self.bias)
        return self.synapse.from_rows(rows, self.weight.shape), bias

    def fold_norm(self) -> None:
        """Replace batch normalisation by the fixed map that it is in evaluation, as for deployment.

        Raises:
            ValueError: if the layer's norm is not one by batch.
        """
        if not isinstance(self.norm, BatchNorm):
            raise ValueError(f"{self.name}: expected a layer with batch normalisation, got {type(self.norm).__name__}")
        self.norm = self.norm.frozen()

    def calibrated(self) -> tuple[nn.Parameter, Tensor] | None:
        """The parameter that sets how strongly the neurons are driven, and its value at gain 1; None where it is fixed.

        It is the gain, or gamma; without a norm it is the weights, which LSUV scales too (Mishkin and Matas 2016).
        """
        if self.gain is not None:
            return self.gain, torch.ones_like(self.gain)
        if isinstance(self.norm, BatchNorm):
            return self.norm.weight, torch.ones_like(self.norm.weight)
        return (self.weight, self.weight.detach().clone()) if self.norm.has_bias else None

    def _check(self, x: Tensor) -> None:
        check_input(self.name, x, *self._features)
        folded = torch.Size((x.shape[0] * x.shape[1], *x.shape[2:]))
        sides = self.synapse.output_shape(folded, self.weight.shape)[2:]
        if any(side < 1 for side in sides):
            raise ValueError(
                f"{self.name}: expected maps at least as large as the kernel {tuple(self.weight.shape[2:])}, "
                f"got {tuple(x.shape)}"
            )


def _check_groups(in_channels: int, out_channels: int, groups: int) -> None:
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(f"expected groups that divide {in_channels} and {out_channels} channels, got {groups}")


class SpikingConv2d(SpikingLayer):
    """Spiking convolution: (T, B, C, H, W) to spikes (T, B, C', H', W').

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: side of the square kernel.
        stride: step of the kernel.
        padding: zeros added at each border.
        groups: groups of channels with no connection between them; C makes the convolution depthwise.
        norm: "weight", "batch", "threshold", "affine", "none", or a function that makes the norm.
        neuron: the neuron's parameters.
        surrogate: derivative of the spike.
        analog_input: True where the input is values rather than spikes.

    Raises:
        ValueError: if the groups do not divide the channels, or the norm is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        groups: int = 1,
        norm: NormName | NormFactory = "weight",
        neuron: LIF | None = None,
        surrogate: Surrogate | None = None,
        analog_input: bool = False,
    ) -> None:
        _check_groups(in_channels, out_channels, groups)
        super().__init__(
            (out_channels, in_channels // groups, kernel_size, kernel_size),
            out_channels,
            ConvSynapse(stride, padding, groups),
            (in_channels, "H", "W"),
            norm=norm,
            neuron=neuron,
            surrogate=surrogate,
            analog_input=analog_input,
        )


class SpikingConvTranspose2d(SpikingLayer):
    """Spiking transposed convolution: (T, B, C, H, W) to spikes (T, B, C', H', W').

    H' = (H - 1) stride - 2 padding + kernel_size + output_padding. The weights are (C, C' / groups, k, k), as torch's.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: side of the square kernel.
        stride: step of the kernel in the output.
        padding: by how much the output is cut at each border.
        output_padding: rows and columns added at the lower and right border, fewer than the stride.
        groups: groups of channels with no connection between them.
        norm: "weight", "batch", "threshold", "affine", "none", or a function that makes the norm.
        neuron: the neuron's parameters.
        surrogate: derivative of the spike.
        analog_input: True where the input is values rather than spikes.

    Raises:
        ValueError: if the groups do not divide the channels, the output padding is not below the stride, or the norm
            is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        *,
        groups: int = 1,
        norm: NormName | NormFactory = "weight",
        neuron: LIF | None = None,
        surrogate: Surrogate | None = None,
        analog_input: bool = False,
    ) -> None:
        _check_groups(in_channels, out_channels, groups)
        if not 0 <= output_padding < stride:
            raise ValueError(f"expected an output padding from 0 and below the stride {stride}, got {output_padding}")
        super().__init__(
            (in_channels, out_channels // groups, kernel_size, kernel_size),
            out_channels,
            ConvTransposeSynapse(stride, padding, output_padding, groups),
            (in_channels, "H", "W"),
            norm=norm,
            neuron=neuron,
            surrogate=surrogate,
            analog_input=analog_input,
        )


class SpikingLinear(SpikingLayer):
    """Spiking full connection: (T, B, I) to spikes (T, B, O).

    Args:
        in_features: I.
        out_features: O.
        norm: "weight", "batch", "threshold", "affine", "none", or a function that makes the norm.
        neuron: the neuron's parameters.
        surrogate: derivative of the spike.
        analog_input: True where the input is values rather than spikes.

    Raises:
        ValueError: if the norm is unknown.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        norm: NormName | NormFactory = "weight",
        neuron: LIF | None = None,
        surrogate: Surrogate | None = None,
        analog_input: bool = False,
    ) -> None:
        super().__init__(
            (out_features, in_features),
            out_features,
            LinearSynapse(),
            (in_features,),
            norm=norm,
            neuron=neuron,
            surrogate=surrogate,
            analog_input=analog_input,
        )


class Readout(EngineLayer):
    """Leaky integrators that never fire, averaged over time: (T, B, I) to (B, O). `state_dict`: `weight`, `bias`.

    Args:
        in_features: I.
        out_features: O.
        leak: factor on the membrane from step to step; 0.0 has no memory.
        analog_input: True where the input is values rather than spikes.
    """

    def __init__(self, in_features: int, out_features: int, *, leak: float = 0.5, analog_input: bool = False) -> None:
        super().__init__(LinearSynapse(), LIF(leak=leak, reset="none"), None, analog_input)
        bound = 1.0 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T, B, I) to the mean membrane (B, O).

        Raises:
            ValueError: if the input has another shape than the layer wants.
        """
        check_input(self.name, x, self.weight.shape[1])
        return run_layer(x, self.weight, self.bias, self.spec).mean(0)
