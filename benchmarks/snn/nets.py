"""The nets on which libraries are compared, as data, and a batch for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Conv:
    """3x3 convolution, norm, neurons."""

    channels: int


@dataclass(frozen=True, slots=True)
class Block:
    """Residual block of two such convolutions, joined by addition; a projection where the shape changes."""

    channels: int
    stride: int = 1


@dataclass(frozen=True, slots=True)
class Pool:
    """Maximum over 2x2."""


@dataclass(frozen=True, slots=True)
class GlobalPool:
    """Mean over the map."""


@dataclass(frozen=True, slots=True)
class Flatten:
    """All features in one axis."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Full connection, neurons."""

    features: int


@dataclass(frozen=True, slots=True)
class Readout:
    """Full connection, averaged over time."""

    classes: int


Layer = Conv | Block | Pool | GlobalPool | Flatten | Linear | Readout


@dataclass(frozen=True, slots=True)
class Net:
    """A topology and the size of a step.

    Attributes:
        name: how rows call it.
        channels: channels of the input.
        side: rows and columns of the input.
        steps: time steps T.
        batch: samples B.
        constant: True where the input is the same values at all time steps, False where it is events.
        layers: the layers in order.
    """

    name: str
    channels: int
    side: int
    steps: int
    batch: int
    constant: bool
    layers: tuple[Layer, ...]

    def walk(self) -> Iterator[tuple[Layer, int]]:
        """Each layer with the channels or features that go into it."""
        inputs, side = self.channels, self.side
        for layer in self.layers:
            yield layer, inputs
            match layer:
                case Conv(channels):
                    inputs = channels
                case Block(channels, stride):
                    inputs, side = channels, side // stride
                case Pool():
                    side //= 2
                case GlobalPool():
                    side = 1
                case Flatten():
                    inputs *= side**2
                case Linear(features):
                    inputs = features

    @property
    def classes(self) -> int:
        """Outputs of the readout."""
        return next(layer.classes for layer in self.layers if isinstance(layer, Readout))


_VGG = (Conv(64), Conv(64), Pool(), Conv(128), Conv(128), Pool(), Flatten(), Linear(256), Readout(10))
_DVS = (*(Conv(64), Pool()) * 5, Flatten(), Readout(11))
_STAGES = (Block(64), Block(64), Block(128, 2), Block(128), Block(256, 2), Block(256), Block(512, 2), Block(512))

_SEW = (Conv(64), *_STAGES, GlobalPool(), Flatten(), Readout(10))
_SMALL = (Conv(16), Pool(), Conv(32), Pool(), Flatten(), Readout(10))

NETS = (
    Net("a: VGG-like 32x32", channels=3, side=32, steps=4, batch=32, constant=True, layers=_VGG),
    Net("b: DVS-like 64x64", channels=2, side=64, steps=16, batch=8, constant=False, layers=_DVS),
    Net("c: SEW-ResNet-18", channels=3, side=32, steps=4, batch=8, constant=True, layers=_SEW),
)
DIGITS = Net("digits 28x28", channels=1, side=28, steps=4, batch=64, constant=True, layers=_SMALL)


def batch(net: Net, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random inputs (T, B, C, H, W), expanded over T where they are constant, and class numbers (B,)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (net.batch, net.channels, net.side, net.side)
    if net.constant:
        inputs = torch.randn(shape, generator=generator).expand(net.steps, *shape)
    else:
        inputs = (torch.rand((net.steps, *shape), generator=generator) < 0.1).float()
    return inputs, torch.randint(net.classes, (net.batch,), generator=generator)
