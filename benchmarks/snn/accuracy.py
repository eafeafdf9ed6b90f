"""Accuracy after equal training: against another library on digits, and norm against norm on video."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.snn.nets import DIGITS
from benchmarks.snn.ours import Norm, OurTrainer, Variant
from benchmarks.snn.peers import PeerTrainer
from benchmarks.snn.trainers import Trainer
from neuro_engine.chip import Chip
from neuro_engine.core_group import CoreGroup
from neuro_engine.layers import SpikingConv2d
from neuro_engine.network import SpikingNetwork
from neuro_engine.synapse import ConvSynapse
from workloads.video_classification import WORKLOAD

OURS = "NeuroFed"
EPOCHS = 3
_TEST_BATCH = 250


def digits_folder() -> Path:
    """Where the MNIST test digits are, if they are."""
    return Path(os.environ.get("NEUROFED_DATA", "../shared/data")) / "video" / "mnist_t10k"


def _idx(path: Path, header: int) -> Tensor:
    """The bytes of an IDX file behind its header."""
    return torch.from_numpy(np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header).copy())


Examples = tuple[Tensor, Tensor]
"""Images and class numbers."""


def digits(train: int, test: int) -> tuple[Examples, Examples]:
    """Images (N, 1, 28, 28) of spread 1 and class numbers (N,): the first to train with, the last to test on."""
    folder = digits_folder()
    images = _idx(folder / "t10k-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28).float()
    images = (images - images.mean()) / images.std()
    labels = _idx(folder / "t10k-labels-idx1-ubyte.gz", 8).long()
    return (images[:train], labels[:train]), (images[-test:], labels[-test:])


RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
"""Learning rates to choose from. Standardised weights are scale-free, so no rate is the same for both."""
_HELD_OUT = 1000
_CHOOSING_SEED = 100


def _over_time(images: Tensor) -> Tensor:
    return images.expand(DIGITS.steps, *images.shape)


def choose_rate(library: str, *, train: int, rates: Iterable[float] = RATES) -> float:
    """The learning rate with which a library does best on digits held out of the training digits.

    Args:
        library: as of `train_digits`.
        train: digits to train with, the held out among them.
        rates: to choose from.
    """
    held_out = min(_HELD_OUT, train // 2)
    (images, labels), _ = digits(train, 1)
    parts = (images[:-held_out], labels[:-held_out]), (images[-held_out:], labels[-held_out:])
    return max(rates, key=lambda lr: _train(library, _CHOOSING_SEED, lr, *parts))


def train_digits(library: str, seed: int, lr: float, *, train: int, test: int) -> float:
    """Accuracy on the test digits after some epochs.

    Args:
        library: one of `peers.LIBRARIES`, or `OURS`: weight-standardised, fp16, counting.
        seed: of the weights and of the order of the examples.
        lr: learning rate of Adam.
        train: digits to train with.
        test: digits to test on.
    """
    return _train(library, seed, lr, *digits(train, test))


def _train(library: str, seed: int, lr: float, seen: Examples, unseen: Examples) -> float:
    (images, labels), (test_images, test_labels) = seen, unseen

    def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
        return torch.optim.Adam(parameters, lr=lr)

    torch.manual_seed(seed)
    trainer: Trainer
    if library == OURS:
        trainer = OurTrainer(Variant("weight", "fp16"), DIGITS, _over_time(images[: DIGITS.batch]), adam)
    else:
        trainer = PeerTrainer(library, DIGITS, adam)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images), generator=generator).split(DIGITS.batch):
            trainer.step(_over_time(images[chosen]), labels[chosen])
    trainer.model.eval()
    right = 0
    with torch.no_grad():
        for some, classes in zip(test_images.split(_TEST_BATCH), test_labels.split(_TEST_BATCH), strict=True):
            right += int((trainer.forward(_over_time(some)).argmax(1) == classes).sum())
    return right / len(test_labels)


def _with_batch_norm(model: SpikingNetwork) -> SpikingNetwork:
    """The same network, with batch normalisation in its convolutions."""

    def twin(layer: nn.Module) -> nn.Module:
        if not isinstance(layer, SpikingConv2d):
            return layer
        assert isinstance(layer.synapse, ConvSynapse)
        outputs, inputs, kernel, _ = layer.weight.shape
        return SpikingConv2d(
            inputs,
            outputs,
            kernel,
            layer.synapse.stride,
            layer.synapse.padding,
            norm="batch",
            neuron=layer.neuron,
            surrogate=layer.surrogate,
            analog_input=layer.analog_input,
        )

    return SpikingNetwork({name: twin(layer) for name, layer in model.layers.items()})


def train_video(norm: Norm, seed: int, *, preset: str, rounds: int) -> float:
    """Accuracy on the test clips of the video workload, trained in one place with the workload's own batches.

    Args:
        norm: "weight" as in the workload, or "batch".
        seed: of weights, clips and their order.
        preset: preset of the workload.
        rounds: rounds of the workload's local epochs.
    """
    task = WORKLOAD.prepare(WORKLOAD.settings(preset, {}), seed)
    model = task.build_model()
    if norm == "batch":
        torch.manual_seed(seed)
        model = _with_batch_norm(model)
    task.calibrate(model)
    group = CoreGroup(model, Chip.load("core20_28nm"), tracing=False)
    for round_number in range(1, rounds + 1):
        optimizer = task.optimizer(model)
        for epoch in range(task.epochs):
            for batch in task.train_batches(0, 1, round_number, epoch):
                group.train_step(batch.inputs, batch.targets, task.loss, optimizer)
    return task.evaluate(model)["accuracy"]
