"""Federated training of a small spiking network on scikit-learn's digits, in one process: only the rule is real."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.aggregation_attacks.attacks import ATTACKS, Sight, Vector
from neuro_engine.calibration import calibrate
from neuro_engine.encoding import direct
from neuro_engine.layers import Readout, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import triangle
from neurofed.errors import UpdateError
from server.aggregation.base import Memory, Model, Rule, Update
from workloads.parameters import load_state, state_arrays

CLASSES = 10
_STEPS = 3
_HIDDEN = 32
_TEST = 360
_BATCH = 48
_LR, _MOMENTUM = 1.0, 0.5
_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """Examples (B, 64) in 0..1, and their classes (B,)."""

    inputs: Tensor
    targets: Tensor


class Federation:
    """Workers with equal parts of the digits, shuffled; the last of them are the attackers.

    Args:
        workers: how many.
        attackers: how many of them.
        seed: of the shuffling, the initial network and the attackers' noise.
    """

    def __init__(self, workers: int, attackers: int, seed: int) -> None:
        inputs, targets = load_digits(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(targets))
        x = torch.from_numpy(inputs[order] / 16).float()
        y = torch.from_numpy(targets[order]).long()
        self.test = Part(x[:_TEST], y[:_TEST])
        self.parts = [Part(x[_TEST + i :: workers], y[_TEST + i :: workers]) for i in range(workers)]
        self.attackers, self._seed = attackers, seed
        torch.manual_seed(seed)
        self._network = SpikingNetwork(
            {
                "hidden": SpikingLinear(64, _HIDDEN, neuron=LIF(leak=0.5), surrogate=triangle(), analog_input=True),
                "readout": Readout(_HIDDEN, CLASSES),
            }
        )
        calibrate(self._network, direct(self.test.inputs, _STEPS))
        self._initial = state_arrays(self._network)

    def run(self, strategy: Rule[Any], attack: str, rounds: int) -> float:
        """Train and return the accuracy on the test examples, 0 where the model is ruined."""
        model: Model = self._initial
        memory: Memory = {}
        rng, first = np.random.default_rng(self._seed), None
        honest = len(self.parts) - self.attackers
        for number in range(rounds):
            deltas = np.stack([self._train(model, i, number, attack) for i in range(len(self.parts))])
            first = deltas[honest:] if first is None else first
            sent = ATTACKS[attack](Sight(deltas[:honest], deltas[honest:], first, rng))
            state = strategy.init(model, len(self.parts), memory)
            for i, delta in enumerate([*deltas[:honest], *sent]):
                try:
                    state = strategy.add(state, Update(_plus(model, delta), len(self.parts[i].targets)))
                except UpdateError:
                    continue  # its sender is in quarantine, as anywhere
            model, memory = strategy.finish(state), strategy.memory(state)
        return self._accuracy(model)

    def _train(self, model: Model, worker: int, number: int, attack: str) -> Vector:
        """One epoch; what it changes about the model, flat."""
        part, flipped = self.parts[worker], attack == "label-flip" and worker >= len(self.parts) - self.attackers
        load_state(self._network, model)
        optimizer = torch.optim.SGD(self._network.parameters(), lr=_LR, momentum=_MOMENTUM)
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + number * 1009 + worker)
        order = torch.randperm(len(part.targets), generator=generator)
        for batch in order.split(math.ceil(len(order) / math.ceil(len(order) / _BATCH))):
            targets = part.targets[batch]
            optimizer.zero_grad()
            output = self._network(direct(part.inputs[batch], _STEPS))
            cross_entropy(output, CLASSES - 1 - targets if flipped else targets).backward()
            optimizer.step()
        return _flat(state_arrays(self._network)) - _flat(model)

    @torch.no_grad()
    def _accuracy(self, model: Model) -> float:
        load_state(self._network, model)
        output = self._network(direct(self.test.inputs, _STEPS))
        if not bool(torch.isfinite(output).all()):
            return 0.0
        return float((output.argmax(1) == self.test.targets).float().mean())


def _flat(model: Model) -> Vector:
    return np.concatenate([array.reshape(-1) for array in model.values()]).astype(np.float64)


def _plus(model: Model, delta: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float32]]:
    """The model that an update is; what is too large is sent as large as may be, or it would be refused."""
    result, start = {}, 0
    for name, array in model.items():
        piece = delta[start : start + array.size].reshape(array.shape)
        result[name] = np.clip(array + piece, -_MAX, _MAX).astype(np.float32)
        start += array.size
    return result
