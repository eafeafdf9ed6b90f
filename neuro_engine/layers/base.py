"""What all layers share: the engines' side of a layer, checks of the input, and whether spikes or values flow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from neuro_engine.engines.forward import LayerSpec
from neuro_engine.neuron import LIF
from neuro_engine.precision import FP32, Precision
from neuro_engine.surrogate import Surrogate
from neuro_engine.synapse import Synapse
from neuro_engine.trace import Trace


class EngineLayer(nn.Module):
    """A layer that runs on the engines. Networks give it its name and, while recording, a trace.

    Args:
        synapse: the linear map.
        neuron: the neuron's parameters.
        surrogate: derivative of the spike; None for a readout.
        analog_input: True where the input is values rather than spikes.

    Attributes:
        precision: the number format of what the engines store.
    """

    precision: Precision = FP32

    def __init__(self, synapse: Synapse, neuron: LIF, surrogate: Surrogate | None, analog_input: bool) -> None:
        super().__init__()
        self.synapse, self.neuron, self.surrogate, self.analog_input = synapse, neuron, surrogate, analog_input
        self.name = type(self).__name__
        self.trace: Trace | None = None

    @property
    def spec(self) -> LayerSpec:
        """The layer as the engines see it."""
        return LayerSpec(
            self.name, self.synapse, self.neuron, self.surrogate, self.analog_input, self.trace, self.precision
        )

    def follow(self, values: bool) -> bool:
        """See `Follows`: the engines charge values as such; what leaves is spikes, but from a readout."""
        self.analog_input |= values
        return self.surrogate is None


def engine_layers(module: nn.Module) -> Iterator[tuple[str, EngineLayer]]:
    """The layers in a module that run on the engines, nested ones too, with their dotted names."""
    for name, layer in module.named_modules():
        if isinstance(layer, EngineLayer):
            yield name, layer


@runtime_checkable
class Follows(Protocol):
    """A module that knows whether it puts out spikes or values."""

    def follow(self, values: bool) -> bool:
        """Take note of whether the input is values (graded or analog) and return whether the output is."""
        ...


def follow(module: nn.Module, values: bool) -> bool:
    """`Follows.follow` for any module: one that does not say is taken to put out values, so nothing is undercounted."""
    if isinstance(module, Follows):
        return module.follow(values)
    if isinstance(module, nn.Sequential):
        for layer in module:
            values = follow(layer, values)
        return values
    return values if isinstance(module, nn.Identity) else True


def check_input(name: str, x: Tensor, *features: int | str) -> None:
    """Refuse an input that is not (T, B, *features) with at least one time step and one sample.

    Args:
        name: whose input it is.
        x: the input.
        features: its axes beyond time and batch; a name stands for any size.

    Raises:
        ValueError: naming the shape that was expected and the one that was got.
    """
    fits = x.dim() == 2 + len(features) and min(x.shape[:2]) >= 1
    if not fits or any(isinstance(f, int) and f != side for f, side in zip(features, x.shape[2:], strict=True)):
        wanted = ", ".join(str(f) for f in ("T", "B", *features))
        raise ValueError(f"{name}: expected an input ({wanted}) with T and B at least 1, got {tuple(x.shape)}")
