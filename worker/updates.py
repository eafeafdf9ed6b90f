"""A worker's side of codecs: its updates in few bytes, and the model that it holds between rounds.

What was not sent is kept and added to the next update (error feedback, Seide et al. 2014), so that it is late, not
lost. It is kept as it was after each round: a task that is done twice begins twice with the same, and gives the same
bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from neurofed import codecs, metrics
from neurofed.codecs.base import Bytes, Change, Codec, Context, Model, applied, difference, digest
from neurofed.errors import DataError
from neurofed.tensors import Array

_REST, _MEMORY = "rest/", "memory/"
"""Before the names of what was not sent, and of what the codec wants back: no parameter has a slash in its name."""
_UPDATE, _MODEL = "codec-update", "codec-model"
"""What the states are called."""


def activity(numbers: Mapping[str, float], model: Model) -> dict[str, float]:
    """How often an element of each tensor has a gradient, as counted while training.

    A weight's gradient is a sum of products of a spike that came in and a gradient of the neuron, so it moves as often
    as the two coincide; a bias or a gain as often as there is a gradient. A layer without a count of incoming spikes
    gets values that are no spikes.

    Args:
        numbers: as reported with an update, in the order of the layers.
        model: tensors by name; a layer's name is the part before the last.

    Returns:
        Numbers by tensor; empty where nothing was counted.
    """
    spikes, before, rates = metrics.parts(numbers, metrics.SPIKE_RATE), 1.0, {}
    for layer, density in metrics.parts(numbers, metrics.GRADIENT_DENSITY).items():
        rates[layer] = density, density * before
        before = spikes.get(layer, 1.0)
    layers = {name: name.rpartition(".")[0].rpartition(".")[2] for name in model}
    return {name: rates[layer][model[name].ndim > 1] for name, layer in layers.items() if layer in rates}


class Kept(Protocol):
    """Where a worker keeps arrays of one run and one part of the data, as they were after each round."""

    def load(self, name: str) -> Mapping[str, Array]:
        """Those of the last round before this one; empty where there are none."""

    def save(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Those after this round."""


class Sender:
    """The updates of a worker.

    Args:
        codec: of the way up.
        feedback: how much of what was not sent is added to the next update.
        kept: where.
    """

    def __init__(self, codec: Codec, feedback: float, kept: Kept) -> None:
        self._codec, self._feedback, self._kept = codec, feedback, kept

    def write(self, model: Model, base: Model, round_number: int, context: Context) -> Bytes:
        """The update that leads from `base` to `model`, and what earlier ones left.

        Args:
            model: after training.
            base: before.
            round_number: the round whose task this is.
            context: what it depends on beside; its memory is filled in here.

        Raises:
            DataError: if the update is not finite.
        """
        change = difference(model, base)
        arrays = self._kept.load(_UPDATE) if not self._codec.lossless else {}
        if self._feedback:
            _add(change, _named(arrays, _REST), np.float32(self._feedback))
        encoded = codecs.write(self._codec, change, round_number, replace(context, memory=_named(arrays, _MEMORY)))
        state: dict[str, Array] = {_MEMORY + name: array for name, array in encoded.memory.items()}
        if self._feedback:
            for name, values in codecs.read(self._codec, encoded.body, base, round_number).items():
                state[_REST + name] = np.subtract(change[name], values, out=change[name])
        if state:
            self._kept.save(_UPDATE, state)
        return encoded.body


class Holder:
    """The model that a worker holds: the last one that it was sent, as it was put together here.

    Args:
        codec: of the way down.
        kept: where it is kept.
        initial: makes the model that every worker can make by itself; it is held before the first round.
    """

    def __init__(self, codec: Codec, kept: Kept, initial: Callable[[], Model]) -> None:
        self._codec, self._kept, self._initial = codec, kept, initial

    def keep(self, model: Model) -> None:
        """Hold a round's model."""
        self._kept.save(_MODEL, model)

    def changed(self, change: Bytes, round_number: int, expected: bytes) -> dict[str, Array] | None:
        """The model of a round, from the one before; it is held from then on.

        Args:
            change: what the aggregator sent.
            round_number: the round.
            expected: the digest of what comes out.

        Returns:
            The model; None where what is held is not what the change is of: then the whole model is needed.
        """
        base = self._kept.load(_MODEL) or self._initial()
        try:
            model = applied(base, codecs.read(self._codec, change, base, round_number))
        except DataError:  # it is of a model of another shape
            return None
        if digest(model) != expected:
            return None
        self.keep(model)
        return model


def _named(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _add(change: Change, rest: Mapping[str, Array], share: np.float32) -> None:
    """Add a share of what is left of earlier updates, where it is of the same model."""
    for name, values in change.items():
        if name in rest and rest[name].shape == values.shape:
            np.add(values, rest[name] * share, out=values)
