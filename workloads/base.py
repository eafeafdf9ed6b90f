"""What a workload is: a model, its data, and how both are divided over a federation.

A workload is installed through the entry-point group `neurofed.workloads`, which names an object that satisfies
`Workload`. Its module must import without torch, so that listing workloads and reading settings stays fast; `prepare`
may import what it likes.

Workers and the aggregator never exchange data or random states. Each calls `prepare(settings, seed)` and must arrive at
the same task, so everything a task returns is a pure function of its arguments, the settings and the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from neurofed import metrics

if TYPE_CHECKING:
    import torch

    from neuro_engine.network import SpikingNetwork


class HasRounds(Protocol):
    """What the settings of every workload have."""

    @property
    def rounds(self) -> int:
        """Federated rounds, unless the run says otherwise."""


S = TypeVar("S", bound=HasRounds)


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples that are trained on or evaluated together."""

    inputs: torch.Tensor
    """(T, B, C, H, W) float32, time first: one frame for each time step of the network."""
    targets: torch.Tensor
    """(B,) int64 class numbers."""

    @property
    def size(self) -> int:
        """Number of examples, B."""
        return self.targets.shape[0]


class FederatedTask(Protocol):
    """One workload with its settings and seed fixed: what a run trains."""

    @property
    def epochs(self) -> int:
        """Passes over its partition that a worker makes in a round."""

    @property
    def precision(self) -> str:
        """Number format in which workers train, see `neuro_engine.precision`."""

    def build_model(self) -> SpikingNetwork:
        """A fresh initial model: equal parameters at every call and on every machine."""

    def calibrate(self, model: SpikingNetwork) -> None:
        """Sets the gain of each layer in place, once, on the initial global model.

        Uses data that anyone can make and that belongs to no partition.
        """

    def partition_sizes(self, partitions: int) -> list[int]:
        """Number of training examples in each of `partitions` parts.

        Raises:
            ConfigError: if there are fewer examples than partitions.
        """

    def train_batches(self, partition: int, partitions: int, round_number: int, epoch: int) -> Iterator[Batch]:
        """One pass over a partition, in an order that depends on the seed and the four arguments only.

        Args:
            partition: which part, from 0.
            partitions: into how many parts the training set is divided.
            round_number: the federation's round, from 1.
            epoch: the pass within the round, from 0 to `epochs - 1`.
        """

    def test_batches(self) -> Iterator[Batch]:
        """The test set, the same at every call."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss of a batch, a scalar, from the model's outputs (B, classes) and the targets (B,)."""

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer; a worker makes one for each round, so that a round has no hidden state."""

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """Scores on the test set, named as in `neurofed.metrics`."""


@runtime_checkable
class Workload(Protocol[S]):
    """A workload as it is installed; `S` is its settings, a frozen dataclass."""

    @property
    def name(self) -> str:
        """The name of its entry point."""

    @property
    def summary(self) -> str:
        """One line for the list of workloads."""

    @property
    def presets(self) -> Mapping[str, S]:
        """Named settings; `small` is the default and has to exist."""

    def settings(self, preset: str, overrides: Mapping[str, str]) -> S:
        """The settings of a preset with some of them replaced.

        Args:
            preset: a key of `presets`.
            overrides: text by setting, for example `{"lr": "0.01"}`.

        Raises:
            UnknownNameError: if there is no such preset.
            UnknownSettingError: if there is no such setting.
            ConfigError: if a value does not have its setting's type or range.
        """

    def prepare(self, settings: S, seed: int) -> FederatedTask:
        """Makes the task; equal arguments give equal tasks on every machine."""


def evaluate_classifier(
    model: torch.nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> dict[str, float]:
    """Accuracy and mean loss of a classifier, without gradients.

    Args:
        model: maps (T, B, C, H, W) to (B, classes); its training mode is left as it was.
        batches: what to evaluate on, at least one example.
        loss: mean loss of a batch.

    Returns:
        `accuracy` and `loss`, both means over examples.
    """
    import torch

    training = model.training
    model.eval()
    right, total, summed = 0, 0, 0.0
    with torch.no_grad():
        for batch in batches:
            outputs = model(batch.inputs)
            summed += float(loss(outputs, batch.targets)) * batch.size
            right += int((outputs.argmax(dim=1) == batch.targets).sum())
            total += batch.size
    model.train(training)
    return {metrics.ACCURACY: right / total, metrics.LOSS: summed / total}
