"""The aggregator's side of the way down: the change of the global model in few bytes, against what workers hold.

There is one chain of models that is sent, the same for all workers. Round by round the change from the last link to
the global model is encoded, and what is read of it makes the next link. So what a codec leaves out is in the next
change by itself. Workers train from the link, and the aggregator adds what they learnt to the global model.

The chain begins with the network's initial parameters, which every worker can make by itself. A worker that was there
in the last round is sent the change, others the whole link. One that turns out not to hold what the change is of, as it
lost its state, says so and is sent the whole link in the same round: it costs one small message more, and no worker has
to report what it holds, nor is what it would report believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurofed import codecs
from neurofed.codecs.base import Bytes, Codec, Context, Model, applied, difference, digest
from neurofed.tensors import Array

PREFIX = "sent/"
"""Before the names of the last link in a checkpoint."""
_KEY = 7001
"""Tells the aggregator's random numbers from those of the workers, whose keys have three numbers."""


class Downloads:
    """The chain of models that workers are sent.

    Args:
        codec: of the way down.
        seed: the run's.
        initial: the network's initial parameters.

    Attributes:
        model: the last link.
        round_number: its round; 0 before the first.
        base_round: the round of the link before.
        change: what leads from there to here.
        digest: of the last link.
    """

    def __init__(self, codec: Codec, seed: int, initial: Model) -> None:
        self._codec, self._seed = codec, seed
        self.model, self.round_number, self.base_round = initial, 0, 0
        self.change: Bytes = np.empty(0, np.uint8)
        self.digest = b""
        self._memory: Mapping[str, Array] = {}
        self._holders: dict[str, int] = {}

    def advance(self, model: Model, round_number: int) -> None:
        """Add a link.

        Args:
            model: the global model.
            round_number: the round that begins with it.
        """
        context = Context((self._seed, round_number, _KEY, 0), memory=self._memory)
        encoded = codecs.write(self._codec, difference(model, self.model), round_number, context)
        self.change, self._memory = encoded.body, encoded.memory
        self.model = applied(self.model, codecs.read(self._codec, self.change, self.model, round_number))
        self.base_round, self.round_number = self.round_number, round_number
        self.digest = digest(self.model)

    def may_change(self, worker: str) -> bool:
        """Whether a worker should hold what the change is of; before the first round all do."""
        return self._holders.get(worker, 0) == self.base_round

    def learn(self, worker: str, round_number: int) -> None:
        """Take note that a worker has trained from a round's link."""
        self._holders[worker] = round_number

    def forget(self, worker: str) -> None:
        """Take note that a worker does not hold what it should."""
        self._holders[worker] = -1

    # -- state across a restart

    @property
    def state(self) -> dict[str, Any]:
        """Who holds which link, as JSON can say it."""
        return {"round": self.round_number, "holders": self._holders}

    @property
    def arrays(self) -> dict[str, Array]:
        """The last link, and what the codec remembers."""
        remembered = {f"{PREFIX}memory/{name}": array for name, array in self._memory.items()}
        return {**{f"{PREFIX}model/{name}": array for name, array in self.model.items()}, **remembered}

    def restore(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on with the state of a checkpoint."""
        self.round_number = int(state["round"])
        self._holders = {str(name): int(number) for name, number in state["holders"].items()}
        self.model = _named(arrays, f"{PREFIX}model/")
        self._memory = _named(arrays, f"{PREFIX}memory/")


def _named(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
