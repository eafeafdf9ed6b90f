"""The network of the stub workload."""

from __future__ import annotations

import torch
from torch import nn

from neuro_engine.layers import Readout
from neuro_engine.network import SpikingNetwork


class Ballast(nn.Module):
    """Numbers to move: passes its input on, and in training is shifted by a little, which depends on the input."""

    values: torch.Tensor

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.linspace(-1.0, 1.0, size_bytes // 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input, unchanged."""
        if self.training:
            self.values.add_(1e-3 + 1e-4 * float(x.mean()))
        return x


def build(seed: int, ballast_bytes: int, features: int, classes: int) -> SpikingNetwork:
    """A readout behind a ballast; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpikingNetwork({"ballast": Ballast(ballast_bytes), "readout": Readout(features, classes, leak=0.0)})
