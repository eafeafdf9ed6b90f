"""The spiking layers in an ordinary torch training loop: scikit-learn's digits, no chip and no federation.

python examples/plain_torch_loop.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from neuro_engine.calibration import calibrate
from neuro_engine.encoding import direct
from neuro_engine.layers import Flatten, MaxPool2d, Readout, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.regularisation import collect_spikes, firing_rate, rate_penalty

STEPS, BATCH, EPOCHS = 6, 64, 3

torch.manual_seed(0)
digits = load_digits()
order = torch.randperm(len(digits.target))
images = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)[order]
labels = torch.tensor(digits.target)[order]
train, test = slice(0, 1400), slice(1400, None)

network = SpikingNetwork(
    {
        "conv": SpikingConv2d(1, 8, 3, padding=1, analog_input=True),
        "pool": MaxPool2d(2),
        "flatten": Flatten(),
        "hidden": SpikingLinear(128, 64),
        "readout": Readout(64, 10),
    }
)
calibrate(network, direct(images[train][:BATCH], STEPS), target_rate=0.15)  # else deep layers may be silent
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)

for epoch in range(EPOCHS):
    for chosen in torch.randperm(len(images[train])).split(BATCH):
        with collect_spikes(network) as spikes:
            logits = network(direct(images[train][chosen], STEPS))
        loss = F.cross_entropy(logits, labels[train][chosen]) + rate_penalty(spikes, target=0.1, weight=5.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad(), collect_spikes(network) as spikes:
        right = network(direct(images[test], STEPS)).argmax(1) == labels[test]
    rates = ", ".join(f"{firing_rate(s).item():.1%}" for s in spikes)
    print(f"epoch {epoch + 1}: accuracy {right.float().mean().item():.1%}, firing rates {rates}")
