"""How far a restored image is from the original: PSNR and SSIM as the literature on super-resolution computes them.

Images are (H, W) or (H, W, C) arrays of any number type, in which `peak` is white. Nothing is rounded or clipped here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[Any]
_Float = npt.NDArray[np.float64]

_WINDOW = 11
_SIGMA = 1.5


def mean_squared_error(image: Image, reference: Image, border: int = 0) -> float:
    """Mean over pixels and channels of the squared difference.

    Args:
        image: (H, W) or (H, W, C).
        reference: of the same shape.
        border: rows and columns left out at each side.

    Raises:
        ValueError: if the shapes differ, or the border leaves nothing.
    """
    a, b = _inner(image, reference, border)
    return float(np.mean((a - b) ** 2))


def psnr(image: Image, reference: Image, border: int = 0, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio 10 log10(peak^2 / MSE) in dB; infinite for equal images.

    Arguments and errors are those of `mean_squared_error`; `peak` is the value of white.
    """
    return psnr_of(mean_squared_error(image, reference, border), peak)


def psnr_of(error: float, peak: float = 255.0) -> float:
    """The ratio in dB that belongs to a mean squared error."""
    return math.inf if error == 0.0 else 10.0 * math.log10(peak**2 / error)


def ssim(image: Image, reference: Image, border: int = 0, peak: float = 255.0) -> float:
    """Mean structural similarity (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03.

    Only windows that lie in the image count; of colour images it is the mean over the channels.

    Args:
        image: (H, W) or (H, W, C).
        reference: of the same shape.
        border: rows and columns left out at each side.
        peak: the value of white.

    Raises:
        ValueError: if the shapes differ, or what the border leaves is smaller than the window.
    """
    a, b = _inner(image, reference, border)
    if min(a.shape[:2]) < _WINDOW:
        raise ValueError(f"SSIM: expected images of at least {_WINDOW}x{_WINDOW} pixels, got {a.shape[:2]}")
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(likeness / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


def luma(image: Image) -> _Float:
    """Y of an 8-bit RGB image by BT.601 in its studio range, 16 to 235, as MATLAB's `rgb2ycbcr` has it, not rounded.

    Args:
        image: (H, W, 3), 255 being white.

    Raises:
        ValueError: if there are not three channels.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"luma: expected an image (H, W, 3), got {image.shape}")
    y: _Float = 16.0 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255.0
    return y


def _inner(image: Image, reference: Image, border: int) -> tuple[_Float, _Float]:
    if image.shape != reference.shape or image.ndim not in (2, 3):
        raise ValueError(f"expected two images of one shape, got {image.shape} and {reference.shape}")
    if border < 0 or min(image.shape[:2]) <= 2 * border:
        raise ValueError(f"expected an image larger than its border of {border}, got {image.shape}")
    rows, columns = (slice(border, side - border) for side in image.shape[:2])
    return image[rows, columns].astype(np.float64), reference[rows, columns].astype(np.float64)


def _blurred(image: _Float) -> _Float:
    """Gaussian means over all windows that lie in the image."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(image, _WINDOW, axis=axis)
        image = windows @ weights
    return image
