"""Similar patches, found for all reference patches of a band at once by differences of the shifted image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_OUTSIDE = 1e5
"""Grey level beyond the image: far enough from any other that no patch is taken from there."""
_NO_MATCH = 1e7
"""Distances above this are of patches that reach beyond the image."""


@dataclass(frozen=True, slots=True)
class Band:
    """Reference patches in some rows of an image, and the part of the image in which their matches are.

    Attributes:
        image: (h, W), rows of the image.
        first: the row of `image` at which the first reference patches begin.
        rows: number of rows of reference patches, `step` apart.
        size: side of a patch, P.
        step: between reference patches, in both directions: the factor of the interpolation.
    """

    image: Tensor
    first: int
    rows: int
    size: int
    step: int

    @property
    def patches_across(self) -> int:
        """Patches that begin in one row of the image, one at each pixel."""
        return self.image.shape[1] - self.size + 1

    @property
    def references(self) -> Tensor:
        """Numbers of the reference patches (R,); a patch is numbered by the pixel at which it begins, row by row."""
        rows = self.first + self.step * torch.arange(self.rows)
        columns = torch.arange(0, self.patches_across, self.step)
        return (rows[:, None] * self.patches_across + columns).flatten()

    def table(self, image: Tensor) -> Tensor:
        """All patches (N, P P) of an image of this band's shape, by number."""
        return functional.unfold(image[None, None], self.size)[0].T.contiguous()


def bands(shape: tuple[int, int], size: int, step: int, radius: int, references: int) -> list[tuple[slice, int, int]]:
    """Cut an image into bands of at most `references` patches each, or one row of them.

    Returns:
        For each band the rows of the image that it needs, and `Band.first` and `Band.rows`.
    """
    height, width = shape
    total = (height - size) // step + 1
    across = (width - size) // step + 1
    each = max(1, references // across)
    cut = []
    for begin in range(0, total, each):
        rows = min(each, total - begin)
        top = max(0, begin * step - radius)
        bottom = min(height, (begin + rows - 1) * step + size + radius)
        cut.append((slice(top, bottom), begin * step - top, rows))
    return cut


def shifts(radius: int, step: int, phase: tuple[int, int]) -> list[tuple[int, int]]:
    """Displacements up to `radius` that are `phase` modulo `step`, but not none at all; the nearest first."""
    reach = range(-radius, radius + 1)
    found = [(y, x) for y in reach for x in reach if (y % step, x % step) == phase and (y, x) != (0, 0)]
    return sorted(found, key=lambda s: (s[0] ** 2 + s[1] ** 2, s))


def find(band: Band, radius: int, count: int, phases: list[tuple[int, int]], chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The most similar patches, of equal ones the nearest.

    Args:
        band: where to look, and for which patches.
        radius: how far away a match may be, in rows and in columns.
        count: matches of each patch, K; the patch itself is none.
        phases: which displacements are allowed, modulo the step.
        chosen: (C,) which of the band's reference patches to find matches for.

    Returns:
        Numbers of the patches (C, K), the best first, and their mean squared differences (C, K). Where the image has
        fewer, the patch itself stands in, at a distance above any other.
    """
    width = band.image.shape[1]
    padded = functional.pad(band.image[None, None], (radius,) * 4, value=_OUTSIDE)[0, 0]
    allowed = [shift for phase in phases for shift in shifts(radius, band.step, phase)]
    last = band.first + (band.rows - 1) * band.step + band.size
    here = band.image[band.first : last]
    distances = torch.empty(len(allowed), len(chosen))
    for row, (dy, dx) in enumerate(allowed):
        there = padded[radius + dy + band.first : radius + dy + last, radius + dx : radius + dx + width]
        squares = (there - here).square_()
        distances[row] = functional.avg_pool2d(squares[None, None], band.size, band.step).flatten()[chosen]
    best, which = torch.topk(distances.T.contiguous(), min(count, len(allowed)), dim=1, largest=False)
    offsets = torch.tensor([dy * band.patches_across + dx for dy, dx in allowed])
    own = band.references[chosen][:, None]
    none = best > _NO_MATCH
    return torch.where(none, own, own + offsets[which]), torch.where(none, _NO_MATCH, best)
