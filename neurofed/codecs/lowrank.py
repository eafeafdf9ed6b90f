"""PowerSGD (Vogels et al. 2019): a matrix as the product of two thin ones, from one step of subspace iteration.

A tensor is a matrix M with its first axis as rows. With the Q of the sender's last change,

    P = orthonormal basis of M Q,    Q = M^T P,    and what is read is P Q^T.

P and Q are sent, in float16. Where they are not smaller than the tensor, and for vectors, the tensor itself is.

    bytes            what
    1                r, the rank
    tensor by tensor 2 r (rows + columns) of P and Q, or 2 for each element
"""

from __future__ import annotations

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
    floating,
    numbers_of,
    require_finite,
    require_length,
)
from neurofed.errors import UpdateError
from neurofed.tensors import Array

_HALF = np.finfo(np.float16)
_Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LowRank:
    """PowerSGD with a warm start.

    Attributes:
        code: the codec's number on the wire.
        rank: of what is sent of each tensor.
    """

    code: int
    rank: int
    lossless: bool = False
    gain: float = 1.0

    def encode(self, change: Change, context: Context) -> Encoded:
        """See the module; the memory is Q of each tensor."""
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence(context.key)))
        parts, memory = [np.array([self.rank], np.uint8)], {}
        for name, values in change.items():
            if not self._is_factored(values):
                parts.append(bytes_of(_half(values)))
                continue
            matrix = values.reshape(len(values), -1)
            last = context.memory.get(name)
            if last is None or last.shape != (matrix.shape[1], self.rank) or not np.any(last):
                last = random.standard_normal((matrix.shape[1], self.rank), np.float32)
            left = np.linalg.qr(matrix @ last)[0].astype(np.float32)
            right = memory[name] = matrix.T @ left
            parts += bytes_of(_half(left)), bytes_of(_half(right))
        return Encoded(np.concatenate(parts), memory)

    def decode(self, body: Bytes, model: Model) -> Change:
        """See `Codec.decode`; the product is a sum of outer products, whose bits no library's version changes."""
        tensors = floating(model)
        require_length(body, 1 + sum(2 * self._sent(array) for array in tensors.values()))
        if body[0] != self.rank:
            raise UpdateError(f"expected factors of rank {self.rank}, got {body[0]}")
        change, values, start = {}, numbers_of(body[1:], "<f2").astype(np.float32), 0
        require_finite(values)
        for name, like in tensors.items():
            sent, start = values[start : start + self._sent(like)], start + self._sent(like)
            change[name] = self._product(sent, like) if self._is_factored(like) else sent.reshape(like.shape)
        return change

    def _product(self, sent: _Matrix, like: Array) -> _Matrix:
        rows = len(like)
        left = sent[: rows * self.rank].reshape(rows, self.rank)
        right = sent[rows * self.rank :].reshape(-1, self.rank)
        total = np.multiply.outer(left[:, 0], right[:, 0])
        for n in range(1, self.rank):
            total += np.multiply.outer(left[:, n], right[:, n])
        return total.reshape(like.shape)

    def _is_factored(self, array: Array) -> bool:
        return array.ndim > 1 and array.size > 0 and self._thin(array) < array.size and self.rank <= len(array)

    def _thin(self, array: Array) -> int:
        return self.rank * (len(array) + array.size // len(array))

    def _sent(self, array: Array) -> int:
        """Numbers that are sent of a tensor."""
        return self._thin(array) if self._is_factored(array) else array.size


def _half(values: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    halves: npt.NDArray[np.float16] = np.clip(values, _HALF.min, _HALF.max).astype(np.float16)
    return halves
