"""Rules that work on each coordinate by itself (Yin et al. 2018): median and trimmed mean.

Every update counts the same, whatever number of examples it claims: a claim cannot be checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np

from server.aggregation.base import NOTHING, Array, Memory, Model, Rule, Update, is_floating
from server.aggregation.spool import Spool
from server.aggregation.tolerance import require_enough, require_possible, tolerated
from workloads.settings import Range


@dataclass(frozen=True)
class Trimming:
    """Settings of the trimmed mean.

    Attributes:
        attackers: the share of updates that is cut off at either end of each coordinate.
    """

    attackers: Annotated[float, Range(0.0, 0.49)] = 0.2


def per_coordinate(spool: Spool, reduce: Callable[[Array], Array]) -> Model:
    """The model in which each coordinate is `reduce` of the updates' (updates, elements)."""
    result = {name: np.empty_like(like, order="C") if is_floating(like) else like for name, like in spool.model.items()}
    for block in spool.blocks():
        result[block.name].reshape(-1)[block.piece] = reduce(block.rows)
    return result


def median_of(rows: Array) -> Array:
    """Medians of the columns: the value in the middle, or the mean of the two that are."""
    ordered, half = _ordered(rows), len(rows) // 2
    middle: Array = ordered[half - 1 + len(rows) % 2 : half + 1].mean(axis=0, dtype=np.float64)
    return middle


def trimmed_mean_of(cut: int, rows: Array) -> Array:
    """Means of the columns without the `cut` lowest and the `cut` highest values."""
    kept: Array = _ordered(rows)[cut : len(rows) - cut].mean(axis=0, dtype=np.float64)
    return kept


def _ordered(rows: Array) -> Array:
    narrow = rows.dtype.itemsize < np.dtype(np.float32).itemsize  # types that processors do not compare
    return np.sort(rows.astype(np.float32) if narrow else rows, axis=0)


def open_spool(model: Model, workers: int, _memory: Memory = NOTHING) -> Spool:
    """The state of a round of rules that need all updates at once."""
    return Spool(model, workers)


def keep(spool: Spool, update: Update) -> Spool:
    """Put an update to the others."""
    spool.add(update)
    return spool


MEDIAN: Rule[Spool] = Rule("median", open_spool, keep, partial(per_coordinate, reduce=median_of))


def _needed(attackers: int) -> int:
    return 2 * attackers + 1


def _init_trimmed(settings: Trimming, model: Model, workers: int, _memory: Memory = NOTHING) -> Spool:
    require_possible("trimmed-mean", _needed, settings.attackers, workers)
    return Spool(model, workers)


def _finish_trimmed(settings: Trimming, spool: Spool) -> Model:
    cut = tolerated(settings.attackers, len(spool))
    require_enough("trimmed-mean", _needed, cut, len(spool))
    return per_coordinate(spool, partial(trimmed_mean_of, cut))


def trimmed_mean(settings: Trimming) -> Rule[Spool]:
    """The mean of what is not extreme."""
    return Rule("trimmed-mean", partial(_init_trimmed, settings), keep, partial(_finish_trimmed, settings))
