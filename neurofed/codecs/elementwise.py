"""Codecs that write each element by itself: as it is, in half the bits, or in a quarter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofed.codecs.base import (
    Bytes,
    Change,
    Context,
    Encoded,
    Model,
    bytes_of,
    elements,
    floating,
    numbers_of,
    require_finite,
    require_length,
)
from neurofed.tensors import Array

_HALF_MAX = float(np.finfo(np.float16).max)
_LEVELS = 127
"""Steps of an int8 on each side of zero."""


@dataclass(frozen=True)
class Floats:
    """Every element as a floating-point number.

    Attributes:
        code: the codec's number on the wire.
        dtype: the numbers' type, `<f4` or `<f2`.
    """

    code: int
    dtype: str
    gain: float = 1.0

    @property
    def lossless(self) -> bool:
        """True for float32."""
        return self.dtype == "<f4"

    def encode(self, change: Change, _context: Context) -> Encoded:
        """Round to nearest; what is too large for the type becomes its largest number."""
        return Encoded(_joined(bytes_of(_narrow(values, self.dtype)) for values in change.values()))

    def decode(self, body: Bytes, model: Model) -> Change:
        """See `Codec.decode`."""
        require_length(body, elements(model) * np.dtype(self.dtype).itemsize)
        values = numbers_of(body, self.dtype)
        require_finite(values)
        return cut(values.astype(np.float32), model)


@dataclass(frozen=True)
class Int8:
    """Every element as a whole number from -127 to 127, times a scale for each index of the tensor's first axis.

    Rounding is stochastic, up with a probability of what is cut off, so that no error is systematic (QSGD, Alistarh et
    al. 2017, with 127 levels).
    """

    code: int
    lossless: bool = False
    gain: float = 1.0

    def encode(self, change: Change, context: Context) -> Encoded:
        """Tensor by tensor: float32 scales, then the numbers."""
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence(context.key)))
        parts: list[Bytes] = []
        for values in change.values():
            rows = values.reshape(_channels(values), -1)
            scales = np.abs(rows).max(axis=1, initial=0.0) / np.float32(_LEVELS)
            divisors = np.where(scales > 0, scales, np.float32(1))
            with np.errstate(over="ignore"):  # of scales so small that they have few bits
                steps = np.floor(rows / divisors[:, None] + random.random(rows.shape, np.float32))
            whole = np.clip(steps, -_LEVELS, _LEVELS).astype(np.int8)
            whole[scales == 0] = 0
            parts += bytes_of(scales), bytes_of(whole)
        return Encoded(_joined(parts))

    def decode(self, body: Bytes, model: Model) -> Change:
        """See `Codec.decode`."""
        tensors = floating(model)
        require_length(body, sum(4 * _channels(a) + a.size for a in tensors.values()))
        change, start = {}, 0
        for name, like in tensors.items():
            channels, end = _channels(like), start + 4 * _channels(like)
            scales = numbers_of(body[start:end], "<f4")
            require_finite(scales)
            start = end + like.size
            whole = body[end:start].view(np.int8).reshape(channels, -1)
            with np.errstate(over="ignore"):
                values = whole * scales[:, None]
            require_finite(values)
            change[name] = values.astype(np.float32, copy=False).reshape(like.shape)
        return change


def cut(values: npt.NDArray[np.float32], model: Model) -> Change:
    """A row of numbers as a change of `model`."""
    change, start = {}, 0
    for name, like in floating(model).items():
        change[name] = values[start : start + like.size].reshape(like.shape)
        start += like.size
    return change


def _channels(array: Array) -> int:
    """Rows that have a scale of their own: the extent of the first axis, or one of a vector."""
    return int(array.shape[0]) if array.ndim > 1 and array.size else 1


def _narrow(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    return np.clip(values, -_HALF_MAX, _HALF_MAX).astype(dtype) if dtype == "<f2" else values


def _joined(parts: Iterator[Bytes] | list[Bytes]) -> Bytes:
    return np.concatenate([np.empty(0, np.uint8), *parts])
