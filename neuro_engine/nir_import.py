"""A NIR graph as a network: `from_nir`, which `neuro_engine.nir_io` has too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from neuro_engine.layers import AvgPool2d, Flatten, Readout, SpikingConv2d, SpikingLinear, follow
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF, Reset
from neuro_engine.nir_neuron import DT, FIRING, SILENT, Population, from_node

if TYPE_CHECKING:
    import nir

_LINEAR = ("Linear", "Affine")


class Graph(nn.Module):
    """Layers that each take the sum of the outputs of others: (T, B, ...) to the output of the last.

    Args:
        layers: the layers by name, in an order in which they can run.
        sources: by layer, the names of those whose outputs it adds up; "" stands for the input.
    """

    def __init__(self, layers: Mapping[str, nn.Module], sources: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.layers, self.sources = nn.ModuleDict(layers), {name: tuple(s) for name, s in sources.items()}

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, ...) to the output of the last layer."""
        outputs = {"": x}
        for name, layer in self.layers.items():
            first, *others = (outputs[source] for source in self.sources[name])
            outputs[name] = x = layer(sum(others, first))
        return x

    def follow(self, values: bool) -> bool:
        """A sum is a value."""
        flows = {"": values}
        for name, layer in self.layers.items():
            fed = self.sources[name]
            flows[name] = values = follow(layer, len(fed) > 1 or flows[fed[0]])
        return values


def from_nir(
    graph: nir.NIRGraph, dt: float = DT, *, reset: Reset | None = None, analog_input: bool = False
) -> SpikingNetwork:
    """The network of a NIR graph; its layers have `norm="none"` and the names of the synapse nodes.

    A linear node that ends the graph, alone or with an integrator, becomes a `Readout`, whose output is the mean over
    time. A graph in which a node feeds several others becomes one layer "graph".

    Args:
        graph: nodes Input, Output, Linear, Affine, Conv2d, AvgPool2d, Flatten, IF, LIF, CubaLIF, I and LI.
        dt: seconds that a time step lasts.
        reset: what a spike does to the membrane of neurons that `to_nir` did not write; None for what the installed
            nir says: up to 1.0.4 a spike subtracts the threshold, later it resets.
        analog_input: True where the network's input is values rather than spikes.

    Raises:
        ValueError: if a node or a connection is none that the network can have.
    """
    importer = _Importer(graph, dt, reset)
    for name in importer.order:
        importer.visit(name)
    layers, sources = importer.layers, importer.sources
    before = ["", *layers]
    if all(fed == [source] for fed, source in zip(sources.values(), before, strict=False)):
        network = SpikingNetwork({name: m for name, m in layers.items() if not isinstance(m, nn.Identity)})
    else:
        network = SpikingNetwork({"graph": Graph(layers, sources)})
    if analog_input:
        network.layers.follow(True)
    return network


