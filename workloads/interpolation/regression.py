"""Phase-aware nonlocal linear regression: known pixels of similar patches predict missing pixels.

A match that is displaced by a phase of the grid has known pixels where the reference patch has missing ones. The
coefficients w of the matches X are fitted to the reference patch x where that is known, and where it is interpolated
with less weight, all relative to its known mean m:

    w = argmin |V^(1/2) (x - m - (X - m) w)|^2 + sum_j lambda_j (w_j - u_j)^2

where lambda_j = ridge P P (d_j + 1) / (d_1 + 1) by the mean squared differences d from the patch. The ridge pulls to
the weights of the nonlocal mean, u ~ exp(-d / 75), rather than to zero: without evidence the prediction is the
nonlocal mean and not the patch's own. The prediction m + (X - m) w is taken at the pixels that the matches know.

V has the weights of the pixels. Weighted encoding multiplies them by Cauchy's 1 / (1 + (e / c s)^2) of a first fit's
residual e and its scale s, so that the tails of a residual that is heavier than Gaussian do not steer the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.interpolation.linear import solve
from workloads.interpolation.matching import Band, find

CAUCHY = 2.5
"""Residuals of this many times their scale count half."""
_LIKENESS = 75.0
"""Mean squared difference by which a patch has 1/e of the weight of another in the nonlocal mean."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How one pass regresses; names as in `workloads.interpolation.options`."""

    radius: int
    matches: int
    ridge: float
    trust: float
    nonlocal_mean: bool
    reweight: bool


def pixels(size: int, step: int, phase: tuple[int, int]) -> Tensor:
    """Which pixels (P P,) of a patch displaced by `phase` are known."""
    rows, columns = ((torch.arange(size) + p) % step == 0 for p in phase)
    return (rows[:, None] & columns).flatten()


def predict(
    band: Band, seen: Tensor, shown: Tensor, phase: tuple[int, int], chosen: Tensor, fit: Fit
) -> tuple[Tensor, Tensor, Tensor]:
    """Predict the missing pixels of one phase.

    Args:
        band: the image in which to match and fit.
        seen: (N, P P) the table of that image's patches.
        shown: (N, P P) patches of the image that predicts: the same, unless the band's image is filtered.
        phase: displacement of the matches modulo the step, not (0, 0).
        chosen: (C,) which of the band's reference patches.
        fit: how to regress.

    Returns:
        Which pixels of the patch are predicted (M,), the predictions (C, M), and their mean squared errors (C, 1).
    """
    index, distance = find(band, fit.radius, fit.matches, [phase], chosen)
    known = pixels(band.size, band.step, (0, 0))
    wanted = pixels(band.size, band.step, phase).nonzero()[:, 0]
    reference = seen[band.references[chosen]]
    mean = reference[:, known].mean(1, keepdim=True)
    ridge = fit.ridge * band.size**2 * (distance + 1) / (distance[:, :1] + 1)
    trust = torch.where(known, 1.0, fit.trust)
    start = likeness(distance) if fit.nonlocal_mean else torch.zeros_like(distance)
    group, target = seen[index] - mean[:, None], reference - mean
    coefficients, error = regress(group, target, start, trust, ridge, reweight=fit.reweight)
    values = shown[index[:, :, None], wanted] - mean[:, None]
    return wanted, _combined(coefficients, values) + mean, error


def likeness(distance: Tensor) -> Tensor:
    """Weights (C, K) of the nonlocal mean, which add up to 1, by mean squared differences (C, K)."""
    return torch.softmax(-distance / _LIKENESS, dim=1)


def regress(
    group: Tensor, target: Tensor, start: Tensor, trust: Tensor, ridge: Tensor, *, reweight: bool
) -> tuple[Tensor, Tensor]:
    """Weighted ridge regression of each target on its group.

    Args:
        group: (C, K, P P), X - m.
        target: (C, P P), x - m.
        start: (C, K), u: coefficients without evidence.
        trust: (P P,) weights of the pixels.
        ridge: (C, K), lambda.
        reweight: whether a second fit follows, in which pixels count less that the first fits badly.

    Returns:
        The coefficients (C, K), and the mean squared residuals under `trust` (C, 1).
    """
    rest = target - _combined(start, group)
    change = _fit(group, rest, trust.expand_as(rest), ridge)
    if reweight:
        change = _fit(group, rest, trust * cauchy(_combined(change, group) - rest, trust), ridge)
    residual = _combined(change, group) - rest
    return start + change, (residual * residual * trust).sum(1, keepdim=True) / trust.sum()


def cauchy(residual: Tensor, trust: Tensor) -> Tensor:
    """Weights 1 / (1 + (e / c s)^2) of residuals e (C, P P); their scale s is the mean size under `trust`, and 1."""
    scale = (residual.abs() * trust).sum(1, keepdim=True) / trust.sum() + 1.0
    return 1.0 / (1.0 + (residual / (CAUCHY * scale)) ** 2)


def _fit(group: Tensor, target: Tensor, weights: Tensor, ridge: Tensor) -> Tensor:
    weighted = group * weights[:, None]
    normal = weighted @ group.transpose(1, 2)
    normal.diagonal(dim1=1, dim2=2).add_(ridge)
    return solve(normal, (weighted @ target[..., None])[..., 0])


def _combined(coefficients: Tensor, group: Tensor) -> Tensor:
    return (coefficients[:, None] @ group)[:, 0]
