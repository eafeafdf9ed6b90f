"""The last check of an update before it is aggregated: is it within what updates of this model look like?

A rule refuses what it cannot compute with, by looking at one update alone. What is computable and yet absurd is refused
here: an update that lies much farther from the global model than those of earlier rounds did. The bound of a round is
fixed before its first update arrives, so nothing depends on the order of arrival.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofed.errors import UpdateError
from server.aggregation import native
from server.aggregation.base import Model, is_floating, pieces

_Array = npt.NDArray[Any]
_BLOCK = 1 << 18

FACTOR = 10.0
"""How much farther than the largest typical distance so far; in the first round, than the length of the model."""


class NormScreen:
    """Refuses updates that lie too far from the global model.

    Attributes:
        typical: the largest, over the rounds so far, of the median distance of a round's updates; 0 before the first.
    """

    def __init__(self) -> None:
        self.typical = 0.0

    def distance(self, model: Model, update: Model) -> float:
        """How far an update is from the global model, if that is acceptable.

        Raises:
            UpdateError: if it is too far, or nowhere.
        """
        distance = _norm(model, update)
        limit = FACTOR * (self.typical or _norm(model, {}))
        if not math.isfinite(distance):
            raise UpdateError("expected finite values, got NaN or infinity")
        if limit and distance > limit:
            raise UpdateError(f"expected an update within {limit:.3g} of the global model, got one {distance:.3g} away")
        return distance

    def learn(self, distances: Sequence[float]) -> None:
        """Take in the distances of a round's aggregated updates."""
        if distances:
            self.typical = max(self.typical, statistics.median(distances))


def _norm(model: Model, other: Model) -> float:
    """Euclidean norm of `other - model` over the averaged tensors; what `other` lacks counts as zeros."""
    total = 0.0
    for name, array in model.items():
        if is_floating(array):
            fits = name in other and other[name].shape == array.shape
            total += _squared(array, other[name] if fits else np.broadcast_to(array.dtype.type(0), array.shape))
    return math.sqrt(total) if math.isfinite(total) else math.inf


def _squared(ours: _Array, theirs: _Array) -> float:
    """The sum of the squared differences of two tensors."""
    if (total := native.squared_distance(ours, theirs)) is not None:
        return total
    flat, other, total = ours.reshape(-1), theirs.reshape(-1), 0.0
    with np.errstate(all="ignore"):
        for piece in pieces(flat.size, _BLOCK):  # so that little memory is taken for wider numbers
            delta = flat[piece].astype(np.float64) - other[piece]
            total += float(np.square(delta, out=delta).sum())
    return total
