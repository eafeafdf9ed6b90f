"""Does a quantity grow? A line through medians, with its confidence."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_T_975 = {3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228}
"""Student's t at 97.5 % by degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Change of a quantity by unit of x, and the 95 % confidence interval of it."""

    value: float
    low: float
    high: float


def slope(xs: Sequence[float], ys: Sequence[float], blocks: int = 10) -> Slope:
    """Least squares through the medians of consecutive blocks.

    Samples of memory are anything but independent: a fit through each of them would be far too sure of itself.

    Args:
        xs: ascending positions, at least as many as blocks.
        ys: the quantity there.
        blocks: 5 to 12.
    """
    size = len(xs) / blocks
    cuts = [round(size * number) for number in range(blocks + 1)]
    x = [statistics.median(xs[a:b]) for a, b in itertools.pairwise(cuts)]
    y = [statistics.median(ys[a:b]) for a, b in itertools.pairwise(cuts)]
    fit = statistics.linear_regression(x, y)
    residuals = sum((b - fit.slope * a - fit.intercept) ** 2 for a, b in zip(x, y, strict=True))
    spread = sum((a - statistics.mean(x)) ** 2 for a in x)
    margin = _T_975[blocks - 2] * math.sqrt(residuals / (blocks - 2) / spread)
    return Slope(fit.slope, fit.slope - margin, fit.slope + margin)
