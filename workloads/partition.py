"""Divides a labelled training set over the workers of a federation.

Every example is used exactly once and no part is empty. Equal generators give equal parts, so a worker can find its own
part from the seed without being told.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def iid(labels: Indices, parts: int, rng: np.random.Generator) -> list[Indices]:
    """Shuffles and deals out: sizes differ by at most one, classes are mixed as in the whole.

    Args:
        labels: (N,) class of each example.
        parts: into how many parts, from 1 to N.
        rng: the only source of randomness.

    Returns:
        For each part the ascending indices of its examples.

    Raises:
        ValueError: if `parts` is not from 1 to N.
    """
    _check(labels, parts)
    return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), parts)]


def dirichlet(labels: Indices, parts: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    """Label skew: each class is divided by its own draw of proportions from Dirichlet(alpha, ..., alpha).

    The smaller alpha, the fewer workers hold most of a class; alpha -> infinity divides each class evenly. A part that
    comes out empty takes one example, chosen at random, from the part that is then largest (the first of equals).

    Args:
        labels: (N,) class of each example.
        parts: into how many parts, from 1 to N.
        alpha: concentration, above 0.
        rng: the only source of randomness.

    Returns:
        For each part the ascending indices of its examples.

    Raises:
        ValueError: if `parts` is not from 1 to N or alpha is not above 0.
    """
    _check(labels, parts)
    if not alpha > 0:
        raise ValueError(f"expected alpha above 0, got {alpha}")
    owner = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(parts, alpha))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for part, chunk in enumerate(np.split(members, cuts)):
            owner[chunk] = part
    _fill_empty(owner, parts, rng)
    return [np.flatnonzero(owner == part) for part in range(parts)]


def by_class(labels: Indices, parts: int, classes: int, rng: np.random.Generator) -> list[Indices]:
    """Few classes a part (McMahan et al. 2017): sorted by class, cut into `parts * classes` equal shards, dealt out.

    A part has examples of exactly `classes` classes where shards and classes have the same bounds, and of a few more
    where a shard begins in one class and ends in the next.

    Args:
        labels: (N,) class of each example.
        parts: into how many parts, from 1 to N.
        classes: shards of each part, at least 1.
        rng: the only source of randomness.

    Returns:
        For each part the ascending indices of its examples.

    Raises:
        ValueError: if `parts` is not from 1 to N or `classes` is not at least 1.
    """
    _check(labels, parts)
    if classes < 1:
        raise ValueError(f"expected at least 1 class a part, got {classes}")
    shuffled = rng.permutation(len(labels))
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    owner = np.empty(len(labels), dtype=np.int64)
    for shard, dealt in zip(np.array_split(ordered, parts * classes), rng.permutation(parts * classes), strict=True):
        owner[shard] = dealt % parts
    _fill_empty(owner, parts, rng)
    return [np.flatnonzero(owner == part) for part in range(parts)]


def _fill_empty(owner: Indices, parts: int, rng: np.random.Generator) -> None:
    for part in range(parts):
        sizes = np.bincount(owner, minlength=parts)
        if sizes[part] == 0:
            owner[rng.choice(np.flatnonzero(owner == sizes.argmax()))] = part


def _check(labels: Indices, parts: int) -> None:
    if not 1 <= parts <= len(labels):
        raise ValueError(f"expected from 1 to {len(labels)} parts (one example each), got {parts}")
