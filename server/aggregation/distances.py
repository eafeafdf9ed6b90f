"""What can be computed from the scalar products of updates alone, which are few numbers however large the model is.

d_i is what update i changes about the global model, G_ij = d_i . d_j. Any centre that is a weighted sum of updates,
v = sum_i a_i d_i, lies at a distance of |v - d_i|^2 = a.G.a - 2 (G a)_i + G_ii from them. So rules that look for a
centre read the updates twice, once for G and once to sum up, and do all their iterations on G in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from server.aggregation.base import Model, is_floating
from server.aggregation.spool import Block, Spool

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def gram(spool: Spool) -> Matrix:
    """The scalar products G of what the updates change, (updates, updates)."""
    total = np.zeros((len(spool), len(spool)))
    for block in spool.blocks():
        deltas = _deltas(block)
        total += deltas @ deltas.T
    return total


def lengths(spool: Spool) -> Vector:
    """How much each update changes, as a Euclidean norm."""
    total = np.zeros(len(spool))
    for block in spool.blocks():
        total += np.square(_deltas(block)).sum(axis=1)
    return np.sqrt(total)


def combine(spool: Spool, weights: Vector) -> Model:
    """The global model and the weighted sum of what the updates change."""
    result: dict[str, Any] = {
        name: np.empty_like(like, order="C") if is_floating(like) else like for name, like in spool.model.items()
    }
    for block in spool.blocks():
        result[block.name].reshape(-1)[block.piece] = block.base.astype(np.float64) + weights @ _deltas(block)
    return result


def squared_distances(products: Matrix) -> Matrix:
    """Squared distances between any two updates; those of an update to itself are exactly 0."""
    squares = np.diagonal(products)
    result: Matrix = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
    np.fill_diagonal(result, 0.0)
    return result


def distances_from(weights: Vector, products: Matrix) -> Vector:
    """Distances of the updates from the centre that is their sum with these weights."""
    ahead = products @ weights
    squared = weights @ ahead - 2 * ahead + np.diagonal(products)
    result: Vector = np.sqrt(np.maximum(squared, 0.0))
    return result


def _deltas(block: Block) -> Matrix:
    wide = block.rows.astype(np.float64)
    wide -= block.base.astype(np.float64)
    return wide
