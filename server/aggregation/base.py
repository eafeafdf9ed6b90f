"""What an aggregation rule is: three functions over a state.

    state = rule.init(model, workers)        the global model of the round, and how many updates may come
    state = rule.add(state, update)          once per update, in any order, as they arrive
    model = rule.finish(state)               the new global model

A rule streams: it never holds more than its state and one update. Its result must not depend on the order of `add`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Model = Mapping[str, npt.NDArray[Any]]
"""Parameters by name, as on the wire."""

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Update:
    """What one worker returns: its model and the number of examples it saw."""

    model: Model
    examples: int


@dataclass(frozen=True, slots=True)
class Rule(Generic[State]):
    """An aggregation rule as a value.

    Attributes:
        name: its name on the command line.
        init: makes the state of a round.
        add: takes one update in; may reuse the state's memory. Raises `UpdateError` and leaves the state as it was if
            the update cannot be aggregated; whether it does depends on the update alone.
        finish: the new model. Raises `UpdateError` if nothing was added.
    """

    name: str
    init: Callable[[Model, int], State]
    add: Callable[[State, Update], State]
    finish: Callable[[State], Model]


def is_floating(array: npt.NDArray[Any]) -> bool:
    """True for the arrays that are averaged; others are taken over from the global model."""
    return bool(np.issubdtype(array.dtype, np.floating))
