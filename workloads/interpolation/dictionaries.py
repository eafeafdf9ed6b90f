"""Sub-dictionaries: the principal axes of a patch's group of similar patches, and codes in them that are shrunk.

A group (n, P P) less its mean has at most n - 1 axes, found through its n x n Gram matrix. With Phi the axes, x the
patch and m the group's mean weighted by likeness, whose code is the nonlocal mean of the codes, the patch becomes

    m + Phi a,   a = argmin |V^(1/2) (x - m - Phi a)|^2 / 2 + sum_j t_j |a_j|,   t_j = threshold / (deviation_j + 0.3)

Without weights V this is soft thresholding of Phi^T (x - m). With weights it is thresholded, re-weighted by the
residual, and thresholded again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.interpolation.regression import cauchy, likeness

_DEVIATION = 0.3
"""Added to a code's deviation, so that codes that never vary are not worth an infinite threshold."""


def axes(group: Tensor) -> tuple[Tensor, Tensor]:
    """Principal axes of groups of patches.

    Args:
        group: (C, n, P P).

    Returns:
        Orthonormal rows (C, n, P P), the least first, and the deviations along them (C, n); rows along which the
        group does not vary are zero.
    """
    centred = group - group.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2))
    present = values > 1e-5 * values[:, -1:].clamp(min=1e-3)
    scale = torch.where(present, values.clamp(min=1e-12).rsqrt(), 0.0)
    deviations = torch.where(present, (values / group.shape[1]).clamp(min=0).sqrt(), 0.0)
    return scale[..., None] * (vectors.transpose(1, 2) @ centred), deviations


def soft(codes: Tensor, thresholds: Tensor) -> Tensor:
    """Soft thresholding: codes move towards zero by their threshold, and not beyond."""
    return codes.sign() * (codes.abs() - thresholds).clamp(min=0)


def thresholds(deviations: Tensor, threshold: float) -> Tensor:
    """The threshold of each code: the less it varies in the group, the higher."""
    return threshold / (deviations + _DEVIATION)


def centre(group: Tensor, distance: Tensor, *, nonlocal_mean: bool) -> Tensor:
    """What codes shrink to (C, P P): the mean of a group (C, n, P P), by likeness of the patches or plain."""
    if not nonlocal_mean:
        return group.mean(1)
    return (likeness(distance)[:, None] @ group)[:, 0]


def denoise(patch: Tensor, group: Tensor, middle: Tensor, threshold: float, *, reweight: bool) -> Tensor:
    """Code patches (C, P P) in the dictionaries of their groups (C, n, P P) about `middle` (C, P P), and decode."""
    rows, deviations = axes(group)
    limits = thresholds(deviations, threshold)
    difference = patch - middle
    decoded = _decode(rows, soft(_encode(rows, difference), limits))
    if reweight:
        # A step of proximal gradient from the first code: where it fits badly, the patch is believed less.
        residual = difference - decoded
        believed = decoded + residual * cauchy(residual, torch.ones_like(residual[0]))
        decoded = _decode(rows, soft(_encode(rows, believed), limits))
    return middle + decoded


def _encode(rows: Tensor, patch: Tensor) -> Tensor:
    return (rows @ patch[..., None])[..., 0]


def _decode(rows: Tensor, codes: Tensor) -> Tensor:
    return (codes[:, None] @ rows)[:, 0]
