"""What an aggregation rule is: pure functions over the state of a round.

    state = rule.init(model, workers, memory)   the global model, how many updates may come, what the rule remembers
    state = rule.add(state, update)             once per update, in any order, as they arrive
    model = rule.finish(state)                  the new global model; the state is spent, but for what follows
    memory = rule.memory(state)                 what the next round is given, and a checkpoint keeps

No rule holds more of the updates in memory than one, and no result depends on the order of `add`, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from neurofed.errors import UpdateError
from neurofed.tensors import BFLOAT16

Array = npt.NDArray[Any]

Model = Mapping[str, Array]
"""Parameters by name, as on the wire."""

Memory = Mapping[str, Array]
"""What a rule remembers from round to round: arrays by name. Empty before the first round, and for most rules."""

NOTHING: Memory = {}

MAX_ABS = 64.0
"""The largest magnitude of a value that is aggregated."""
MAX_EXAMPLES = (1 << 31) - 1
"""The most examples of a round."""
_MAX_CLAIM = 1 << 22
"""The most examples of an update: what is added at once is a 32nd of it, so no claim makes much work."""
_BLOCK = 1 << 16

State = TypeVar("State")
State_co = TypeVar("State_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Update:
    """What one worker returns.

    Attributes:
        model: its model.
        examples: the number of examples it saw.
        extra: what it returns beside its model to a rule that `sends_memory`: arrays by the memory's names.
    """

    model: Model
    examples: int
    extra: Model = field(default_factory=dict)


class Init(Protocol[State_co]):
    """Makes the state of a round."""

    def __call__(self, model: Model, workers: int, memory: Memory = NOTHING, /) -> State_co:
        """Begin a round with the global model, for up to so many updates."""


def _remember_nothing(_state: object) -> Memory:
    return NOTHING


def _report_nothing(_state: object) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, slots=True)
class Rule(Generic[State]):
    """An aggregation rule as a value.

    Attributes:
        name: its name on the command line.
        init: makes the state of a round. Raises `ConfigError` if the rule is not defined for so few updates.
        add: takes one update in; may reuse the state's memory. Raises `UpdateError` and leaves the state as it was if
            the update cannot be aggregated; whether it does depends on the update alone.
        finish: the new model. Raises `UpdateError` if nothing was added, `NotEnoughWorkersError` if too little was.
        memory: what to give to the next round's `init`; asked after `finish`.
        sends_memory: the memory goes to the workers beside the model, and an update's `extra` has its names.
        client: what workers are told with each task, such as `proximal-mu`.
        numbers: what the rule has to report of a round, named as in `neurofed.metrics`; asked after `finish`.
        bounded: it limits how far a single update reaches by itself, so that none need be refused for its length.
    """

    name: str
    init: Init[State]
    add: Callable[[State, Update], State]
    finish: Callable[[State], Model]
    memory: Callable[[State], Memory] = _remember_nothing
    sends_memory: bool = False
    client: Mapping[str, float] = field(default_factory=dict)
    numbers: Callable[[State], Mapping[str, float]] = _report_nothing
    bounded: bool = False


def is_floating(array: Array) -> bool:
    """True for the arrays that are averaged; others are taken over from the global model."""
    return bool(np.issubdtype(array.dtype, np.floating)) or array.dtype == BFLOAT16


def floating(model: Model) -> dict[str, Array]:
    """The arrays that are averaged, in the model's order."""
    return {name: array for name, array in model.items() if is_floating(array)}


def pieces(size: int, step: int = _BLOCK) -> Iterator[slice]:
    """An array of `size` elements in pieces that stay in a processor's cache while they are worked on."""
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def most_examples(workers: int) -> int:
    """What each of `workers` updates may claim: its share of the most that a round may hold."""
    return min(_MAX_CLAIM, MAX_EXAMPLES // max(1, workers))


def require_fit(update: Update, model: Model, workers: int) -> None:
    """Check an update's claim of examples, and its tensors' names, types and shapes.

    Args:
        update: from a worker.
        model: the global model.
        workers: how many updates may come.

    Raises:
        UpdateError: naming the first difference.
    """
    most = most_examples(workers)
    if not 1 <= update.examples <= most:
        raise UpdateError(f"expected 1 to {most} examples, got {update.examples}")
    require_same(update.model, model)


def require_same(arrays: Model, expected: Model) -> None:
    """Check names of tensors, and types and shapes of those that are averaged.

    Raises:
        UpdateError: naming the first difference.
    """
    if arrays.keys() != expected.keys():
        raise UpdateError(f"expected the tensors {sorted(expected)}, got {sorted(arrays)}")
    for name, like in floating(expected).items():
        got = arrays[name]
        if (got.shape, got.dtype) != (like.shape, like.dtype):
            raise UpdateError(
                f"tensor {name!r}: expected {like.dtype} of shape {like.shape}, got {got.dtype} of {got.shape}"
            )


def require_bounded(name: str, largest: float) -> None:
    """Check the largest magnitude of a tensor.

    Raises:
        UpdateError: if it is no number, infinite, or more than `MAX_ABS`.
    """
    if not math.isfinite(largest):
        raise UpdateError(f"tensor {name!r}: expected finite values, got NaN or infinity")
    if largest > MAX_ABS:
        raise UpdateError(f"tensor {name!r}: expected values of at most {MAX_ABS:g}, got {largest:g}")
