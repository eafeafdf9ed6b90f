"""How sparse a network's tensors are: assumed, measured from a trace, or read from a file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from neuro_engine.cost.networks import NetworkShape
from neuro_engine.cost.networks.shape import nearest
from neuro_engine.trace import Engine, TensorClass, TensorCount, Trace

SPIKE_RATE = 0.15
GRADIENT_DENSITY = 0.4
"""Assumed where nothing was measured: what our own study of the literature took (issue 5), not measured. Small
networks of ours had firing rates of 0.03 to 0.22 and, without batch normalisation, densities of 0.16 to 0.50."""


class Density(NamedTuple):
    """Fractions of a layer's tensors that are not zero."""

    input: float
    spikes: float
    gradient: float
    surrogate: float


@dataclass(frozen=True, slots=True)
class LayerSparsity:
    """What is known of one layer; None where nothing is.

    Attributes:
        input_density: fraction of its input that is not zero, after pooling and adding of branches.
        spike_rate: fraction of its neuron-steps that fire.
        gradient_density: fraction of its current's gradient that is not zero, as it reaches the synapse: after the
            norm, and summed over time where the current is the same in every step.
        surrogate_density: fraction of the neuron-steps that want the error from BP: those with a surrogate gradient,
            or a membrane gradient of a later step to pass on. A trace does not hold it.

    Raises:
        ValueError: a fraction outside [0, 1].
    """

    input_density: float | None = None
    spike_rate: float | None = None
    gradient_density: float | None = None
    surrogate_density: float | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            _check_fraction(entry.name, getattr(self, entry.name))


@dataclass(frozen=True, slots=True)
class Sparsity:
    """How sparse a network's tensors are: for all layers, and for some of them.

    Where a layer's input was not measured, it is what its sources fire. A sum of branches, a pool and a mean are zero
    only where all that enters is, and so is a gradient that is summed over time. What enters is taken as independent,
    which overstates: pooled inputs of two small networks, trained, had 0.84 to 0.91 of the density that this gives,
    where the rate without pooling would be 0.30 to 0.38 of it (measured once).

    Attributes:
        spike_rate: fraction of the neuron-steps that fire.
        gradient_density: fraction of the currents' gradients that is not zero.
        surrogate_density: see `LayerSparsity`; 1.0 knows of none that is not wanted.
        input_density: fraction of the network's own input that is not zero.
        layers: what is known of single layers.
        origin: where the figures come from: "assumed", "measured" or "given", and more.

    Raises:
        ValueError: a fraction outside [0, 1].
    """

    spike_rate: float = SPIKE_RATE
    gradient_density: float = GRADIENT_DENSITY
    surrogate_density: float = 1.0
    input_density: float = 1.0
    layers: Mapping[str, LayerSparsity] = field(default_factory=dict)
    origin: str = "assumed"

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            _check_fraction(name, getattr(self, name))

    @classmethod
    def assumed(cls, shape: NetworkShape) -> Sparsity:
        """The assumption where nothing was measured: gradients are dense after normalisation by batch."""
        return cls(gradient_density=1.0 if shape.normalised_by_batch else GRADIENT_DENSITY)

    @classmethod
    def measured(cls, trace: Trace) -> Sparsity:
        """The sparsity that a trace shows, layer by layer."""
        return cls(layers={layer: _measured(trace, layer) for layer in trace.layers}, origin="measured: a trace")

    @classmethod
    def load(cls, path: str | Path) -> Sparsity:
        """Read a `.toml` or `.json` file: the attributes as keys, those of a layer in the table `layers.NAME`.

        Raises:
            ValueError: the file cannot be read, or a key is unknown or no fraction.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:  # neither JSON nor TOML, or not UTF-8
            raise ValueError(f"{path}: not a {path.suffix.lstrip('.') or 'TOML'} file: {error}") from None
        try:
            return _from_table(table, f"given: {path.name}")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def table(self) -> dict[str, Any]:
        """The sparsity as `load` reads it, for a JSON file."""
        layers = {name: {k: v for k, v in asdict(of).items() if v is not None} for name, of in self.layers.items()}
        return {**{name: getattr(self, name) for name in _NUMBERS}, "layers": layers}

    def density(self, shape: NetworkShape, layer: str) -> Density:
        """What holds for one layer of a network."""
        known, sources = self.layers.get(layer, LayerSparsity()), shape.sources(layer)
        geometry, silent = shape.layers[layer], 1.0
        for source in sources:
            rate = _or(self.layers.get(source, LayerSparsity()).spike_rate, self.spike_rate)
            pooled = shape.layers[source].neurons / geometry.inputs
            silent *= (1.0 - rate) ** max(pooled, 1.0)
        gradient = 1.0 if layer in shape.readouts else self.gradient_density  # a membrane has no surrogate
        if geometry.static:
            gradient = 1.0 - (1.0 - gradient) ** geometry.steps
        return Density(
            _or(known.input_density, 1.0 - silent if sources else self.input_density),
            _or(known.spike_rate, self.spike_rate),
            _or(known.gradient_density, gradient),
            _or(known.surrogate_density, self.surrogate_density),
        )


_NUMBERS = ("spike_rate", "gradient_density", "surrogate_density", "input_density")


def _measured(trace: Trace, layer: str) -> LayerSparsity:
    forward, backward = trace.count(layer, Engine.FP), trace.count(layer, Engine.BP)
    read = forward.reads.get(TensorClass.INPUT) or forward.reads.get(TensorClass.SPIKES)
    return LayerSparsity(
        _fraction(read),
        _fraction(forward.writes.get(TensorClass.SPIKES)),
        _fraction(backward.writes.get(TensorClass.GRADIENT)),
    )


def _fraction(count: TensorCount | None) -> float | None:
    return count.nonzeros / count.elements if count and count.elements else None


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _check_fraction(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: expected a fraction in [0, 1], got {value!r}")


def _from_table(table: object, origin: str) -> Sparsity:
    numbers = _known(table, (*_NUMBERS, "layers"), "sparsity")
    layers = {}
    for name, entry in _known(numbers.pop("layers", {}), None, "layers").items():
        values = _known(entry, _LAYER_NUMBERS, f"layers.{name}")
        try:
            layers[name] = LayerSparsity(**values)
        except ValueError as error:
            raise ValueError(f"layers.{name}.{error}") from None
    for name, value in numbers.items():
        if value is None:  # of JSON; for a layer it says that nothing is known
            raise ValueError(f"{name}: expected a fraction in [0, 1], got null")
    return Sparsity(**numbers, layers=layers, origin=origin)


_LAYER_NUMBERS = tuple(entry.name for entry in fields(LayerSparsity))


def _known(table: object, keys: tuple[str, ...] | None, where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ValueError(f"{where}: expected a table, got {table!r}")
    for key in table:
        if keys is not None and key not in keys:
            raise ValueError(f"{where}: unknown key {key!r}{nearest(key, keys)}")
    return dict(table)
