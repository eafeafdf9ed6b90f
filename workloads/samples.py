"""Samples: a few pictures with captions that show what a model makes of the test set, from any workload that has some.

A workload publishes samples by giving its task a method `samples`; see `ShowsSamples`. Nobody asks the others.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

MAX_SAMPLES: Final = 8
MAX_PNG_BYTES: Final = 64_000
MAX_CAPTION_CHARS: Final = 200
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture with a caption.

    Attributes:
        caption: one line for people; at most `MAX_CAPTION_CHARS` are shown.
        picture: uint8, (H, W) in grey or (H, W, 3) in red, green and blue.
    """

    caption: str
    picture: NDArray[np.uint8]


@runtime_checkable
class ShowsSamples(Protocol):
    """What a task has that publishes samples."""

    def samples(self, model: torch.nn.Module) -> Sequence[Sample]:
        """At most `MAX_SAMPLES` samples of the test set, the same ones at every call; the model is left as it was."""


def png(picture: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file.

    Args:
        picture: as in `Sample`.

    Raises:
        ValueError: for another shape or type.
    """
    kinds = {2: _GREY, 3: _RGB}
    kind = kinds.get(picture.ndim)
    if picture.dtype != np.uint8 or kind is None or picture.size == 0 or (kind == _RGB and picture.shape[2] != 3):
        raise ValueError(f"expected uint8 (H, W) or (H, W, 3), got {picture.dtype} {picture.shape}")
    height, width = picture.shape[:2]
    rows = np.ascontiguousarray(picture).reshape(height, -1)
    unfiltered = np.concatenate(
        [np.zeros((height, 1), np.uint8), rows], axis=1
    )  # each row begins with its filter, none
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(unfiltered.tobytes(), 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
