"""Bills that guard the model: each network of the catalogue on each shipped chip, in closed form."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import neurofed
from neuro_engine.chip import Chip
from neuro_engine.chip import available as chips
from neuro_engine.claims import NETWORKS
from neuro_engine.cost import cost
from neuro_engine.cost.networks import available, network
from neuro_engine.cost.sparsity import Sparsity
from neuro_engine.cost.synthetic import synthetic_trace
from neuro_engine.profile import needed_fractions

REGENERATE = "python -m benchmarks.chip_model --golden tests/golden/chip_model.json"


def golden() -> dict[str, Any]:
    """All bills, and what they depend on."""
    return {
        "made_by": REGENERATE,
        "version": neurofed.__version__,
        "provenance": "modelled; sparsity assumed; no mapping search, no schedule, no energy of the network on chip",
        "chips": {name: digest(Chip.load(name)) for name in chips()},
        "bills": {name: {chip: bill(name, Chip.load(chip)) for chip in chips()} for name in available()},
    }


def digest(chip: Chip) -> str:
    """SHA-256 of a chip's values."""
    return hashlib.sha256(json.dumps(dict(chip.values), sort_keys=True).encode()).hexdigest()


def bill(name: str, chip: Chip) -> dict[str, Any]:
    """One training step of a network: cycles, pJ by component, DRAM bytes by class, TFLOPS/W."""
    shape = network(name)
    sparsity, batch = Sparsity.assumed(shape), NETWORKS.get(name, 16)
    of = cost(synthetic_trace(shape, sparsity, batch), chip, needed=needed_fractions(shape, sparsity))
    return {
        "batch": batch,
        "cycles": of.cycles,
        "energy_pj": {part.value: joules * 1e12 for part, joules in of.energy_by_component_j.items()},
        "dram_bytes": {tensor.value: size for tensor, size in sorted(of.dram_bytes.items())},
        "efficiencies_tflops_per_w": asdict(of.efficiencies(chip)),
    }
