"""The federated task: sums of outer products of private patches, taken by the weight-gradient engine.

The model is one linear layer W from z = (x, 1), a patch less its mean, to a vector v that holds z in the block of the
patch's class and zeros in the others, and the squared errors of bicubic and of our interpolation at the patch. The loss
-mean v . W z has the gradient -mean v z^T, and a step of SGD of rate 1 and decay 1 from any W gives

    W = mean v z^T

exactly. Averaged by numbers of patches over the workers, which the aggregator does without rounding in any order, it is
the mean over all patches: per class the second moments, the sums and the share of the patches, from which principal
axes follow, and the pooled squared errors. No patch leaves a worker.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from neuro_engine.layers import Readout
from neuro_engine.network import SpikingNetwork
from neurofed import metrics
from workloads.base import Batch
from workloads.image_metrics import mean_squared_error, psnr_of
from workloads.interpolation import prior, solver
from workloads.interpolation.api import classic, interpolate
from workloads.interpolation.images import Image
from workloads.interpolation.leaves import dead_leaves
from workloads.interpolation.options import Options
from workloads.interpolation.prior import CLASSES, Prior
from workloads.interpolation.settings import Settings
from workloads.settings import require

PSNR, BICUBIC = "psnr-db", "psnr-db/bicubic"
"""Scores on the test images: ours with the global dictionaries, and bicubic."""
PRIVATE, PRIVATE_BICUBIC = "psnr-db/private", "psnr-db/private-bicubic"
"""The same over all private images, pooled; there without dictionaries."""
_TRAIN, _TEST = 201, 202
_WHITE = 255.0
_METHODS = 2


class Interpolation:
    """Gathers statistics of patches; satisfies `workloads.base.FederatedTask`."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._options = Options(passes=settings.passes)
        self._patch = solver.sizes(settings.factor)[1]
        self._inputs = self._patch**2 + 1
        self._side = settings.size - settings.size % settings.factor
        require(
            settings.dp_noise == 0.0 or settings.rounds == 1,
            f"dp_noise: expected rounds = 1, since every round asks the images again, got {settings.rounds}",
        )

    @property
    def epochs(self) -> int:
        """One pass."""
        return 1

    @property
    def precision(self) -> str:
        """Sums in the engines' accumulators, and nothing rounded before."""
        return "fp32"

    def build_model(self) -> SpikingNetwork:
        """The statistics of no patches at all."""
        layer = Readout(self._inputs, CLASSES * self._inputs + _METHODS, leak=0.0, analog_input=True)
        nn.init.zeros_(layer.weight)
        layer.bias.requires_grad_(False)  # its sums are W's last column; with noise on one of them, it would undo it
        return SpikingNetwork({"moments": layer})

    def calibrate(self, model: SpikingNetwork) -> None:
        """Nothing to set."""

    def partition_sizes(self, partitions: int) -> list[int]:
        """Patches in each part, and the rows that carry the noise.

        Raises:
            ConfigError: if there are fewer images than partitions.
        """
        images = self._settings.images
        require(1 <= partitions <= images, f"expected from 1 to {images} workers (images), got {partitions}")
        noise = self._inputs if self._settings.dp_noise else 0
        return [len(range(part, images, partitions)) * self._patches + noise for part in range(partitions)]

    def train_batches(self, partition: int, partitions: int, round_number: int, epoch: int) -> Iterator[Batch]:
        """The patches of a part's images, all in one batch."""
        self.partition_sizes(partitions)
        parts = [self._rows(self._image(_TRAIN, i)) for i in range(partition, self._settings.images, partitions)]
        if self._settings.dp_noise:
            parts.append(self._noise())
        inputs, targets = (torch.cat(rows) for rows in zip(*parts, strict=True))
        yield Batch(inputs[None], targets)

    def test_batches(self) -> Iterator[Batch]:
        """The patches of each test image."""
        for number in range(self._settings.test_images):
            inputs, targets = self._rows(self._image(_TEST, number))
            yield Batch(inputs[None], targets)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Minus the mean product, whose gradient is minus the mean outer product of targets and inputs."""
        return -(outputs * targets).sum() / len(targets)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """One step of it replaces the weights by minus their gradient."""
        return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0, weight_decay=1.0)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Scores on the test images with the model's dictionaries, and what it says of the private images."""
        statistics = next(model.parameters()).detach()
        dictionaries = self.prior(statistics)
        errors = np.mean(
            [self._errors(self._image(_TEST, i), dictionaries) for i in range(self._settings.test_images)], 0
        )
        scores = {metrics.LOSS: float(errors[1]) / _WHITE**2, BICUBIC: psnr_of(errors[0]), PSNR: psnr_of(errors[1])}
        private = statistics[-_METHODS:, -1].clamp(min=0)
        if dictionaries is not None and self._settings.private_scores:
            scores |= {PRIVATE_BICUBIC: psnr_of(float(private[0]), 1.0), PRIVATE: psnr_of(float(private[1]), 1.0)}
        return scores

    def prior(self, statistics: torch.Tensor) -> Prior | None:
        """The dictionaries of a model's weights; None before any patch was counted."""
        moments = statistics[:-_METHODS].view(CLASSES, self._inputs, self._inputs)
        if not moments[:, -1, -1].sum() > 0:
            return None
        unit = torch.full((self._inputs,), _WHITE)
        unit[-1] = 1.0
        return Prior.of_moments(moments * unit * unit[:, None])

    @property
    def _patches(self) -> int:
        """Of one image."""
        return ((self._side - self._patch) // self._settings.factor + 1) ** 2

    def _image(self, stream: int, number: int) -> Image:
        return dead_leaves(np.random.default_rng([self._seed, stream, number]), self._side)

    def _errors(self, image: Image, dictionaries: Prior | None) -> tuple[float, float]:
        """Mean squared errors of bicubic and of ours, of an image that is decimated first."""
        known, factor = (
            np.ascontiguousarray(image[:: self._settings.factor, :: self._settings.factor]),
            self._settings.factor,
        )
        ours = interpolate(known, factor, self._options, prior=dictionaries)
        return mean_squared_error(classic(known, factor), image), mean_squared_error(ours, image)

    def _rows(self, image: Image) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors z and v of all patches of an image, each patch with a mean over the image for its errors."""
        pixels = torch.from_numpy(image.astype(np.float32))
        found = nn.functional.unfold(pixels[None, None], self._patch, stride=self._settings.factor)[0].T
        z = prior.augmented(found)
        z[:, :-1] /= _WHITE
        errors = torch.zeros(_METHODS)
        if self._settings.private_scores:
            errors = torch.tensor(self._errors(image, None)) / _WHITE**2
        if self._settings.dp_noise:
            z[:, :-1] /= z[:, :-1].norm(dim=1, keepdim=True).clamp(min=1.0)
            errors = errors.clamp(max=1.0)
        blocks = nn.functional.one_hot(prior.classify(found), CLASSES).float()[:, :, None] * z[:, None]
        return z, torch.cat([blocks.flatten(1), errors.expand(len(z), -1)], dim=1)

    def _noise(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows whose outer products are one matrix of Gaussian noise, for an image's largest change of the sums.

        |v z^T| <= 2 sqrt 2, since |z|^2 <= 2 and each error is at most 1. The noise comes from the system, not from the
        run's seed, which the aggregator knows.
        """
        generator = torch.Generator().manual_seed(secrets.randbits(63))
        deviation = self._settings.dp_noise * 2.0 * 2.0**0.5 * self._patches
        outputs = CLASSES * self._inputs + _METHODS
        return torch.eye(self._inputs), deviation * torch.randn(self._inputs, outputs, generator=generator)
