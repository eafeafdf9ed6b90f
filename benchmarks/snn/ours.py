"""The nets in NeuroFed, as a worker trains them: on a core group that counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.snn import nets
from benchmarks.snn.nets import Net
from benchmarks.snn.trainers import Activity, MakeOptimizer, sgd
from neuro_engine.calibration import calibrate
from neuro_engine.chip import Chip
from neuro_engine.core_group import CoreGroup
from neuro_engine.layers import Flatten, GlobalAvgPool2d, MaxPool2d, Readout, Residual, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.surrogate import triangle

Norm = Literal["weight", "batch"]
RATE = 0.08
"""Firing rate that the nets are calibrated to: at most 0.10 is promised."""
SURROGATE = triangle(0.5)
"""Half as wide as the library's default: half as many gradients; what that does to accuracy is measured beside."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Which of our nets."""

    norm: Norm
    precision: Literal["fp16", "fp32"]
    counting: bool = True

    def __str__(self) -> str:
        return f"NeuroFed {self.precision} {self.norm}{'' if self.counting else ', not counting'}"


VARIANTS = tuple(Variant(norm, precision) for precision in ("fp16", "fp32") for norm in ("weight", "batch"))
UNCOUNTED = Variant("weight", "fp16", counting=False)
"""What counting costs is the difference to this."""


def _block(inputs: int, outputs: int, stride: int, norm: Norm) -> Residual:
    body = {
        "conv1": SpikingConv2d(inputs, outputs, 3, stride, 1, norm=norm, surrogate=SURROGATE),
        "conv2": SpikingConv2d(outputs, outputs, 3, 1, 1, norm=norm, surrogate=SURROGATE),
    }
    same = inputs == outputs and stride == 1
    shortcut = {"conv": SpikingConv2d(inputs, outputs, 1, stride, norm=norm, surrogate=SURROGATE)}
    return Residual(body, None if same else shortcut)


def build(net: Net, norm: Norm) -> SpikingNetwork:
    """The net from our layers; "batch" leaves the full connections without a norm, as the other libraries do."""
    layers: dict[str, nn.Module] = {}
    for n, (layer, inputs) in enumerate(net.walk(), start=1):
        match layer:
            case nets.Conv(channels):
                analog = n == 1 and net.constant
                layers[f"conv{n}"] = SpikingConv2d(
                    inputs, channels, 3, 1, 1, norm=norm, surrogate=SURROGATE, analog_input=analog
                )
            case nets.Block(channels, stride):
                layers[f"block{n}"] = _block(inputs, channels, stride, norm)
            case nets.Pool():
                layers[f"pool{n}"] = MaxPool2d(2)
            case nets.GlobalPool():
                layers[f"pool{n}"] = GlobalAvgPool2d()
            case nets.Flatten():
                layers[f"flatten{n}"] = Flatten()
            case nets.Linear(features):
                full: Literal["weight", "none"] = "weight" if norm == "weight" else "none"
                layers[f"linear{n}"] = SpikingLinear(inputs, features, norm=full, surrogate=SURROGATE)
            case nets.Readout(classes):
                layers[f"readout{n}"] = Readout(inputs, classes, leak=0.0)
    return SpikingNetwork(layers)


class OurTrainer:
    """A net in NeuroFed, counting; satisfies `trainers.Trainer`.

    Args:
        variant: norm and precision.
        net: the topology.
        sample: a batch to calibrate the gains on, or the parameters of a net that is calibrated.
        make_optimizer: makes the optimizer.
    """

    def __init__(
        self, variant: Variant, net: Net, sample: Tensor | Mapping[str, Tensor], make_optimizer: MakeOptimizer = sgd
    ) -> None:
        self.model = build(net, variant.norm)
        self.model.set_precision(variant.precision)
        if isinstance(sample, Tensor):
            calibrate(self.model, sample, RATE)
        else:
            self.model.load_state_dict(sample)
        self._group = CoreGroup(
            self.model, Chip.load("core20_28nm"), precision=variant.precision, tracing=variant.counting
        )
        self._optimizer = make_optimizer(self.model.parameters())

    def forward(self, inputs: Tensor) -> Tensor:
        """See `Trainer`."""
        return self.model(inputs)  # type: ignore[no-any-return]

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """See `Trainer`."""
        self._group.train_step(inputs, targets, F.cross_entropy, self._optimizer)

    def observe(self, inputs: Tensor, targets: Tensor) -> Activity:
        """See `Trainer`."""
        group = CoreGroup(self.model, self._group.chip, precision=self._group.precision.name)
        trace = group.train_step(inputs, targets, F.cross_entropy, self._optimizer).trace
        assert trace is not None
        spiking = [name for name, layer in self.model.engine_layers() if layer.surrogate is not None]
        return Activity(
            {name: trace.spike_rate(name) for name in spiking},
            {name: trace.gradient_density(name) for name in trace.layers},
        )
