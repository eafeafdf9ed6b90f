"""Neurons to and from the nodes of NIR, whose neurons are differential equations.

With a step of dt they become the neurons here by forward Euler:

    LIF, LI     leak = 1 - dt / tau          gain = r dt / tau
    IF, I       leak = 1                     gain = r dt
    CubaLIF     leak = 1 - dt / tau_mem      gain = r dt / tau_mem  w_in dt / tau_syn
                synapse_leak = 1 - dt / tau_syn

What NIR does not say (the reset, the surrogate, the last bit of the leak) goes along as metadata of the node.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neuro_engine.neuron import LIF, Reset
from neuro_engine.surrogate import Surrogate

DT = 1e-4
"""Seconds that a time step lasts where nothing else is said, as in most libraries that read NIR."""
_METADATA = "neurofed"
FIRING, SILENT = ("LIF", "IF", "CubaLIF"), ("LI", "I")
"""Names of the nodes that fire, and of those that do not."""


@dataclass(frozen=True, slots=True)
class Population:
    """What a neuron node says.

    Attributes:
        neuron: the neuron's parameters.
        surrogate: derivative of the spike; None where nothing is said of it, as of neurons that never fire.
        analog_input: True where the synapse takes values rather than spikes.
    """

    neuron: LIF
    surrogate: Surrogate | None = None
    analog_input: bool = False


def _constants(neuron: LIF, dt: float, fires: bool) -> tuple[str, dict[str, float]]:
    """The node that a neuron is, by name, and its constants."""
    if neuron.adaptation:
        raise ValueError("expected a neuron without adaptation, which NIR has no node for")
    fired = {"v_threshold": neuron.threshold} if fires else {}
    if not neuron.synapse_leak and neuron.leak == 1.0:
        return ("IF" if fires else "I"), {"r": neuron.gain / dt, **fired}
    if 1.0 in (neuron.leak, neuron.synapse_leak):
        raise ValueError("expected leaks below 1 of a neuron with a synaptic trace: NIR has no IF with one")
    tau = dt / (1.0 - neuron.leak)
    constants = {"r": neuron.gain * tau / dt, "v_leak": 0.0, **fired}
    if not neuron.synapse_leak:
        return ("LIF" if fires else "LI"), {"tau": tau, **constants}
    tau_syn = dt / (1.0 - neuron.synapse_leak)
    return "CubaLIF", {"tau_mem": tau, "tau_syn": tau_syn, "w_in": tau_syn / dt, **constants}


def to_node(nir: Any, population: Population, shape: tuple[int, ...], dtype: np.dtype[Any], dt: float) -> Any:
    """The node of a population.

    Args:
        nir: the package.
        population: the neurons; they never fire where there is no surrogate.
        shape: shape of the population.
        dtype: type of the node's constants.
        dt: seconds that a time step lasts.

    Raises:
        ValueError: if NIR has no node for such a neuron.
    """
    kind, constants = _constants(population.neuron, dt, population.surrogate is not None)
    node = getattr(nir, kind)(**{name: np.full(shape, value, dtype) for name, value in constants.items()})
    node.metadata = {_METADATA: json.dumps(asdict(population))}
    return node


def from_node(name: str, node: Any, dt: float, reset: Reset | None) -> Population:
    """The population of a node.

    Args:
        name: the node's.
        node: a node of `FIRING` or `SILENT`.
        dt: seconds that a time step lasts.
        reset: what a spike does to the membrane where the metadata do not say; None for what the installed nir says.

    Raises:
        ValueError: if the neurons differ, rest or reset to another potential than 0, or are not those of the metadata.
    """
    population = _carried(node)
    if population is None:
        return Population(_euler(name, node, dt, reset))
    kind, constants = _constants(population.neuron, dt, type(node).__name__ in FIRING)
    if kind != type(node).__name__ or not all(
        np.allclose(getattr(node, constant), value, rtol=1e-5, atol=0.0) for constant, value in constants.items()
    ):
        raise ValueError(
            f"{name}: expected the constants that its metadata {_METADATA!r} give for dt={dt}: pass the dt that they "
            f"were written with, or delete the metadata if the constants were changed"
        )
    return population


def _carried(node: Any) -> Population | None:
    text = getattr(node, "metadata", {}).get(_METADATA)
    if text is None:
        return None
    said = json.loads(text)
    surrogate = None if said["surrogate"] is None else Surrogate(**said["surrogate"])
    return Population(LIF(**said["neuron"]), surrogate, said["analog_input"])


def _uniform(name: str, node: Any, constant: str) -> float:
    values = np.unique(getattr(node, constant))
    if values.size != 1:
        raise ValueError(f"{name}: expected one {constant} for all neurons, got {values.min()}..{values.max()}")
    return float(values[0])


def _euler(name: str, node: Any, dt: float, reset: Reset | None) -> LIF:
    """The neuron of a node's constants."""
    for rest in ("v_leak", "v_reset"):
        if np.any(getattr(node, rest, 0.0)):
            raise ValueError(f"{name}: expected a {rest} of 0, got {getattr(node, rest)}")
    kind = type(node).__name__
    membrane = 1.0 if kind in ("IF", "I") else dt / _uniform(name, node, "tau_mem" if kind == "CubaLIF" else "tau")
    synapse = dt / _uniform(name, node, "tau_syn") if kind == "CubaLIF" else 1.0
    gain = _uniform(name, node, "r") * (dt if kind in ("IF", "I") else membrane)
    return LIF(
        leak=1.0 if kind in ("IF", "I") else 1.0 - membrane,
        gain=gain * _uniform(name, node, "w_in") * synapse if kind == "CubaLIF" else gain,
        threshold=_uniform(name, node, "v_threshold") if kind in FIRING else 1.0,
        reset="none" if kind in SILENT else reset or ("hard" if hasattr(node, "v_reset") else "soft"),
        synapse_leak=1.0 - synapse,
    )
