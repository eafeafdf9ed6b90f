"""Networks of snnTorch and SpikingJelly as networks of this engine.

The modules are known by the names of their classes: neither library is imported. A synapse, the batch norm and the
pool that may come after it, and the neurons that follow become one layer under the synapse's name;
`docs/reference/interoperability.md` has what is understood and where the libraries differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neuro_engine.convert_neurons import Neurons, need, snntorch_neurons, spikingjelly_neurons
from neuro_engine.layers import (
    AvgPool2d,
    BatchNorm,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    Norm,
    Readout,
    SpikingConv2d,
    SpikingConvTranspose2d,
    SpikingLayer,
    SpikingLinear,
)
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate

_SYNAPSES = ("Linear", "Conv2d", "ConvTranspose2d")
_NORMS = ("BatchNorm1d", "BatchNorm2d", "ThresholdDependentBatchNorm1d", "ThresholdDependentBatchNorm2d")
_POOLS = ("MaxPool2d", "AvgPool2d")
_CONTAINERS = ("Sequential", "SeqToANNContainer", "MultiStepContainer")


class PooledCurrent(Norm):
    """A norm that pools the current before the neurons take it, as in Conv2d, MaxPool2d, Leaky.

    `state_dict`: `bias` (O,) where nothing normalises the current before, else that norm's under `norm`.

    Args:
        channels: output channels O.
        norm: norm of the current before it is pooled, or None.
        pool: a pooling layer (T, B, C, H, W).
    """

    has_bias: ClassVar[bool] = False  # the layer's; layers whose current is normalised have none
    on_current: ClassVar[bool] = True
    bias: nn.Parameter | None

    def __init__(self, channels: int, norm: BatchNorm | None, pool: nn.Module) -> None:
        super().__init__()
        self.norm, self.pool = norm, pool
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if norm is None else None)

    def forward(self, current: Tensor) -> Tensor:
        """The pooled current (T, B, O, H // k, W // k)."""
        if self.norm is not None:
            current = self.norm(current)
        elif self.bias is not None:
            current = current + self.bias.view(-1, 1, 1)
        return self.pool(current)  # type: ignore[no-any-return]


def from_snntorch(
    module: nn.Sequential, *, surrogate: Surrogate | None = None, analog_input: bool = False
) -> SpikingNetwork:
    """A network of snnTorch 1.0 whose neurons are Leaky or Synaptic.

    Args:
        module: the layers in order, as one time step runs them; it is left as it is.
        surrogate: derivative of the spike, in place of the neurons' own.
        analog_input: True where the input is values rather than spikes.

    Returns:
        The network. It takes all time steps at once (T, B, ...). Its output is the last neurons' spikes (T, B, ...), or
        where a linear layer is the last, the mean over time of what that puts out (B, O).

    Raises:
        ValueError: naming the layer and what there is no equal for.
    """
    return _convert(module, lambda name, m: snntorch_neurons(name, m, surrogate), analog_input)


def from_spikingjelly(
    module: nn.Sequential, *, surrogate: Surrogate | None = None, analog_input: bool = False
) -> SpikingNetwork:
    """A network of SpikingJelly's `activation_based`, of either step mode; neurons IFNode, LIFNode, ParametricLIFNode.

    Arguments, result and errors are those of `from_snntorch`.
    """
    return _convert(module, lambda name, m: spikingjelly_neurons(name, m, surrogate), analog_input)


@dataclass(slots=True)
class _Pending:
    """A synapse that waits for its neurons, and what stands between them."""

    name: str
    synapse: Any
    norm: BatchNorm | None = None
    pool: nn.Module | None = None


def _convert(
    module: nn.Module, neurons_of: Callable[[str, nn.Module], Neurons | None], analog_input: bool
) -> SpikingNetwork:
    layers: dict[str, nn.Module] = {}
    pending: _Pending | None = None
    for name, part in _parts(module):
        kind = type(part).__name__
        neurons = neurons_of(name, part)
        if neurons is not None:
            if pending is None:
                raise ValueError(f"{name}: expected a synapse of {_SYNAPSES} before neurons, got none")
            layers[pending.name] = _layer(pending, neurons)
            pending = None
        elif pending is None and kind in _SYNAPSES:
            pending = _Pending(name, part)
        elif pending is None:
            layers[name] = _stateless(name, part)
        elif kind in _NORMS and pending.norm is None and pending.pool is None:
            pending.norm = _batch_norm(name, part)
        elif kind in _POOLS and pending.pool is None:
            pending.pool = _stateless(name, part)
        else:
            raise ValueError(f"{name}: expected neurons after the synapse {pending.name}, got {part}")
    if pending is not None:
        layers[pending.name] = _readout(pending)
    network = SpikingNetwork(layers).train(module.training)
    if analog_input:
        network.layers.follow(True)
    return network


def _parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers in order, those in containers too, with _ for dots."""
    if type(module).__name__ not in _CONTAINERS:
        raise ValueError(
            f"expected an nn.Sequential, got {type(module).__name__}, whose forward cannot be seen: put its layers in "
            f"an nn.Sequential"
        )
    for key, part in module.named_children():
        if isinstance(part, nn.Sequential):
            yield from _parts(part, f"{prefix}{key}_")
        elif type(part).__name__ != "Identity":
            yield prefix + key, part


def _one(name: str, module: nn.Module, attribute: str) -> int:
    """The one number that is meant for both axes."""
    value: Any = getattr(module, attribute)
    both = value if isinstance(value, tuple) else (value, value)
    if both[0] != both[1] or not isinstance(both[0], int):
        raise ValueError(f"{name}: expected one number as the {attribute} of both axes, got {value!r}")
    return both[0]


def _stateless(name: str, module: Any) -> nn.Module:
    """Layers without weights."""
    kind = type(module).__name__
    if kind in _POOLS:
        side = _one(name, module, "kernel_size")
        if _one(name, module, "stride") != side or _one(name, module, "padding") != 0:
            raise ValueError(f"{name}: expected pools side by side without padding, got {module}")
        need(name, module, dilation=1, ceil_mode=False, return_indices=False, divisor_override=None)
        return MaxPool2d(side) if kind == "MaxPool2d" else AvgPool2d(side)
    if kind == "Flatten":
        need(name, module, start_dim=1, end_dim=-1)
        return Flatten()
    if kind == "Dropout":
        return Dropout(module.p)
    if kind == "AdaptiveAvgPool2d" and module.output_size in (1, (1, 1)):
        return GlobalAvgPool2d()
    raise ValueError(f"{name}: expected a synapse, a pool, Flatten, Dropout or neurons that are known, got {module}")


def _batch_norm(name: str, module: Any) -> BatchNorm:
    if module.momentum is None:
        raise ValueError(f"{name}: expected a momentum, got None, which averages over all batches")
    need(name, module, eps=1e-5, affine=True, track_running_stats=True)
    norm = BatchNorm(module.num_features, momentum=module.momentum).to(module.weight)
    norm.load_state_dict({key: getattr(module, key) for key in norm.state_dict()})
    return norm


def _layer(pending: _Pending, neurons: Neurons) -> SpikingLayer:
    source, norm, pool = pending.synapse, pending.norm, pending.pool

    def made(channels: int, _neuron: LIF) -> Norm:
        plain = Norm() if norm is None else norm
        return plain if pool is None else PooledCurrent(channels, norm, pool)

    options: dict[str, Any] = {"norm": made, "neuron": neurons.neuron, "surrogate": neurons.surrogate}
    layer = _synapse(pending.name, source, options).to(source.weight)
    with torch.no_grad():
        layer.weight.copy_(source.weight)
        if source.bias is not None and norm is not None:
            norm.running_mean -= source.bias  # the norm takes the bias away again
        elif source.bias is not None:
            bias = layer.norm.bias if isinstance(layer.norm, PooledCurrent) else layer.bias
            assert bias is not None
            bias.copy_(source.bias)
        if neurons.leak_logit is not None and layer.leak_logit is not None:
            layer.leak_logit.copy_(neurons.leak_logit)
    return layer


def _synapse(name: str, source: Any, options: dict[str, Any]) -> SpikingLayer:
    """A layer with the geometry of a synapse."""
    if type(source).__name__ == "Linear":
        return SpikingLinear(source.in_features, source.out_features, **options)
    if _one(name, source, "dilation") != 1:
        raise ValueError(f"{name}: expected a dilation of 1, got {source.dilation}")
    need(name, source, padding_mode="zeros")
    side, stride, padding = (_one(name, source, attribute) for attribute in ("kernel_size", "stride", "padding"))
    options = {"groups": source.groups, **options}
    if type(source).__name__ == "Conv2d":
        return SpikingConv2d(source.in_channels, source.out_channels, side, stride, padding, **options)
    more = _one(name, source, "output_padding")
    return SpikingConvTranspose2d(source.in_channels, source.out_channels, side, stride, padding, more, **options)


def _readout(pending: _Pending) -> Readout:
    source = pending.synapse
    if type(source).__name__ != "Linear" or pending.norm is not None or pending.pool is not None:
        raise ValueError(f"{pending.name}: expected neurons after it, or a Linear as the last layer, got {source}")
    layer = Readout(source.in_features, source.out_features, leak=0.0).to(source.weight)
    with torch.no_grad():
        layer.weight.copy_(source.weight)
        layer.bias.copy_(torch.zeros_like(layer.bias) if source.bias is None else source.bias)
    return layer
