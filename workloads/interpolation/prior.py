"""Dictionaries for patches that have too few like them: principal axes of classes of patches of other images.

A patch's class is the direction of its gradient, or none: a fixed rule, so that statistics of the classes add up over
images and workers. They are sums over patches x, less their mean, of z z^T with z = (x, 1): one matrix for each class
that holds the second moments, the sums and the number of patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.interpolation import dictionaries

DIRECTIONS = 8
"""Classes by direction of the gradient, from 0 to 180 degrees; one more has the patches with no clear direction."""
CLASSES = DIRECTIONS + 1
_CLEAR = 0.25
"""Coherence (l1 - l2) / (l1 + l2) of the structure tensor from which a direction is clear."""
_UNLIKE = 400.0
"""Mean squared difference from which a match does not count as like the patch."""
_ENOUGH = 4
"""A patch with fewer matches that are like it is alone."""

Coder = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Maps a dictionary's orthonormal rows (m, d), patches (B, d), and thresholds (m,) and deviations (m,) of the codes to
the codes (B, m)."""


def closed_form(rows: Tensor, patches: Tensor, limits: Tensor, _deviations: Tensor) -> Tensor:
    """Codes in an orthonormal dictionary: soft thresholding."""
    return dictionaries.soft(patches @ rows.T, limits)


def classify(patches: Tensor) -> Tensor:
    """The class (B,) of each patch (B, P P), from 0; the last one has no direction."""
    size = math.isqrt(patches.shape[1])
    square = patches.unflatten(1, (size, size))
    dy = (square[:, 1:, :-1] + square[:, 1:, 1:] - square[:, :-1, :-1] - square[:, :-1, 1:]).flatten(1) / 2
    dx = (square[:, :-1, 1:] + square[:, 1:, 1:] - square[:, :-1, :-1] - square[:, 1:, :-1]).flatten(1) / 2
    yy, xx, xy = (dy * dy).sum(1), (dx * dx).sum(1), (dx * dy).sum(1)
    coherence = torch.hypot(xx - yy, 2 * xy) / (xx + yy).clamp(min=1e-6)
    angle = torch.atan2(2 * xy, xx - yy) / 2 % math.pi
    direction = (angle * (DIRECTIONS / math.pi)).round().long() % DIRECTIONS
    return torch.where(coherence >= _CLEAR, direction, DIRECTIONS)


@dataclass(frozen=True)
class Prior:
    """A dictionary for each class.

    Attributes:
        rows: orthonormal (CLASSES, P P, P P), the least axis first.
        deviations: (CLASSES, P P), of the codes.
        coder: finds the codes.
        everywhere: whether patches that are not alone use it too.
    """

    rows: Tensor
    deviations: Tensor
    coder: Coder = closed_form
    everywhere: bool = False

    @classmethod
    def of_moments(cls, moments: Tensor, coder: Coder = closed_form, *, everywhere: bool = False) -> Prior:
        """The prior of statistics (CLASSES, P P + 1, P P + 1), sums or means of z z^T.

        A class of fewer than 1/1000 of all patches has the dictionary of all.
        """
        moments = (moments + moments.transpose(1, 2)) / 2
        total = moments.sum(0)
        few = moments[:, -1, -1] < 1e-3 * total[-1, -1].clamp(min=1e-12)
        moments = torch.where(few[:, None, None], total, moments)
        count = moments[:, -1, -1].clamp(min=1e-12)
        mean = moments[:, :-1, -1] / count[:, None]
        covariance = moments[:, :-1, :-1] / count[:, None, None] - mean[:, :, None] * mean[:, None]
        values, vectors = torch.linalg.eigh(covariance.double())
        return cls(vectors.transpose(1, 2).float(), values.clamp(min=0).sqrt().float(), coder, everywhere)

    @property
    def size(self) -> int:
        """Side of the patches."""
        return math.isqrt(self.rows.shape[1])

    def alone(self, distance: Tensor) -> Tensor:
        """Which patches (C,) this prior is for, by the distances of their matches (C, n)."""
        return self.everywhere | ((distance < _UNLIKE).sum(1) < _ENOUGH)

    def denoise(self, patches: Tensor, threshold: float) -> Tensor:
        """Code patches (B, P P) about their means in the dictionaries of their classes, and decode."""
        means = patches.mean(1, keepdim=True)
        kinds = classify(patches)
        decoded = torch.zeros_like(patches)
        for kind in kinds.unique().tolist():
            members = (kinds == kind).nonzero()[:, 0]
            limits = dictionaries.thresholds(self.deviations[kind], threshold)
            codes = self.coder(self.rows[kind], (patches - means)[members], limits, self.deviations[kind])
            decoded[members] = codes @ self.rows[kind]
        return decoded + means


def moments(patches: Tensor) -> Tensor:
    """Sums of z z^T (CLASSES, P P + 1, P P + 1) over patches (B, P P)."""
    z, kinds = augmented(patches), classify(patches)
    return torch.stack([z[kinds == kind].T @ z[kinds == kind] for kind in range(CLASSES)])


def augmented(patches: Tensor) -> Tensor:
    """The vectors z (B, P P + 1) of patches (B, P P)."""
    centred = patches - patches.mean(1, keepdim=True)
    return torch.cat([centred, torch.ones(len(patches), 1)], dim=1)
