"""Which elements of a change are sent: the largest, under one total for the whole model.

How many each tensor may have of that total is a matter of taste, hence three ways:

    global      the largest of the model, wherever they are
    uniform     the same fraction of every tensor
    activity    in proportion to elements times how often one of them has a gradient: where few neurons spike, or few
                receive a gradient, few elements move
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from neurofed.codecs.base import Change, Vector
from neurofed.codecs.rice import Indices

ALLOCATIONS = ("global", "uniform", "activity")


def largest(change: Change, total: int, allocation: str, activity: Mapping[str, float]) -> Indices:
    """Indices of the elements to send, in ascending order, over all tensors one after the other.

    Args:
        change: what is to be sent.
        total: how many elements.
        allocation: one of `ALLOCATIONS`.
        activity: by tensor; where it is empty, `activity` is `uniform`.
    """
    if not change:
        return np.empty(0, np.int64)
    if allocation == "global":
        return np.sort(_top(np.concatenate([values.reshape(-1) for values in change.values()]), total))
    sizes = np.array([values.size for values in change.values()], np.int64)
    weights = np.array([activity.get(name, 1.0) for name in change])
    shares = divided(total, sizes, weights if allocation == "activity" else np.ones(len(sizes)))
    chosen, start = [], 0
    for values, share in zip(change.values(), shares, strict=True):
        chosen.append(np.sort(_top(values.reshape(-1), int(share))) + start)
        start += values.size
    return np.concatenate(chosen)


def divided(total: int, sizes: Indices, weights: npt.NDArray[np.float64]) -> Indices:
    """A total over tensors, in proportion to size times weight, none above its size.

    What a full tensor cannot take goes to the others; what is left of rounding goes to the largest remainders.

    Args:
        total: at most the sum of all sizes.
        sizes: (tensors,).
        weights: (tensors,), finite and not negative; if all are zero, sizes alone decide.

    Returns:
        (tensors,), with the total as its sum.
    """
    weights = np.where(np.isfinite(weights) & (weights > 0), weights, 0.0)
    shares = np.zeros(len(sizes))
    for _ in range(len(sizes) + 1):
        room = sizes - shares
        left = total - shares.sum()
        wanted = room * weights
        if left < 1e-6 or room.sum() <= 0:
            break
        wanted = wanted if wanted.sum() > 0 else room.astype(np.float64)
        shares = np.minimum(sizes, shares + left * wanted / wanted.sum())
    whole = np.floor(shares + 1e-9).astype(np.int64)
    order = np.argsort(-(shares - whole), kind="stable")
    order = order[whole[order] < sizes[order]]
    while (left := int(total - whole.sum())) > 0:
        whole[order[:left]] += 1
        order = order[whole[order] < sizes[order]]
    return whole


def _top(values: Vector, count: int) -> Indices:
    """Where the largest magnitudes are, in no order; of equal ones, whichever the partition leaves in front."""
    if count in (0, values.size):
        return np.arange(count)
    return np.argpartition(np.abs(values), values.size - count)[values.size - count :]
