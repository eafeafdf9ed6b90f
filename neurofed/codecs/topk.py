"""Sparse ternary compression (Sattler et al. 2019): the largest elements only, of each its place and its sign.

All that are sent of a tensor have one magnitude, the mean of theirs. Places are gaps in Rice's code. Small tensors may
be sent whole, in float16, and are then no part of the above.

Senders may take turns, as in Perm-K (Szlendak et al. 2021): of n senders each looks at every n-th element only,
beginning with another one each round. No two send the same element, a place takes log2(n) bits less, and as a mean
divides what one of n has sent by n, the receiver multiplies it by n.

    bytes            what
    4                k, how many elements are sent, of all sparse tensors together
    2                the first element that is looked at; 0 where senders take no turns
    1                b, bits of a remainder
    2 a tensor       the magnitude of each sparse tensor, bfloat16
    2 an element     the tensors that are sent whole, float16
    ceil(bits / 8)   the quotients of all gaps: zeros, then a one
    ceil(k (1 + b) / 8)   of each element the sign (1 is negative), then the remainder of its gap
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from neurofed.codecs import rice
from neurofed.codecs.allocation import largest
from neurofed.codecs.base import (
    Bytes,
    Change,
    Context,
    Encoded,
    Model,
    Vector,
    bytes_of,
    elements,
    floating,
    numbers_of,
    require_finite,
)
from neurofed.codecs.elementwise import Floats, cut
from neurofed.errors import UpdateError
from neurofed.tensors import BFLOAT16, Array

_HEAD = struct.Struct("<IHB")
T = TypeVar("T", bound=Array)


@dataclass(frozen=True)
class TopK:
    """Top-k with signs.

    Attributes:
        code: the codec's number on the wire.
        fraction: how many of all elements that are looked at are sent, in (0, 1].
        allocation: how they are divided over the tensors, see `allocation`.
        whole: tensors of up to so many elements are sent whole.
        turns: how many senders take turns; with 1 each looks at all elements.
        gain: see `Codec.gain`.
    """

    code: int
    fraction: float
    allocation: str
    whole: int = 0
    turns: int = 1
    gain: float = 1.0
    lossless: bool = False

    def encode(self, change: Change, context: Context) -> Encoded:
        """See the module."""
        small, sparse = self._divided(change)
        row = np.concatenate([np.empty(0, np.float32), *(values.reshape(-1) for values in sparse.values())])
        first = context.turn % self.turns
        seen = cut_every(row, sparse, first, self.turns)
        chosen = largest(seen, self._count(row[first :: self.turns].size), self.allocation, context.activity)
        places = first + self.turns * chosen
        values = row[places]
        means = _means(np.abs(values), _owners(places, sparse), len(sparse))
        gaps = rice.gaps_of(chosen)
        bits = rice.best_bits(gaps)
        head = np.frombuffer(_HEAD.pack(len(chosen), first, bits), np.uint8)
        tail = rice.write_columns([values < 0, *rice.bit_columns(gaps, bits)])
        halves = self._halves.encode(small, context).body
        return Encoded(np.concatenate([head, bytes_of(means), halves, rice.write_quotients(gaps, bits), tail]))

    def decode(self, body: Bytes, model: Model) -> Change:
        """See `Codec.decode`."""
        small, sparse = self._divided(floating(model))
        size, middle = elements(sparse), _HEAD.size + 2 * len(sparse)
        start = middle + 2 * elements(small)
        if body.size < start:
            raise UpdateError(f"expected an encoded update of at least {start} bytes, got {body.size}")
        count, first, bits = _HEAD.unpack(body[: _HEAD.size].tobytes())
        seen = len(range(first, size, self.turns))
        if first >= self.turns or count != self._count(seen) or bits >= rice.MAX_BITS:
            raise UpdateError(
                f"expected {self._count(seen)} of {seen} elements from one below {self.turns} on, got {count} from "
                f"{first} on, with {bits} bits a gap"
            )
        means = numbers_of(body[_HEAD.size : middle], "<u2").view(BFLOAT16).astype(np.float32)
        require_finite(means)
        chosen, signs = _places(body[start:], count, bits, seen)
        places = first + self.turns * chosen
        magnitudes = means[_owners(places, sparse)]
        row = np.zeros(size, np.float32)
        row[places] = np.where(signs, -magnitudes, magnitudes)
        change = cut(row, sparse) | self._halves.decode(body[middle:start], small)
        return {name: change[name] for name in floating(model)}

    @property
    def _halves(self) -> Floats:
        return Floats(self.code, "<f2")

    def _divided(self, tensors: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
        """The tensors that are sent whole, and those of which only the largest elements are."""
        small = {name: array for name, array in tensors.items() if array.size <= self.whole}
        return small, {name: array for name, array in tensors.items() if name not in small}

    def _count(self, size: int) -> int:
        """How many elements are sent of so many: at least one."""
        return min(size, max(1, round(self.fraction * size)))


def cut_every(row: Vector, tensors: Model, first: int, step: int) -> Change:
    """Every so many of a row's elements, by the tensor they are of."""
    parts, start = {}, 0
    for name, array in tensors.items():
        parts[name] = row[start : start + array.size][(first - start) % step :: step]
        start += array.size
    return parts


def _places(section: Bytes, count: int, bits: int, size: int) -> tuple[rice.Indices, npt.NDArray[np.uint8]]:
    """Indices below `size` and signs.

    Raises:
        UpdateError: if the bytes do not hold so many.
    """
    tail = max(0, section.size - -(-count * (1 + bits) // 8))
    quotients = rice.read_quotients(section[:tail], count, size >> bits)
    columns = rice.read_columns(section[tail:], count, 1 + bits)
    chosen = rice.indices_of((quotients << bits) | rice.number_of(columns[:, 1:]))
    if count and not 0 <= chosen[-1] < size:
        raise UpdateError(f"expected indices below {size}, got {chosen[-1]}")
    return chosen, columns[:, 0]


def _owners(chosen: rice.Indices, tensors: Model) -> rice.Indices:
    """To which tensor each element belongs."""
    ends = np.cumsum([array.size for array in tensors.values()], dtype=np.int64)
    return np.searchsorted(ends, chosen, side="right")


def _means(magnitudes: npt.NDArray[np.float32], owners: rice.Indices, tensors: int) -> npt.NDArray[Any]:
    """The mean magnitude of what is sent of each tensor, 0 where that is nothing."""
    sums = np.bincount(owners, magnitudes, tensors)
    return (sums / np.maximum(np.bincount(owners, minlength=tensors), 1)).astype(BFLOAT16)
