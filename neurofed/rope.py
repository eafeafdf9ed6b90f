"""Bytes that lie in several places, read as if they were one string.

A model is sent from where its arrays are: a copy of all of it would take memory and time on both ends of the link.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable

import xxhash

Buffer = bytes | memoryview

CHECKSUM_BYTES = 16


class Rope:
    """A string of bytes in pieces. Nothing is copied until a part is asked for; the pieces must not change.

    Args:
        pieces: contiguous buffers, in their order.
    """

    def __init__(self, pieces: Iterable[Buffer]) -> None:
        views = (memoryview(piece) for piece in pieces)
        self._pieces = tuple(view.cast("B") for view in views if view.nbytes)
        self._stops = tuple(itertools.accumulate(piece.nbytes for piece in self._pieces))

    @classmethod
    def joined(cls, ropes: Iterable[Rope]) -> Rope:
        """One rope after the other."""
        return cls(piece for one in ropes for piece in one._pieces)

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)

    def views(self, start: int, stop: int) -> list[memoryview]:
        """The bytes from `start` to `stop`, or to the end where that is earlier, where they are."""
        found = []
        for number in range(bisect.bisect_right(self._stops, start), len(self._pieces)):
            piece = self._pieces[number]
            begins = self._stops[number] - piece.nbytes
            if begins >= stop:
                break
            found.append(piece[max(0, start - begins) : stop - begins])
        return found

    def checksum(self) -> bytes:
        """The checksum of all bytes, see `Checksum`."""
        checksum = Checksum()
        for piece in self._pieces:
            checksum.update(piece)
        return checksum.digest()


Checksum = xxhash.xxh3_128
"""XXH3 of 128 bits, over a hundred times as fast as SHA-256 without hardware and twenty times as fast with it.

It tells blobs apart that differ by accident. Nobody is kept from making two that do not: who may send a blob may send
any other, and TLS vouches for the way.
"""


def rope(blob: Buffer | Rope) -> Rope:
    """A buffer as a rope; a rope as it is."""
    return blob if isinstance(blob, Rope) else Rope([blob])
