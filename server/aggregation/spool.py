"""The updates of a round on disk, for rules that need all of them at once: memory does not grow with their number.

They are read back a few coordinates at a time, in the order of their SHA-256. So whatever a rule computes from them,
in floating point and order-dependent or not, is the same to the bit in any order of arrival.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurofed.errors import UpdateError
from neurofed.files import storing
from server.aggregation.base import Array, Model, Update, floating, pieces, require_bounded, require_fit

BLOCK_BYTES = 1 << 20
"""What is read at a time, over all updates; whoever works on it needs a few times that."""


@dataclass(frozen=True, slots=True)
class Block:
    """The same coordinates of all updates.

    Attributes:
        name: of the tensor.
        piece: which of its elements, flat.
        rows: (updates, elements), in the model's type; overwritten by the next block.
        base: the global model there.
    """

    name: str
    piece: slice
    rows: Array
    base: Array


class Spool:
    """Updates that look like `model`, in a file without a name that is gone with this object.

    It lies in the folder for temporary files ($TMPDIR); where that is in memory, updates take memory.
    """

    def __init__(self, model: Model, workers: int) -> None:
        self.model, self.workers = model, workers
        self._like = floating(model)
        self._row_bytes = sum(array.nbytes for array in self._like.values())
        self._digests: list[bytes] = []
        with storing(Path(tempfile.gettempdir())):
            self._file, name = tempfile.mkstemp(prefix="neurofed-updates-")
            Path(name).unlink()
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, update: Update) -> None:
        """Take an update in.

        Raises:
            UpdateError: if it cannot be aggregated; it is not kept then.
            StorageError: if the disk does not take it.
        """
        require_fit(update, self.model, self.workers)
        flat = [np.ascontiguousarray(update.model[name]).reshape(-1) for name in self._like]
        for name, values in zip(self._like, flat, strict=True):
            require_bounded(name, _largest(values))
        offset, sha = len(self) * self._row_bytes, hashlib.sha256()
        for values in flat:
            data = values.view(np.uint8).data
            sha.update(data)
            _write(self._file, data, offset)
            offset += len(data)
        self._digests.append(sha.digest())

    def blocks(self) -> Iterator[Block]:
        """All coordinates, tensor by tensor.

        Raises:
            UpdateError: if there are no updates.
        """
        if not self._digests:
            raise UpdateError("expected at least one update, got none")
        order = sorted(range(len(self)), key=self._digests.__getitem__)
        start = 0
        for name, like in self._like.items():
            base = like.reshape(-1)
            for piece in pieces(like.size, max(1, BLOCK_BYTES // (len(order) * like.itemsize))):
                rows = np.empty((len(order), piece.stop - piece.start), like.dtype)
                for row, index in zip(rows, order, strict=True):
                    _read(self._file, row, index * self._row_bytes + start + piece.start * like.itemsize)
                yield Block(name, piece, rows, base[piece])
            start += like.nbytes


def _largest(values: Array) -> float:
    tops = [float(np.abs(values[piece].astype(np.float64)).max()) for piece in pieces(values.size)]
    return float(np.max(tops, initial=0.0))


def _write(file: int, data: memoryview, offset: int) -> None:
    with storing(Path(tempfile.gettempdir())):
        while data:
            written = os.pwrite(file, data, offset)
            data, offset = data[written:], offset + written


def _read(file: int, row: Array, offset: int) -> None:
    data = row.view(np.uint8).data
    with storing(Path(tempfile.gettempdir())):
        while data:
            count = os.preadv(file, [data], offset)
            if not count:
                raise OSError("it is shorter than what was written to it")
            data, offset = data[count:], offset + count
