"""What one training step costs on an emulated chip, by layer and engine: modelled, from counted operations.

python examples/bill_of_a_step.py
"""

import torch
import torch.nn.functional as F

from neuro_engine.calibration import calibrate
from neuro_engine.chip import Chip
from neuro_engine.core_group import CoreGroup
from neuro_engine.encoding import rate
from neuro_engine.layers import Flatten, MaxPool2d, Readout, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork

torch.manual_seed(0)
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
spikes, targets = rate(torch.rand(8, 2, 16, 16), steps=5), torch.randint(10, (8,))
calibrate(network, spikes)

group = CoreGroup(network, Chip.load("core20_28nm"))
step = group.train_step(spikes, targets, F.cross_entropy, torch.optim.Adam(network.parameters()))
assert step.trace is not None

total = group.bill(step.trace)
print("layer    engine   operations  executed    energy  busy cycles  DRAM bytes")
for (layer, engine), part in total.layers.items():
    print(
        f"{layer:<8} {engine:<7} {part.dense_ops:>11,} {part.executed_ops / max(part.dense_ops, 1):>9.1%} "
        f"{part.energy_j * 1e6:>6.2f} µJ {part.cycles:>12,} {part.dram_bytes:>11,}"
    )
print(
    f"step: {total.energy_j * 1e6:.2f} µJ, {total.cycles:,} cycles ({total.seconds(group.chip) * 1e6:.0f} µs), "
    f"{total.dram_total_bytes:,} DRAM bytes, loss {step.loss:.3f}"
)
