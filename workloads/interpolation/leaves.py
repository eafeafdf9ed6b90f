"""Dead leaves: images of discs that cover each other, flat and striped, with statistics like those of photos.

Made from the seed, so that nothing has to be downloaded. Lee, Mumford and Huang (2001) show that discs whose radii have
a density of r^-3 give images whose statistics hardly change with scale.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_DISCS_PER_SIDE = 1.0
_SMALLEST = 5.0


def dead_leaves(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint8]:
    """A grey image (size, size)."""
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    image = np.full((size, size), rng.uniform(40, 215))
    largest = size / 3
    for _ in range(math.ceil(_DISCS_PER_SIDE * size)):
        radius = _SMALLEST / math.sqrt(1 - rng.random() * (1 - (_SMALLEST / largest) ** 2))
        y, x = rng.uniform(0, size, 2)
        cover = np.clip(radius - np.hypot(rows - y, columns - x) + 0.5, 0.0, 1.0)
        image += cover * (_paint(rng, rows, columns) - image)
    levels: npt.NDArray[np.uint8] = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
    return levels


def _paint(
    rng: np.random.Generator, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """A grey level, with stripes of some direction and width for every other disc."""
    level, contrast = rng.uniform(20, 235), rng.choice([0.0, 40.0])
    angle, period, phase = rng.uniform(0, math.pi), rng.uniform(5, 16), rng.uniform(0, 2 * math.pi)
    along = rows * math.sin(angle) + columns * math.cos(angle)
    stripes: npt.NDArray[np.float64] = level + contrast * np.sin(2 * math.pi * along / period + phase)
    return stripes
