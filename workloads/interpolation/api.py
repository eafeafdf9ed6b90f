"""`interpolate`: an image in, an image of two, three or four times its sides out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from neurofed.errors import ConfigError
from workloads.interpolation.images import Image, as_type, check, white
from workloads.interpolation.kernels import Kernel, enlarge, keys
from workloads.interpolation.options import Options
from workloads.interpolation.prior import Prior
from workloads.interpolation.solver import FACTORS, Progress, solve

_LEVELS = 255.0
"""White in the solver, whose options are in grey levels of 8 bits."""


def _nowhere(_done: int, _passes: int) -> None:
    """Where progress goes when nobody watches."""


def interpolate(
    image: Image,
    factor: int,
    options: Options | None = None,
    *,
    prior: Prior | None = None,
    progress: Progress = _nowhere,
) -> Image:
    """Enlarge an image that was decimated: its pixels are every s-th of the result's, from the first, bit for bit.

    Of a colour image the mean of the channels is interpolated as a grey image; the channels' differences from it, which
    are smooth, are interpolated bicubically.

    Args:
        image: (H, W) or (H, W, 3); uint8, uint16, or floating from 0.0 to 1.0.
        factor: s, of `FACTORS`.
        options: None has the defaults.
        prior: dictionaries for patches with too few like them; ignored where its patches have another size.
        progress: told after each pass.

    Returns:
        (s H, s W) or (s H, s W, 3), of the image's type.

    Raises:
        ConfigError: if the image or the factor is not of this kind.
    """
    _check(image, factor)
    scaled = image.astype(np.float64) / white(image)
    grey = scaled if image.ndim == 2 else scaled.mean(2)
    known = torch.from_numpy((grey * _LEVELS).astype(np.float32))
    solved = solve(known, factor, options or Options(), prior, progress).double().numpy() / _LEVELS
    if image.ndim == 3:
        differences = _enlarged(scaled - grey[..., None], factor, keys)
        solved = solved[..., None] + differences
    return _with_known(as_type(solved, image), image, factor)


def classic(image: Image, factor: int, kernel: Kernel = keys) -> Image:
    """Enlarge by a separable kernel, on the same grid; arguments, result and errors as of `interpolate`."""
    _check(image, factor)
    return _with_known(as_type(_enlarged(image / white(image), factor, kernel), image), image, factor)


def _check(image: Image, factor: int) -> None:
    check(image)
    if factor not in FACTORS:
        raise ConfigError(f"expected a factor of {', '.join(map(str, FACTORS))}, got {factor}")


def _enlarged(image: npt.NDArray[np.float64], factor: int, kernel: Kernel) -> npt.NDArray[np.float64]:
    channels = torch.from_numpy(np.atleast_3d(image)).movedim(2, 0)
    enlarged = enlarge(channels, factor, kernel).movedim(0, 2).numpy()
    return enlarged if image.ndim == 3 else enlarged[..., 0]


def _with_known(result: Image, image: Image, factor: int) -> Image:
    result[::factor, ::factor] = image
    return result
