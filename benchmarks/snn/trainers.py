"""What a contestant is to the measurements: something that makes training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


def sgd(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer of all steps that are timed."""
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)


@dataclass(frozen=True, slots=True)
class Activity:
    """How much there was to do in a step.

    Attributes:
        rates: fraction of neuron-steps that fired, by layer; empty for the readout.
        densities: fraction of the gradients of the synapse's output that are not zero, by layer.
    """

    rates: dict[str, float]
    densities: dict[str, float]


class Trainer(Protocol):
    """A net in some library, with its optimizer."""

    @property
    def model(self) -> nn.Module:
        """The net."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (T, B, C, H, W) to logits (B, classes)."""

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """Forward, backward and update with the mean cross-entropy."""

    def observe(self, inputs: Tensor, targets: Tensor) -> Activity:
        """Make a step and look at it; not to be timed."""
