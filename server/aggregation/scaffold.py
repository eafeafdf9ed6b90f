"""SCAFFOLD (Karimireddy et al. 2020), the aggregator's part: control variates take out the drift of unlike data.

Model x, control c, and a worker's own control c_i are arrays of the same names. A worker begins with c_i = 0 and

    takes steps from x to y, adding c - c_i to each gradient
    then computes c_i', the mean of its gradients, see `worker.drift`
    returns y, and beside it what changed, c_i' - c_i, and keeps c_i'.

The aggregator averages the models, and adds (sum of changes) / (number of workers) to c, where the workers are all that
there are, not those that were asked. The rule remembers c, which goes to the workers as they get the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurofed.errors import UpdateError
from server.aggregation.base import NOTHING, Array, Memory, Model, Rule, Update, floating, require_fit, require_same
from server.aggregation.exact import ExactSum, Wide


@dataclass(slots=True)
class Controlled:
    """State of a round: sums of models and of changes of controls, and the control, replaced by `finish`."""

    models: ExactSum
    changes: ExactSum
    workers: int
    control: dict[str, Array]


def _init(model: Model, workers: int, memory: Memory = NOTHING) -> Controlled:
    control = {name: np.array(memory.get(name, np.zeros_like(array))) for name, array in floating(model).items()}
    return Controlled(ExactSum(model), ExactSum(control), workers, control)


def _add(state: Controlled, update: Update) -> Controlled:
    require_fit(update, state.models.model, state.workers)
    if state.changes.weight >= state.workers:
        raise UpdateError(f"expected updates of at most {state.workers} workers, got more")
    try:
        require_same(update.extra, state.control)
        state.changes.add(update.extra, 1)
    except UpdateError as error:
        raise UpdateError(f"change of control: {error}") from None
    try:
        state.models.add(update.model, update.examples)
    except UpdateError:
        state.changes.take_back(update.extra, 1)
        raise
    return state


def _finish(state: Controlled) -> Model:
    share, control = state.changes.weight / max(1, state.workers), state.control

    def step(name: str, piece: slice, mean: Wide) -> Wide:
        return control[name].reshape(-1)[piece].astype(np.float64) + share * mean

    model = state.models.settle()
    state.control = state.changes.settle(step)
    return model


def _memory(state: Controlled) -> Memory:
    return state.control


SCAFFOLD: Rule[Controlled] = Rule("scaffold", _init, _add, _finish, _memory, sends_memory=True)
