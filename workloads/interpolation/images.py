"""Images as users have them: grey or colour, 8 or 16 bit or floating, checked before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurofed.errors import ConfigError

Image = npt.NDArray[Any]

SMALLEST = 4
"""Rows and columns that an image must have."""


def white(image: Image) -> float:
    """The value of white: the largest of a type of whole numbers, 1.0 of a floating one."""
    return float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0


def check(image: Image) -> None:
    """Refuse what cannot be interpolated.

    Raises:
        ConfigError: naming what was expected and what was got.
    """
    if image.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        hint = "; convert 1-bit images to 8 bits" if image.dtype == np.bool_ else ""
        raise ConfigError(f"expected an image of uint8, uint16, float32 or float64, got {image.dtype}{hint}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        hint = ": remove the alpha channel" if image.ndim == 3 and image.shape[2] in (2, 4) else ""
        raise ConfigError(f"expected a grey image (H, W) or a colour image (H, W, 3), got {image.shape}{hint}")
    if min(image.shape[:2]) < SMALLEST:
        raise ConfigError(f"expected an image of at least {SMALLEST}x{SMALLEST} pixels, got {image.shape[:2]}")
    if image.dtype.kind == "f" and not (np.isfinite(image).all() and image.min() >= 0.0 and image.max() <= 1.0):
        raise ConfigError("expected floating pixels from 0.0 to 1.0, got some that are not, or not finite")


def as_type(image: npt.NDArray[np.float64], like: Image) -> Image:
    """An image whose white is 1.0, in the type of another: rounded and clipped."""
    scaled = np.clip(image, 0.0, 1.0) * white(like)
    return (np.rint(scaled) if like.dtype.kind == "u" else scaled).astype(like.dtype)
