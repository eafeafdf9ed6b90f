"""How models and updates cross the network in a run: as they are, or as what changed, encoded (`neurofed.codecs`)."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from neurofed import flower
from neurofed.codecs import choose, read
from neurofed.codecs.base import Model, applied
from neurofed.errors import UpdateError
from neurofed.records import ARRAYS, CHANGE, DIGEST, LACKS, MODEL_BYTES, UPDATE
from neurofed.tensors import Array
from server.aggregation.base import Update
from server.downloads import PREFIX, Downloads

Records = dict[str, Any]
"""Flower's array records by name."""


class Wire:
    """The codecs of a run at the aggregator.

    Args:
        codec: the name of that of updates.
        settings: see `neurofed.codecs.Settings`.
        seed: the run's.
        workers: how many have a part in a round.
        initial: makes the network's initial parameters, as every worker can by itself.
    """

    def __init__(
        self,
        codec: str = "dense",
        settings: Mapping[str, str] | None = None,
        seed: int = 0,
        workers: int = 1,
        initial: Callable[[], Model] = dict,
    ) -> None:
        self._codecs = choose(codec, settings or {}, workers)
        down = self._codecs.down
        self._downloads = Downloads(down, seed, initial()) if down else None
        self._whole: Records = {}
        self._change: Records = {}

    # -- down

    def begin(self, number: int, model: Model, record: Any) -> None:
        """Begin a round with the global model, and the record that has it."""
        self._whole, self._change = {ARRAYS: record}, {}
        if self._downloads:
            self._downloads.advance(model, number)
            self._whole = {ARRAYS: flower.to_record(self._downloads.model)}
            self._change = {CHANGE: flower.to_record({CHANGE: self._downloads.change})}

    def sent_to(self, worker: str) -> tuple[Records, dict[str, Any]]:
        """What a worker is sent for a model, and what it is told besides."""
        downloads = self._downloads
        if downloads is None or not downloads.may_change(worker):
            return self._whole, {}
        model_bytes = sum(array.nbytes for array in downloads.model.values())
        return self._change, {DIGEST: downloads.digest, MODEL_BYTES: model_bytes}

    def lacks(self, worker: str, reply: Container[str]) -> bool:
        """Whether a reply says that a worker does not hold what it was sent a change of; it gets all of it next."""
        if LACKS not in reply or self._downloads is None or not self._downloads.may_change(worker):
            return False
        self._downloads.forget(worker)
        return True

    # -- up

    def decoded(self, update: Update, base: Model, began: int) -> Update:
        """An update with the worker's model, from what it sent.

        Args:
            update: as it came.
            base: the global model when the worker began.
            began: the round of that.

        Raises:
            UpdateError: if it is malformed.
        """
        if self._codecs.plain:
            return update
        if list(update.model) != [UPDATE]:
            raise UpdateError(f"expected an encoded {UPDATE!r}, got {len(update.model)} tensors")
        codec = self._codecs.up
        change = read(codec, update.model[UPDATE], base, began)
        if codec.gain != 1.0:
            change = {name: values * np.float32(codec.gain) for name, values in change.items()}
        return replace(update, model=applied(base, change))

    def learn(self, worker: str, began: int) -> None:
        """Take note that a worker's update of a round was added."""
        if self._downloads:
            self._downloads.learn(worker, began)

    # -- state across a restart

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON can say it."""
        return self._downloads.state if self._downloads else {}

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays that it needs besides."""
        return self._downloads.arrays if self._downloads else {}

    def restore(self, state: Mapping[str, Any], kept: Mapping[str, Array]) -> dict[str, Array]:
        """Go on with the state of a checkpoint.

        Args:
            state: as it was.
            kept: arrays, `arrays` among them.

        Returns:
            The other arrays.
        """
        if self._downloads and state:
            self._downloads.restore(state, kept)
        return {name: array for name, array in kept.items() if not name.startswith(PREFIX)}
