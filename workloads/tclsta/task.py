"""The federated task: who trains on which clips in which stage, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuro_engine.calibration import calibrate
from neurofed import metrics
from workloads import partition
from workloads.base import Batch
from workloads.samples import Sample
from workloads.settings import require
from workloads.tclsta.host import HOST_MACS, host_macs
from workloads.tclsta.model import TwoStreams, build
from workloads.tclsta.pictures import show
from workloads.tclsta.settings import Settings
from workloads.tclsta.sources import Clips, open_source
from workloads.tclsta.stages import Clock, Stage, stage_of

# Streams of random numbers that must not repeat each other; the first number after the seed tells them apart.
_PARTITION, _ORDER, _NOISE = 101, 102, 103
_CALIBRATION_CLIPS = 48
_TEST_BATCH = 120
_SAMPLES = 6


class Tclsta:
    """Classifies clips with two streams; satisfies `workloads.base.FederatedTask`.

    Rounds have stages (`workloads.tclsta.stages`). Drawing a round's batches sets the stage of the models that this
    task built: between `train_batches` and the training on what it gave, no other round may be drawn.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self.source = open_source(settings, seed)
        self.clock = Clock()
        self._seed = seed

    @property
    def epochs(self) -> int:
        """Passes over its partition that a worker makes in a round."""
        return self.settings.local_epochs

    @property
    def precision(self) -> str:
        """Number format in which workers train."""
        return self.settings.precision

    def build_model(self) -> TwoStreams:
        """A fresh initial model, equal at every call; torch's own generator is left as it was."""
        s = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            return build(
                classes=len(self.source.classes),
                channels=s.channels,
                hidden=s.hidden,
                leak=s.leak if s.carry_state else 0.0,
                temporal=s.temporal,
                weighted_pool=s.weighted_pool,
                collaboration=s.collaboration,
                clock=self.clock,
            )

    def calibrate(self, model: nn.Module) -> None:
        """Sets the backbones' gains in place, on clips of scans that neither training nor test uses.

        They are clips also where the task's examples are recordings, which belong to somebody.
        """
        clips = Clips(dataclasses.replace(self.settings, data="actions12"), self._seed)
        calibrate(model, torch.from_numpy(clips.inputs("calibration", range(_CALIBRATION_CLIPS))))

    def partition_sizes(self, partitions: int) -> list[int]:
        """Clips in each part.

        Raises:
            ConfigError: if there are fewer clips than partitions.
        """
        return [len(part) for part in self._parts(partitions)]

    def train_batches(self, partition: int, partitions: int, round_number: int, epoch: int) -> Iterator[Batch]:
        """One pass over a partition, in an order that depends on the seed and the four arguments only.

        Sets the clock to the round's stage.
        """
        s = self.settings
        where = (partition, round_number, epoch)
        self.clock.stage = stage_of(s, round_number)
        self.clock.noise.manual_seed(int(np.random.SeedSequence([self._seed, _NOISE, *where]).generate_state(1)[0]))
        rng = np.random.default_rng([self._seed, _ORDER, *where])
        order = rng.permutation(self._parts(partitions)[partition])
        take = round_number * s.local_epochs + epoch if s.augment else 0
        for start in range(0, len(order), s.batch_size):
            chosen = order[start : start + s.batch_size]
            inputs = torch.from_numpy(self.source.inputs("train", chosen, take))
            yield Batch(inputs, torch.from_numpy(self.source.labels("train")[chosen]))

    def test_batches(self) -> Iterator[Batch]:
        """The test clips in order."""
        labels = self.source.labels("test")
        for start in range(0, len(labels), _TEST_BATCH):
            chosen = np.arange(start, min(start + _TEST_BATCH, len(labels)))
            yield Batch(torch.from_numpy(self.source.inputs("test", chosen)), torch.from_numpy(labels[chosen]))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over clips of the sum over heads of the cross-entropy, in nats.

        Args:
            outputs: log-probabilities, (B, R, K) of the R heads that a stage trains or (B, K) of the final score.
            targets: (B,) class numbers.
        """
        heads = outputs if outputs.dim() == 3 else outputs.unsqueeze(1)
        chosen = targets.view(-1, 1, 1).expand(-1, heads.shape[1], 1)
        return -heads.gather(2, chosen).sum((1, 2)).mean()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer over all parameters; in the joint stage its learning rate is lowered."""
        s = self.settings
        optimizer: torch.optim.Optimizer
        if s.optimizer == "adam":
            optimizer = torch.optim.Adam(model.parameters(), lr=s.lr)
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=s.lr, momentum=0.9)

        def by_stage(stepping: torch.optim.Optimizer, *_: Any) -> None:
            factor = s.joint_lr_factor if self.clock.stage is Stage.JOINT else 1.0
            for group in stepping.param_groups:
                group["lr"] = s.lr * factor

        optimizer.register_step_pre_hook(by_stage)
        return optimizer

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Scores on the test clips: of the final verdict, and as `accuracy/PART` of what leads to it."""
        assert isinstance(model, TwoStreams)
        training = model.training
        model.eval()
        right: dict[str, int] = {}
        total, summed = 0, 0.0
        for batch in self.test_batches():
            for name, probability in parts(model, batch.inputs).items():
                right[name] = right.get(name, 0) + int((probability.argmax(1) == batch.targets).sum())
                if not name:
                    summed += float(self.loss(probability.clamp_min(1e-38).log(), batch.targets)) * batch.size
            total += batch.size
        model.train(training)
        scores = {f"{metrics.ACCURACY}/{name}" if name else metrics.ACCURACY: n / total for name, n in right.items()}
        macs = host_macs(model, self.settings.frames, self.settings.size)
        return {**scores, metrics.LOSS: summed / total, **{f"{HOST_MACS}/{k}": float(v) for k, v in macs.items()}}

    @torch.no_grad()
    def samples(self, model: nn.Module) -> list[Sample]:
        """A few test clips with what each stream sees, which frames it attends to, and the verdict."""
        assert isinstance(model, TwoStreams)
        labels = self.source.labels("test")
        _, chosen = np.unique(labels, return_index=True)
        chosen = chosen[:: max(1, len(chosen) // _SAMPLES)][:_SAMPLES]
        inputs, training = torch.from_numpy(self.source.inputs("test", chosen)), model.training
        model.eval()
        view = model.view(inputs)
        model.train(training)
        return show(inputs, view, self.source.classes, labels[chosen])

    def _parts(self, partitions: int) -> list[NDArray[np.int64]]:
        s, classes = self.settings, self.source.labels("train")
        require(
            1 <= partitions <= len(classes),
            f"expected from 1 to {len(classes)} workers, one training clip each, got {partitions}",
        )
        rng = np.random.default_rng([self._seed, _PARTITION, partitions])
        if s.partition == "iid":
            return partition.iid(classes, partitions, rng)
        return partition.dirichlet(classes, partitions, s.alpha, rng)


def parts(model: TwoStreams, inputs: Tensor) -> dict[str, Tensor]:
    """Probabilities (B, K) of the final score, under the empty name, and of what leads to it."""
    view = model.view(inputs)
    found = {"": view.probability, "static": view.static.probability, "motion": view.motion.probability}
    for name, stream in (("static", view.static), ("motion", view.motion)):
        found[f"{name}/connection"] = stream.connection
        found[f"{name}/spatial"] = stream.saliency
        found[f"{name}/temporal"] = stream.temporal
    return found
