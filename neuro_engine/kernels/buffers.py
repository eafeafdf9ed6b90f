"""Memory for maps that is used again.

Allocators give large blocks back to the system and take them again at every step, and each page that is touched for the
first time is cleared by the system: up to a quarter of a training step. Blocks here are kept, and a block is free when
no tensor refers to it any more.
"""

from __future__ import annotations

import math
import mmap
import sys
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

LEAST_BYTES = 1 << 20
"""Smaller tensors are left to torch."""
_PAGE_BYTES = 1 << 21
_SLACK = 1.25
"""A block may be so many times larger than what it is used for."""
_UNUSED_REFERENCES = 3
"""References to a block that no tensor uses: of the list, of the loop's variable, of the call that counts."""


class _Blocks:
    """Blocks of memory, free or in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: list[mmap.mmap] = []

    def take(self, size_bytes: int) -> mmap.mmap:
        """A block of at least so many bytes that nothing refers to."""
        wanted = -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES
        with self._lock:
            free = [block for block in self._blocks if sys.getrefcount(block) <= _UNUSED_REFERENCES]
            fitting = [block for block in free if wanted <= len(block) <= wanted * _SLACK]
            return min(fitting, key=len) if fitting else self._new(wanted, free)

    def _new(self, size_bytes: int, free: list[mmap.mmap]) -> mmap.mmap:
        """A new block; where more is free than in use, sizes have changed, and what is free goes back to the system."""
        free_bytes = sum(map(len, free))
        if free_bytes > sum(map(len, self._blocks)) - free_bytes:
            given_back = {id(block) for block in free}
            self._blocks = [block for block in self._blocks if id(block) not in given_back]
        block = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            block.madvise(mmap.MADV_HUGEPAGE)
        self._blocks.append(block)
        return block


_blocks = _Blocks()


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor, its channels next to each other: channels-last where it has four dimensions."""
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    count = math.prod(shape)
    size_bytes = count * dtype.itemsize
    if size_bytes < LEAST_BYTES:
        return torch.empty(tuple(shape), dtype=dtype, memory_format=layout)
    flat = torch.frombuffer(_blocks.take(size_bytes), dtype=dtype, count=count)
    if len(shape) != 4:
        return flat.view(tuple(shape))
    n, c, h, w = shape
    return flat.view(n, h, w, c).permute(0, 3, 1, 2)
