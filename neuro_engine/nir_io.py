"""Networks to and from NIR, the Neuromorphic Intermediate Representation (Pedersen et al. 2024); extra `interop`.

What comes back from NIR is the same network, bit for bit; `docs/reference/interoperability.md` has what is carried and
what is not, `neuro_engine.nir_neuron` how discrete neurons become continuous ones.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from neuro_engine.layers import (
    AvgPool2d,
    BatchNorm,
    Chain,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Readout,
    Residual,
    SpikingLayer,
    SpikingRecurrent,
)
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.nir_import import from_nir
from neuro_engine.nir_neuron import DT, SILENT, Population, to_node
from neuro_engine.synapse import ConvSynapse, LinearSynapse

if TYPE_CHECKING:
    import nir

__all__ = ["DT", "from_nir", "to_nir"]


def _import_nir() -> Any:
    try:
        import nir
    except ImportError:
        raise ImportError("expected the package nir, found none: pip install 'neurofed[interop]'") from None
    return nir


@torch.no_grad()
def to_nir(network: SpikingNetwork, input_shape: Sequence[int], dt: float = DT) -> nir.NIRGraph:
    """The network in evaluation as a NIR graph.

    A layer becomes a synapse node of its name (dots become _) with the weights that it uses, norm included, and a
    neuron node NAME_neuron. Dropout is left out; what follows a residual block has edges from both its branches.

    Args:
        network: the network; it is left as it is.
        input_shape: shape of one sample at one step: (C, H, W) or (I,).
        dt: seconds that a time step lasts.

    Raises:
        ImportError: if nir is not installed.
        ValueError: if NIR has no node for a layer, a connection or a neuron.
    """
    frozen = copy.deepcopy(network).eval()
    frozen.set_precision("fp32")
    like = next(iter(frozen.parameters()), torch.zeros(()))
    exporter = _Exporter(dt, tuple(input_shape))
    y, last = exporter.layer("", frozen.layers, like.new_zeros(1, 1, *input_shape), ["input"])
    time = 0 if type(exporter.nodes[last[0]]).__name__ in SILENT else 1
    exporter.add("output", exporter.nir.Output({"output": np.array(y.shape[1 + time :])}), last)
    return exporter.nir.NIRGraph(exporter.nodes, exporter.edges)


class _Exporter:
    """Nodes and edges of a graph while the layers run once, on zeros, for their shapes."""

    def __init__(self, dt: float, input_shape: tuple[int, ...]) -> None:
        self.nir, self.dt = _import_nir(), dt
        self.nodes: dict[str, Any] = {"input": self.nir.Input({"input": np.array(input_shape)})}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: Any, sources: Sequence[str]) -> list[str]:
        key = name.replace(".", "_")
        if key in self.nodes:
            raise ValueError(f"expected names that differ with _ for dots and are not input or output, got two {key!r}")
        self.nodes[key] = node
        self.edges += [(source, key) for source in sources]
        return [key]

    def layer(self, name: str, layer: nn.Module, x: Tensor, sources: list[str]) -> tuple[Tensor, list[str]]:
        """Add a layer that takes the sum of the sources; returns its output, and the nodes whose sum that is."""
        if isinstance(layer, nn.Identity | Dropout):
            return x, sources
        if isinstance(layer, Chain | nn.Sequential):
            for key, inner in layer.named_children():
                x, sources = self.layer(f"{name}.{key}" if name else key, inner, x, sources)
            return x, sources
        if isinstance(layer, Residual):
            if layer.connect != "add":
                raise ValueError(f"{name}: expected a residual block that adds, as NIR's edges, got {layer.connect!r}")
            a, body = self.layer(f"{name}.body", layer.body, x, sources)
            s, shortcut = self.layer(f"{name}.shortcut", layer.shortcut, x, sources)
            return a + s, body + shortcut
        y = layer(x)
        if isinstance(layer, SpikingLayer | Readout):
            shape = y.shape[2:] if layer.surrogate else y.shape[1:]
            synapse, neuron = self.synapse(name, layer, x), self.neuron(layer, shape)
            return y, self.add(f"{name}.neuron", neuron, self.add(name, synapse, sources))
        if isinstance(layer, GlobalAvgPool2d):
            sources = self.add(f"{name}.mean", self.pool(x.shape[3:]), sources)
            flat = self.nir.Flatten({"input": np.array((x.shape[2], 1, 1))}, 0, -1)
            return y, self.add(name, flat, sources)
        return y, self.add(name, self.stateless(name, layer, x), sources)

    def pool(self, window: Sequence[int]) -> Any:
        return self.nir.AvgPool2d(np.array(window), np.array(window), np.zeros(2, int))

    def stateless(self, name: str, layer: nn.Module, x: Tensor) -> Any:
        if isinstance(layer, Flatten):
            return self.nir.Flatten({"input": np.array(x.shape[2:])}, 0, -1)
        if isinstance(layer, AvgPool2d):
            return self.pool([layer.kernel_size] * 2)
        raise ValueError(
            f"{name}: expected a layer that NIR has nodes for (average pools, flattening, linear and convolutional "
            f"layers, readouts), got {type(layer).__name__}"
        )

    def synapse(self, name: str, layer: SpikingLayer | Readout, x: Tensor) -> Any:
        if isinstance(layer, SpikingRecurrent) or not isinstance(layer.synapse, LinearSynapse | ConvSynapse):
            raise ValueError(f"{name}: expected a linear or convolutional layer, got {type(layer).__name__}")
        weight, bias = (p.detach().cpu().numpy().copy() for p in _effective(layer))
        if isinstance(layer.synapse, LinearSynapse):
            return self.nir.Affine(weight, bias)
        stride, padding, groups = layer.synapse.stride, layer.synapse.padding, layer.synapse.groups
        node = self.nir.Conv2d(tuple(x.shape[3:]), weight, stride, padding, 1, groups, bias)
        node.input_type = {"input": np.array(x.shape[2:])}  # nir takes the channels of one group
        return node

    def neuron(self, layer: SpikingLayer | Readout, shape: Sequence[int]) -> Any:
        dtype = layer.weight.detach().cpu().numpy().dtype
        population = Population(_fixed(layer), layer.surrogate, layer.analog_input)
        return to_node(self.nir, population, tuple(shape), dtype, self.dt)


def _effective(layer: SpikingLayer | Readout) -> tuple[Tensor, Tensor]:
    """The weights and the bias that the synapse takes in evaluation, norm included."""
    if isinstance(layer, Readout):
        return layer.weight, layer.bias
    if isinstance(layer.norm, BatchNorm):
        layer.fold_norm()
    if layer.norm.on_current:
        raise ValueError(f"{layer.name}: expected a norm of weights or by batch, got {type(layer.norm).__name__}")
    weight, bias = layer.synapse_weights()
    return weight, weight.new_zeros(len(layer.synapse.by_output(weight))) if bias is None else bias


def _fixed(layer: SpikingLayer | Readout) -> LIF:
    """The neuron with what it learned as constants."""
    leak = layer.leak if isinstance(layer, SpikingLayer) else None
    if leak is None:
        return layer.neuron
    gain = float(layer.neuron.gain * (1 - leak)) if layer.neuron.decay_input else layer.neuron.gain
    return replace(layer.neuron, leak=float(leak), gain=gain, learn_leak=False, decay_input=False)
