"""The shapes of a NIR graph, without building its network.

The nodes are known by the names of their types, so that neither nir nor torch is needed here; `nir.read(path)` makes
the graph. What is accepted is what `neuro_engine.nir_import.from_nir` accepts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from neuro_engine.cost.networks.shape import NetworkShape
from neuro_engine.cost.networks.window import Window
from neuro_engine.geometry import Geometry

_FIRING, _SILENT = ("LIF", "IF", "CubaLIF"), ("LI", "I")
_METADATA = "neurofed"


class _Flow(NamedTuple):
    """What leaves a node."""

    shape: tuple[int, ...]
    sources: tuple[str, ...]
    values: bool


def shape_from_nir(
    graph: Any, steps: int, *, name: str = "nir", analog_input: bool = False, static: bool = False
) -> NetworkShape:
    """The shape of a NIR graph, norms folded into its weights; layers have the names of the synapse nodes.

    Args:
        graph: nodes Input, Output, Linear, Affine, Conv2d, AvgPool2d, Flatten, IF, LIF, CubaLIF, I and LI.
        steps: time steps of a sample, which NIR does not say.
        name: the network's name.
        analog_input: True where the network's input is values rather than spikes.
        static: True where the network's input is the same in every step.

    Raises:
        ValueError: a node or a connection that the network has no layer for.
    """
    reader = _Reader(graph.nodes, graph.edges, steps, analog_input, static)
    try:
        order = tuple(TopologicalSorter(reader.before).static_order())
    except CycleError as error:
        raise ValueError(f"expected a graph without recurrent connections, got {error.args[1]}") from None
    for node in order:
        reader.visit(node)
    return NetworkShape(
        name, reader.layers, "none", frozenset(reader.values), frozenset(reader.readouts), reader.windows,
        f"{name}, from NIR", "read: its graph",
    )  # fmt: skip


@dataclass
class _Reader:
    """Nodes in an order in which they can run."""

    nodes: Mapping[str, Any]
    edges: Any
    steps: int
    analog_input: bool
    static: bool
    layers: dict[str, Geometry] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    values: set[str] = field(default_factory=set)
    readouts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.before: dict[str, list[str]] = {name: [] for name in self.nodes}
        self.after: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in self.edges:
            self.before[target].append(source)
            self.after[source].append(target)
        self._flows: dict[str, _Flow] = {}

    def kind(self, name: str) -> str:
        return type(self.nodes[name]).__name__

    def visit(self, name: str) -> None:
        """Note what leaves a node, its sources having been visited."""
        node, kind = self.nodes[name], self.kind(name)
        if kind == "Input":
            self._flows[name] = _Flow(_integers(node.input_type["input"]), (), self.analog_input)
            return
        flow = self._arriving(name)
        if kind in ("Linear", "Affine"):
            outputs, inputs = _integers(node.weight.shape)
            flow = self._layer(name, flow, (outputs,), Geometry(inputs, outputs), Window())
        elif kind == "Conv2d":
            flow = self._convolution(name, node, flow)
        elif kind == "AvgPool2d":
            windows = zip(flow.shape[1:], _pair(node.kernel_size), _pair(node.stride), strict=True)
            sides = tuple((side - kernel) // stride + 1 for side, kernel, stride in windows)
            flow = _Flow((flow.shape[0], *sides), flow.sources, values=True)
        elif kind == "Flatten":
            size = 1
            for side in flow.shape:
                size *= side
            flow = flow._replace(shape=(size,))
        elif kind not in (*_FIRING, *_SILENT, "Output"):
            raise ValueError(f"{name}: expected a node that the network has a layer for, got {kind}")
        self._flows[name] = flow

    def _arriving(self, name: str) -> _Flow:
        """The sum of what a node's sources put out."""
        flows = [self._flows[source] for source in self.before[name]]
        if not flows or len({flow.shape for flow in flows}) > 1:
            raise ValueError(f"{name}: expected sources of one shape, got {[flow.shape for flow in flows]}")
        sources = tuple(source for flow in flows for source in flow.sources)
        return _Flow(flows[0].shape, sources, len(flows) > 1 or flows[0].values)

    def _convolution(self, name: str, node: Any, flow: _Flow) -> _Flow:
        outputs, inputs, *kernel = _integers(node.weight.shape)
        groups, (stride, *strides), dilation = int(node.groups), _pair(node.stride), _pair(node.dilation)
        padding = _padding(name, node.padding, kernel)
        if set(strides) != {stride} or set(dilation) != {1}:
            raise ValueError(
                f"{name}: expected one stride for both axes and no dilation, got {node.stride}, {dilation}"
            )
        channels, *sides = flow.shape
        if channels != inputs * groups or len(sides) != len(kernel):
            raise ValueError(f"{name}: expected an input of {inputs * groups} maps, got {flow.shape}")
        out = tuple((side + 2 * padding - k) // stride + 1 for side, k in zip(sides, kernel, strict=True))
        geometry = Geometry(channels, outputs, _both(sides), _both(out), _both(kernel), groups)
        return self._layer(name, flow, (outputs, *out), geometry, Window(stride, padding))

    def _layer(self, name: str, flow: _Flow, shape: tuple[int, ...], g: Geometry, window: Window) -> _Flow:
        """Add a synapse with the neurons that follow it."""
        key = name.replace(".", "_")  # as `from_nir` names its layers
        static = self.static and not flow.sources
        self.layers[key] = Geometry(
            g.in_channels, g.out_channels, g.in_size, g.out_size, g.kernel, g.groups, self.steps,
            static=static, sources=flow.sources,
        )  # fmt: skip
        self.windows[key] = window
        following = self.after[name]
        if len(following) != 1 or self.kind(following[0]) not in (*_FIRING, *_SILENT, "Output"):
            raise ValueError(f"{name}: expected neurons after it and nothing else, got {following}")
        if flow.values or _carried_values(self.nodes[following[0]]):
            self.values.add(key)
        fires = self.kind(following[0]) in _FIRING
        if not fires:
            self.readouts.add(key)
        return _Flow(shape, (key,), values=not fires)


def _carried_values(node: Any) -> bool:
    """Whether neurons that `to_nir` wrote say that their synapse takes values."""
    text = getattr(node, "metadata", {}).get(_METADATA)
    return text is not None and bool(json.loads(text)["analog_input"])


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _both(sides: Any) -> tuple[int, int]:
    rows, columns = _integers(sides)
    return rows, columns


def _pair(value: Any) -> tuple[int, int]:
    return (int(value),) * 2 if getattr(value, "ndim", 0) == 0 and not isinstance(value, tuple) else _both(value)


def _padding(name: str, padding: Any, kernel: list[int]) -> int:
    said = padding.decode() if isinstance(padding, bytes) else padding
    sides = tuple(side // 2 if said == "same" else 0 for side in kernel) if isinstance(said, str) else _pair(said)
    if len(set(sides)) != 1 or (said == "same" and kernel[0] % 2 == 0):
        raise ValueError(
            f"{name}: expected one padding for both axes, and an odd kernel where it is 'same', got {said}"
        )
    return sides[0]
