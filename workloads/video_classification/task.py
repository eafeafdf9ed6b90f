"""The federated task: who trains on which clips, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neuro_engine.calibration import calibrate
from neuro_engine.network import SpikingNetwork
from workloads import partition
from workloads.base import Batch, evaluate_classifier
from workloads.moving_actions import CLASSES, MovingActions, Split, labels
from workloads.samples import Sample
from workloads.settings import require
from workloads.video_classification.model import build
from workloads.video_classification.settings import Settings

# Streams of random numbers that must not repeat each other; the first number after the seed tells them apart.
_PARTITION, _ORDER = 101, 102
_CALIBRATION_CLIPS = 4 * len(CLASSES)
_TEST_BATCH = 120
_SAMPLES = 6


class VideoClassification:
    """Classifies MovingActions clips; satisfies `workloads.base.FederatedTask`."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._clips = MovingActions(seed, settings.frames, settings.size)

    @property
    def epochs(self) -> int:
        """Passes over its partition that a worker makes in a round."""
        return self._settings.local_epochs

    @property
    def precision(self) -> str:
        """Number format in which workers train."""
        return self._settings.precision

    def build_model(self) -> SpikingNetwork:
        """A fresh initial model, equal at every call; torch's own generator is left as it was."""
        s = self._settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            return build(
                classes=len(CLASSES),
                size=s.size,
                channels=s.channels,
                leak=s.leak if s.carry_state else 0.0,
            )

    def calibrate(self, model: SpikingNetwork) -> None:
        """Sets the layers' gains in place, on clips of scans that neither training nor test uses."""
        batch = self._batch("calibration", range(_CALIBRATION_CLIPS))
        calibrate(model, batch.inputs)

    def partition_sizes(self, partitions: int) -> list[int]:
        """Clips in each part.

        Raises:
            ConfigError: if there are fewer clips than partitions.
        """
        return [len(part) for part in self._parts(partitions)]

    def train_batches(self, partition: int, partitions: int, round_number: int, epoch: int) -> Iterator[Batch]:
        """One pass over a partition, in an order that depends on the seed and the four arguments only."""
        s = self._settings
        rng = np.random.default_rng([self._seed, _ORDER, partition, round_number, epoch])
        order = rng.permutation(self._parts(partitions)[partition])
        take = round_number * s.local_epochs + epoch if s.augment else 0
        for start in range(0, len(order), s.batch_size):
            yield self._batch("train", order[start : start + s.batch_size], take)

    def test_batches(self) -> Iterator[Batch]:
        """The test clips in order."""
        for start in range(0, self._settings.test_clips, _TEST_BATCH):
            yield self._batch("test", range(start, min(start + _TEST_BATCH, self._settings.test_clips)))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats, from logits (B, classes) and class numbers (B,)."""
        return nn.functional.cross_entropy(outputs, targets)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer over all parameters."""
        if self._settings.optimizer == "adam":
            return torch.optim.Adam(model.parameters(), lr=self._settings.lr)
        return torch.optim.SGD(model.parameters(), lr=self._settings.lr, momentum=0.9)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy and loss on the test clips."""
        return evaluate_classifier(model, self.test_batches(), self.loss)

    def samples(self, model: nn.Module) -> list[Sample]:
        """Frames of a few test clips, with the class that the model names and the true one."""
        count = min(_SAMPLES, self._settings.test_clips)
        every = self._settings.test_clips // count
        # The classes take turns: from each part of the test set, one clip, of another class where the part has all.
        indices = [i * every + (2 * i - i * every) % min(every, len(CLASSES)) for i in range(count)]
        batch, training = self._batch("test", indices), model.training
        model.eval()
        with torch.no_grad():
            sure, named = model(batch.inputs).softmax(dim=1).max(dim=1)
        model.train(training)
        films = (batch.inputs[:, :, 0].clamp(0, 1) * 255).byte().numpy().swapaxes(0, 1)
        rows = zip(films, batch.targets.tolist(), named.tolist(), sure.tolist(), strict=True)
        return [Sample(_caption(CLASSES[true], CLASSES[said], p), _film(frames)) for frames, true, said, p in rows]

    def _parts(self, partitions: int) -> list[NDArray[np.int64]]:
        s = self._settings
        require(
            1 <= partitions <= s.train_clips,
            f"expected from 1 to {s.train_clips} workers (train_clips), got {partitions}",
        )
        classes = labels(range(s.train_clips))
        rng = np.random.default_rng([self._seed, _PARTITION, partitions])
        if s.partition == "iid":
            return partition.iid(classes, partitions, rng)
        if s.partition == "classes":
            return partition.by_class(classes, partitions, s.classes_per_worker, rng)
        return partition.dirichlet(classes, partitions, s.alpha, rng)

    def _batch(self, split: Split, indices: Sequence[int] | NDArray[np.int64], take: int = 0) -> Batch:
        clips = self._clips.clips(split, indices, take)
        inputs = np.ascontiguousarray(clips.swapaxes(0, 1)[:, :, None])
        return Batch(torch.from_numpy(inputs), torch.from_numpy(labels(indices)))


def _caption(true: str, said: str, probability: float) -> str:
    verdict = "right" if said == true else f"wrong, it is {true}"
    return f"{said} at {100 * probability:.0f} %: {verdict}"


def _film(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (T, S, S) in two rows, in the order of time, with a line between them."""
    framed = np.pad(frames, ((0, len(frames) % 2), (0, 1), (0, 1)), constant_values=96)
    half = len(framed) // 2
    return np.vstack([np.hstack(list(framed[:half])), np.hstack(list(framed[half:]))])[:-1, :-1]
