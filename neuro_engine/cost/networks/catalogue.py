"""The networks that people compare chips with.

Shapes are those of the publications; what they leave open (time steps, the classifier at CIFAR's size) is said in the
description. Residual blocks add spikes after the neuron, as `neuro_engine.layers.Residual` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from neuro_engine.cost.networks.shape import NetworkShape, nearest
from neuro_engine.geometry import Geometry

_VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
_VGG = "quoted: convolutions of Simonyan and Zisserman, ICLR 2015, table 1, column {}, at 32x32 with one classifier"
_RESNET = "quoted: He et al., CVPR 2016, table 1; spikes added as Fang et al., NeurIPS 2021 (SEW, ADD)"


class _At(NamedTuple):
    """A place between layers: whose outputs arrive there, and how they look."""

    channels: int
    side: int
    sources: tuple[str, ...] = ()
    values: bool = True


class _Builder:
    """Layers as they are added; each method returns the place after it."""

    def __init__(self, steps: int, *, static: bool) -> None:
        self.steps, self.static = steps, static
        self.layers: dict[str, Geometry] = {}
        self.values: set[str] = set()

    def conv(self, at: _At, name: str, channels: int, kernel: int = 3, stride: int = 1) -> _At:
        """A convolution padded by half its kernel."""
        side = -(-at.side // stride)
        self.layers[name] = Geometry(
            at.channels, channels, (at.side,) * 2, (side,) * 2, (kernel,) * 2,
            steps=self.steps, static=self.static and not at.sources, sources=at.sources,
        )  # fmt: skip
        if at.values:
            self.values.add(name)
        return _At(channels, side, (name,), values=False)

    def linear(self, at: _At, name: str, features: int) -> _At:
        """A full connection to all that arrives."""
        return self.conv(_At(at.channels * at.side**2, 1, at.sources, at.values), name, features, kernel=1)

    def block(self, at: _At, name: str, channels: int, stride: int) -> _At:
        """Two convolutions and a shortcut, whose outputs are added."""
        middle = self.conv(at, f"{name}.conv1", channels, stride=stride)
        body = self.conv(middle, f"{name}.conv2", channels)
        fits = stride == 1 and at.channels == channels
        shortcut = at if fits else self.conv(at, f"{name}.shortcut", channels, kernel=1, stride=stride)
        return _At(channels, body.side, body.sources + shortcut.sources, values=True)

    def shape(self, name: str, norm: str, description: str, source: str) -> NetworkShape:
        last = next(reversed(self.layers))
        return NetworkShape(name, self.layers, norm, frozenset(self.values), frozenset({last}), {}, description, source)


def _pooled(at: _At, window: int = 2) -> _At:
    return at._replace(side=at.side // window)


def _vgg(name: str, column: str, layers: Sequence[int | str]) -> NetworkShape:
    builder, at = _Builder(4, static=True), _At(3, 32)
    for entry in layers:
        at = _pooled(at) if isinstance(entry, str) else builder.conv(at, f"conv{len(builder.layers) + 1}", entry)
    builder.linear(at, "fc", 10)
    return builder.shape(name, "batch", f"{name.upper()} at CIFAR shapes, 10 classes, T=4", _VGG.format(column))


def _resnet(name: str, blocks: Sequence[int], *, imagenet: bool, description: str) -> NetworkShape:
    builder, at = _Builder(4, static=True), _At(3, 224 if imagenet else 32)
    at = _pooled(builder.conv(at, "stem", 64, 7, 2)) if imagenet else builder.conv(at, "stem", 64)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            at = builder.block(at, f"stage{stage + 1}.block{block + 1}", 64 * 2**stage, stride)
    mean = _At(at.channels, 1, at.sources)
    builder.linear(mean, "fc", 1000 if imagenet else 10)
    return builder.shape(name, "batch", description, _RESNET)


def _dvs_gesture() -> NetworkShape:
    builder, at = _Builder(16, static=False), _At(2, 128)
    for number in range(1, 6):
        at = _pooled(builder.conv(at, f"conv{number}", 128))
    builder.linear(builder.linear(at, "fc1", 512), "fc2", 110)
    source = "quoted: Fang et al., ICCV 2021 (PLIF), DVS128 Gesture network, as in SpikingJelly's DVSGestureNet"
    return builder.shape("dvs_gesture", "batch", "5 conv128 + 2 fc at 128x128, event frames, T=16", source)


def _sr() -> NetworkShape:
    builder, at = _Builder(4, static=True), _At(3, 48)
    for number in range(1, 9):
        at = builder.conv(at, f"conv{number}", 64)
    shape = builder.shape(
        "sr", "weight", "8 conv64 at 48x48, a super-resolution body, T=4", "chosen: a body of our own"
    )
    return replace(shape, readouts=frozenset())  # its last layer fires; what makes pixels of it is left out


def _nmnist() -> NetworkShape:
    builder = _Builder(16, static=False)
    builder.linear(builder.linear(_At(2, 34), "fc1", 800), "fc2", 10)
    source = "quoted: sizes of Wu et al., Frontiers in Neuroscience 2018 (STBP), N-MNIST; chosen: T=16"
    return builder.shape("nmnist", "weight", "2312-800-10 fully connected, event frames, T=16", source)


_SEW = "SEW-ResNet-{} at ImageNet shapes, 1000 classes, T=4"
_NETWORKS: dict[str, Callable[[], NetworkShape]] = {
    "vgg11": lambda: _vgg("vgg11", "A", _VGG11),
    "vgg16": lambda: _vgg("vgg16", "D", _VGG16),
    "resnet18": lambda: _resnet(
        "resnet18", (2, 2, 2, 2), imagenet=False,
        description="ResNet-18 at CIFAR shapes (3x3 stem without pooling), 10 classes, T=4",
    ),
    "sew_resnet18": lambda: _resnet("sew_resnet18", (2, 2, 2, 2), imagenet=True, description=_SEW.format(18)),
    "sew_resnet34": lambda: _resnet("sew_resnet34", (3, 4, 6, 3), imagenet=True, description=_SEW.format(34)),
    "dvs_gesture": _dvs_gesture,
    "sr": _sr,
    "nmnist": _nmnist,
}  # fmt: skip


def available() -> tuple[str, ...]:
    """The names of the catalogue."""
    return tuple(_NETWORKS)


def network(name: str, *, norm: str | None = None) -> NetworkShape:
    """A network of the catalogue.

    Args:
        name: one of `available()`.
        norm: another norm than the published one, see `neuro_engine.layers.norms`.

    Raises:
        ValueError: no such network or norm.
    """
    if name not in _NETWORKS:
        raise ValueError(f"no network {name!r}{nearest(name, _NETWORKS)}")
    shape = _NETWORKS[name]()
    return shape if norm is None else replace(shape, norm=norm)
