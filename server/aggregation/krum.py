"""Krum and Multi-Krum (Blanchard et al. 2017), Bulyan (El Mhamdi et al. 2018): updates in the densest crowd count.

Two updates that are the same are a crowd of two: colluding attackers can win Krum, which takes a single update. Use it
to compare with; Multi-Krum and Bulyan, which average, suffer less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np

from server.aggregation.base import NOTHING, Array, Memory, Model, Rule
from server.aggregation.coordinates import keep, median_of, per_coordinate
from server.aggregation.distances import Matrix, combine, gram, squared_distances
from server.aggregation.spool import Spool
from server.aggregation.tolerance import Needed, require_enough, require_possible, tolerated
from workloads.settings import Range


@dataclass(frozen=True)
class Crowd:
    """Settings of Krum, Multi-Krum and Bulyan.

    Attributes:
        attackers: the share of updates that may be anything.
    """

    attackers: Annotated[float, Range(0.0, 0.49)] = 0.2


def scores(squared: Matrix, attackers: int) -> Array:
    """For each update the sum of squared distances to its n - f - 2 closest, itself not among them.

    Args:
        squared: squared distances between any two, (updates, updates).
        attackers: f.
    """
    near = np.sort(squared, axis=1)[:, 1 : max(1, len(squared) - attackers - 2) + 1]
    total: Array = near.sum(axis=1)
    return total


def best(squared: Matrix, attackers: int, count: int) -> list[int]:
    """The `count` updates of the lowest score; of two that are as good, the one that comes first."""
    order = np.argsort(scores(squared, attackers), kind="stable")
    return [int(index) for index in order[:count]]


def best_by_turns(squared: Matrix, attackers: int, count: int) -> list[int]:
    """`count` updates, each the best of those that the earlier ones have left, as in Bulyan."""
    left = list(range(len(squared)))
    chosen: list[int] = []
    while len(chosen) < count:
        (winner,) = best(squared[np.ix_(left, left)], attackers, 1)
        chosen.append(left.pop(winner))
    return sorted(chosen)


def mean_about_median(count: int, rows: Array) -> Array:
    """Means of the `count` values of each column that are closest to its median."""
    wide = rows.astype(np.float64)
    near = np.argsort(np.abs(wide - median_of(rows)), axis=0, kind="stable")[:count]
    result: Array = np.take_along_axis(wide, near, axis=0).mean(axis=0)
    return result


def _krum_needs(attackers: int) -> int:
    return 2 * attackers + 3


def _bulyan_needs(attackers: int) -> int:
    return 4 * attackers + 3


def _average_of(spool: Spool, chosen: list[int]) -> Model:
    weights = np.zeros(len(spool))
    weights[chosen] = 1 / len(chosen)
    return combine(spool, weights)


def _krum(spool: Spool, attackers: int) -> Model:
    return _average_of(spool, best(squared_distances(gram(spool)), attackers, 1))


def _multi_krum(spool: Spool, attackers: int) -> Model:
    return _average_of(spool, best(squared_distances(gram(spool)), attackers, len(spool) - attackers))


def _bulyan(spool: Spool, attackers: int) -> Model:
    theta = len(spool) - 2 * attackers
    chosen = best_by_turns(squared_distances(gram(spool)), attackers, theta)
    return per_coordinate(spool, lambda rows: mean_about_median(theta - 2 * attackers, rows[chosen]))


def _init(name: str, needed: Needed, settings: Crowd, model: Model, workers: int, _memory: Memory = NOTHING) -> Spool:
    require_possible(name, needed, settings.attackers, workers)
    return Spool(model, workers)


def _finish(
    name: str, needed: Needed, aggregate: Callable[[Spool, int], Model], settings: Crowd, spool: Spool
) -> Model:
    attackers = tolerated(settings.attackers, len(spool))
    require_enough(name, needed, attackers, len(spool))
    return aggregate(spool, attackers)


def _rule(name: str, needed: Needed, aggregate: Callable[[Spool, int], Model], settings: Crowd) -> Rule[Spool]:
    return Rule(name, partial(_init, name, needed, settings), keep, partial(_finish, name, needed, aggregate, settings))


def krum(settings: Crowd) -> Rule[Spool]:
    """The one update that is closest to its neighbours."""
    return _rule("krum", _krum_needs, _krum, settings)


def multi_krum(settings: Crowd) -> Rule[Spool]:
    """The mean of the n - f updates that are closest to their neighbours."""
    return _rule("multi-krum", _krum_needs, _multi_krum, settings)


def bulyan(settings: Crowd) -> Rule[Spool]:
    """Of the n - 2f updates that Krum chooses one after the other, by coordinate the mean about the median."""
    return _rule("bulyan", _bulyan_needs, _bulyan, settings)
