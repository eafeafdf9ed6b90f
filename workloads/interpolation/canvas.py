"""Where overlapping patches are averaged into an image."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.interpolation.matching import Band


class Canvas:
    """Weighted sums of patches, by pixel of an image (H, W)."""

    def __init__(self, height: int, width: int) -> None:
        self._sums = torch.zeros(height * width)
        self._weights = torch.zeros(height * width)
        self._shape = height, width

    def add(self, band: Band, top: int, chosen: Tensor, wanted: Tensor, values: Tensor, weights: Tensor) -> None:
        """Add pixels of patches.

        Args:
            band: whose reference patches they are.
            top: row of the image at which the band's part of it begins.
            chosen: (C,) which of the band's reference patches.
            wanted: (M,) which pixels of a patch.
            values: (C, M).
            weights: (C, 1) or (C, M).
        """
        width = self._shape[1]
        patch = band.references[chosen]
        corner = (patch // band.patches_across + top) * width + patch % band.patches_across
        at = (corner[:, None] + wanted // band.size * width + wanted % band.size).flatten()
        weights = weights.expand_as(values)
        self._sums.index_add_(0, at, (values * weights).flatten())
        self._weights.index_add_(0, at, weights.flatten())

    def over(self, image: Tensor) -> Tensor:
        """The means, and `image` where there are none."""
        drawn = self._weights > 0
        means = self._sums / torch.where(drawn, self._weights, 1.0)
        return torch.where(drawn, means, image.flatten()).view(self._shape)
