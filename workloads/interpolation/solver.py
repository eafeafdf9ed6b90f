"""One grey image in float32: the outer iterations.

The known pixels are kept bit for bit; everything else is a function of them, the options and the prior, without random
numbers. Memory is a few images of the result's size and one band of patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from workloads.interpolation import dictionaries
from workloads.interpolation.canvas import Canvas
from workloads.interpolation.kernels import enlarge, gaussian
from workloads.interpolation.matching import Band, bands, find
from workloads.interpolation.options import Options
from workloads.interpolation.prior import Prior
from workloads.interpolation.regression import Fit, predict

Progress = Callable[[int, int], None]
"""Told (passes done, passes in all)."""
FACTORS = (2, 3, 4)
_DOUBT = 4.0
"""Added to a prediction's mean squared error before its reciprocal becomes the prediction's weight."""


def sizes(factor: int) -> tuple[int, int]:
    """Sides of the patches of the first pass and of the later ones: multiples of the factor, so that all is covered."""
    return {2: (8, 6), 3: (9, 6), 4: (8, 8)}[factor]


def solve(known: Tensor, factor: int, options: Options, prior: Prior | None, progress: Progress) -> Tensor:
    """Interpolate one grey image.

    Args:
        known: (H, W) float32, 255 being white.
        factor: one of `FACTORS`.
        options: see there.
        prior: dictionaries for patches with too few like them, or None.
        progress: told after each pass.

    Returns:
        (s H, s W); every s-th pixel from the first is the known one.
    """
    image = _with(known, enlarge(known.double(), factor).float(), factor)
    for number in range(options.passes):
        step = _Pass(image.shape[0], image.shape[1], factor, options, number)
        if options.regression:
            image = _with(known, step.regress(image), factor)
        if options.dictionary:
            image = _with(known, step.denoise(image, prior), factor)
        progress(number + 1, options.passes)
    return image


def _with(known: Tensor, image: Tensor, factor: int) -> Tensor:
    """The image within black and white, and with the known pixels."""
    image = image.clamp(0.0, 255.0)
    image[::factor, ::factor] = known
    return image


def plane(size: int) -> Tensor:
    """The projection (P P, P P) of patches on constants and slopes."""
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    rows = torch.stack([torch.ones(size, size), at[:, None].expand(size, size), at.expand(size, size)]).flatten(1)
    rows = rows / rows.norm(dim=1, keepdim=True)
    return torch.mm(rows.T, rows).float()


class _Pass:
    """One outer iteration."""

    def __init__(self, height: int, width: int, factor: int, options: Options, number: int) -> None:
        self._height, self._width, self._factor, self._options = height, width, factor, options
        self._phases = [(y, x) for y in range(factor) for x in range(factor)]
        first = number == 0
        self._size = sizes(factor)[0 if first else 1]
        self._filtered = first and options.prefilter > 0
        self._blur = options.prefilter * factor / 2
        self._fit = Fit(
            options.radius,
            options.matches,
            options.ridge,
            0.0 if first else options.trust,
            options.nonlocal_mean,
            options.reweight,
        )
        progress = number / max(1, options.passes - 1)
        self._threshold = options.threshold * (1 - 0.7 * progress) ** 2

    def regress(self, image: Tensor) -> Tensor:
        """The image with its missing pixels predicted anew."""
        canvas = Canvas(self._height, self._width)
        matched = gaussian(image, self._blur) if self._filtered else image
        for top, band, plain in self._bands(matched, image):
            chosen, seen = self._active(band)
            table = band.table(plain) if self._filtered else seen
            for phase in self._phases[1:]:
                if len(chosen):
                    wanted, values, error = predict(band, seen, table, phase, chosen, self._fit)
                    canvas.add(band, top, chosen, wanted, values, 1 / (error + _DOUBT))
        return canvas.over(image)

    def denoise(self, image: Tensor, prior: Prior | None) -> Tensor:
        """The image with its patches coded sparsely."""
        canvas = Canvas(self._height, self._width)
        options = self._options
        for top, band, _ in self._bands(image, image):
            chosen, table = self._active(band)
            if not len(chosen):
                continue
            index, distance = find(band, options.radius, options.group, self._phases, chosen)
            patch, group = table[band.references[chosen]], table[index]
            middle = dictionaries.centre(group, distance, nonlocal_mean=options.nonlocal_mean)
            values = dictionaries.denoise(patch, group, middle, self._threshold, reweight=options.reweight)
            if prior is not None and prior.size == band.size:
                alone = prior.alone(distance)
                values[alone] = prior.denoise(patch[alone], self._threshold)
            weights = torch.ones(len(chosen), 1)
            canvas.add(band, top, chosen, torch.arange(band.size**2), values, weights)
        return canvas.over(image)

    def _bands(self, image: Tensor, plain: Tensor) -> Iterator[tuple[int, Band, Tensor]]:
        """Each band, the row at which its part of the image begins, and the same part of `plain`."""
        shape = (self._height, self._width)
        cut = bands(shape, self._size, self._factor, self._options.radius, self._options.band)
        for rows, first, count in cut:
            yield rows.start, Band(image[rows], first, count, self._size, self._factor), plain[rows]

    def _active(self, band: Band) -> tuple[Tensor, Tensor]:
        """Numbers of the reference patches that are no planes, and the table of all patches."""
        table = band.table(band.image)
        references = table[band.references]
        rest = references - references @ plane(band.size)
        return (rest.square().mean(1) > self._options.flat).nonzero()[:, 0], table