class _Importer:
    """The layers of a graph, node by node, and the layers whose outputs each takes."""

    def __init__(self, graph: Any, dt: float, reset: Reset | None) -> None:
        self.nodes, self.dt, self.reset = graph.nodes, dt, reset
        self.before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        self.after: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.before[target].append(source)
            self.after[source].append(target)
        self.layers: dict[str, nn.Module] = {}
        self.sources: dict[str, list[str]] = {}
        self._layer_of: dict[str, str] = {}
        try:
            self.order = list(TopologicalSorter(self.before).static_order())
        except CycleError as error:
            raise ValueError(f"expected a graph without recurrent connections, got {error.args[1]}") from None
        kinds = [self.kind(name) for name in self.order]
        if kinds.count("Input") != 1 or kinds.count("Output") != 1:
            raise ValueError(f"expected one Input and one Output, got nodes of {sorted(kinds)}")

    def kind(self, name: str) -> str:
        return type(self.nodes[name]).__name__

    def visit(self, name: str) -> None:
        """Add the layer that a node makes, its sources having been visited."""
        node, kind = self.nodes[name], self.kind(name)
        if kind == "Input":
            self._layer_of[name] = ""
        elif kind == "Output":
            self.put(name, nn.Identity(), name)
        elif kind in FIRING:
            synapse = self.synapse_before(name)
            self.put(synapse, _spiking(synapse, self.nodes[synapse], from_node(name, node, self.dt, self.reset)), name)
        elif kind in SILENT:
            synapse = self.synapse_before(name)
            self.put(synapse, self.readout(name, synapse, from_node(name, node, self.dt, self.reset)), name)
        elif kind == "AvgPool2d":
            self.put(name, _pool(name, node), name)
        elif kind == "Flatten" and node.start_dim in (0, 1) and node.end_dim == -1:  # 1 where the batch was counted
            self.put(name, Flatten(), name)
        elif kind in (*_LINEAR, "Conv2d"):
            if kind in _LINEAR and self.ends(name):
                self.put(name, self.readout(name, name, Population(LIF(leak=0.0, reset="none"))), name)
            elif not self.feeds_neurons(name):
                raise ValueError(f"{name}: expected neurons after it and nothing else, got {self.after[name]}")
        else:
            raise ValueError(f"{name}: expected a node that the network has a layer for, got {node}")

    def put(self, name: str, layer: nn.Module, node: str) -> None:
        """Add a layer that begins with the node `name` and ends with another."""
        key = name.replace(".", "_")
        if key in self.layers:
            raise ValueError(f"expected names of nodes that differ with _ for dots, got two {key!r}")
        self.layers[key], self._layer_of[node] = layer, key
        self.sources[key] = [self._layer_of[source] for source in self.before[name]]
        if not self.sources[key]:
            raise ValueError(f"{name}: expected a node that others feed, got none before it")

    def feeds_neurons(self, name: str) -> bool:
        return len(self.after[name]) == 1 and self.kind(self.after[name][0]) in (*FIRING, *SILENT)

    def ends(self, name: str) -> bool:
        return [self.kind(after) for after in self.after[name]] == ["Output"]

    def synapse_before(self, name: str) -> str:
        fed = self.before[name]
        if len(fed) != 1 or self.kind(fed[0]) not in (*_LINEAR, "Conv2d") or not self.before[fed[0]]:
            raise ValueError(f"{name}: expected neurons right after one Linear, Affine or Conv2d, got {fed}")
        return fed[0]

    def readout(self, name: str, synapse: str, population: Population) -> Readout:
        """An integrator that ends the graph; its gain goes into the weights."""
        node, neuron = self.nodes[synapse], population.neuron
        if not self.ends(name) or self.kind(synapse) not in _LINEAR:
            raise ValueError(f"{name}: expected an integrator after a Linear or Affine and before the Output only")
        outputs, inputs = node.weight.shape
        layer = Readout(inputs, outputs, leak=neuron.leak, analog_input=population.analog_input)
        _fill(layer, node.weight * neuron.gain, _bias(node) * neuron.gain)
        return layer


def _spiking(name: str, node: Any, population: Population) -> SpikingLinear | SpikingConv2d:
    neuron, surrogate, analog_input = population.neuron, population.surrogate, population.analog_input
    layer: SpikingLinear | SpikingConv2d
    if type(node).__name__ == "Conv2d":
        outputs, inputs, side, _ = node.weight.shape
        stride, padding, groups = _one(name, node, "stride"), _padding(name, node), int(node.groups)
        if _one(name, node, "dilation") != 1:
            raise ValueError(f"{name}: expected a dilation of 1, got {node.dilation}")
        layer = SpikingConv2d(
            inputs * groups,
            outputs,
            side,
            stride,
            padding,
            groups=groups,
            norm="none",
            neuron=neuron,
            surrogate=surrogate,
            analog_input=analog_input,
        )
    else:
        outputs, inputs = node.weight.shape
        layer = SpikingLinear(
            inputs, outputs, norm="none", neuron=neuron, surrogate=surrogate, analog_input=analog_input
        )
    _fill(layer, node.weight, _bias(node))
    return layer


def _pool(name: str, node: Any) -> AvgPool2d:
    side = _one(name, node, "kernel_size")
    if _one(name, node, "stride") != side or np.any(node.padding):
        raise ValueError(f"{name}: expected pools side by side without padding, got {node}")
    return AvgPool2d(side)


def _one(name: str, node: Any, field: str) -> int:
    """The one number that is meant for both axes."""
    values = np.unique(getattr(node, field))
    if values.size != 1:
        raise ValueError(f"{name}: expected one {field} for both axes, got {getattr(node, field)}")
    return int(values[0])


def _padding(name: str, node: Any) -> int:
    said = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(said, str):
        return _one(name, node, "padding")
    if said == "valid":
        return 0
    rows, columns = node.weight.shape[2:]
    if rows != columns or rows % 2 == 0 or _one(name, node, "stride") != 1:
        raise ValueError(f"{name}: expected an odd square kernel of stride 1 where the padding is 'same'")
    return int(rows // 2)


def _bias(node: Any) -> Any:
    bias = getattr(node, "bias", None)
    return np.zeros(len(node.weight), node.weight.dtype) if bias is None else bias


def _fill(layer: Readout | SpikingLinear | SpikingConv2d, weight: Any, bias: Any) -> None:
    layer.weight = nn.Parameter(torch.tensor(weight))
    layer.bias = nn.Parameter(torch.tensor(bias, dtype=layer.weight.dtype))
