"""Rules that look for a centre on which no single update has much influence.

Norm clipping shortens what is longer than usual and averages: cheap, and the plain mean where nobody attacks. Centred
clipping (Karimireddy et al. 2021) does the same about a better and better guess of the centre. The geometric median
(RFA, Pillutla et al. 2022) is the point with the least sum of distances, by Weiszfeld's iteration.

Every update counts the same, whatever number of examples it claims: a claim cannot be checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np

from server.aggregation.base import Model, Rule
from server.aggregation.coordinates import keep, open_spool
from server.aggregation.distances import Matrix, Vector, combine, distances_from, gram, lengths
from server.aggregation.spool import Spool
from workloads.settings import Range

_CONVERGED = 1e-10
_TINY = 1e-150


@dataclass(frozen=True)
class Clipping:
    """Settings of norm clipping and centred clipping.

    Attributes:
        radius: what is longer is shortened to this; 0 means the median of the round.
        iterations: of centred clipping.
    """

    radius: Annotated[float, Range(0.0)] = 0.0
    iterations: Annotated[int, Range(1, 1000)] = 10


@dataclass(frozen=True)
class Weiszfeld:
    """Settings of the geometric median.

    Attributes:
        smoothing: distances below this share of their median count as that; otherwise an update that is the centre
            would have infinite weight.
        iterations: at most so many; they are cheap, see `distances`.
    """

    smoothing: Annotated[float, Range(1e-12, 1.0)] = 1e-6
    iterations: Annotated[int, Range(1, 100_000)] = 1000


def shares(distances: Vector, radius: float) -> Vector:
    """How much is left of each of these lengths: all of it, or what shortens it to `radius` (0: to their median)."""
    limit = radius or float(np.median(distances))
    return np.minimum(1.0, limit / np.maximum(distances, limit or 1.0))


def clipped_about_centre(products: Matrix, settings: Clipping) -> Vector:
    """Weights of the updates in the centre v that v + mean(clip(d_i - v)) leads to; it begins at the global model."""
    count = len(products)
    weights = np.zeros(count)
    for _ in range(settings.iterations):
        left = shares(distances_from(weights, products), settings.radius) / count
        weights = weights * (1.0 - left.sum()) + left
    return weights


def geometric_median_weights(products: Matrix, settings: Weiszfeld) -> Vector:
    """Weights of the updates in their geometric median; they sum to 1."""
    count = len(products)
    weights = np.full(count, 1.0 / count)
    for _ in range(settings.iterations):
        distances = distances_from(weights, products)
        floor = max(settings.smoothing * float(np.median(distances)), _TINY)
        pull = 1.0 / np.maximum(distances, floor)
        new = pull / pull.sum()
        moved, weights = float(np.abs(new - weights).max()), new
        if moved < _CONVERGED:
            break
    return weights


def _finish_norm_clipping(settings: Clipping, spool: Spool) -> Model:
    return combine(spool, shares(lengths(spool), settings.radius) / len(spool))


def _finish_centred_clipping(settings: Clipping, spool: Spool) -> Model:
    return combine(spool, clipped_about_centre(gram(spool), settings))


def _finish_geometric_median(settings: Weiszfeld, spool: Spool) -> Model:
    return combine(spool, geometric_median_weights(gram(spool), settings))


def norm_clipping(settings: Clipping) -> Rule[Spool]:
    """The mean of updates of which none is longer than their median."""
    return Rule("norm-clipping", open_spool, keep, partial(_finish_norm_clipping, settings))


def centred_clipping(settings: Clipping) -> Rule[Spool]:
    """The mean of updates that are shortened towards the centre itself."""
    return Rule("centred-clipping", open_spool, keep, partial(_finish_centred_clipping, settings))


def geometric_median(settings: Weiszfeld) -> Rule[Spool]:
    """The point with the least sum of distances to the updates."""
    return Rule("geometric-median", open_spool, keep, partial(_finish_geometric_median, settings))
