"""The network: three spiking convolutions, each with a pool, and a membrane readout."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from neuro_engine.layers import Flatten, MaxPool2d, Readout, SpikingConv2d
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import triangle


def build(*, classes: int, size: int, channels: int, leak: float) -> SpikingNetwork:
    """Builds the network; it sees one frame in each time step and carries its membranes through the clip.

    Args:
        classes: outputs of the readout.
        size: rows and columns of a frame, S; three pools of two leave S // 8.
        channels: channels of the first convolution; the others have two and three times as many.
        leak: part of a membrane's potential that is left after one frame; 0 means that no state is carried.

    Returns:
        A network from (T, B, 1, S, S) to (B, classes).
    """
    neuron = LIF(leak=leak)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = 1
    for n in (1, 2, 3):
        outputs = n * channels
        layers[f"conv{n}"] = SpikingConv2d(
            inputs, outputs, 3, padding=1, neuron=neuron, surrogate=triangle(), analog_input=n == 1
        )
        layers[f"pool{n}"] = MaxPool2d(2)
        inputs = outputs
    layers["flatten"] = Flatten()
    layers["readout"] = Readout(inputs * (size // 8) ** 2, classes, leak=leak)
    return SpikingNetwork(layers)
