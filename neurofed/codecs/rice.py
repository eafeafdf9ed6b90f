"""Sets of numbers in ascending order, in few bits: gaps in Rice's code.

The gap to the number before, less one, is divided by 2^b: the quotient is so many zeros and a one, the remainder has b
bits. It is Golomb's code (1966) with a divisor that is a power of two (Rice and Plaunt 1971), at most a few percent
above the entropy of a set drawn at random. All quotients stand before all remainders, so that both are read at once
and not bit by bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurofed.codecs.base import Bytes
from neurofed.errors import UpdateError

Indices = npt.NDArray[np.int64]

MAX_BITS = 40
"""The most bits of a remainder: no model has more elements."""


def gaps_of(indices: Indices) -> Indices:
    """How many numbers lie between each and the one before."""
    return np.diff(indices, prepend=-1) - 1


def best_bits(gaps: Indices) -> int:
    """The bits of a remainder with which gaps take the least room."""
    lengths = [int((gaps >> bits).sum()) + gaps.size * bits for bits in range(MAX_BITS)]
    return int(np.argmin(lengths))


def write_quotients(gaps: Indices, bits: int) -> Bytes:
    """The quotients of gaps, padded with zeros to whole bytes."""
    ends = np.cumsum((gaps >> bits) + 1) - 1
    row = np.zeros(int(ends[-1]) + 1 if ends.size else 0, np.uint8)
    row[ends] = 1
    return np.packbits(row)


def read_quotients(section: Bytes, count: int, most: int) -> Indices:
    """The inverse of `write_quotients`.

    Args:
        section: bytes that may be anything.
        count: how many quotients there are.
        most: what their sum may be.

    Raises:
        UpdateError: if that is not what the bytes hold; what they take in memory is bounded by count and sum.
    """
    if section.size > -(-(count + most) // 8):
        raise UpdateError(f"expected indices within a model, got {section.size} bytes of quotients")
    ends = np.flatnonzero(np.unpackbits(section))
    if ends.size != count or (count and section.size != int(ends[-1]) // 8 + 1) or (not count and section.size):
        raise UpdateError(f"expected {count} indices, got {ends.size} in {section.size} bytes")
    return np.diff(ends, prepend=-1) - 1


def write_columns(columns: list[npt.NDArray[Any]]) -> Bytes:
    """Rows of bits, given by their columns, one row after the other."""
    return np.packbits(np.stack(columns, axis=1).astype(np.uint8)) if columns else np.empty(0, np.uint8)


def bit_columns(numbers: Indices, bits: int) -> list[npt.NDArray[Any]]:
    """The lowest bits of numbers, the highest of them first."""
    return [(numbers >> place) & 1 for place in reversed(range(bits))]


def read_columns(section: Bytes, count: int, bits: int) -> npt.NDArray[np.uint8]:
    """The inverse of `write_columns`.

    Args:
        section: bytes that may be anything.
        count: rows.
        bits: columns.

    Returns:
        (count, bits) of 0 and 1.

    Raises:
        UpdateError: if the bytes are not as many, or bits behind the last row are not zero.
    """
    if section.size != -(-count * bits // 8):
        raise UpdateError(f"expected {count} times {bits} bits, got {section.size} bytes")
    row = np.unpackbits(section)
    if row[count * bits :].any():
        raise UpdateError("expected zeros behind the last bit of an encoded update, got ones")
    return row[: count * bits].reshape(count, bits)


def number_of(bits: npt.NDArray[np.uint8]) -> Indices:
    """Numbers from their bits (N, bits), the highest first."""
    numbers = np.zeros(len(bits), np.int64)
    for column in bits.T:
        numbers = (numbers << 1) | column
    return numbers


def indices_of(gaps: Indices) -> Indices:
    """The inverse of `gaps_of`."""
    return np.cumsum(gaps + 1) - 1
