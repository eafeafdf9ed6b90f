"""Updates that are late, as in buffered asynchronous aggregation (FedBuff, Nguyen et al. 2022).

A worker that began with the model of an earlier round has learnt something: the difference between the two models it
knew. Discounted by its age that difference goes on top of the model as it is now, and the sum is an update like any
other. So every aggregation rule works with stale updates, and one that is not late is what it always was, bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from server.aggregation.base import Model, is_floating


def weight(staleness: int) -> float:
    """What is left of an update that is `staleness` rounds late: 1 / sqrt(1 + staleness)."""
    return 1.0 / math.sqrt(1.0 + staleness)


def brought_up_to_date(update: Model, base: Model, model: Model, staleness: int) -> Model:
    """An update that started from `base` as one that starts from `model`.

    Args:
        update: the worker's model; tensors that do not fit the global one stay as they are, for the rule to refuse.
        base: the global model it began with.
        model: the global model now.
        staleness: how many rounds lie between the two.

    Returns:
        `model + weight * (update - base)` of the averaged tensors, computed in float64 and rounded once.
    """
    if staleness == 0:
        return update
    return {name: _moved(array, base, model, name, weight(staleness)) for name, array in update.items()}


def _moved(array: npt.NDArray[Any], base: Model, model: Model, name: str, factor: float) -> npt.NDArray[Any]:
    now = model.get(name)
    if now is None or not is_floating(now) or (array.shape, array.dtype) != (now.shape, now.dtype):
        return array
    with np.errstate(all="ignore"):  # what overflows or is no number is for the rule to refuse
        step = (array.astype(np.float64) - base[name]) * factor
        return (now + step).astype(now.dtype)
