"""What the cost model has to know of a network."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from neuro_engine.cost.networks.window import Window, inside_synapses
from neuro_engine.geometry import Geometry
from neuro_engine.trace import Engine, TensorClass, Trace

PARAMETERS_PER_CHANNEL: Mapping[str, int] = MappingProxyType(
    {"weight": 2, "batch": 2, "threshold": 2, "affine": 0, "none": 1}
)
"""Trained parameters beside the weights, per output channel, by the norms of `neuro_engine.layers.norms`: gain and
bias; gamma and beta (twice); none, as scale and shift are fixed; a bias."""
BATCH_NORMS = ("batch", "threshold")
"""Norms by the statistics of the batch, whose gradient is dense."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """A network as the shapes of its layers, in the order in which they run.

    Attributes:
        name: the network's.
        layers: the shape of each layer's synapses; see `sources` for what it reads.
        norm: what stands between weights and neurons, see `neuro_engine.layers.norms`; readouts have a bias instead.
        values: layers whose input is values and not spikes: analog input, sums of branches, means.
        readouts: layers that integrate and never fire.
        windows: stride and padding of layers whose sizes alone do not tell (`Window.of`).
        description: one line for people.
        source: where the shapes come from.

    Raises:
        ValueError: an unknown norm, a name that is no layer, or a source that does not come before its reader.
    """

    name: str
    layers: Mapping[str, Geometry]
    norm: str = "weight"
    values: frozenset[str] = frozenset()
    readouts: frozenset[str] = frozenset()
    windows: Mapping[str, Window] = field(default_factory=dict)
    description: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError(f"network {self.name!r}: expected at least one layer, got none")
        if self.norm not in PARAMETERS_PER_CHANNEL:
            known = sorted(PARAMETERS_PER_CHANNEL)
            raise ValueError(f"network {self.name!r}: expected a norm of {known}, got {self.norm!r}")
        for name in (*self.values, *self.readouts, *self.windows):
            if name not in self.layers:
                raise ValueError(f"network {self.name!r}: no layer {name!r}{nearest(name, self.layers)}")
        before: set[str] = set()
        for name, geometry in self.layers.items():
            for source in geometry.sources:
                if source not in before:
                    raise ValueError(f"network {self.name!r}: layer {name!r} reads {source!r}, which is not before it")
            before.add(name)

    @classmethod
    def of_trace(cls, trace: Trace, name: str = "traced", norm: str = "weight") -> NetworkShape:
        """The network that filled a trace; the trace does not tell its norm.

        Raises:
            ValueError: a layer was not described, or as in the constructor.
        """
        for layer in trace.layers:
            if layer not in trace.geometry:
                raise ValueError(f"network {name!r}: layer {layer!r}: expected a trace with its geometry, got none")
        forward = {layer: trace.count(layer, Engine.FP) for layer in trace.layers}
        values = frozenset(layer for layer, count in forward.items() if count.multiplies)
        readouts = frozenset(layer for layer, count in forward.items() if TensorClass.SPIKES not in count.writes)
        return cls(name, dict(trace.geometry), norm, values, readouts, source="measured: the geometry of a trace")

    @property
    def normalised_by_batch(self) -> bool:
        """True where the statistics of the batch enter the current, so that its gradient is dense."""
        return self.norm in BATCH_NORMS

    def sources(self, layer: str) -> tuple[str, ...]:
        """The layers whose outputs a layer reads, added up where there are several; none for the network's input.

        Where the geometry names none, it is the layer before.
        """
        if self.layers[layer].sources:
            return self.layers[layer].sources
        names = tuple(self.layers)
        place = names.index(layer)
        return names[place - 1 : place] if place else ()

    @property
    def weights(self) -> int:
        """Weights of all layers."""
        return sum(geometry.weights for geometry in self.layers.values())

    def parameters(self, layer: str) -> int:
        """Trained parameters of a layer: weights, and what the norm adds; a learned leak is left out."""
        geometry = self.layers[layer]
        per_channel = PARAMETERS_PER_CHANNEL["none" if layer in self.readouts else self.norm]
        return geometry.weights + per_channel * geometry.out_channels

    def inside(self, layer: str) -> int:
        """Synaptic operations of one sample in one step whose input and output both exist."""
        return inside_synapses(self.layers[layer], self.windows.get(layer))


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of an error: the name that was probably meant, or all of them."""
    names = tuple(names)
    near = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; expected one of {', '.join(names)}"
