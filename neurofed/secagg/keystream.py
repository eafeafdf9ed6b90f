"""Numbers that look random to whoever does not have the key: ChaCha20's keystream (RFC 8439) as 64-bit words.

A key is used for one stream only. ChaCha20 needs no special instructions, so it is as fast, and as free of timing
differences, on a small board as on a server.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

Words = npt.NDArray[np.uint64]

KEY_BYTES = 32
_PIECE = 1 << 15
_NONCE = bytes(16)


class Keystream:
    """A stream of uniform 64-bit words.

    Args:
        key: 32 bytes that are used for nothing else.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(ChaCha20(key, _NONCE), mode=None).encryptor()

    def words(self, count: int) -> Words:
        """The next `count` words."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), "<u8")

    def mask(self, values: Words, sign: int) -> None:
        """Add the next words to `values`, or subtract them, modulo 2^64.

        Args:
            values: contiguous; changed in place.
            sign: 1 adds, -1 subtracts.
        """
        zeros = bytes(8 * min(_PIECE, values.size))
        room = bytearray(len(zeros))
        for start in range(0, values.size, _PIECE):  # in pieces that stay in the processor's cache
            piece = values[start : start + _PIECE]
            used = 8 * piece.size
            self._cipher.update_into(memoryview(zeros)[:used], memoryview(room)[:used])
            words = np.frombuffer(room, "<u8", piece.size)
            if sign > 0:
                piece += words
            else:
                piece -= words
