"""Cycle counts of other tools, and weights that must not depend on the chip."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.nn.functional as F

from neuro_engine.calibration import calibrate
from neuro_engine.chip import Chip
from neuro_engine.chip_schema import Dataflow
from neuro_engine.core_group import CoreGroup
from neuro_engine.cost.arrays import array_work
from neuro_engine.encoding import rate
from neuro_engine.geometry import Geometry
from neuro_engine.layers import Flatten, MaxPool2d, Readout, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.trace import Engine, EngineCount

SCALE_SIM = (
    (34, 64, 64, Dataflow.WEIGHT_STATIONARY, 40247),
    (18, 128, 128, Dataflow.WEIGHT_STATIONARY, 50399),
    (10, 256, 256, Dataflow.WEIGHT_STATIONARY, 91007),
    (10, 16, 48, Dataflow.OUTPUT_STATIONARY, 823),
    (10, 16, 48, Dataflow.INPUT_STATIONARY, 1419),
    (10, 16, 48, Dataflow.WEIGHT_STATIONARY, 1579),
)
"""Measured with SCALE-Sim 3.0.0: side of the input, padding included, channels in and out, dataflow, cycles of a 3 x 3
convolution on 32 x 32 lanes. Its cycles count from 0, so that they are one less."""
SEED = 0
TRAINED_ON = ("single_core", "core20_28nm")


def scale_sim() -> list[dict[str, Any]]:
    """FP in dense mode beside SCALE-Sim."""
    rows = []
    for side, inputs, outputs, dataflow, cycles in SCALE_SIM:
        shape = Geometry(inputs, outputs, (side, side), (side - 2, side - 2), (3, 3))
        count = EngineCount(shape.synapses, shape.synapses)
        ours = array_work(Engine.FP, count, shape, 1, _systolic(dataflow)).cycles - 1
        name = f"{side}x{side}x{inputs} to {outputs}"
        rows.append({"layer": name, "dataflow": dataflow.value, "scale_sim_measured": cycles, "ours_modelled": ours})
    return rows


def _systolic(dataflow: Dataflow) -> Chip:
    """A systolic array of 32 x 32 lanes that skips nothing."""
    return Chip.load("single_core").override(
        {
            "lanes.fp_rows": 32,
            "lanes.fp_columns": 32,
            "dataflow.fp": dataflow.value,
            "dataflow.feed": "systolic",
            "skipping.fp": "dense",
        }
    )


def weights_sha256(chip_name: str, steps: int) -> str:
    """Train a small network on a chip and digest its weights.

    The emulator sums in an order that no chip changes: the number of cores changes the bill and not the numbers.
    """
    torch.manual_seed(SEED)
    network = SpikingNetwork(
        {
            "conv1": SpikingConv2d(2, 16, 3, padding=1),
            "pool": MaxPool2d(2),
            "conv2": SpikingConv2d(16, 32, 3, padding=1),
            "flatten": Flatten(),
            "hidden": SpikingLinear(2048, 64),
            "readout": Readout(64, 10),
        }
    )
    spikes, targets = rate(torch.rand(8, 2, 16, 16), steps=4), torch.randint(10, (8,))
    calibrate(network, spikes)
    group, optimizer = CoreGroup(network, Chip.load(chip_name)), torch.optim.Adam(network.parameters())
    for _ in range(steps):
        group.train_step(spikes, targets, F.cross_entropy, optimizer)
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
