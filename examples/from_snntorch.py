"""A network of snnTorch, what it puts out here and there, and what it would cost to train on the chip.

pip install 'neurofed[interop]'
python examples/from_snntorch.py
"""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuro_engine.chip import Chip
from neuro_engine.convert import from_snntorch
from neuro_engine.core_group import CoreGroup

try:
    import snntorch as snn
except ImportError:
    sys.exit("this example needs snnTorch: pip install 'neurofed[interop]'")

torch.manual_seed(0)
theirs = nn.Sequential(
    nn.Conv2d(1, 12, 5),
    nn.MaxPool2d(2),
    snn.Leaky(beta=0.9, threshold=0.4, init_hidden=True),
    nn.Flatten(),
    nn.Linear(12 * 6 * 6, 10),
    snn.Leaky(beta=0.9, threshold=0.2, init_hidden=True),
)
ours = from_snntorch(theirs, analog_input=True)

frames = torch.rand(10, 4, 1, 16, 16)  # time first: (T, B, C, H, W)
with torch.no_grad():
    expected, spikes = torch.stack([theirs(frame) for frame in frames]), ours(frames)
print(f"spikes: {int(expected.sum())} there, {int(spikes.sum())} here, {int((spikes != expected).sum())} differ")


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the spike counts."""
    return F.cross_entropy(outputs.sum(0), targets)


group = CoreGroup(ours, Chip.load("core20_28nm"))
step = group.train_step(frames, torch.tensor([3, 1, 4, 1]), loss, torch.optim.Adam(ours.parameters()))
assert step.trace is not None
bill = group.bill(step.trace)
print(f"a training step: {bill.energy_j * 1e6:.2f} µJ, {bill.cycles:,} cycles, {bill.dram_total_bytes:,} DRAM bytes")
