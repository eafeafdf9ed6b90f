"""A workload without work: a step takes as long as asked, the model is as large as asked, nothing is learnt.

Yet the new model depends on the old one, the round, the part and the seed, bit for bit, so a run that went another way
ends with other weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from neurofed import metrics
from workloads.base import Batch, FederatedTask, Workload
from workloads.settings import Range, from_preset

if TYPE_CHECKING:
    import torch

    from neuro_engine.network import SpikingNetwork

NAME = "stub"
_FEATURES, _CLASSES, _EXAMPLES = 4, 2, 3


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be set."""

    rounds: Annotated[int, Range(1)] = 5
    """Federated rounds, unless the run says otherwise."""
    model_bytes: Annotated[int, Range(0)] = 4096
    """Size of the ballast that every step shifts; the rest of the model is a few numbers."""
    steps: Annotated[int, Range(1)] = 1
    """Training steps of a round."""
    step_s: Annotated[float, Range(0.0)] = 0.0
    """How long a step takes."""


PRESETS: Mapping[str, Settings] = MappingProxyType({"small": Settings()})


class Stub:
    """Satisfies `workloads.base.FederatedTask`."""

    epochs, precision = 1, "fp32"

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings, self._seed = settings, seed

    def build_model(self) -> SpikingNetwork:
        """A readout behind the ballast."""
        from benchmarks.fleet.stub_model import build

        return build(self._seed, self._settings.model_bytes, _FEATURES, _CLASSES)

    def calibrate(self, model: SpikingNetwork) -> None:
        """Nothing to set."""

    def partition_sizes(self, partitions: int) -> list[int]:
        """The same for all."""
        return [_EXAMPLES] * partitions

    def train_batches(self, partition: int, partitions: int, round_number: int, epoch: int) -> Iterator[Batch]:
        """Batches that depend on the seed, the part, the round and the step."""
        for step in range(self._settings.steps):
            time.sleep(self._settings.step_s)
            yield self._batch(partition, round_number, step)

    def test_batches(self) -> Iterator[Batch]:
        """One batch."""
        yield self._batch(0, 0, 0)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        import torch

        return torch.nn.functional.cross_entropy(outputs, targets)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Gradient descent over the readout; the ballast is no parameter."""
        import torch

        return torch.optim.SGD(model.parameters(), lr=0.1)

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """One number of the model."""
        return {metrics.LOSS: float(model.state_dict()["layers.readout.bias"][0])}

    def _batch(self, *position: int) -> Batch:
        import numpy as np
        import torch

        values = np.random.default_rng([self._seed, *position]).standard_normal((1, _EXAMPLES, _FEATURES), np.float32)
        return Batch(torch.from_numpy(values), torch.arange(_EXAMPLES) % _CLASSES)


@dataclass(frozen=True)
class StubWorkload:
    """Satisfies `workloads.base.Workload`."""

    name: str = NAME
    summary: str = "no work: for benchmarks of the fleet"

    @property
    def presets(self) -> Mapping[str, Settings]:
        """`small` alone."""
        return PRESETS

    def settings(self, preset: str, overrides: Mapping[str, str]) -> Settings:
        """The settings with some of them replaced; errors as in `workloads.base.Workload`."""
        return from_preset(PRESETS, preset, overrides)

    def prepare(self, settings: Settings, seed: int) -> FederatedTask:
        """Makes the task."""
        return Stub(settings, seed)


WORKLOAD: Workload[Settings] = StubWorkload()
"""What the entry point names."""
